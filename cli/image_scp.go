package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"

	"hull/command"
	"hull/engine"
	"hull/remote"
)

func (s *session) imageScp() *command.Command {
	var quiet bool
	return &command.Command{
		Usage: "[options] IMAGE [HOST::[NAME]]",
		Long: "Copies an image between users and hosts without a registry: one saves it, the other loads it.\n" +
			"Either end may be another host, HOST::, USER@HOST:: or CONNECTION::, which is reached by ssh and needs hull, podman or docker there, or another\n" +
			"user of this one, USER@localhost::, which needs to be root or to be allowed sudo. Without a second argument the image comes here.",
		Examples: []string{"image scp alpine user@host.example.com::", "image scp host.example.com::alpine", "image scp root@localhost::alpine user@localhost::mine:1"},
		Args:     command.Between(1, 2),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&quiet, "quiet", "q", false, "Suppress the output")
		},
		Run: func(ctx context.Context, args []string) error {
			from, err := s.parseEnd(args[0])
			if err != nil {
				return err
			}
			to := scpEnd{}
			if len(args) == 2 {
				if !strings.Contains(args[1], "::") {
					return &engine.HintError{Err: fmt.Errorf("copy image to %q: it names no host", args[1]), Text: "a host or user ends in ::, as in host.example.com:: or user@localhost::"}
				}
				if to, err = s.parseEnd(args[1]); err != nil {
					return err
				}
			}
			if from.image == "" {
				return fmt.Errorf("copy image from %q: it names no image", args[0])
			}
			if from.where() == to.where() {
				return errors.New("copy image: it would come from and go to the same user of the same host")
			}
			return s.copyImage(ctx, from, to, quiet)
		},
	}
}

// A scpEnd is one end of a copy: this user, another one of this host, or one
// of another host.
type scpEnd struct {
	remote.Login
	image string
}

// parseEnd reads [[USER@]HOST::][IMAGE]; HOST may be a URL of ssh, or the name
// of a connection.
func (s *session) parseEnd(arg string) (scpEnd, error) {
	where, image, ok := strings.Cut(arg, "::")
	if !ok {
		where, image = "", arg
	}
	e := scpEnd{image: image}
	known, err := s.globals.Connections()
	if err != nil {
		return e, err
	}
	e.Host = where
	if d, _, found := known.Connection(where); found {
		if e.Login, err = d.Login(); err != nil {
			return e, fmt.Errorf("connection %q: %w", where, err)
		}
	} else if strings.HasPrefix(where, "ssh://") {
		if e.Login, err = (remote.Destination{URI: where}).Login(); err != nil {
			return e, err
		}
	} else if u, h, ok := strings.Cut(where, "@"); ok {
		e.User, e.Host = u, h
	}
	// None of them may be taken for an option by the programs that get them.
	for _, part := range []string{e.User, e.Host, e.image} {
		if part != "" && !remote.PlainWord(part) {
			return e, fmt.Errorf("parse %q: %q is no name of a user, a host or an image", arg, part)
		}
	}
	if ok && e.Host == "" {
		return e, fmt.Errorf("parse %q: there is no host before ::", arg)
	}
	if e.Host == "localhost" && e.Port == "" {
		e.Host = ""
		if me, err := user.Current(); err == nil && me.Username == e.User {
			e.User = ""
		}
	}
	return e, nil
}

func (e scpEnd) where() string { return e.User + "@" + e.Host + ":" + e.Port }

// copyImage lets one end save to the other, which loads.
func (s *session) copyImage(ctx context.Context, from, to scpEnd, quiet bool) error {
	save, err := s.at(ctx, from, "save", from.image)
	if err != nil {
		return err
	}
	load, err := s.at(ctx, to, "load")
	if err != nil {
		return err
	}
	if load.Stdin, err = save.StdoutPipe(); err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	if !quiet {
		load.Stdout = s.stdout
	}
	if err := save.Start(); err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	lerr := load.Run()
	serr := save.Wait()
	if serr != nil {
		lerr = nil // a cut archive is not the reader's fault
	}
	if err := errors.Join(childError("save", from, serr), childError("load", to, lerr)); err != nil {
		return err
	}
	if to.image == "" {
		return nil
	}
	tag, err := s.at(ctx, to, "tag", from.image, to.image)
	if err != nil {
		return err
	}
	return childError("tag", to, tag.Run())
}

func childError(verb string, e scpEnd, err error) error {
	if err == nil {
		return nil
	}
	place := "here"
	if e.Host != "" {
		place = "on " + e.Host
	} else if e.User != "" {
		place = "as " + e.User
	}
	return fmt.Errorf("copy image: %s %s: %w", verb, place, err)
}

// remotePrograms are what a host may have instead of this program: they save,
// load and tag alike.
var remotePrograms = []string{"hull", "podman", "docker"}

// at is a command of this program's at one end.
func (s *session) at(ctx context.Context, e scpEnd, words ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the own executable: %w", err)
	}
	var argv []string
	switch {
	case e.Host != "":
		c := e.Command(ctx, remote.Find(remotePrograms...)+`exec "$p" `+remote.Words(words...))
		c.Stderr = s.stderr
		return c, nil
	case e.User != "":
		if argv, err = asUser(e.User); err != nil {
			return nil, err
		}
		argv = append(append(argv, self), words...)
	default:
		argv = append(append([]string{self}, s.globals.Argv()...), words...)
	}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stderr = s.stderr
	if len(argv) > 0 && argv[0] == self {
		c.Args[0] = "hull"
	}
	// A terminal's interrupt reaches all of them; we wait for how they end.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c, nil
}

// asUser begins a command line that runs as another user of this host, with
// that user's own directories.
func asUser(name string) ([]string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("copy image: %w", err)
	}
	argv := []string{"sudo", "-u", name, "--"}
	if os.Geteuid() == 0 {
		argv = []string{"runuser", "-u", name, "--"}
	}
	argv = append(argv, "env", "-u", "XDG_RUNTIME_DIR", "-u", "XDG_DATA_HOME", "-u", "XDG_CONFIG_HOME", "HOME="+u.HomeDir, "USER="+name)
	if run := "/run/user/" + u.Uid; u.Uid != "0" {
		if fi, err := os.Stat(run); err == nil && fi.IsDir() {
			argv = append(argv, "XDG_RUNTIME_DIR="+run)
		}
	}
	return argv, nil
}
