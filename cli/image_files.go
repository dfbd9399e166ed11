package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"hull/command"
	"hull/engine"
	"hull/image"
	"hull/oci"
	"hull/state"
)

// saveOptions are the flags of save.
type saveOptions struct {
	image.SaveOptions
	output       string
	multi, quiet bool
}

func (s *session) save() *command.Command {
	var o saveOptions
	return &command.Command{
		Usage:    "[options] IMAGE [IMAGE...]",
		Long:     "Save an image to docker-archive or oci-archive on the local machine. Default is docker-archive.",
		Examples: []string{"save --quiet -o myimage.tar imageID", "save --format docker-dir -o ubuntu-dir ubuntu", "save > alpine-all.tar alpine:latest"},
		Args:     command.AtLeast(1),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVar(&o.Compress, "compress", false, "Compress tarball image layers when saving to a directory using the 'docker-dir' format")
			f.Choice(&o.Format, "format", "", image.DockerArchive, "Save image to", image.OCIArchive, image.OCIDir, image.DockerArchive, image.DockerDir)
			f.BoolVarP(&o.multi, "multi-image-archive", "m", s.docker(), "Interpret additional arguments as images not tags and create a multi-image-archive (only for docker-archive)")
			f.StringVarP(&o.output, "output", "o", "", "Write to a specified file (default: stdout, which must be redirected)")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the output; there is none")
			f.BoolVar(&o.Uncompressed, "uncompressed", false, "Accept uncompressed layers when saving in an OCI format")
		},
		Run: func(ctx context.Context, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			items, err := saveItems(ctx, e, args, o.multi)
			if err != nil {
				return err
			}
			if o.Format == image.OCIDir || o.Format == image.DockerDir {
				return e.SaveImages(ctx, nil, o.output, items, o.SaveOptions)
			}
			return s.saveArchive(ctx, e, items, &o)
		},
	}
}

func (o *saveOptions) check() error {
	dir := o.Format == image.OCIDir || o.Format == image.DockerDir
	switch {
	case o.Compress && o.Format != image.DockerDir:
		return errors.New("--compress can only be set when --format is 'docker-dir'")
	case o.Uncompressed && o.Compress:
		return errors.New("--uncompressed and --compress cannot be used together")
	case dir && o.output == "":
		return fmt.Errorf("--output must be set when --format is '%s'", o.Format)
	case o.multi && o.Format == image.OCIArchive, o.multi && dir:
		return fmt.Errorf("multi-image archives are only supported with the docker-archive format")
	case strings.Contains(o.output, ":") && !strings.Contains(o.output, "/"):
		return fmt.Errorf("invalid filename %q, should not contain ':'", o.output)
	}
	return nil
}

// saveItems resolves the arguments: images when there may be several, else an
// image and more names for it.
func saveItems(ctx context.Context, e *engine.Engine, args []string, multi bool) ([]image.SaveItem, error) {
	if multi {
		return e.SaveItems(ctx, args)
	}
	items, err := e.SaveItems(ctx, args[:1])
	if err != nil {
		return nil, err
	}
	for _, tag := range args[1:] {
		n, err := image.ParseName(tag)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(items[0].Names, n) {
			items[0].Names = append(items[0].Names, n)
		}
	}
	return items, nil
}

// saveArchive writes an archive to where --output says.
func (s *session) saveArchive(ctx context.Context, e *engine.Engine, items []image.SaveItem, o *saveOptions) error {
	return s.toFile(o.output, func(w io.Writer) error { return e.SaveImages(ctx, w, "", items, o.SaveOptions) })
}

// toFile lets write write to standard output or to a file, which appears whole
// or not at all; what is no regular file is written to as it is.
func (s *session) toFile(output string, write func(io.Writer) error) error {
	if output == "" || output == "/dev/stdout" || output == "-" && s.docker() {
		if term.IsTerminal(int(s.stdout.Fd())) {
			return errors.New("refusing to save to terminal. Use -o flag or redirect")
		}
		return write(s.stdout)
	}
	if fi, err := os.Stat(output); err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(output, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		return errors.Join(write(f), f.Close())
	}
	d, err := state.NewDraft(output)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer d.Close()
	if err := write(d); err != nil {
		return err
	}
	return d.Commit(0o644)
}

func (s *session) load() *command.Command {
	var input, platform string
	var quiet bool
	return &command.Command{
		Usage:    "[options]",
		Long:     "Loads an image from an archive (tar file), a directory or a URL into container storage. The archive may be compressed by gzip, zstd, xz or bzip2.",
		Examples: []string{"load --input fedora.tar", "load < fedora.tar.gz", "load -i oci-directory"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVarP(&input, "input", "i", "", "Load images from specified tar archive file")
			f.BoolVarP(&quiet, "quiet", "q", false, "Suppress the output; only the names of the images are printed")
			f.StringVar(&platform, "platform", "", "Load the image of this platform, OS/ARCH[/VARIANT], of an archive with several")
			f.Hide("platform")
		},
		Run: func(ctx context.Context, _ []string) error {
			src := image.Source{Path: input}
			if input == "" || input == "-" || input == "/dev/stdin" {
				if term.IsTerminal(int(s.stdin.Fd())) {
					return errors.New("cannot read from terminal, use command-line redirection or the --input flag")
				}
				src = image.Source{Reader: s.stdin}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if isURL(input) {
				r, err := s.fetch(ctx, input)
				if err != nil {
					return err
				}
				defer r.Close()
				src = image.Source{Reader: r}
			}
			loaded, err := e.LoadImages(ctx, src, image.LoadOptions{Platform: parsePlatform(platform)})
			for _, l := range loaded {
				for _, n := range l.Names {
					fmt.Fprintln(s.stdout, "Loaded image: "+s.shownName(n))
				}
				if len(l.Names) == 0 {
					fmt.Fprintln(s.stdout, loadedID(s.docker())+string(l.Image.ID))
				}
			}
			return err
		},
	}
}

// loadedID is how the two begin the line of an image without a name.
func loadedID(docker bool) string {
	if docker {
		return "Loaded image ID: "
	}
	return "Loaded image: "
}

// shownName is an image's name as the program that was called shows it.
func (s *session) shownName(n oci.Reference) string {
	if s.docker() {
		return n.Familiar()
	}
	return n.String()
}

// importOptions are the flags of import.
type importOptions struct {
	image.ImportOptions
	platform string
	quiet    bool
}

func (s *session) importImage() *command.Command {
	var o importOptions
	return &command.Command{
		Usage: "[options] PATH [REFERENCE]",
		Long: "Create a container image from the contents of the specified tarball (.tar, .tar.gz, .tgz, .bzip, .tar.xz, .txz).\n\n" +
			"PATH may be a file, a URL of http or https, or - for standard input. Optionally tag the image. You can specify the instructions using the --change option.",
		Examples: []string{"import ctr.tar imported-image", "cat ctr.tar | " + s.program + " -q import --message \"importing the ctr.tar tarball\" - image-imported"},
		Args:     command.Between(1, 2),
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply the following possible instructions to the created image (default []): CMD | ENTRYPOINT | ENV | EXPOSE | HEALTHCHECK | LABEL | ONBUILD | SHELL | STOPSIGNAL | USER | VOLUME | WORKDIR")
			f.StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress output; only the ID is printed")
			f.StringVar(&o.Platform.OS, "os", "", "Set the OS of the imported image")
			f.StringVar(&o.Platform.Architecture, "arch", "", "Set the architecture of the imported image")
			f.StringVar(&o.Platform.Variant, "variant", "", "Set the variant of the imported image")
			f.StringVar(&o.platform, "platform", "", "Set the platform of the imported image: OS/ARCH[/VARIANT]")
			f.Words("change", "CMD ", "ENTRYPOINT ", "ENV ", "EXPOSE ", "HEALTHCHECK ", "LABEL ", "ONBUILD ", "SHELL ", "STOPSIGNAL ", "USER ", "VOLUME ", "WORKDIR ")
			f.Hide("platform")
		},
		Run: func(ctx context.Context, args []string) error {
			if err := o.settle(args); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			r, err := s.openInput(ctx, args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			img, err := e.ImportImage(ctx, r, o.ImportOptions)
			if err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, img.ID)
			return nil
		},
	}
}

// settle fills in what the arguments and --platform say.
func (o *importOptions) settle(args []string) error {
	if o.platform != "" {
		o.Platform = parsePlatform(o.platform)
	}
	o.Source = args[0]
	if len(args) == 2 {
		n, err := image.ParseName(args[1])
		if err != nil {
			return err
		}
		o.Names = []oci.Reference{n}
	}
	return nil
}

// parsePlatform reads OS/ARCH[/VARIANT].
func parsePlatform(s string) oci.Platform {
	parts := append(strings.SplitN(s, "/", 3), "", "")
	return oci.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// openInput opens a file, standard input for "-", or a URL.
func (s *session) openInput(ctx context.Context, path string) (io.ReadCloser, error) {
	if path == "-" {
		return s.stdin, nil
	}
	if isURL(path) {
		return s.fetch(ctx, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	return f, nil
}
