package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"hull/command"
	"hull/engine"
)

func (s *session) exec() *command.Command {
	var x selection
	var o engine.ExecOptions
	var detachKeys, cidfile string
	var envFiles []string
	var preserve uint
	return &command.Command{
		Usage:        "[options] CONTAINER [COMMAND [ARG...]]",
		Long:         "Execute the specified command inside a running container.",
		Examples:     []string{"exec -it ctrID ls", "exec -it -w /tmp myCtr pwd", "exec --user root ctrID ls"},
		ArgsEndFlags: true,
		Complete:     s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			f.StringVar(&cidfile, "cidfile", "", "Read the container ID from the file")
			f.BoolVarP(&o.Detach, "detach", "d", false, "Run the exec session in detached mode (backgrounded)")
			f.StringVar(&detachKeys, "detach-keys", defaultDetachKeys, "Select the key sequence for detaching a container, a comma separated list of characters and `ctrl-<value>`")
			f.StringArrayVarP(&o.Env, "env", "e", nil, "Set environment variables")
			f.StringArrayVar(&envFiles, "env-file", nil, "Read in a file of environment variables")
			f.BoolVarP(&o.Interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
			x.declare(f, "l", "")
			f.BoolVar(&o.NoSession, "no-session", false, "Do not keep a record of the exec session")
			f.UintVar(&preserve, "preserve-fds", 0, "Pass N additional file descriptors to the container")
			f.IntSliceVar(&o.PreserveFD, "preserve-fd", nil, "Pass a list of additional file descriptors to the container")
			f.BoolVar(&o.Privileged, "privileged", false, "Give the process extended Linux capabilities inside the container.  The default is false")
			f.BoolVarP(&o.Terminal, "tty", "t", false, "Allocate a pseudo-TTY. The default is false")
			f.StringVarP(&o.User, "user", "u", "", "Sets the username or UID used and optionally the groupname or GID for the specified command")
			f.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
		},
		Run: func(ctx context.Context, args []string) error {
			var fileEnv []string
			for _, path := range envFiles {
				lines, err := readLines(path)
				if err != nil {
					return fmt.Errorf("read --env-file: %w", err)
				}
				fileEnv = append(fileEnv, lines...)
			}
			o.Env = append(fileEnv, o.Env...)
			o.PreserveFDs = int(preserve)
			if err := checkInherited(o.PreserveFDs, o.PreserveFD); err != nil {
				return err
			}
			if cidfile != "" {
				id, err := os.ReadFile(cidfile)
				if err != nil {
					return fmt.Errorf("read cidfile: %w", err)
				}
				args = append([]string{strings.TrimSpace(string(id))}, args...)
			}
			if len(args) == 0 && !x.latest {
				return errors.New("exec requires the name or ID of a container or the --latest flag")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, rest, err := x.one(ctx, e, args)
			if err != nil {
				return err
			}
			if len(rest) == 0 {
				if _, err := e.Lookup(ctx, name); err != nil {
					return err
				}
				return errors.New("must provide a non-empty command to start an exec session: invalid argument")
			}
			o.Command = rest
			if !o.Detach {
				o.Streams = s.streams(nil, o.Interactive, o.Terminal, detachKeys, false)
			}
			r, err := e.Exec(ctx, name, o)
			if err != nil {
				return withStartCode(err)
			}
			if o.Detach {
				fmt.Fprintln(s.stdout, r.ID)
				return nil
			}
			if r.Detached {
				return nil
			}
			return exitCode(r.Code)
		},
	}
}

func (s *session) attach() *command.Command {
	var x selection
	var noStdin, sigProxy bool
	var detachKeys string
	return &command.Command{
		Usage: "[options] CONTAINER",
		Long: "Attach to a running container's standard streams. Detach with the key sequence, ctrl-p ctrl-q\n" +
			"unless --detach-keys says otherwise.",
		Examples: []string{"attach ctrID", "attach 1234", "attach --no-stdin foobar"},
		Complete: s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			f.StringVar(&detachKeys, "detach-keys", defaultDetachKeys, "Select the key sequence for detaching a container, a comma separated list of characters and `ctrl-<value>`")
			f.BoolVar(&noStdin, "no-stdin", false, "Do not attach STDIN. The default is false")
			f.BoolVar(&sigProxy, "sig-proxy", true, "Proxy received signals to the process")
			x.declare(f, "l", "")
		},
		Args: func(path string, args []string) error {
			if len(args) > 1 || len(args) == 1 && x.latest {
				return fmt.Errorf("`%s` accepts at most one argument", path)
			}
			if len(args) == 0 && !x.latest {
				return fmt.Errorf("`%s` requires a name, id, or the \"--latest\" flag", path)
			}
			return nil
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, _, err := x.one(ctx, e, args)
			if err != nil {
				return err
			}
			c, err := e.Inspect(ctx, name, false)
			if err != nil {
				return err
			}
			st := s.streams(nil, !noStdin && c.Config.OpenStdin, c.Config.Tty, detachKeys, sigProxy)
			r, err := e.Attach(ctx, name, st)
			if err != nil {
				return err
			}
			if r.Detached {
				return nil
			}
			return exitCode(r.Code)
		},
	}
}
