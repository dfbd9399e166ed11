package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/image"
)

func (s *session) tag() *command.Command {
	return &command.Command{
		Usage:    "IMAGE TARGET_NAME [TARGET_NAME...]",
		Long:     "Adds one or more additional names to locally-stored image.",
		Examples: []string{"tag 0e3bbc2 fedora:latest", "tag imageID:latest myNewImage:newTag", "tag httpd myregistryhost:5000/fedora/httpd:v2"},
		Args:     command.AtLeast(2),
		Complete: s.completeImages,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.TagImage(ctx, args[0], args[1:])
		},
	}
}

func (s *session) untag() *command.Command {
	return &command.Command{
		Usage:    "IMAGE [IMAGE...]",
		Long:     "Removes one or more names from a locally-stored image; all of them when none is given.",
		Examples: []string{"untag 0e3bbc2", "untag imageID:latest otherImageName:latest", "untag httpd myregistryhost:5000/fedora/httpd:v2"},
		Args:     command.AtLeast(1),
		Complete: s.completeImages,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.UntagImage(ctx, args[0], args[1:])
		},
	}
}

func (s *session) imageExists() *command.Command {
	return &command.Command{
		Usage:    "IMAGE",
		Long:     "If the named image exists in local storage, exits with 0, otherwise the exit code will be 1.",
		Examples: []string{"image exists ID", "image exists IMAGE && " + s.program + " pull IMAGE"},
		Args:     command.Exactly(1),
		Complete: s.completeImages,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			store, err := e.Images()
			if err != nil {
				return err
			}
			ok, err := store.Exists(ctx, args[0])
			return exists(ok, err)
		},
	}
}

// rmiOptions are the flags of rmi.
type rmiOptions struct {
	engine.ImageRemoveOptions
	all, ignore bool
}

func (s *session) rmi() *command.Command {
	var o rmiOptions
	return &command.Command{
		Usage:    "[options] IMAGE [IMAGE...]",
		Long:     "Removes one or more previously pulled or locally created images. The exit code is 1 when an image is not there, 2 when one is in use.",
		Examples: []string{"rmi imageID", "rmi --force alpine", "rmi c4dfb1609ee2 93fd78260bd1 c0ed59d05ff7"},
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&o.all, "all", "a", false, "Remove all images")
			f.BoolVarP(&o.Force, "force", "f", false, "Force removal of the image, and of the containers that use it")
			f.BoolVarP(&o.ignore, "ignore", "i", false, "Ignore errors if a specified image does not exist")
			f.BoolVar(&o.NoPrune, "no-prune", false, "Do not remove dangling images")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) == 0 && !o.all {
				return errors.New("image name or ID must be specified")
			}
			if len(args) > 0 && o.all {
				return errors.New("when using the --all switch, you may not pass any images names or IDs")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if o.all {
				return s.removeAllImages(ctx, e, o)
			}
			return s.removeImages(ctx, e, args, o)
		},
	}
}

// removeImages removes and prints, and goes on after an error. The exit code
// tells the worst: 125, or 2 in use, or 1 when images were only not there.
func (s *session) removeImages(ctx context.Context, e *engine.Engine, names []string, o rmiOptions) error {
	code := 0
	err := each(names, func(name string) error {
		r, err := e.RemoveImage(ctx, name, o.ImageRemoveOptions)
		s.printRemovedImages(r)
		switch {
		case err == nil, errors.Is(err, image.ErrNotFound) && (o.ignore || o.Force):
			return nil
		case errors.Is(err, image.ErrNotFound):
			code = max(code, command.CodeFailed)
		case errors.Is(err, image.ErrInUse):
			code = max(code, command.CodeInUse)
		default:
			code = command.CodeEngine
		}
		return err
	})
	return command.WithCode(code, err)
}

// removeAllImages removes children before what they were built upon: in
// rounds, as long as one can be removed.
func (s *session) removeAllImages(ctx context.Context, e *engine.Engine, o rmiOptions) error {
	o.AllNames, o.ignore = true, true
	for {
		list, err := e.ListImages(ctx, engine.ImageListOptions{All: true})
		if err != nil && len(list) == 0 {
			return err
		}
		parents := map[string]bool{}
		for _, i := range list {
			parents[i.Parent.Hex()] = true
		}
		var ids []string
		for _, i := range list {
			if !parents[i.ID.Hex()] && !i.ReadOnly {
				ids = append(ids, i.ID.Hex())
			}
		}
		if err := s.removeImages(ctx, e, ids, o); err != nil || len(ids) == 0 {
			return err
		}
	}
}

func (s *session) printRemovedImages(r image.Removed) {
	for _, n := range r.Untagged {
		if s.docker() {
			fmt.Fprintln(s.stdout, "Untagged: "+n.Familiar())
		} else {
			fmt.Fprintln(s.stdout, "Untagged: "+n.String())
		}
	}
	for _, id := range r.Deleted {
		if s.docker() {
			fmt.Fprintln(s.stdout, "Deleted: "+string(id))
		} else {
			fmt.Fprintln(s.stdout, "Deleted: "+id.Hex())
		}
	}
}

func (s *session) imagePrune() *command.Command {
	var all, force, external, caches bool
	var filters []string
	return &command.Command{
		Usage: "[options]",
		Long: "Removes dangling or unused images from local storage, and content that belongs to no image.\n" +
			"With --all, also images with a name that no container uses.",
		Examples: []string{"image prune", "image prune --all --force", "image prune --filter until=24h"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all images not in use by containers, not just dangling ones")
			f.BoolVar(&external, "external", false, "Remove images even when they are used by external containers; there are none")
			f.BoolVar(&caches, "build-cache", false, "Remove also what builds kept: results of steps, and the directories of RUN --mount=type=cache")
			f.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
			f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
			f.Words("filter", "label=", "label!=", "until=")
		},
		Run: func(ctx context.Context, _ []string) error {
			if all && external {
				return errors.New("--all and --external cannot be used together")
			}
			fs, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			if !force {
				ok, err := s.confirm(pruneWarning(all))
				if err != nil || !ok {
					return err
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if caches {
				if _, err := e.PruneBuild(ctx, engine.PruneBuildOptions{Steps: true, Caches: true}); err != nil {
					return err
				}
			}
			r, err := e.PruneImages(ctx, all, engine.ImageListOptions{Filters: fs, ParseTime: pastTime})
			s.printPruned(r)
			return err
		},
	}
}

func pruneWarning(all bool) string {
	if all {
		return "WARNING! This command removes all images without at least one container associated with them.\nAre you sure you want to continue? [y/N] "
	}
	return "WARNING! This command removes all dangling images.\nAre you sure you want to continue? [y/N] "
}

// printPruned prints IDs as podman does, or docker's summary.
func (s *session) printPruned(r image.Removed) {
	if !s.docker() {
		for _, id := range r.Deleted {
			fmt.Fprintln(s.stdout, id.Hex())
		}
		return
	}
	if len(r.Deleted) > 0 {
		fmt.Fprintln(s.stdout, "Deleted Images:")
		for _, n := range r.Untagged {
			fmt.Fprintln(s.stdout, "untagged: "+n.Familiar())
		}
		for _, id := range r.Deleted {
			fmt.Fprintln(s.stdout, "deleted: "+string(id))
		}
		fmt.Fprintln(s.stdout)
	}
	fmt.Fprintf(s.stdout, "Total reclaimed space: %s\n", format.ShortSize(r.Freed))
}

// confirm asks a question and reads y or anything else.
func (s *session) confirm(question string) (bool, error) {
	fmt.Fprint(s.stdout, question)
	line, err := bufio.NewReader(s.stdin).ReadString('\n')
	if err != nil && line == "" {
		return false, nil
	}
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y"), nil
}
