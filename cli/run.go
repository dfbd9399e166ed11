package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/term"

	"hull/command"
	"hull/engine"
)

// defaultDetachKeys are docker's and podman's.
const defaultDetachKeys = "ctrl-p,ctrl-q"

func (s *session) run() *command.Command {
	c := createFlags{dockerCreatesBindSources: s.docker()}
	var detach, sigProxy bool
	var detachKeys string
	return &command.Command{
		Usage: "[options] IMAGE [COMMAND [ARG...]]",
		Long:  "Runs a command in a new container from the given image",
		Examples: []string{"run imageID ls -alF /etc", "run --network=host imageID dnf -y install java",
			"run --volume /var/hostdir:/var/ctrdir -i -t fedora /bin/bash"},
		Args:         command.AtLeast(1),
		ArgsEndFlags: true,
		Complete:     s.completeImageThenNothing,
		Flags: func(f *command.Flags) {
			c.declare(f)
			f.BoolVarP(&detach, "detach", "d", false, "Run container in background and print container ID")
			f.StringVar(&detachKeys, "detach-keys", defaultDetachKeys, "Override the key sequence for detaching a container, a comma separated list of characters and `ctrl-<value>`")
			f.BoolVar(&sigProxy, "sig-proxy", true, "Proxy received signals to the process")
			f.BoolVar(&c.o.AutoRemoveImage, "rmi", false, "Remove image unless used by other containers, implies --rm")
			f.UintVar(&c.preserveFDs, "preserve-fds", 0, "Pass a number of additional file descriptors into the container")
			f.IntSliceVar(&c.o.PreserveFD, "preserve-fd", nil, "Pass a file descriptor into the container")
			s.completeCreate(f)
		},
		Run: func(ctx context.Context, args []string) error {
			if detach && len(c.attach) > 0 {
				return errors.New("conflicting options: -a and -d")
			}
			c.o.AutoRemove = c.o.AutoRemove || c.o.AutoRemoveImage
			o, err := c.options(s.commandLine(), args)
			if err != nil {
				return err
			}
			if err := freeCIDFile(o.CIDFile); err != nil {
				return err
			}
			if err := checkInherited(o.PreserveFDs, o.PreserveFD); err != nil {
				return err
			}
			e, err := s.openPulling(ctx, c.pull)
			if err != nil {
				return err
			}
			r := engine.RunOptions{Detach: detach, Created: func(id string) error { return writeCIDFile(o.CIDFile, id) }}
			if !detach {
				r.Streams = s.streams(o.Attach, o.Interactive, o.Terminal, detachKeys, sigProxy)
			}
			result, err := e.Run(ctx, o, r)
			if err != nil {
				return withStartCode(err)
			}
			if detach {
				fmt.Fprintln(s.stdout, result.ID)
				return nil
			}
			if result.Detached {
				return nil
			}
			return exitCode(result.Code)
		},
	}
}

func (s *session) create() *command.Command {
	c := createFlags{dockerCreatesBindSources: s.docker()}
	return &command.Command{
		Usage: "[options] IMAGE [COMMAND [ARG...]]",
		Long: "Creates a new container from the given image or storage and prepares it for running the specified command.\n" +
			"The container ID is then printed. It can be started at any time with start.",
		Examples:     []string{"create alpine ls", "create --annotation HELLO=WORLD alpine ls", "create -t -i --name myctr alpine ls"},
		Args:         command.AtLeast(1),
		ArgsEndFlags: true,
		Complete:     s.completeImageThenNothing,
		Flags: func(f *command.Flags) {
			c.declare(f)
			f.StringVar(&c.o.InitCtr, "init-ctr", "", "Run this container in the pod before its other containers: once, or at each start (\"once\"|\"always\")")
			f.Words("init-ctr", "once", "always")
			s.completeCreate(f)
		},
		Run: func(ctx context.Context, args []string) error {
			o, err := c.options(s.commandLine(), args)
			if err != nil {
				return err
			}
			if err := freeCIDFile(o.CIDFile); err != nil {
				return err
			}
			e, err := s.openPulling(ctx, c.pull)
			if err != nil {
				return err
			}
			id, err := e.Create(ctx, o)
			if err != nil {
				return err
			}
			if err := writeCIDFile(o.CIDFile, id); err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, id)
			return nil
		},
	}
}

// explain prints what run would do: the steps, and every system call.
func (s *session) explain() *command.Command {
	return &command.Command{
		Usage: "run [options] IMAGE [COMMAND [ARG...]]",
		Long: "Prints the eight steps of a container's start and every system call of it, and does none of them:\n" +
			"nothing is pulled, created or started.",
		Examples:     []string{"explain run --rm busybox true", "explain run --memory 64m --cap-drop all busybox sh"},
		Raw:          true,
		ArgsEndFlags: true,
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
				return s.tree().Help("explain")
			}
			if len(args) == 0 || args[0] != "run" && args[0] != "create" {
				return fmt.Errorf("explain takes a command line of run or create: %s explain run IMAGE", s.program)
			}
			c := createFlags{dockerCreatesBindSources: s.docker()}
			var ignored bool
			var text string
			rest, err := command.ParseFlags(s.program+" explain "+args[0], args[1:], func(f *command.Flags) {
				c.declare(f)
				f.BoolVarP(&ignored, "detach", "d", false, "")
				f.BoolVar(&ignored, "sig-proxy", true, "")
				f.BoolVar(&c.o.AutoRemoveImage, "rmi", false, "")
				f.StringVar(&text, "detach-keys", "", "")
				f.UintVar(&c.preserveFDs, "preserve-fds", 0, "")
				f.IntSliceVar(&c.o.PreserveFD, "preserve-fd", nil, "")
			})
			if err != nil {
				return err
			}
			if err := command.AtLeast(1)("", rest); err != nil {
				return err
			}
			o, err := c.options(s.commandLine(), rest)
			if err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.Explain(ctx, o, s.stdout)
		},
	}
}

// commandLine is how the program was called, for inspect.
func (s *session) commandLine() []string { return append([]string{s.program}, s.args...) }

// streams are the command's own standard streams as far as attach, or by
// default stdout and stderr and with interactive stdin, name them.
func (s *session) streams(attach []string, interactive, terminal bool, detachKeys string, sigProxy bool) engine.Streams {
	in := interactive
	out, errs := true, true
	if len(attach) > 0 {
		in = slices.Contains(attach, "stdin")
		out = slices.Contains(attach, "stdout")
		errs = slices.Contains(attach, "stderr")
	}
	st := engine.Streams{DetachKeys: detachKeys, SigProxy: sigProxy}
	// Assigned one by one: a nil *os.File in an interface is not nil.
	if in {
		st.Stdin = s.stdin
	}
	if out {
		st.Stdout = s.stdout
	}
	if errs {
		st.Stderr = s.stderr
	}
	if !terminal {
		return st
	}
	switch {
	case term.IsTerminal(int(s.stdin.Fd())):
		st.Console = s.stdin
	case in:
		s.warn("The input device is not a TTY. The --tty and --interactive flags might not work properly")
	case out && term.IsTerminal(int(s.stdout.Fd())):
		st.Console = s.stdout
	}
	return st
}

// onTerminal says whether the user types at, and looks at, a terminal.
func (s *session) onTerminal() bool {
	return term.IsTerminal(int(s.stdin.Fd())) && term.IsTerminal(int(s.stdout.Fd()))
}

// exitCode passes a container's exit code on.
func exitCode(code int) error {
	if code == 0 {
		return nil
	}
	return &command.Exit{Code: code}
}

// withStartCode gives an error of a start its code: 126 and 127 for a program
// that cannot be executed or is not there.
func withStartCode(err error) error {
	var exit *command.Exit
	if errors.As(err, &exit) {
		return err
	}
	return command.WithCode(engine.ExitCode(err), err)
}

// freeCIDFile refuses a file that is there, before anything is made.
func freeCIDFile(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("container id file exists. Ensure another container is not using it or delete %s", path)
	}
	return nil
}

// writeCIDFile writes the ID, without a newline, to a file that must be new.
func writeCIDFile(path, id string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return freeCIDFile(path)
	}
	if err != nil {
		return fmt.Errorf("write container id file: %w", err)
	}
	_, err = f.WriteString(id)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// checkInherited refuses descriptors that are not open.
func checkInherited(count int, list []int) error {
	fds := slices.Clone(list)
	for fd := 3; fd < 3+count; fd++ {
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		if fd < 3 {
			return fmt.Errorf("file descriptor %d cannot be passed: 0, 1 and 2 are the standard streams", fd)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
			return fmt.Errorf("file descriptor %d is not available - the preserve-fds option requires that file descriptors must be passed", fd)
		}
	}
	return nil
}
