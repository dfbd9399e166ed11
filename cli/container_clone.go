package cli

import (
	"context"
	"fmt"

	"hull/command"
	"hull/engine"
)

func (s *session) containerClone() *command.Command {
	var o engine.CloneOptions
	var r engine.Resources
	var swap string
	var swappiness int64 = -1
	return &command.Command{
		Usage: "[options] CONTAINER NAME IMAGE",
		Long: "Creates a container like another: its command, settings and named volumes, with a file system that begins as the image.\n" +
			"A name and an image that replace the original's may be given.",
		Examples: []string{"container clone container_name new_name", "container clone container_name new_name image_name", "container clone --destroy --force --run web web2"},
		Args:     command.Between(1, 3),
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			declareResources(f, &r, &swap, &swappiness)
			f.StringVar(&o.Name, "name", "", "Set name for the clone")
			f.BoolVar(&o.Destroy, "destroy", false, "destroy the original container")
			f.BoolVarP(&o.Force, "force", "f", false, "force the existing container to be destroyed")
			f.StringVar(&o.Pod, "pod", "", "add the clone to the given pod")
			f.BoolVar(&o.Run, "run", false, "run the new container")
		},
		Run: func(ctx context.Context, args []string) error {
			if err := setMemory(&r, swap, swappiness); err != nil {
				return err
			}
			if o.Force && !o.Destroy {
				return fmt.Errorf("cannot set --force without --destroy")
			}
			o.Resources = &r
			if len(args) > 1 {
				o.Name = args[1]
			}
			if len(args) > 2 {
				o.Image = args[2]
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			id, err := e.Clone(ctx, args[0], o)
			if id != "" {
				fmt.Fprintln(s.stdout, id)
			}
			return err
		},
	}
}

func (s *session) containerCleanup() *command.Command {
	var x selection
	var exec string
	var rm, rmi bool
	return &command.Command{
		Usage: "[options] CONTAINER [CONTAINER...]",
		Long: "Gives back the network, mounts and cgroup of containers that have ended without that being done,\n" +
			"as after their monitors were killed. Running containers are not touched.",
		Examples: []string{"container cleanup --latest", "container cleanup ctrID1 ctrID2 ctrID3", "container cleanup --all"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Cleans up all containers")
			f.StringVar(&exec, "exec", "", "Clean up the given exec session instead of the container")
			f.BoolVar(&rm, "rm", false, "After cleanup, remove the container entirely")
			f.BoolVar(&rmi, "rmi", false, "After cleanup, remove the image entirely")
		},
		Run: func(ctx context.Context, args []string) error {
			if exec != "" && (rm || rmi || x.all || x.latest) {
				return fmt.Errorf("--exec cannot be used with --all, --latest, --rm or --rmi")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			names, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			return each(names, func(name string) error {
				id, err := e.Lookup(ctx, name)
				if err != nil {
					return err
				}
				c, err := e.Inspect(ctx, id, false)
				if err != nil {
					return err
				}
				// An exec session leaves nothing that its end does not take along.
				if exec == "" {
					if err := e.Cleanup(ctx, id); err != nil {
						return err
					}
				}
				if rm || rmi {
					if _, err := e.Remove(ctx, id, engine.RemoveOptions{}); err != nil {
						return err
					}
				}
				if rmi {
					if _, err := e.RemoveImage(ctx, c.Image, engine.ImageRemoveOptions{}); err != nil {
						return err
					}
				}
				fmt.Fprintln(s.stdout, name)
				return nil
			})
		},
	}
}

func (s *session) systemReset() *command.Command {
	var force bool
	return &command.Command{
		Long: "Removes all containers, images, volumes, networks and secrets. Running containers are killed.", Args: command.NoArgs,
		Usage: "[options]", Examples: []string{"system reset --force"},
		Flags: func(f *command.Flags) { f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation") },
		Run: func(ctx context.Context, _ []string) error {
			if !force {
				ok, err := s.confirm("WARNING! This will remove:\n\t- all containers\n\t- all images\n\t- all networks\n\t- all volumes\n\t- all secrets\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.Reset(ctx)
		},
	}
}

// systemRenumber is for scripts: locks are files here, and have no numbers.
func (s *session) systemRenumber() *command.Command {
	return &command.Command{
		Long: "Gives the locks of containers and volumes new numbers. Locks are files here, one an object, and need none: what killed commands left is cleaned up.", Args: command.NoArgs,
		Examples: []string{"system renumber"},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.Recover(ctx)
		},
	}
}

func (s *session) systemMigrate() *command.Command {
	var runtime string
	var db bool
	return &command.Command{
		Long: "Brings the store to this version's form. Records say their version and are read as they are, so there is nothing to rewrite:\n" +
			"what killed commands left is cleaned up.",
		Usage: "[options]", Examples: []string{"system migrate"}, Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVar(&runtime, "new-runtime", "", "Specify a new runtime for all containers; there is hull")
			f.BoolVar(&db, "migrate-db", false, "Migrate a database of containers; there is none")
		},
		Run: func(ctx context.Context, _ []string) error {
			if runtime != "" && runtime != "hull" {
				return fmt.Errorf("runtime %q is not known: there is hull", runtime)
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.Recover(ctx)
		},
	}
}
