package cli

import (
	"context"
	"fmt"
	"strings"

	"hull/command"
	"hull/engine"
)

// debug looks into a container from a container of tools.
func (s *session) debug() *command.Command {
	var x selection
	var o engine.DebugOptions
	var quiet bool
	return &command.Command{
		Usage: "[options] CONTAINER [COMMAND [ARG...]]",
		Long: "Open a shell with tools beside a container that has none: one made from scratch, one that has stopped, one that crashes at its start.\n" +
			"Of a running container the processes, network and host name are joined, and /container leads to its root. Of one that does not run,\n" +
			"or is restarted again and again, /container is a view of its files; what is changed there is thrown away. The container stays as it is.\n\n" +
			"The tools are the host's static busybox and a tracer of system calls (strace PROGRAM, strace -p PID), or those of --image.",
		Examples:     []string{"debug ctrID", "debug ctrID ps", "debug ctrID strace -p 1", "debug --image docker.io/nicolaka/netshoot ctrID"},
		ArgsEndFlags: true,
		Complete:     s.completeContainers(""),
		Flags: func(f *command.Flags) {
			f.BoolVar(&o.Apart, "apart", false, "Leave the processes of a running container alone: show a view of its files")
			f.StringArrayVarP(&o.Env, "env", "e", nil, "Set environment variables")
			f.StringVar(&o.Image, "image", "", "Take the tools of this image (default: the host's static busybox)")
			x.declare(f, "l", "")
			f.BoolVar(&o.Privileged, "privileged", false, "Give extended privileges to the shell")
			f.BoolVarP(&quiet, "quiet", "q", false, "Do not say what is seen")
			f.StringVarP(&o.User, "user", "u", "", "User of the tools image that the shell runs as (default: root)")
			f.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory of the shell")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, rest, err := x.one(ctx, e, args)
			if err != nil {
				return err
			}
			o.Command = rest
			o.Interactive = true
			o.Terminal = s.onTerminal()
			o.Streams = s.streams(nil, true, o.Terminal, "", true)
			if !quiet && !s.globals.Quiet() {
				o.Said = func(text string) { fmt.Fprintln(s.stderr, command.Printable(text)) }
			}
			r, err := e.Debug(ctx, name, o)
			if err != nil {
				return withStartCode(err)
			}
			return exitCode(r.Code)
		},
	}
}

// rsh opens the best shell that the container itself has.
func (s *session) rsh() *command.Command {
	var x selection
	var o engine.ExecOptions
	return &command.Command{
		Usage: "[options] CONTAINER [COMMAND [ARG...]]",
		Long: "Open the shell that a running container has: the one of its user in /etc/passwd, else bash, zsh, ash or sh.\n" +
			"With a command its words, joined by spaces, are run by that shell. A container without a shell can be looked into with debug.",
		Examples:     []string{"rsh ctrID", "rsh -u root ctrID", "rsh ctrID 'ls *'"},
		ArgsEndFlags: true,
		Complete:     s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&o.Env, "env", "e", nil, "Set environment variables")
			x.declare(f, "l", "")
			f.StringVarP(&o.User, "user", "u", "", "Sets the username or UID used and optionally the groupname or GID")
			f.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, rest, err := x.one(ctx, e, args)
			if err != nil {
				return err
			}
			shell, err := e.Shell(ctx, name, o.User)
			if err != nil {
				return err
			}
			o.Command = []string{shell}
			if len(rest) > 0 {
				o.Command = append(o.Command, "-c", strings.Join(rest, " "))
			}
			o.Interactive = true
			o.Terminal = s.onTerminal()
			o.Streams = s.streams(nil, true, o.Terminal, "", false)
			r, err := e.Exec(ctx, name, o)
			if err != nil {
				return withStartCode(err)
			}
			return exitCode(r.Code)
		},
	}
}
