package monitor

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartOptions say what to start.
type StartOptions struct {
	// Binary is the path of hull-monitor.
	Binary string
	Config Config
	// Plan is the compiled start, a sealed memfd; PlanFiles are passed to it
	// from descriptor 5 on. Both stay the caller's.
	Plan      *os.File
	PlanFiles []*os.File
	// Names are the sockets, UDP and TCP, of Config.NamesDir; nil without.
	Names [2]*os.File
	// Notify is the socket of Config.NotifyTo; nil without.
	Notify *os.File
	// Hold is kept open by the monitor until the program runs: a lock, that is
	// held on even if this process is killed. nil is none.
	Hold *os.File
	// Sibling makes the monitor a child of this process's parent: systemd, which
	// is told to watch it, hears of the ends of its own children only.
	Sibling bool
	// Attach opens a connection before the container starts, so that not a
	// byte of its output is missed; Flags are what that client wants.
	Attach bool
	Flags  Flags
	// Stdio is what a container with LogPassthrough gets; nil elsewhere.
	Stdio [3]*os.File
}

// A Session is a container that Start has started.
type Session struct {
	Pid     int   // the container's first process
	Monitor Child // Wait for it in a process that stays
	Conn    *Conn // nil without StartOptions.Attach
}

// A Child is a process that this one has started. It is no os.Process, since
// the first of those costs one more process, to try the kernel.
type Child struct{ Pid int }

// Wait waits for the process's end.
func (c Child) Wait() {
	for {
		_, err := syscall.Wait4(c.Pid, nil, 0, nil)
		if err == syscall.ECHILD {
			c.waitSibling()
			return
		}
		if err != syscall.EINTR {
			return
		}
	}
}

// waitSibling waits for one that another process reaps.
func (c Child) waitSibling() {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != unix.EINTR {
			return
		}
	}
}

// A ReportError is a plan that failed; the plan knows what the bytes mean.
type ReportError struct{ Report []byte }

func (e *ReportError) Error() string {
	return "start container: plan report " + strconv.Quote(string(e.Report))
}

// A Spare is a monitor that was started before it is known what for: it gets
// itself ready while the engine prepares the container.
type Spare struct {
	child   Child
	channel int // the configuration and the plan go through it; -1 when sent
	sync    *os.File
	conn    *Conn
}

// Spawn starts a monitor by Binary, Stdio (not nil: the container has these)
// and Attach of o; the rest may be empty. Start or Close must follow.
func Spawn(o StartOptions) (*Spare, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.New("start monitor: " + err.Error())
	}
	defer syscall.Close(pair[1])
	s := &Spare{channel: pair[0]}
	syncR, syncW, err := os.Pipe()
	if err != nil {
		s.Close()
		return nil, errors.New("start monitor: " + err.Error())
	}
	defer syncW.Close()
	s.sync = syncR
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		s.Close()
		return nil, errors.New("start monitor: " + err.Error())
	}
	defer null.Close()
	theirs := null
	if o.Attach {
		if s.conn, theirs, err = socketPair(); err != nil {
			s.Close()
			return nil, errors.New("start monitor: " + err.Error())
		}
		defer theirs.Close()
	}
	files := []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(pair[1]), syncW.Fd(), theirs.Fd()}
	for i, f := range o.Stdio {
		if f != nil {
			files[i] = f.Fd()
		}
	}
	attr := &syscall.ProcAttr{Files: files, Env: []string{"GOMAXPROCS=1"}}
	if o.Sibling {
		attr.Sys = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
	}
	pid, err := syscall.ForkExec(o.Binary, []string{"hull-monitor"}, attr)
	if err != nil {
		s.Close()
		return nil, errors.New("start monitor: " + o.Binary + ": " + err.Error())
	}
	s.child.Pid = pid
	return s, nil
}

// Pid is the monitor's process.
func (s *Spare) Pid() int { return s.child.Pid }

// Close gives up a monitor that was not used: it ends by itself. A nil Spare
// and one that was started are left alone.
func (s *Spare) Close() {
	if s == nil || s.channel < 0 {
		return
	}
	syscall.Close(s.channel)
	s.channel = -1
	s.sync.Close()
	s.conn.Close()
	if s.child.Pid > 0 {
		s.child.Wait()
	}
}

// Start starts a monitor, which starts the plan, and returns when the
// program runs (with Config.Wait: when its process exists). When it fails,
// nothing runs any more and no clean-up was executed.
func Start(o StartOptions) (*Session, error) {
	s, err := Spawn(o)
	if err != nil {
		return nil, err
	}
	return s.Start(o)
}

// Start is Start by the spare monitor, which is used up.
func (s *Spare) Start(o StartOptions) (*Session, error) {
	cfg := o.Config
	cfg.Attached, cfg.AttachFlags, cfg.PlanFiles = s.conn != nil, o.Flags, len(o.PlanFiles)
	fds := []int{int(o.Plan.Fd())}
	for _, f := range o.PlanFiles {
		fds = append(fds, int(f.Fd()))
	}
	if cfg.NamesDir != "" {
		fds = append(fds, int(o.Names[0].Fd()), int(o.Names[1].Fd()))
	}
	if cfg.NotifyTo != "" {
		fds = append(fds, int(o.Notify.Fd()))
	}
	if cfg.Hold = o.Hold != nil; cfg.Hold {
		fds = append(fds, int(o.Hold.Fd()))
	}
	if err := s.send(cfg.Encode(), fds); err != nil {
		s.Close()
		return nil, errors.New("start monitor: send its configuration: " + err.Error())
	}
	syscall.Close(s.channel)
	s.channel = -1
	defer s.sync.Close()
	pid, err := awaitStart(s.sync)
	if err != nil {
		s.conn.Close()
		s.child.Wait()
		return nil, err
	}
	return &Session{Pid: pid, Monitor: s.child, Conn: s.conn}, nil
}

// send sends the descriptors with the first bytes, and then the rest.
func (s *Spare) send(data []byte, fds []int) error {
	rights := syscall.UnixRights(fds...)
	for len(data) > 0 {
		n, err := syscall.SendmsgN(s.channel, data, rights, nil, syscall.MSG_NOSIGNAL)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data, rights = data[n:], nil
	}
	return nil
}

// awaitStart reads the monitor's one message.
func awaitStart(r io.Reader) (pid int, err error) {
	msg := make([]byte, 1024)
	n := 0
	for n < len(msg) {
		k, err := r.Read(msg[n:])
		n += k
		if err != nil || n == 9 && (msg[0] == syncStarted || msg[0] == syncCreated) {
			break
		}
	}
	switch msg = msg[:n]; {
	case n == 9 && (msg[0] == syncStarted || msg[0] == syncCreated):
		return int(binary.NativeEndian.Uint64(msg[1:])), nil
	case n > 1 && msg[0] == syncFailed:
		return 0, &ReportError{msg[1:]}
	case n > 1 && msg[0] == syncError:
		return 0, errors.New("start monitor: " + string(msg[1:]))
	case n > 9 && msg[0] == syncCreated: // the program failed right after the process was made
		return 0, &ReportError{msg[10:]}
	}
	return 0, errors.New("start monitor: it ended without a word")
}

func socketPair() (ours *Conn, theirs *os.File, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	syscall.SetNonblock(pair[0], true) // so that os uses its poller
	return newConn(os.NewFile(uintptr(pair[0]), "attach")), os.NewFile(uintptr(pair[1]), "attach"), nil
}

// An Exit is how a container ended.
type Exit struct {
	Code int
	// UnixNano is when the monitor saw it.
	UnixNano int64
}

// ReadExit reads the exit record in dir. An error for which
// errors.Is(err, fs.ErrNotExist) holds means that it still runs, or that its
// monitor was killed.
func ReadExit(dir string) (Exit, error) {
	name := filepath.Join(dir, ExitFile)
	text, err := os.Readlink(name) // as a full disk leaves it
	if err != nil {
		var data []byte
		if data, err = os.ReadFile(name); err != nil {
			return Exit{}, &stepError{"read exit record", err}
		}
		text = string(data)
	}
	code, when, ok := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	n, err1 := strconv.Atoi(code)
	t, err2 := strconv.ParseInt(when, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Exit{}, errors.New("read exit record: " + strconv.Quote(text) + " is not one")
	}
	return Exit{Code: n, UnixNano: t}, nil
}
