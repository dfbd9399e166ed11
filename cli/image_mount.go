package cli

import (
	"context"
	"errors"
	"fmt"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/front"
)

func (s *session) imageMount() *command.Command {
	var all bool
	var text string
	return &command.Command{
		Usage: "[options] [IMAGE...]",
		Long: "Mounts an image's root file system, read-only, and prints where it can be read.\n" +
			"Without images, lists those that are mounted.",
		Examples: []string{"image mount imgID", "image mount imgID1 imgID2 imgID3", "image mount", "image mount --all"},
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Mount all images")
			f.StringVar(&text, "format", "", "Print the mounted images in specified format (json)")
			f.Words("format", "json")
		},
		Run: func(ctx context.Context, args []string) error {
			if all && len(args) > 0 {
				return errors.New("when using the --all switch, you may not pass any image names or IDs")
			}
			if text != "" && text != "json" {
				return fmt.Errorf("unknown --format argument: %q", text)
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if !all && len(args) == 0 {
				list, err := e.MountedImages(ctx)
				if err != nil {
					return err
				}
				return s.showMounts(list, text == "json")
			}
			return s.mountImages(ctx, e, args, all, text == "json")
		},
	}
}

func (s *session) mountImages(ctx context.Context, e *engine.Engine, names []string, all, asJSON bool) error {
	if all {
		list, err := e.ListImages(ctx, engine.ImageListOptions{})
		if err != nil {
			return err
		}
		for _, i := range list {
			names = append(names, i.ID.Hex())
		}
	}
	var done []engine.ImageMount
	err := each(names, func(name string) error {
		m, err := e.MountImage(ctx, name)
		if err == nil {
			done = append(done, m)
		}
		return err
	})
	if len(names) == 1 && len(done) == 1 && !asJSON {
		fmt.Fprintln(s.stdout, front.Outside(done[0].Path))
		return nil
	}
	return errors.Join(s.showMounts(done, asJSON), err)
}

func (s *session) showMounts(list []engine.ImageMount, asJSON bool) error {
	if asJSON {
		type entry struct {
			ID           string `json:"id"`
			Names        []string
			Repositories []string
			MountPoint   string `json:"mountpoint"`
		}
		out := []entry{}
		for _, m := range list {
			names := refTexts(m.Image.Names)
			out = append(out, entry{m.Image.ID.Hex(), names, names, front.Outside(m.Path)})
		}
		return format.JSON(s.stdout, out, " ")
	}
	var rows [][]string
	for _, m := range list {
		name := format.ShortID(string(m.Image.ID))
		if len(m.Image.Names) > 0 {
			name = m.Image.Names[0].String()
		}
		rows = append(rows, []string{name, front.Outside(m.Path)})
	}
	return format.Table(s.stdout, nil, rows)
}

func (s *session) imageUnmount() *command.Command {
	var all, force bool
	return &command.Command{
		Usage:    "[options] IMAGE [IMAGE...]",
		Long:     "Unmounts the root file systems of images that were mounted by image mount.",
		Examples: []string{"image unmount imgID", "image unmount imgID1 imgID2 imgID3", "image unmount --all"},
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Unmount all of the currently mounted images")
			f.BoolVarP(&force, "force", "f", false, "Force the unmount of the specified mounted images")
		},
		Run: func(ctx context.Context, args []string) error {
			if all == (len(args) > 0) {
				if all {
					return errors.New("when using the --all switch, you may not pass any image names or IDs")
				}
				return errors.New("at least one image ID must be specified")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if all {
				gone, err := e.UnmountImages(ctx, force)
				for _, id := range gone {
					fmt.Fprintln(s.stdout, id.Hex())
				}
				return err
			}
			return each(args, func(name string) error {
				id, err := e.UnmountImage(ctx, name, force)
				if err == nil {
					fmt.Fprintln(s.stdout, id.Hex())
				}
				return err
			})
		},
	}
}
