package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/command"
	"hull/format"
	"hull/ociruntime"
)

// createFlagsOCI are those of create and run.
type ociCreateFlags struct {
	ociruntime.CreateOptions
	noSubreaper bool
}

func (c *ociCreateFlags) declare(f *command.Flags) {
	f.StringVarP(&c.Bundle, "bundle", "b", "", "Path to the bundle (default: the current directory)")
	f.StringVar(&c.ConsoleSocket, "console-socket", "", "Path to a Unix socket that gets the terminal's master")
	f.StringVar(&c.PidFile, "pid-file", "", "File to write the process's number to")
	f.BoolVar(&c.NoPivot, "no-pivot", false, "Do not pivot_root: for a root on an initial ramfs")
	f.BoolVar(&c.NoNewKeyring, "no-new-keyring", false, "Leave the session keyring as it is")
	f.IntVar(&c.PreserveFDs, "preserve-fds", 0, "Pass this many descriptors from 3 on")
}

func (c *ociCreateFlags) options(o *ociSession) (ociruntime.CreateOptions, error) {
	var err error
	if c.Bundle, err = filepath.Abs(c.Bundle); err != nil {
		return c.CreateOptions, err
	}
	c.Stdin, c.Stdout, c.Stderr = o.stdin, o.stdout, o.stderr
	c.PreserveFDs += listenFDs()
	return c.CreateOptions, checkInherited(c.PreserveFDs, nil)
}

// listenFDs are passed on by socket activation.
func listenFDs() int {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (o *ociSession) create() *command.Command {
	var c ociCreateFlags
	return &command.Command{
		Usage: "[options] ID", Args: oneID, Flags: c.declare,
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			opts, err := c.options(o)
			if err != nil {
				return err
			}
			_, err = r.Create(ctx, args[0], opts)
			return err
		}),
	}
}

func (o *ociSession) run() *command.Command {
	var c ociCreateFlags
	var detach, keep bool
	return &command.Command{
		Usage: "[options] ID", Args: oneID,
		Flags: func(f *command.Flags) {
			c.declare(f)
			f.BoolVarP(&detach, "detach", "d", false, "Return when the program runs")
			f.BoolVar(&keep, "keep", false, "Do not delete the container after its end")
			f.BoolVar(&c.noSubreaper, "no-subreaper", false, "")
			f.Hide("no-subreaper")
		},
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			opts, err := c.options(o)
			if err != nil {
				return err
			}
			if opts.Spec, err = ociruntime.LoadBundle(opts.Bundle); err != nil {
				return err
			}
			code, err := o.follow(opts.Spec.Process, detach || opts.ConsoleSocket != "", detach, &opts.Console, func(started func(int)) (int, error) {
				return r.Run(ctx, args[0], ociruntime.RunOptions{CreateOptions: opts, Detach: detach, Keep: keep, Started: started})
			})
			if err != nil {
				return err
			}
			return exitCode(code)
		}),
	}
}

func (o *ociSession) start() *command.Command {
	return &command.Command{
		Usage: "ID", Args: oneID,
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error { return r.Start(ctx, args[0]) }),
	}
}

func (o *ociSession) pause() *command.Command {
	return &command.Command{
		Usage: "ID", Args: oneID,
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error { return r.Pause(ctx, args[0]) }),
	}
}

func (o *ociSession) resume() *command.Command {
	return &command.Command{
		Usage: "ID", Args: oneID,
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error { return r.Resume(ctx, args[0]) }),
	}
}

func (o *ociSession) delete() *command.Command {
	var force bool
	return &command.Command{
		Usage: "[options] ID", Args: oneID,
		Flags: func(f *command.Flags) { f.BoolVarP(&force, "force", "f", false, "Kill the container if it still runs") },
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			return r.Delete(ctx, args[0], force)
		}),
	}
}

func (o *ociSession) kill() *command.Command {
	var all bool
	return &command.Command{
		Usage: "[options] ID [SIGNAL]", Args: command.Between(1, 2),
		Flags: func(f *command.Flags) { f.BoolVarP(&all, "all", "a", false, "Signal all processes of the container") },
		Run: o.do(func(_ context.Context, r *ociruntime.Runtime, args []string) error {
			name := "SIGTERM"
			if len(args) > 1 {
				name = args[1]
			}
			sig, err := parseSignal(name)
			if err != nil {
				return err
			}
			return r.Kill(args[0], sig, all)
		}),
	}
}

// parseSignal reads a number or a name, with or without SIG.
func parseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 || n > 64 {
			return 0, fmt.Errorf("unknown signal %q", text)
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", text)
}

func (o *ociSession) state() *command.Command {
	return &command.Command{
		Usage: "ID", Args: oneID,
		Run: o.do(func(_ context.Context, r *ociruntime.Runtime, args []string) error {
			c, err := r.Load(args[0])
			if err != nil {
				return err
			}
			return format.JSON(o.stdout, describe(c), "  ")
		}),
	}
}

// described is a container as runc's state and list print it.
type described struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func describe(c *ociruntime.Container) described {
	s := c.State()
	d := described{s.Version, s.ID, s.Pid, string(s.Status), s.Bundle, c.Rootfs, c.Created, s.Annotations, "#" + strconv.Itoa(c.Owner)}
	if c.Owner == 0 {
		d.Owner = "root"
	} else if u, err := user.LookupId(strconv.Itoa(c.Owner)); err == nil {
		d.Owner = u.Username
	}
	return d
}

func (o *ociSession) list() *command.Command {
	var form string
	var quiet bool
	return &command.Command{
		Usage: "[options]", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVarP(&form, "format", "f", "table", "table or json")
			f.BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
		},
		Run: o.do(func(_ context.Context, r *ociruntime.Runtime, _ []string) error {
			all, err := r.List()
			if err != nil {
				return err
			}
			list := make([]described, len(all))
			for i, c := range all {
				list[i] = describe(c)
			}
			switch {
			case quiet:
				for _, d := range list {
					fmt.Fprintln(o.stdout, d.ID)
				}
				return nil
			case form == "json":
				return json.NewEncoder(o.stdout).Encode(list)
			case form != "table":
				return fmt.Errorf("invalid format option")
			}
			rows := make([][]string, len(list))
			for i, d := range list {
				rows[i] = []string{d.ID, strconv.Itoa(d.Pid), d.Status, d.Bundle, d.Created.Format(time.RFC3339Nano), d.Owner}
			}
			return format.Table(o.stdout, []string{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}, rows)
		}),
	}
}
