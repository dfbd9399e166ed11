package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"hull/command"
	"hull/criu"
	"hull/ociruntime"
)

// criuFlags are those that checkpoint and restore share.
type criuFlags struct {
	criu.Options
	parent   string
	emptyNS  []string
	statusFD int
}

func (c *criuFlags) declare(f *command.Flags) {
	f.StringVar(&c.Images, "image-path", "", "Directory of criu's images (default: checkpoint in the current directory)")
	f.StringVar(&c.Work, "work-path", "", "Directory of criu's log and statistics")
	f.BoolVar(&c.TCPEstablished, "tcp-established", false, "Allow established TCP connections")
	f.BoolVar(&c.ExternalUnixSockets, "ext-unix-sk", false, "Allow Unix sockets whose other end is outside")
	f.BoolVar(&c.ShellJob, "shell-job", false, "Allow a terminal that is not the container's own")
	f.BoolVar(&c.LazyPages, "lazy-pages", false, "Bring memory in when it is used, by userfaultfd")
	f.BoolVar(&c.FileLocks, "file-locks", false, "Keep file locks")
	f.StringVar(&c.Cgroups, "manage-cgroups-mode", "", "How criu treats cgroups: soft, full or strict (default: not at all)")
	f.StringSliceVar(&c.emptyNS, "empty-ns", nil, "Make a namespace (network) without what is in it")
	f.BoolVar(&c.AutoDedup, "auto-dedup", false, "Keep each page of memory once")
}

// settle makes the directories and looks at what words say.
func (c *criuFlags) settle() (err error) {
	if c.Images == "" {
		c.Images = "checkpoint"
	}
	for _, p := range []*string{&c.Images, &c.Work} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err == nil {
			err = os.MkdirAll(*p, 0o700)
		}
		if err != nil {
			return err
		}
	}
	if c.Cgroups != "" && !slices.Contains([]string{"soft", "full", "strict"}, c.Cgroups) {
		return errors.New("Invalid manage cgroups mode") //nolint:staticcheck // runc's words
	}
	for _, ns := range c.emptyNS {
		if ns != "network" {
			return fmt.Errorf("namespace %q is not supported", ns)
		}
		c.EmptyNetwork = true
	}
	return c.settleParent()
}

// settleParent: the earlier dump is found from the images.
func (c *criuFlags) settleParent() error {
	if c.parent == "" {
		return nil
	}
	if filepath.IsAbs(c.parent) {
		return errors.New("--parent-path must be relative")
	}
	fi, err := os.Stat(filepath.Join(c.Images, c.parent))
	if err == nil && !fi.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return fmt.Errorf("invalid --parent-path: %w", err)
	}
	c.Parent = c.parent
	return nil
}

func (o *ociSession) checkpoint() *command.Command {
	var c criuFlags
	var preDump bool
	return &command.Command{
		Usage: "[options] ID", Args: oneID,
		Long: "Writes the processes of a running container to a directory, by criu, and removes the container.",
		Flags: func(f *command.Flags) {
			c.declare(f)
			f.StringVar(&c.parent, "parent-path", "", "Directory of an earlier --pre-dump, relative to --image-path")
			f.BoolVar(&c.LeaveRunning, "leave-running", false, "Let the container go on")
			f.IntVar(&c.statusFD, "status-fd", -1, "Descriptor that gets a zero byte when --lazy-pages can be asked for memory")
			f.StringVar(&c.PageServer, "page-server", "", "ADDRESS:PORT that gets the memory")
			f.BoolVar(&preDump, "pre-dump", false, "Write the memory only, and let the container go on")
		},
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			if err := c.settle(); err != nil {
				return err
			}
			if c.statusFD >= 0 {
				if err := checkWritable(c.statusFD); err != nil {
					return err
				}
				c.StatusFD = os.NewFile(uintptr(c.statusFD), "status")
			}
			return r.Checkpoint(ctx, args[0], c.Options, preDump)
		}),
	}
}

func checkWritable(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("invalid --status-fd argument %d: %w", fd, err)
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return fmt.Errorf("invalid --status-fd argument %d: not writable", fd)
	}
	unix.CloseOnExec(fd)
	return nil
}

func (o *ociSession) restore() *command.Command {
	var c ociCreateFlags
	var cr criuFlags
	var detach bool
	return &command.Command{
		Usage: "[options] ID", Args: oneID,
		Long: "Makes a container of a bundle, in which the processes of a checkpoint go on. What came back is held against config.json before it runs.",
		Flags: func(f *command.Flags) {
			cr.declare(f)
			f.StringVarP(&c.Bundle, "bundle", "b", "", "Path to the bundle (default: the current directory)")
			f.StringVar(&c.ConsoleSocket, "console-socket", "", "Path to a Unix socket that gets the terminal's master")
			f.StringVar(&c.PidFile, "pid-file", "", "File to write the process's number to")
			f.BoolVarP(&detach, "detach", "d", false, "Return when the processes run")
			f.StringVar(&cr.LSMProfile, "lsm-profile", "", "Label of the processes in the place of their own: TYPE:NAME")
			f.StringVar(&cr.LSMMountContext, "lsm-mount-context", "", "Label of the mounts in the place of their own")
			f.BoolVar(&c.NoPivot, "no-pivot", false, "")
			f.BoolVar(&c.noSubreaper, "no-subreaper", false, "")
			f.Hide("no-pivot")
			f.Hide("no-subreaper")
		},
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			if err := cr.settle(); err != nil {
				return err
			}
			opts, err := c.options(o)
			if err != nil {
				return err
			}
			if opts.Spec, err = ociruntime.LoadBundle(opts.Bundle); err != nil {
				return err
			}
			code, err := o.follow(opts.Spec.Process, detach || opts.ConsoleSocket != "", detach, &opts.Console, func(started func(int)) (int, error) {
				return r.Restore(ctx, args[0], ociruntime.RestoreOptions{Criu: cr.Options, RunOptions: ociruntime.RunOptions{
					CreateOptions: opts, Detach: detach, Started: started}})
			})
			if err != nil {
				return err
			}
			return exitCode(code)
		}),
	}
}
