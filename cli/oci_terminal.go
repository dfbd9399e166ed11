package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"hull/engine"
	"hull/oci"
	"hull/state"
)

// A foreground connects the user's terminal with the container's, whose
// master comes through a socket, and passes signals on.
type foreground struct {
	s       *session
	socket  *os.File // the plan's end
	ours    int
	master  *os.File
	restore func()
	done    sync.WaitGroup
}

func newForeground(s *session) (*foreground, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	return &foreground{s: s, ours: fds[0], socket: os.NewFile(uintptr(fds[1]), "console"), restore: func() {}}, nil
}

// follow calls run, which makes a container's process, with what it is to call
// when the process is there. Where the process has a terminal that is not
// elsewhere, console gets the socket for its master, and the user's terminal is
// connected with it; unless it is detached, it gets this program's signals.
func (o *ociSession) follow(p *oci.Process, elsewhere, detach bool, console **os.File, run func(started func(pid int)) (int, error)) (code int, err error) {
	var t *foreground
	if p != nil && p.Terminal && !elsewhere {
		if t, err = newForeground(o.session); err != nil {
			return 0, err
		}
		defer t.close()
		*console = t.socket
	}
	code, err = run(t.follow(detach))
	if t != nil {
		t.finish()
	}
	return code, err
}

// follow begins to catch this program's signals and returns what the runtime is
// to call when the container's process is there: it gets them, and its terminal
// is copied when t is not nil.
func (t *foreground) follow(detach bool) (started func(pid int)) {
	if detach {
		return nil
	}
	signals := engine.NewSignalProxy(true)
	signals.Catch()
	return func(pid int) {
		if t != nil {
			if err := t.receive(); err == nil {
				t.copy()
			}
		}
		if p, err := state.IdentifyProcess(pid); err == nil {
			signals.PassTo(p)
		}
	}
}

// receive takes the master out of the socket.
func (t *foreground) receive() error {
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(t.ours, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return fmt.Errorf("console socket: no descriptor: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return fmt.Errorf("console socket: no descriptor: %w", err)
	}
	unix.SetNonblock(fds[0], true)
	t.master = os.NewFile(uintptr(fds[0]), "terminal")
	return nil
}

func (t *foreground) copy() {
	if fd := int(t.s.stdin.Fd()); term.IsTerminal(fd) {
		if old, err := term.MakeRaw(fd); err == nil {
			t.restore = func() { term.Restore(fd, old) }
		}
		t.resize()
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		go func() {
			for range resized {
				t.resize()
			}
		}()
	}
	go io.Copy(t.master, t.s.stdin)
	t.done.Go(func() { io.Copy(t.s.stdout, t.master) }) // ends with EIO when the last slave is closed
}

func (t *foreground) resize() {
	if size, err := unix.IoctlGetWinsize(int(t.s.stdin.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// finish waits for the last output.
func (t *foreground) finish() {
	if t.master != nil {
		t.master.SetReadDeadline(time.Now().Add(time.Second))
		t.done.Wait()
	}
}

func (t *foreground) close() {
	t.restore()
	t.socket.Close()
	unix.Close(t.ours)
	if t.master != nil {
		t.master.Close()
	}
}

// parseUser reads UID[:GID].
func parseUser(text string) (uid, gid uint32, err error) {
	w := [2]uint32{}
	rest := text
	for i := range w {
		word, more, found := cutColon(rest)
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("--user %q: want UID[:GID]", text)
		}
		w[i] = uint32(n)
		if rest = more; !found {
			break
		}
	}
	return w[0], w[1], nil
}

func cutColon(s string) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
