package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hull/command"
	"hull/engine"
)

func (s *session) start() *command.Command {
	var x selection
	var attach, interactive, sigProxy bool
	var detachKeys string
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Starts one or more containers.  The container name or ID can be used.",
		Examples: []string{"start --latest", "start 860a4b231279 5421ab43b45", "start --interactive --attach imageID"},
		Complete: s.completeContainers("created", "configured", "exited", "stopped", "initialized"),
		Flags: func(f *command.Flags) {
			f.BoolVar(&x.all, "all", false, "Start all containers regardless of their state or configuration")
			f.BoolVarP(&attach, "attach", "a", false, "Attach container's STDOUT and STDERR")
			f.StringVar(&detachKeys, "detach-keys", defaultDetachKeys, "Override the key sequence for detaching a container, a comma separated list of characters and `ctrl-<value>`")
			x.declare(f, "fl", "")
			f.BoolVarP(&interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
			f.BoolVar(&sigProxy, "sig-proxy", true, "Proxy received signals to the process (default true if attaching, false otherwise)")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) == 0 && !x.all && !x.latest && len(x.filters) == 0 {
				return errors.New("start requires at least one argument")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			names, err := x.names(ctx, e, args, "created", "configured", "exited", "stopped", "initialized")
			if err != nil {
				return err
			}
			if !attach && !interactive {
				return each(names, func(name string) error {
					if err := e.Start(ctx, name); err != nil {
						return withStartCode(err)
					}
					fmt.Fprintln(s.stdout, name)
					return nil
				})
			}
			if len(names) != 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			tty, err := s.hasTerminal(ctx, e, names[0])
			if err != nil {
				return err
			}
			code, err := e.StartAttached(ctx, names[0], s.streams(nil, interactive, tty, detachKeys, sigProxy))
			if err != nil {
				return withStartCode(err)
			}
			return exitCode(code)
		},
	}
}

// hasTerminal reports whether the container was made with one.
func (s *session) hasTerminal(ctx context.Context, e *engine.Engine, name string) (bool, error) {
	c, err := e.Inspect(ctx, name, false)
	if err != nil {
		return false, err
	}
	return c.Config.Tty, nil
}

// stopFlags are --time and --signal.
type stopFlags struct {
	timeout *uint
	signal  string
}

func (o *stopFlags) declare(f *command.Flags, signal bool) {
	// -1 waits forever; a second is what no one waits for longer than.
	command.Optional(f, &o.timeout, "time", "t", "int", "Seconds to wait for stop before killing the container (default 10)", func(v string) (uint, error) {
		if v == "-1" {
			return 1<<31 - 1, nil
		}
		return parseUint(v)
	})
	f.Alias("timeout", "time")
	if signal {
		f.StringVar(&o.signal, "signal", "", "Signal to send to the container first")
		f.Hide("signal")
	}
}

func (o *stopFlags) options() engine.StopOptions {
	return engine.StopOptions{Timeout: o.timeout, Signal: o.signal}
}

func (s *session) stop() *command.Command {
	var x selection
	var o stopFlags
	return &command.Command{
		Usage: "[options] CONTAINER [CONTAINER...]",
		Long: "Stops one or more running containers.  The container name or ID can be used.\n" +
			"A timeout to forcibly stop the container can also be set but defaults to 10 seconds otherwise.",
		Examples: []string{"stop ctrID", "stop --latest", "stop --time 2 mywebserver 6e534f14da9d"},
		Complete: s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			x.declare(f, "acfil", "Stop all running containers")
			o.declare(f, true)
		},
		Run: func(ctx context.Context, args []string) error {
			return s.act(ctx, &x, args, []string{"running", "paused", "stopping"}, func(e *engine.Engine, name string) error {
				return e.Stop(ctx, name, o.options())
			})
		},
	}
}

func (s *session) kill() *command.Command {
	var x selection
	var signal string
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "The main process inside each container specified will be sent SIGKILL, or any signal specified with option --signal.",
		Examples: []string{"kill mywebserver", "kill 860a4b23", "kill --signal TERM ctrID"},
		Complete: s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			x.declare(f, "acl", "Signal all running containers")
			f.StringVarP(&signal, "signal", "s", "KILL", "Signal to send to the container")
			f.Words("signal", "HUP", "INT", "QUIT", "KILL", "TERM", "USR1", "USR2", "CONT", "STOP", "WINCH")
		},
		Run: func(ctx context.Context, args []string) error {
			if _, err := engine.ParseSignal(signal); err != nil {
				return err
			}
			return s.act(ctx, &x, args, []string{"running"}, func(e *engine.Engine, name string) error {
				return e.Kill(ctx, name, signal)
			})
		},
	}
}

func (s *session) restart() *command.Command {
	var x selection
	var o stopFlags
	var running bool
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Restarts one or more running containers. The container ID or name can be used.",
		Examples: []string{"restart ctrID", "restart --latest", "restart ctrID1 ctrID2"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			x.declare(f, "acfl", "Restart all non-running containers")
			f.BoolVar(&running, "running", false, "Restart only running containers")
			o.declare(f, true)
		},
		Run: func(ctx context.Context, args []string) error {
			var states []string
			if running {
				if x.all = x.all || len(args) == 0; len(args) > 0 {
					return errors.New("--running cannot be used with containers")
				}
				states = []string{"running"}
			}
			return s.act(ctx, &x, args, states, func(e *engine.Engine, name string) error {
				return withStartCode(e.Restart(ctx, name, o.options()))
			})
		},
	}
}

func (s *session) pause() *command.Command {
	var x selection
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Pauses one or more running containers.  The container name or ID can be used.",
		Examples: []string{"pause mywebserver", "pause 860a4b23", "pause --all"},
		Complete: s.completeContainers("running"),
		Flags:    func(f *command.Flags) { x.declare(f, "acfl", "Pause all running containers") },
		Run: func(ctx context.Context, args []string) error {
			return s.act(ctx, &x, args, []string{"running"}, func(e *engine.Engine, name string) error { return e.Pause(ctx, name) })
		},
	}
}

func (s *session) unpause() *command.Command {
	var x selection
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Unpauses one or more previously paused containers.  The container name or ID can be used.",
		Examples: []string{"unpause ctrID", "unpause --all"},
		Complete: s.completeContainers("paused"),
		Flags:    func(f *command.Flags) { x.declare(f, "acfl", "Unpause all paused containers") },
		Run: func(ctx context.Context, args []string) error {
			return s.act(ctx, &x, args, []string{"paused"}, func(e *engine.Engine, name string) error { return e.Unpause(ctx, name) })
		},
	}
}

func (s *session) init() *command.Command {
	var x selection
	return &command.Command{
		Usage: "[options] CONTAINER [CONTAINER...]",
		Long: "Creates the container's processes without starting its program:\n" +
			"the container is then in state initialized, and start lets the program go.",
		Examples: []string{"init --latest", "init 3c45ef19d893", "init test1"},
		Complete: s.completeContainers("created", "configured", "exited"),
		Flags:    func(f *command.Flags) { x.declare(f, "al", "Initialize all containers") },
		Run: func(ctx context.Context, args []string) error {
			return s.act(ctx, &x, args, []string{"created", "configured"}, func(e *engine.Engine, name string) error {
				return withStartCode(e.Init(ctx, name))
			})
		},
	}
}

func (s *session) rm() *command.Command {
	var x selection
	var o engine.RemoveOptions
	var stop stopFlags
	return &command.Command{
		Usage: "[options] CONTAINER [CONTAINER...]",
		Long: "Removes one or more containers from the host. The container name or ID can be used.\n" +
			"Command does not remove images. Running or unusable containers will not be removed without the -f option.",
		Examples: []string{"rm ctrID", "rm mywebserver myflaskserver 860a4b23", "rm --force --all", "rm -f c684f0d469f2"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.BoolVarP(&o.Force, "force", "f", false, "Force removal of a running or unusable container")
			x.declare(f, "acfil", "Remove all containers")
			f.BoolVar(&o.Depend, "depend", false, "Remove container and all containers that depend on the selected container")
			f.BoolVarP(&o.Volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
			stop.declare(f, false)
		},
		Run: func(ctx context.Context, args []string) error {
			if stop.timeout != nil && !o.Force {
				return errors.New("--force option must be specified to use the --time option")
			}
			o.Timeout = stop.timeout
			x.ignore = x.ignore || o.Force
			if x.noInfra = x.all && !o.Force; x.all && o.Force {
				o.Depend = true // whole pods, in which one goes with the other
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			names, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			return s.removeEach(ctx, e, names, &x, o)
		},
	}
}

// removeEach removes and prints. The exit code is 1 when all that went wrong
// is that something was not there, 2 when one was in use, else 125.
func (s *session) removeEach(ctx context.Context, e *engine.Engine, names []string, x *selection, o engine.RemoveOptions) error {
	code := 0
	err := each(names, func(name string) error {
		removed, err := e.Remove(ctx, name, o)
		if err != nil {
			if x.ignore && errors.Is(err, engine.ErrNotFound) {
				return nil
			}
			code = max(code, removeCode(err))
			return err
		}
		fmt.Fprintln(s.stdout, name)
		for _, id := range removed {
			if len(removed) > 1 && id != name {
				fmt.Fprintln(s.stdout, id)
			}
		}
		return nil
	})
	return command.WithCode(code, err)
}

// removeCode is podman's exit code of rm: 1 not there, 2 running or in use.
func removeCode(err error) int {
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return command.CodeFailed
	case errors.Is(err, engine.ErrInUse), errors.Is(err, engine.ErrState):
		return command.CodeInUse
	}
	return command.CodeEngine
}

func (s *session) rename() *command.Command {
	return &command.Command{
		Usage:    "CONTAINER NAME",
		Long:     "The rename command allows you to rename an existing container",
		Examples: []string{"rename containerA newName"},
		Args:     command.Exactly(2),
		Complete: s.completeContainers(),
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.Rename(ctx, args[0], args[1])
		},
	}
}

func (s *session) wait() *command.Command {
	var x selection
	o := engine.WaitOptions{}
	var interval string
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Block until one or more containers stop and then print their exit codes.",
		Examples: []string{"wait --interval 5s ctrID", "wait ctrID1 ctrID2"},
		Complete: s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			f.StringSliceVar(&o.Conditions, "condition", nil, "Condition to wait on")
			f.BoolVar(&o.ExitFirstMatch, "exit-first-match", false, "Print the exit code of the first container that meets the condition, and end")
			f.BoolVar(&x.ignore, "ignore", false, "Ignore if a container does not exist")
			f.StringVarP(&interval, "interval", "i", "250ms", "Time Interval to wait before polling for completion")
			x.declare(f, "l", "")
			f.Words("condition", "configured", "created", "exited", "healthy", "initialized", "paused", "removing", "running", "stopped", "stopping", "unhealthy")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) == 0 && !x.latest {
				return fmt.Errorf("%q requires a name, id, or the \"--latest\" flag", s.program+" wait")
			}
			var err error
			if o.Interval, err = waitInterval(interval); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			names, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			o.Ignore = x.ignore
			if o.ExitFirstMatch {
				return s.waitFirst(ctx, e, names, o)
			}
			return each(names, func(name string) error {
				code, err := e.Wait(ctx, name, o)
				if err != nil {
					if !o.Ignore || !errors.Is(err, engine.ErrNotFound) {
						return err
					}
					code = -1
				}
				fmt.Fprintln(s.stdout, code)
				return nil
			})
		},
	}
}

// waitFirst waits for all at once and ends with the first.
func (s *session) waitFirst(ctx context.Context, e *engine.Engine, names []string, o engine.WaitOptions) error {
	type ended struct {
		code int
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan ended, len(names))
	for _, name := range names {
		go func() {
			code, err := e.Wait(ctx, name, o)
			first <- ended{code, err}
		}()
	}
	r := <-first
	if r.err != nil {
		return r.err
	}
	fmt.Fprintln(s.stdout, r.code)
	return nil
}

// waitInterval reads a duration; a bare number is milliseconds.
func waitInterval(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, nil
	}
	d, err := time.ParseDuration(s + "ms")
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("invalid interval %q: want a duration such as 250ms", s)
	}
	return d, nil
}
