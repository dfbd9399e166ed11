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
	// Attach opens a connection before the container starts, so that not a
	// byte of its output is missed; Flags are what that client wants.
	Attach bool
	Flags  Flags
	// Stdio is what a container with LogPassthrough gets; nil elsewhere.
	Stdio [3]*os.File
}

// A Session is a container that Start has started.
type Session struct {
	Pid     int         // the container's first process
	Monitor *os.Process // Release it, or Wait for it in a process that stays
	Conn    *Conn       // nil without StartOptions.Attach
}

// A ReportError is a plan that failed; the plan knows what the bytes mean.
type ReportError struct{ Report []byte }

func (e *ReportError) Error() string {
	return "start container: plan report " + strconv.Quote(string(e.Report))
}

// Start starts a monitor, which starts the plan, and returns when the
// program runs (with Config.Wait: when its process exists). When it fails,
// nothing runs any more and no clean-up was executed.
func Start(o StartOptions) (*Session, error) {
	var pipes pipes
	defer pipes.close()
	configR, configW, err := pipes.make()
	if err != nil {
		return nil, err
	}
	syncR, syncW, err := pipes.make()
	if err != nil {
		return nil, err
	}
	cfg := o.Config
	cfg.Attached, cfg.AttachFlags, cfg.PlanFiles = o.Attach, o.Flags, len(o.PlanFiles)
	encoded := cfg.Encode()
	if len(encoded) > 60<<10 {
		return nil, errors.New("start monitor: its configuration does not fit a pipe")
	}
	if _, err := configW.Write(encoded); err != nil {
		return nil, &stepError{"start monitor", err}
	}
	configW.Close()

	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, &stepError{"start monitor", err}
	}
	defer null.Close()
	theirs := null
	var conn *Conn
	if o.Attach {
		if conn, theirs, err = socketPair(); err != nil {
			return nil, &stepError{"start monitor", err}
		}
		defer theirs.Close()
	}
	files := []*os.File{null, null, null, configR, syncW, o.Plan, theirs}
	if cfg.LogDriver == LogPassthrough {
		copy(files, o.Stdio[:])
	}
	process, err := os.StartProcess(o.Binary, []string{"hull-monitor", cfg.ID}, &os.ProcAttr{
		Files: append(files, o.PlanFiles...),
		Env:   []string{"GOMAXPROCS=1"},
	})
	if err != nil {
		conn.Close()
		return nil, &stepError{"start monitor", err}
	}
	syncW.Close()
	pid, err := awaitStart(syncR)
	if err != nil {
		conn.Close()
		process.Wait()
		return nil, err
	}
	return &Session{Pid: pid, Monitor: process, Conn: conn}, nil
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

// pipes are closed together; a file that is closed already does no harm.
type pipes []*os.File

func (p *pipes) make() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err != nil {
		return nil, nil, &stepError{"start monitor", err}
	}
	*p = append(*p, r, w)
	return r, w, nil
}

func (p pipes) close() {
	for _, f := range p {
		f.Close()
	}
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
	data, err := os.ReadFile(filepath.Join(dir, ExitFile))
	if err != nil {
		return Exit{}, &stepError{"read exit record", err}
	}
	code, when, ok := strings.Cut(strings.TrimSuffix(string(data), "\n"), " ")
	n, err1 := strconv.Atoi(code)
	t, err2 := strconv.ParseInt(when, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Exit{}, errors.New("read exit record: " + strconv.Quote(string(data)) + " is not one")
	}
	return Exit{Code: n, UnixNano: t}, nil
}
