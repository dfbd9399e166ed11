package stepper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Action is what is done at the chosen call.
type Action int

const (
	Count       Action = iota // nothing
	KillTree                  // every process that the command started
	KillProcess               // the one that reached the call
	Fail                      // the call fails with an error
)

func (a Action) String() string { return [...]string{"count", "kill-tree", "kill", "fail"}[a] }

// A Point is a call that changes something outside its process.
type Point struct {
	N    int // from 1
	Call string
	Pid  int
	// Subject is the path or the file that it is about, where one look tells.
	Subject string
	// Errno is what it was made to fail with.
	Errno unix.Errno

	errnos  []unix.Errno
	subject func() string
}

// Choices is how many errors the call may be made to fail with.
func (p Point) Choices() int { return len(p.errnos) }

func (p Point) String() string {
	s := fmt.Sprintf("%d: %s %s", p.N, p.Call, p.Subject)
	if p.Errno != 0 {
		s += " → " + unix.ErrnoName(p.Errno)
	}
	return s
}

// Options are a command and what to do with it.
type Options struct {
	// Launcher is a program that calls Launch when its first argument is LaunchWord.
	Launcher       string
	Argv, Env      []string
	Dir            string
	Stdin          *os.File
	Stdout, Stderr *os.File // files, so that nobody waits for a pipe's end
	Action         Action
	Set            Set
	// At is the point's number, from 1; 0 is none.
	At int
	// Choose picks one of a call's errors, by any number; see Fail.
	Choose int
	// Lose: when a sync fails with EIO, what was to be synced is zeroes
	// afterwards, as it may be after the kernel gave the pages up.
	Lose bool
	// Skip says of a file's name that reads of it and writes to it do not count.
	Skip func(file string) bool
	// Each is told of every point, if set.
	Each func(Point)
}

// A Run is a command that is traced.
type Run struct {
	o     Options
	ended chan struct{} // the command itself
	gone  chan struct{} // all that it started

	mu     sync.Mutex
	err    error
	status unix.WaitStatus
	count  int
	procs  map[int]bool
	hit    *Point
}

// Start starts the command. Its tracer goes on until all processes that it
// started have ended, also after the command itself.
func Start(o Options) (*Run, error) {
	r := &Run{o: o, procs: map[int]bool{}, ended: make(chan struct{}), gone: make(chan struct{})}
	calls := o.Set.calls()
	t := &tracer{Run: r, calls: calls, names: callNames(calls), threads: map[int]*thread{}}
	started := make(chan error)
	go func() {
		// The thread is the tracer: it must not be another's afterwards.
		runtime.LockOSThread()
		defer close(r.gone)
		err := t.start()
		started <- err
		if err != nil {
			return
		}
		defer t.unsynced.close()
		if err := t.loop(); err != nil {
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
		}
		if !t.rootEnded {
			close(r.ended)
		}
	}()
	return r, <-started
}

// Wait waits until the command has ended, and returns how.
func (r *Run) Wait(ctx context.Context) (unix.WaitStatus, error) {
	select {
	case <-r.ended:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status, r.err
}

// WaitAll waits until everything that the command started has ended.
func (r *Run) WaitAll(ctx context.Context) error {
	select {
	case <-r.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Points is how many there were up to now, and Hit the one at which the action
// was taken; nil when none was.
func (r *Run) Points() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Processes is how many of them had points.
func (r *Run) Processes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.procs)
}

// Hit is the point at which the action was taken; nil when none was yet.
func (r *Run) Hit() *Point {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hit
}

// Disarm takes the action back, if it was not taken yet.
func (r *Run) Disarm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.o.At = 0
}

type thread struct {
	tgid    int
	started bool // its first stop was seen
}

type tracer struct {
	*Run
	calls     map[string]call
	names     map[uint64]string
	root      int
	threads   map[int]*thread
	rootEnded bool
	began     bool // the command itself is executed: what its launcher did does not count
	killing   bool
	unsynced  unsynced
}

const traceOptions = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC |
	unix.PTRACE_O_EXITKILL

func (t *tracer) start() error {
	argv := append([]string{t.o.Launcher, LaunchWord, strconv.Itoa(int(t.o.Set))}, t.o.Argv...)
	files := []*os.File{t.o.Stdin, t.o.Stdout, t.o.Stderr}
	fds := make([]uintptr, len(files))
	for i, f := range files {
		if f == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer null.Close()
			f = null
		}
		fds[i] = f.Fd()
	}
	pid, err := syscall.ForkExec(t.o.Launcher, argv, &syscall.ProcAttr{Dir: t.o.Dir, Env: t.o.Env, Files: fds, Sys: &syscall.SysProcAttr{Ptrace: true, Setsid: true}})
	if err != nil {
		return fmt.Errorf("start %s: %w", t.o.Launcher, err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for %d: %w", pid, err)
	}
	if err := unix.PtraceSetOptions(pid, traceOptions); err != nil {
		return fmt.Errorf("trace %d: %w", pid, err)
	}
	t.root = pid
	t.threads[pid] = &thread{tgid: pid, started: true}
	return unix.PtraceCont(pid, 0)
}

// loop follows every thread until the last has ended.
func (t *tracer) loop() error {
	for len(t.threads) > 0 {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECHILD {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		switch {
		case ws.Exited() || ws.Signaled():
			delete(t.threads, tid)
			if tid == t.root {
				t.mu.Lock()
				t.status = ws
				t.mu.Unlock()
				t.rootEnded = true
				close(t.ended)
			}
		case ws.Stopped():
			t.stopped(tid, ws)
		}
	}
	return nil
}

func (t *tracer) stopped(tid int, ws unix.WaitStatus) {
	th := t.threads[tid]
	if th == nil {
		th = &thread{}
		t.threads[tid] = th
	}
	if t.killing {
		unix.Kill(tid, unix.SIGKILL)
	}
	signal := 0
	switch sig, cause := ws.StopSignal(), ws.TrapCause(); {
	case sig == unix.SIGTRAP && cause == unix.PTRACE_EVENT_SECCOMP:
		th.started = true
		if !t.call(tid) {
			return // killed
		}
	case sig == unix.SIGTRAP && cause == unix.PTRACE_EVENT_EXEC:
		// Its other threads are gone, and its number may be another: theirs
		// come back from wait, or not at all.
		th.started, th.tgid, t.began = true, tid, true
		if former, err := unix.PtraceGetEventMsg(tid); err == nil && int(former) != tid {
			delete(t.threads, int(former))
		}
	case sig == unix.SIGTRAP && cause > 0:
		th.started = true
		if child, err := unix.PtraceGetEventMsg(tid); err == nil && t.threads[int(child)] == nil {
			t.threads[int(child)] = &thread{}
		}
	case sig == unix.SIGTRAP:
		// An exec's without options, which cannot be: not for the program.
	case sig == unix.SIGSTOP && !th.started:
		th.started = true
	default:
		signal = int(sig)
	}
	if err := unix.PtraceCont(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		unix.Kill(tid, unix.SIGKILL)
	}
}

// call looks at a call that is about to be made, and does the action if it is
// the chosen one. It returns false when the thread was killed.
func (t *tracer) call(tid int) bool {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil || t.killing || !t.began {
		return true
	}
	p, ok := t.point(tid, &r)
	if !ok || t.o.Action == Fail && len(p.errnos) == 0 {
		return true
	}
	t.mu.Lock()
	t.count++
	t.procs[p.Pid] = true
	p.N = t.count
	at := t.o.At
	t.mu.Unlock()
	if t.o.Lose && p.N < at {
		t.unsynced.note(p, &r)
	}
	if t.o.Each != nil {
		p.Subject = p.subject()
		t.o.Each(p)
	}
	if p.N != at || t.o.Action == Count {
		return true
	}
	p.Subject = p.subject()
	if t.o.Action == Fail {
		p.Errno = p.errnos[t.o.Choose%len(p.errnos)]
		r.Orig_rax = ^uint64(0)
		r.Rax = uint64(-int64(p.Errno))
		if unix.PtraceSetRegs(tid, &r) != nil {
			return true
		}
		if t.o.Lose && p.Errno == unix.EIO {
			t.unsynced.lose(p, &r)
		}
	}
	t.mu.Lock()
	t.hit = &p
	t.mu.Unlock()
	switch t.o.Action {
	case KillProcess:
		unix.Kill(tid, unix.SIGKILL)
		return false
	case KillTree:
		t.killAll()
		return false
	}
	return true
}

// killAll kills what there is; what appears meanwhile is killed at its first stop.
func (t *tracer) killAll() {
	t.killing = true
	for tid := range t.threads {
		unix.Kill(tid, unix.SIGKILL)
	}
}

// tgid is the process that a thread is of.
func (t *tracer) tgid(tid int) int {
	th := t.threads[tid]
	if th == nil {
		return tid
	}
	if th.tgid != 0 {
		return th.tgid
	}
	th.tgid = tid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err == nil {
		if _, rest, ok := strings.Cut(string(b), "\nTgid:"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				th.tgid = n
			}
		}
	}
	return th.tgid
}
