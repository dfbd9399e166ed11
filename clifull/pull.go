package clifull

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hull/command"
	"hull/oci"
	"hull/transfer"
)

func (s *session) pull() *command.Command {
	var (
		r        registryFlags
		o        transfer.PullOptions
		platform string
		quiet    bool
	)
	c := &command.Command{
		Usage: "[options] IMAGE [IMAGE...]",
		Long: "Pulls an image from a registry, or from a file or directory, and stores it.\n" +
			"An IMAGE may begin with a transport: docker://, dir:, oci:, oci-archive:, docker-archive:,\n" +
			"docker-daemon: or containers-storage:, which is what is here already.",
		Examples: []string{"pull docker.io/library/alpine:latest", "pull --platform linux/arm64 alpine", "pull oci-archive:image.tar"},
		Args:     command.AtLeast(1),
	}
	c.Flags = func(f *command.Flags) {
		r.declare(f)
		r.declareCreds(f)
		r.declareRetry(f)
		f.StringSliceVar(&o.DecryptionKeys, "decryption-key", nil, "Key needed to decrypt the image (FILE[:PASSWORD])")
		f.BoolVarP(&o.AllTags, "all-tags", "a", false, "All tagged images in the repository will be pulled")
		f.StringVar(&o.Platform.Architecture, "arch", "", "Use ARCH instead of the architecture of the machine for choosing images")
		f.StringVar(&o.Platform.OS, "os", "", "Use OS instead of the running OS for choosing images")
		f.StringVar(&o.Platform.Variant, "variant", "", "Use VARIANT instead of the running architecture variant for choosing images")
		f.StringVar(&platform, "platform", "", "Specify the platform for selecting the image (OS/ARCH[/VARIANT])")
		f.Choice(&o.Policy, "policy", "", "always", "When to pull", "always", "missing", "never", "newer")
		f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output information when pulling images")
		// Docker's flag; podman accepts it and does nothing, and so do scripts.
		f.Bool("disable-content-trust", false, "This is a Docker specific option and is a NOOP")
	}
	c.Run = func(ctx context.Context, args []string) error {
		if platform != "" {
			if o.Platform.OS != "" || o.Platform.Architecture != "" || o.Platform.Variant != "" {
				return errors.New("--platform option can not be specified with --arch, --os or --variant")
			}
			var err error
			if o.Platform, err = parsePlatform(platform); err != nil {
				return err
			}
		}
		return s.runPull(ctx, r, o, quiet, args)
	}
	return c
}

func parsePlatform(s string) (oci.Platform, error) {
	parts := strings.Split(s, "/")
	p := oci.Platform{OS: parts[0]}
	if len(parts) > 1 {
		p.Architecture = parts[1]
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	if len(parts) > 3 || s == "" {
		return p, fmt.Errorf("invalid platform %q: want OS[/ARCH[/VARIANT]]", s)
	}
	return p, nil
}

func (s *session) runPull(ctx context.Context, r registryFlags, o transfer.PullOptions, quiet bool, names []string) error {
	t, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		show := s.progress(quiet)
		t.Notify = show.event
		pulled, err := t.Pull(ctx, name, o)
		show.end()
		if s.docker() && !quiet {
			s.dockerPulled(pulled)
		} else {
			for _, p := range pulled {
				fmt.Fprintln(s.stdout, p.Image.ID.Hex())
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// dockerPulled says what docker says after a pull.
func (s *session) dockerPulled(pulled []transfer.Pulled) {
	for _, p := range pulled {
		status := "Downloaded newer image for"
		if p.Here {
			status = "Image is up to date for"
		}
		if p.Digest != "" {
			fmt.Fprintf(s.stdout, "Digest: %s\n", p.Digest)
		}
		fmt.Fprintf(s.stdout, "Status: %s %s\n", status, p.Ref.Familiar())
		fmt.Fprintln(s.stdout, p.Ref.String())
	}
}
