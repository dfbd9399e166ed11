package clifull

import (
	"context"
	"errors"
	"fmt"
	"os"

	"hull/command"
	"hull/image"
	"hull/oci"
	"hull/transfer"
)

// pushFlags are what push and manifest push say about what is sent.
type pushFlags struct {
	compression, format string
	level               *int
	force               *bool
	sign                transfer.SignOptions
}

func (p *pushFlags) declare(f *command.Flags) {
	f.Choice(&p.compression, "compression-format", "", "", "Compression of the layers", "", "gzip", "zstd", "zstd:chunked")
	command.Optional(f, &p.level, "compression-level", "", "int", "Compression level to use", parseLevel)
	command.Optional(f, &p.force, "force-compression", "", "bool", "Compress anew layers that are compressed in another way", parseBool)
	f.Lookup("force-compression").NoOptDefVal = "true"
	f.StringVarP(&p.format, "format", "f", "", "Manifest type (oci, v2s2) to use in the destination (default is the image's own)")
	f.StringVar(&p.sign.By, "sign-by", "", "Sign the image using a GPG key with the specified FINGERPRINT")
	f.StringVar(&p.sign.Key, "sign-by-sigstore-private-key", "", "Sign the image using a sigstore private key at PATH")
	f.StringVar(&p.sign.Passphrase, "sign-passphrase-file", "", "Read a passphrase for signing an image from PATH")
	f.Bool("remove-signatures", false, "Discard any pre-existing signatures in the image (none are stored)")
}

func (p *pushFlags) options() (transfer.PushOptions, error) {
	o := transfer.PushOptions{Format: p.format, Sign: p.sign}
	if p.compression != "" {
		var err error
		if o.Compression, err = compressionOf(p.compression); err != nil {
			return o, err
		}
	}
	if p.level != nil {
		if o.Level = *p.level; o.Level < 1 || o.Level > 22 || o.Level > 9 && o.Compression != image.Zstd && o.Compression != image.ZstdChunked {
			return o, errors.New("compression level must be 1 to 9, of zstd 1 to 22")
		}
		if o.Compression == "" {
			o.Compression = image.Gzip
		}
	}
	// A format that is asked for by name is wanted for all layers.
	o.Force = o.Compression != ""
	if p.force != nil {
		o.Force = *p.force
	}
	if o.Force && o.Compression == "" {
		return o, errors.New("--force-compression needs --compression-format")
	}
	return o, nil
}

// compressionOf is a compression by its name.
func compressionOf(name string) (image.Compression, error) {
	switch c := image.Compression(name); c {
	case image.Gzip, image.Zstd, image.ZstdChunked:
		return c, nil
	}
	return "", fmt.Errorf("compression %q is not one of gzip, zstd, zstd:chunked", name)
}

func (s *session) push() *command.Command {
	var (
		r          registryFlags
		p          pushFlags
		compress   bool
		keys       []string
		layers     []int
		digestFile string
		quiet      bool
		allTags    bool
	)
	c := &command.Command{
		Usage: "[options] IMAGE [DESTINATION]",
		Long: "Sends an image to a registry, or writes it to a file or directory.\n" +
			"A DESTINATION may begin with a transport: docker://, dir:, oci:, oci-archive:, docker-archive: or docker-daemon:.",
		Examples: []string{"push imageID docker://registry.example.com/repository:tag", "push --compression-format zstd app", "push app oci-archive:app.tar"},
		Args:     command.Between(1, 2),
	}
	c.Flags = func(f *command.Flags) {
		r.declare(f)
		r.declareCreds(f)
		r.declareRetry(f)
		p.declare(f)
		f.BoolVarP(&allTags, "all-tags", "a", false, "Push all tags of the repository that are here")
		f.StringSliceVar(&keys, "encryption-key", nil, "Key with the encryption protocol to use to encrypt the image (jwe:FILE or pkcs7:FILE)")
		f.IntSliceVar(&layers, "encrypt-layer", nil, "Layers to encrypt, 0-indexed, below 0 from the top (default all)")
		f.BoolVar(&compress, "compress", false, "Compress layers of a dir: destination")
		f.StringVar(&digestFile, "digestfile", "", "Write the digest of the pushed image to the specified file")
		f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output information when pushing images")
		f.Bool("disable-content-trust", false, "This is a Docker specific option and is a NOOP")
	}
	c.Run = func(ctx context.Context, args []string) error {
		o, err := p.options()
		if err != nil {
			return err
		}
		o.Compress, o.EncryptionKeys, o.EncryptLayers = compress, keys, layers
		if allTags {
			if len(args) == 2 || digestFile != "" {
				return errors.New("--all-tags goes to the images' own repository, and with no --digestfile")
			}
			return s.pushAllTags(ctx, r, o, quiet, args[0])
		}
		dest := ""
		if len(args) == 2 {
			dest = args[1]
		}
		t, err := s.open(ctx, r)
		if err != nil {
			return err
		}
		return s.runPush(ctx, t, o, quiet, digestFile, args[0], dest)
	}
	return c
}

// pushAllTags pushes what is here of a repository.
func (s *session) pushAllTags(ctx context.Context, r registryFlags, o transfer.PushOptions, quiet bool, name string) error {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return err
	}
	if ref.Tag != "" || ref.Digest != "" {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	t, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	names, err := t.Images.Tags(ctx, ref)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := s.runPush(ctx, t, o, quiet, "", n.String(), ""); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) runPush(ctx context.Context, t *transfer.Transfer, o transfer.PushOptions, quiet bool, digestFile, name, dest string) error {
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
