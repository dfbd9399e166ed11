package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hull/command"
	"hull/engine"
	"hull/format"
)

func (s *session) containerCheckpoint() *command.Command {
	var x selection
	var o engine.CheckpointOptions
	var stats bool
	return &command.Command{
		Usage: "[options] CONTAINER [CONTAINER...]",
		Long: "Writes the processes of running containers to the disk, by criu, and ends them. \"container restore\" lets them go on.\n" +
			"Containers of users, and those with a user namespace of their own, cannot be kept.",
		Examples: []string{"container checkpoint ctrID", "container checkpoint --leave-running ctrID", "container checkpoint --export ctr.tar.zst ctrID"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Checkpoint all running containers")
			f.StringVarP(&o.Compress, "compress", "c", "zstd", "Select compression algorithm (gzip, none, zstd) for the checkpoint's archive")
			f.StringVar(&o.CreateImage, "create-image", "", "Create a checkpoint image with the given name")
			f.StringVarP(&o.Export, "export", "e", "", "Export the checkpoint to an archive")
			f.BoolVar(&o.FileLocks, "file-locks", false, "Checkpoint a container with file locks")
			f.BoolVar(&o.IgnoreRootFS, "ignore-rootfs", false, "Do not include changes of the root file system when exporting")
			f.BoolVar(&o.IgnoreVolumes, "ignore-volumes", false, "Do not export volumes associated with the container")
			f.BoolVarP(&o.Keep, "keep", "k", false, "Keep criu's log and statistics")
			f.BoolVarP(&o.LeaveRunning, "leave-running", "R", false, "Leave the container running after writing the checkpoint")
			f.BoolVarP(&o.PreCheckpoint, "pre-checkpoint", "P", false, "Write the container's memory only, and leave it running")
			f.BoolVar(&stats, "print-stats", false, "Display the time that it took")
			f.BoolVar(&o.TCPEstablished, "tcp-established", false, "Checkpoint a container with established TCP connections")
			f.BoolVar(&o.WithPrevious, "with-previous", false, "Write only what changed since --pre-checkpoint")
			f.Words("compress", "gzip", "none", "zstd")
		},
		Run: func(ctx context.Context, args []string) error {
			elsewhere := o.Export != "" || o.CreateImage != ""
			switch {
			case !slices.Contains([]string{"gzip", "none", "zstd"}, o.Compress):
				return fmt.Errorf("compression %q is not one of gzip, none, zstd", o.Compress)
			case !elsewhere && (o.IgnoreRootFS || o.IgnoreVolumes):
				return errors.New("--ignore-rootfs and --ignore-volumes can only be used with --export or --create-image")
			case o.Export != "" && o.CreateImage != "":
				return errors.New("--export and --create-image cannot be used together")
			case elsewhere && (x.all || len(args) > 1):
				return errors.New("--export and --create-image can only be used with one container")
			case o.PreCheckpoint && o.WithPrevious:
				return errors.New("--pre-checkpoint and --with-previous cannot be used together")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if x.all {
				x.filters = append(x.filters, "status=running")
			}
			names, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			return eachOf(s, names, stats, "checkpoint", "container_statistics", func(name string) (engine.CheckpointResult, string, int64, error) {
				r, err := e.Checkpoint(ctx, name, o)
				return r, r.ID, r.Duration, err
			})
		},
	}
}

// eachOf prints the ID, or with stats the times, of each.
func eachOf[T any](s *session, names []string, stats bool, verb, list string, do func(string) (T, string, int64, error)) error {
	var all []T
	total := int64(0)
	err := each(names, func(name string) error {
		res, id, took, err := do(name)
		if err != nil {
			return err
		}
		all = append(all, res)
		total += took
		if !stats {
			fmt.Fprintln(s.stdout, id)
		}
		return nil
	})
	if stats && len(all) > 0 {
		return errors.Join(err, format.JSON(s.stdout, map[string]any{"podman_" + verb + "_duration": total, list: all}, "    "))
	}
	return err
}

func (s *session) containerRestore() *command.Command {
	var x selection
	var o engine.RestoreOptions
	var stats bool
	var publish []string
	return &command.Command{
		Usage: "[options] CONTAINER|IMAGE [CONTAINER|IMAGE...]",
		Long: "Lets the processes of checkpoints go on: in the containers that they were taken from, or in new ones, made of an archive or an image.\n" +
			"A checkpoint that this store has not made is refused without --trust-checkpoint: it says what runs, and as whom.",
		Examples: []string{"container restore ctrID", "container restore --all", "container restore --import ctr.tar.zst --name copy"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Restore all checkpointed containers")
			f.BoolVar(&o.FileLocks, "file-locks", false, "Restore a container with file locks")
			f.BoolVar(&o.IgnoreRootFS, "ignore-rootfs", false, "Do not apply the changes of the root file system when importing")
			f.BoolVar(&o.IgnoreStaticIP, "ignore-static-ip", false, "Take a new IP address, not the one that the processes had")
			f.BoolVar(&o.IgnoreStaticMAC, "ignore-static-mac", false, "Take a new MAC address, not the one that the processes had")
			f.BoolVar(&o.IgnoreVolumes, "ignore-volumes", false, "Do not restore volumes associated with the container")
			f.StringVarP(&o.Import, "import", "i", "", "Restore from an exported archive")
			f.StringVar(&o.ImportPrevious, "import-previous", "", "Restore from an exported archive of --pre-checkpoint as well")
			f.BoolVarP(&o.Keep, "keep", "k", false, "Keep the checkpoint, and criu's log and statistics")
			f.StringVarP(&o.Name, "name", "n", "", "Specify a new name for a container restored from an archive or image")
			f.StringVar(&o.Pod, "pod", "", "Restore the container into a pod")
			f.BoolVar(&stats, "print-stats", false, "Display the time that it took")
			f.StringSliceVarP(&publish, "publish", "p", nil, "Publish ports of the restored container, in place of those it had")
			f.BoolVar(&o.TCPClose, "tcp-close", false, "Restore a container with established TCP connections closed")
			f.BoolVar(&o.TCPEstablished, "tcp-established", false, "Restore a container with established TCP connections")
			f.BoolVar(&o.Trust, "trust-checkpoint", false, "Take an archive or image that this store has not made")
		},
		Run: func(ctx context.Context, args []string) (err error) {
			if o.Publish, err = ports(publish); err != nil {
				return err
			}
			switch {
			case o.Import != "" && (x.all || x.latest || len(args) > 0):
				return errors.New("--import cannot be used with containers, --all or --latest")
			case o.ImportPrevious != "" && o.Import == "":
				return errors.New("--import-previous needs --import")
			case o.TCPClose && o.TCPEstablished:
				return errors.New("--tcp-close and --tcp-established cannot be used together")
			case o.Name != "" && o.TCPEstablished:
				return errors.New("--tcp-established cannot be used with --name: the connections are of the container that had the address")
			case o.Name != "" && len(args) > 1:
				return errors.New("--name can only be used with one container")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			names := []string{""}
			if o.Import == "" {
				if names, err = s.checkpointed(ctx, e, &x, args); err != nil {
					return err
				}
			}
			return eachOf(s, names, stats, "restore", "container_statistics", func(name string) (engine.RestoreResult, string, int64, error) {
				r, err := restoreOne(ctx, e, name, o)
				return r, r.ID, r.Duration, err
			})
		},
	}
}

// restoreOne restores a container, or what is no container: an image, or o's archive.
func restoreOne(ctx context.Context, e *engine.Engine, name string, o engine.RestoreOptions) (engine.RestoreResult, error) {
	if found, err := e.Exists(ctx, name); name == "" || err == nil && !found {
		return e.RestoreFrom(ctx, name, o)
	}
	if o.Name != "" || o.Pod != "" || len(o.Publish) > 0 || o.IgnoreRootFS || o.IgnoreVolumes {
		return engine.RestoreResult{}, errors.New("--name, --pod, --publish, --ignore-rootfs and --ignore-volumes are for archives and images: a container has its own")
	}
	return e.Restore(ctx, name, o)
}

// checkpointed are the containers, or images, that were named; all are those with a checkpoint.
func (s *session) checkpointed(ctx context.Context, e *engine.Engine, x *selection, args []string) ([]string, error) {
	if !x.all && !x.latest {
		if len(args) == 0 {
			return nil, errors.New("you must provide at least one name or id")
		}
		return args, nil
	}
	names, err := x.names(ctx, e, args)
	if err != nil || !x.all {
		return names, err
	}
	return slices.DeleteFunc(names, func(n string) bool {
		c, err := e.Inspect(ctx, n, false)
		return err != nil || c.State.Running || c.State.CheckpointedAt.IsZero()
	}), nil
}
