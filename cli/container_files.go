package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/image"
	"hull/layer"
)

func isImageNotFound(err error) bool { return errors.Is(err, image.ErrNotFound) }

func (s *session) commit() *command.Command {
	var o engine.CommitOptions
	var kind, iidFile, configFile string
	var quiet bool
	return &command.Command{
		Usage:    "[options] CONTAINER [IMAGE]",
		Long:     "Creates an image from a container's changes. Optionally tag the image created, set the author with the --author flag, set the commit message with the --message flag, and make changes to the instructions with the --change flag.",
		Examples: []string{"commit -q --message \"committing container to image\" reverent_golick image-committed", "commit -q --author \"firstName lastName\" reverent_golick image-committed"},
		Args:     command.Between(1, 2), Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.StringVarP(&o.Author, "author", "a", "", "Set the author for the image committed")
			f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply the following possible instructions to the created image (default []): CMD | ENTRYPOINT | ENV | EXPOSE | LABEL | ONBUILD | STOPSIGNAL | USER | VOLUME | WORKDIR")
			f.StringVar(&configFile, "config", "", "Merge the image config in this JSON file into that of the image")
			f.StringVarP(&kind, "format", "f", "oci", "Format of the image manifest and metadata: oci or docker")
			f.StringVar(&iidFile, "iidfile", "", "file to write the image ID to")
			f.BoolVar(&o.IncludeVolumes, "include-volumes", false, "Include container volumes as image volumes")
			f.StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
			f.BoolVarP(&o.Pause, "pause", "p", s.docker(), "Pause container during commit")
			f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output; only the ID is printed")
			f.BoolVarP(&o.Squash, "squash", "s", false, "squash newly built layers into a single new layer")
			f.Words("format", "oci", "docker")
		},
		Run: func(ctx context.Context, args []string) error {
			switch kind {
			case "oci":
			case "docker", "v2s2":
				o.Docker = true
			default:
				return fmt.Errorf("unrecognized image format %q", kind)
			}
			if configFile != "" {
				data, err := os.ReadFile(configFile)
				if err != nil {
					return fmt.Errorf("read --config: %w", err)
				}
				if o.Config, err = image.DecodeConfig(data); err != nil {
					return fmt.Errorf("read --config %s: %w", configFile, err)
				}
			}
			if o.Docker = o.Docker || s.docker(); len(args) > 1 {
				o.Name = args[1]
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			id, err := e.Commit(ctx, args[0], o)
			if err != nil {
				return err
			}
			if iidFile != "" {
				if err := os.WriteFile(iidFile, []byte("sha256:"+id.Hex()), 0o644); err != nil {
					return fmt.Errorf("write --iidfile: %w", err)
				}
			}
			text := id.Hex()
			if s.docker() {
				text = string(id)
			}
			fmt.Fprintln(s.stdout, text)
			return nil
		},
	}
}

// copyEnd reads CONTAINER:PATH, PATH or -.
func copyEnd(text string, stream any) engine.CopyEnd {
	if text == "-" {
		return engine.CopyEnd{Stream: stream}
	}
	name, path, ok := strings.Cut(text, ":")
	if !ok || strings.HasPrefix(text, "/") || strings.HasPrefix(text, ".") || strings.Contains(name, "/") {
		return engine.CopyEnd{Path: text}
	}
	if path == "" {
		path = "/"
	}
	return engine.CopyEnd{Container: name, Path: path}
}

func (s *session) cp() *command.Command {
	var o engine.CopyOptions
	var chown bool
	return &command.Command{
		Usage:    "[options] [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH",
		Long:     "Copies the contents of SRC_PATH to the DEST_PATH. You can copy from the container's file system to the local machine or the reverse, from the local filesystem to the container.\nIf \"-\" is specified for either the SRC_PATH or DEST_PATH, you can also stream a tar archive from STDIN or to STDOUT.",
		Examples: []string{"cp [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH"},
		Args:     command.Exactly(2),
		Flags: func(f *command.Flags) {
			f.BoolVarP(&chown, "archive", "a", true, "Chown copied files to the primary uid/gid of the destination container")
			f.BoolVar(&o.Overwrite, "overwrite", false, "Allow to overwrite directories with non-directories and vice versa")
			f.BoolP("follow-link", "L", false, "Links in the source path are followed; always done")
			f.Hide("follow-link")
		},
		Run: func(ctx context.Context, args []string) error {
			from, to := copyEnd(args[0], io.Reader(s.stdin)), copyEnd(args[1], io.Writer(s.stdout))
			switch {
			case from.Container == "" && to.Container == "":
				return errors.New("one of the two paths must be in a container: CONTAINER:PATH")
			case from.Stream != nil && to.Stream != nil:
				return errors.New("only one of the two can be an archive")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			o.Archive = !chown
			return e.Copy(ctx, from, to, o)
		},
	}
}

func (s *session) diff() *command.Command {
	var x selection
	var text string
	return &command.Command{
		Usage: "[options] {CONTAINER|IMAGE} [{CONTAINER|IMAGE}]", Long: "Displays changes to the container or image's file system. The container or image will be compared to its parent layer or the second argument when given.",
		Examples: []string{"diff imageID", "diff ctrID", "diff --format json redis:alpine"},
		Args:     command.AtMost(2), Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.StringVar(&text, "format", "", "Change the output format (json)")
			x.declare(f, "l", "")
			f.Words("format", "json")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if x.latest {
				id, err := e.Latest(ctx)
				if err != nil {
					return err
				}
				args = []string{id}
			}
			if len(args) == 0 {
				return errors.New("container must be specified: diff [options [...]] ID-NAME")
			}
			changes, err := s.changesOf(ctx, e, args)
			if err != nil {
				return err
			}
			return s.showChanges(changes, text)
		},
	}
}

// changesOf are a container's, or those between two images.
func (s *session) changesOf(ctx context.Context, e *engine.Engine, args []string) ([]layer.Change, error) {
	if len(args) == 1 {
		changes, err := e.Diff(ctx, args[0])
		if err == nil || !errors.Is(err, engine.ErrNotFound) {
			return changes, err
		}
		if images, ierr := e.DiffImages(ctx, "", args[0]); ierr == nil {
			return images, nil
		}
		return nil, err
	}
	return e.DiffImages(ctx, args[1], args[0])
}

func (s *session) showChanges(changes []layer.Change, text string) error {
	if format.IsJSON(text) {
		var out struct {
			Changed []string `json:"changed,omitempty"`
			Added   []string `json:"added,omitempty"`
			Deleted []string `json:"deleted,omitempty"`
		}
		for _, c := range changes {
			switch c.Kind {
			case layer.Added:
				out.Added = append(out.Added, c.Path)
			case layer.Modified:
				out.Changed = append(out.Changed, c.Path)
			case layer.Deleted:
				out.Deleted = append(out.Deleted, c.Path)
			}
		}
		return format.JSON(s.stdout, out, "     ")
	}
	if text != "" {
		return fmt.Errorf("only supported value for '--format' is 'json'")
	}
	for _, c := range changes {
		fmt.Fprintf(s.stdout, "%s %s\n", c.Kind, command.Printable(c.Path))
	}
	return nil
}

func (s *session) export() *command.Command {
	var output string
	return &command.Command{
		Usage: "[options] CONTAINER", Long: "Exports the filesystem contents of a container as a tar archive to standard output or to a file.",
		Examples: []string{"export ctrID > myCtr.tar", "export --output=\"myCtr.tar\" ctrID"},
		Args:     command.Exactly(1), Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.StringVarP(&output, "output", "o", "", "Write to a specified file (default: stdout, which must be redirected)")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if _, err := e.Lookup(ctx, args[0]); err != nil {
				return err
			}
			return s.toFile(output, func(w io.Writer) error { return e.Export(ctx, args[0], w) })
		},
	}
}
