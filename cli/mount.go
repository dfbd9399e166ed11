package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/front"
)

// mountNodes are the commands that show a container's files to the host, and
// the words by which scripts set up completion.
func (s *session) mountNodes() []command.Node {
	nodes := []command.Node{{Path: "completion", Short: "Generate the autocompletion script for the specified shell", Build: s.completion}}
	for _, prefix := range []string{"", "container "} {
		nodes = append(nodes,
			command.Node{Path: prefix + "mount", Short: "Mount a working container's root filesystem", Build: s.mount},
			command.Node{Path: prefix + "unmount", Short: "Unmount working container's root filesystem", Build: s.unmount},
			command.Node{Path: prefix + "umount", Short: "Unmount working container's root filesystem", Build: s.unmount, Hidden: true})
	}
	return nodes
}

func (s *session) completion() *command.Command {
	var file string
	var noDesc bool
	return &command.Command{
		Usage:    "[options] {bash|zsh|fish|powershell}",
		Long:     "Writes the script that makes a shell complete commands, flags, names and values.",
		Examples: []string{"completion bash", "completion zsh -f _hull", "completion fish --no-desc"},
		Args:     command.Exactly(1),
		Complete: command.Fixed(command.Shells...),
		Flags: func(f *command.Flags) {
			f.StringVarP(&file, "file", "f", "", "Output the completion to file rather than stdout")
			f.BoolVar(&noDesc, "no-desc", false, "Don't include descriptions in the completion output")
		},
		Run: func(ctx context.Context, args []string) error {
			if file == "" {
				return s.tree().CompletionScript(s.stdout, args[0], !noDesc)
			}
			f, err := os.Create(file)
			if err != nil {
				return fmt.Errorf("write completion: %w", err)
			}
			defer f.Close()
			if err := s.tree().CompletionScript(f, args[0], !noDesc); err != nil {
				return err
			}
			return f.Close()
		},
	}
}

// mountRow is what mount shows, with podman's JSON names.
type mountRow struct {
	ID         string   `json:"id"`
	Names      []string `json:"Names"`
	Mountpoint string   `json:"mountpoint"`
}

func (s *session) mount() *command.Command {
	var x selection
	var text string
	var noTrunc bool
	return &command.Command{
		Usage: "[options] [CONTAINER...]",
		Long: "Mounts the root file system of containers on the host and prints where it can be read and written;\n" +
			"volumes are not in it. Without containers, lists those that are mounted.",
		Examples: []string{"mount", "mount ctrID1 ctrID2 ctrID3", "mount --all"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Mount all containers")
			f.StringVar(&text, "format", "", "Print the mounted containers in specified format (json)")
			f.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate output")
			f.Words("format", "json")
		},
		Run: func(ctx context.Context, args []string) error {
			if text != "" && !format.IsJSON(text) {
				return fmt.Errorf("unknown --format argument: %q", text)
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if len(args) == 0 && !x.all && !x.latest {
				list, err := e.MountedContainers(ctx)
				if err != nil {
					return err
				}
				return s.showContainerMounts(list, text != "", noTrunc)
			}
			names, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			var done []engine.ContainerMount
			err = each(names, func(name string) error {
				m, err := e.MountContainer(ctx, name)
				if err == nil {
					done = append(done, m)
				}
				return err
			})
			if len(names) == 1 && len(done) == 1 && text == "" && !x.all {
				fmt.Fprintln(s.stdout, front.Outside(done[0].Path))
				return err
			}
			return errors.Join(s.showContainerMounts(done, text != "", noTrunc), err)
		},
	}
}

func (s *session) showContainerMounts(list []engine.ContainerMount, asJSON, noTrunc bool) error {
	rows := []mountRow{}
	lines := make([][]string, 0, len(list))
	for _, m := range list {
		rows = append(rows, mountRow{m.ID, []string{m.Name}, front.Outside(m.Path)})
		id := m.ID
		if !noTrunc {
			id = format.ShortID(id)
		}
		lines = append(lines, []string{id, front.Outside(m.Path)})
	}
	if asJSON {
		return format.JSON(s.stdout, rows, " ")
	}
	return format.Table(s.stdout, nil, lines)
}

func (s *session) unmount() *command.Command {
	var x selection
	var force bool
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Unmounts what mount has mounted. Running containers are not touched.",
		Examples: []string{"unmount ctrID", "unmount ctrID1 ctrID2 ctrID3", "unmount --all"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Unmount all of the currently mounted containers")
			f.BoolVarP(&force, "force", "f", false, "Force the complete unmount of the specified mounted containers")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			var names []string
			if x.all && len(args) == 0 && !x.latest {
				list, err := e.MountedContainers(ctx)
				if err != nil {
					return err
				}
				for _, m := range list {
					names = append(names, m.ID)
				}
			} else if names, err = x.names(ctx, e, args); err != nil {
				return err
			}
			return each(names, func(name string) error {
				if _, err := e.UnmountContainer(ctx, name, force); err != nil {
					return err
				}
				fmt.Fprintln(s.stdout, name)
				return nil
			})
		},
	}
}

func (s *session) volumeMount() *command.Command {
	return &command.Command{
		Usage:    "NAME",
		Long:     "Mounts what the volume's driver mounts, and prints the directory of its content.",
		Examples: []string{"volume mount myvol"},
		Args:     command.Exactly(1),
		Complete: s.completeVolumes,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			dir, err := e.VolumeMount(ctx, args[0])
			if err == nil {
				fmt.Fprintln(s.stdout, dir)
			}
			return err
		},
	}
}

func (s *session) volumeUnmount() *command.Command {
	return &command.Command{
		Usage:    "NAME",
		Long:     "Unmounts a volume that volume mount has mounted, unless a container uses it.",
		Examples: []string{"volume unmount myvol"},
		Args:     command.Exactly(1),
		Complete: s.completeVolumes,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, err := e.VolumeUnmount(ctx, args[0])
			if err == nil {
				fmt.Fprintln(s.stdout, name)
			}
			return err
		},
	}
}

func (s *session) volumeReload() *command.Command {
	return &command.Command{
		Long:     "Asks all volume plugins for volumes that were made elsewhere. There are no plugins here, so nothing is added or removed.",
		Examples: []string{"volume reload"},
		Args:     command.NoArgs,
		Run: func(ctx context.Context, _ []string) error {
			fmt.Fprint(s.stdout, "Added:\nRemoved:\n")
			return nil
		},
	}
}
