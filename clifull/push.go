package clifull

import (
	"context"
	"fmt"
	"os"

	"hull/command"
	"hull/image"
	"hull/transfer"
)

func (s *session) push() *command.Command {
	var (
		r                             registryFlags
		o                             transfer.PushOptions
		compression, digestFile, form string
		level                         *int
		force                         *bool
		quiet                         bool
	)
	c := &command.Command{
		Usage: "[options] IMAGE [DESTINATION]",
		Long: "Sends an image to a registry, or writes it to a file or directory.\n" +
			"A DESTINATION may begin with a transport: docker://, dir:, oci:, oci-archive: or docker-archive:.",
		Examples: []string{"push imageID docker://registry.example.com/repository:tag", "push --compression-format zstd app", "push app oci-archive:app.tar"},
		Args:     command.Between(1, 2),
	}
	c.Flags = func(f *command.Flags) {
		r.declare(f)
		r.declareCreds(f)
		r.declareRetry(f)
		f.BoolVar(&o.Compress, "compress", false, "Compress layers of a dir: destination")
		f.Choice(&compression, "compression-format", "", "", "Compression of the layers", "", "gzip", "zstd", "zstd:chunked")
		command.Optional(f, &level, "compression-level", "", "int", "Compression level to use", parseLevel)
		command.Optional(f, &force, "force-compression", "", "bool", "Compress anew layers that are compressed in another way", parseBool)
		f.Lookup("force-compression").NoOptDefVal = "true"
		f.StringVar(&digestFile, "digestfile", "", "Write the digest of the pushed image to the specified file")
		f.StringVarP(&form, "format", "f", "", "Manifest type (oci, v2s2) to use in the destination (default is the image's own)")
		f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output information when pushing images")
		f.Bool("remove-signatures", false, "Discard any pre-existing signatures in the image (none are stored)")
		f.Bool("disable-content-trust", false, "This is a Docker specific option and is a NOOP")
	}
	c.Run = func(ctx context.Context, args []string) error {
		o.Format = form
		if compression != "" {
			o.Compression = image.Gzip
			if compression != "gzip" {
				o.Compression = image.Zstd
			}
		}
		if level != nil {
			o.Level = *level
			if o.Compression == "" {
				o.Compression = image.Gzip
			}
		}
		if o.Force = force != nil && *force; force == nil && o.Compression != "" {
			o.Force = true // asked for by name, podman's default
		}
		dest := ""
		if len(args) == 2 {
			dest = args[1]
		}
		return s.runPush(ctx, r, o, quiet, digestFile, args[0], dest)
	}
	return c
}

func (s *session) runPush(ctx context.Context, r registryFlags, o transfer.PushOptions, quiet bool, digestFile, name, dest string) error {
	t, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	show := s.progress(quiet)
	t.Notify = show.event
	p, err := t.Push(ctx, name, dest, o)
	show.end()
	if err != nil {
		return err
	}
	if digestFile != "" {
		if err := os.WriteFile(digestFile, []byte(p.Digest), 0o644); err != nil {
			return fmt.Errorf("write digest file: %w", err)
		}
	}
	if s.docker() && !quiet {
		fmt.Fprintf(s.stdout, "%s: digest: %s size: %d\n", p.Ref.Tag, p.Digest, p.Size)
	}
	return nil
}
