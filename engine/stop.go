package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/monitor"
)

const defaultStopTimeout = 10 // seconds

// Start starts a container that does not run. One that does is left alone.
func (e *Engine) Start(ctx context.Context, name string) error {
	return e.startNamed(ctx, name, startOptions{})
}

// startNeeded is Start of a container that another needs, or of a pod's own:
// what a service manager gave this process is not for it.
func (e *Engine) startNeeded(ctx context.Context, name string) error {
	return e.startNamed(ctx, name, startOptions{needed: true})
}

func (e *Engine) startNamed(ctx context.Context, name string, o startOptions) error {
	r, s, l, err := e.openForStart(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	o.lock = l
	switch s.Status {
	case StatusRunning:
		return nil
	case StatusInitialized:
		return e.releaseInit(ctx, r, s)
	}
	_, err = e.start(ctx, r, s, o)
	if err != nil {
		return e.startFailed(r, s, err)
	}
	return nil
}

// startFailed notes why, and leaves the state as it was.
func (e *Engine) startFailed(r *record, s *runState, cause error) error {
	s.Error = cause.Error()
	if s.Status == StatusCreated {
		s.ExitCode = ExitCode(cause)
	}
	s.Cgroup = ""
	return errors.Join(cause, e.saveState(r, s))
}

// openForStart opens a container for a start that a user asked for: what his
// stop and earlier restarts left in the state does not count any more.
func (e *Engine) openForStart(ctx context.Context, name string) (*record, *runState, *lock, error) {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return nil, nil, nil, err
	}
	switch s.Status {
	case StatusRunning, StatusInitialized:
		return r, s, l, nil
	case StatusPaused, StatusStopping, StatusStopped, StatusRemoving:
		l.Release()
		return nil, nil, nil, fmt.Errorf("start container %s: it is %s: %w", r.Name, s.Status, ErrState)
	}
	if err := e.startAnew(r, s); err != nil {
		l.Release()
		return nil, nil, nil, err
	}
	return r, s, l, nil
}

// Stop ends a container: its stop signal, and SIGKILL when that does not help
// in time. One that cannot handle the signal is not waited for.
func (e *Engine) Stop(ctx context.Context, name string, o StopOptions) error {
	pod, err := e.stopOne(ctx, name, o)
	if err != nil {
		return err
	}
	return e.podSettled(ctx, pod)
}

// stopOne is Stop that leaves the container's pod, which it returns, as it is.
func (e *Engine) stopOne(ctx context.Context, name string, o StopOptions) (pod string, err error) {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	return r.Pod, e.stop(ctx, r, s, o)
}

// stop is Stop with the lock held. The state is settled when it returns.
func (e *Engine) stop(ctx context.Context, r *record, s *runState, o StopOptions) error {
	if !s.running() {
		if policy, _, _ := parseRestart(r.Options.Restart); policy != "" && policy != "no" && s.Started && (!s.Stopped || s.Shutdown) {
			s.Stopped, s.Shutdown = true, false // it may be about to be started again
			return e.saveState(r, s)
		}
		return nil
	}
	sig, err := ParseSignal(firstOf(o.Signal, r.stopSignal()))
	if err != nil {
		return fmt.Errorf("stop container %s: %w", r.Name, err)
	}
	if s.Status == StatusPaused {
		// A frozen process gets no signal.
		if err := e.thaw(ctx, r, s); err != nil {
			return err
		}
	}
	s.Stopped, s.Shutdown, s.Status = true, o.shutdown, StatusStopping
	if err := e.saveState(r, s); err != nil {
		return err
	}
	timeout := r.stopTimeout(e)
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	if err := e.endProcess(ctx, r, s, sig, time.Duration(timeout)*time.Second); err != nil {
		s.Status = StatusRunning
		return errors.Join(fmt.Errorf("stop container %s: %w", r.Name, err), e.saveState(r, s))
	}
	e.event(ctx, "container", "stop", r, nil)
	now, err := e.settle(ctx, r)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	*s = *now
	return nil
}

func (r *record) stopTimeout(e *Engine) uint {
	switch {
	case r.Options.StopTimeout != nil:
		return *r.Options.StopTimeout
	case e.o.Defaults.StopTimeout > 0:
		return e.o.Defaults.StopTimeout
	}
	return defaultStopTimeout
}

// endProcess signals the container's first process and waits for its end.
func (e *Engine) endProcess(ctx context.Context, r *record, s *runState, sig syscall.Signal, timeout time.Duration) error {
	fd, err := openAlive(s.process())
	if fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if s.Status == StatusInitialized || sig == unix.SIGKILL || timeout == 0 && sig == unix.SIGTERM || r.Runtime == "" && ignores(r, s.Pid, sig) {
		timeout = 0
	} else {
		if err := e.signal(ctx, r, s, sig); err != nil {
			return err
		}
		ended, err := waitProcess(ctx, fd, timeout)
		if err != nil || ended {
			return err
		}
		if timeout > 0 {
			e.warn("container %s did not end within %d seconds of %s; it is killed", r.Name, timeout/time.Second, unix.SignalName(sig))
		}
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	ended, err := waitProcess(ctx, fd, 30*time.Second)
	if err == nil && !ended {
		err = errors.New("its process does not end after SIGKILL: it hangs in the kernel")
	}
	return err
}

// signal sends a signal to the container's first process, which another
// runtime's sandbox may hide from us.
func (e *Engine) signal(ctx context.Context, r *record, s *runState, sig syscall.Signal) error {
	if r.Runtime != "" {
		return e.foreign(ctx, r, "kill", r.ID, strconv.Itoa(int(sig)))
	}
	err := sendSignal(s.process(), sig)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// waitProcess waits until the process of a pidfd has ended.
func waitProcess(ctx context.Context, fd int, timeout time.Duration) (bool, error) {
	end := time.Now().Add(timeout)
	for {
		left := time.Until(end)
		if left < 0 {
			return false, nil
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(min(left/time.Millisecond+1, 100)))
		if err != nil && err != unix.EINTR {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
}

// ignores says that a signal would do nothing: the first process of a pid
// namespace gets only signals that it handles, or waits for by sigwait or a
// signalfd.
func ignores(r *record, pid int, sig syscall.Signal) bool {
	switch word, _, _ := strings.Cut(r.Options.PidNS, ":"); word {
	case "host", "container", "ns":
		return false
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	handled := uint64(0)
	seen := 0
	for line := range strings.Lines(string(data)) {
		for _, key := range []string{"SigCgt:", "SigBlk:"} {
			if v, ok := strings.CutPrefix(line, key); ok {
				n, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
				if err != nil {
					return false
				}
				handled |= n
				seen++
			}
		}
	}
	return seen == 2 && handled&(1<<(sig-1)) == 0
}

// Kill sends a signal to a container's first process.
func (e *Engine) Kill(ctx context.Context, name, signal string) error {
	sig, err := ParseSignal(signal)
	if err != nil {
		return err
	}
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if !s.running() || s.Status == StatusInitialized && sig != unix.SIGKILL {
		return fmt.Errorf("kill container %s: it is %s, not running: %w", r.Name, s.Status, ErrState)
	}
	if sig == unix.SIGKILL {
		s.Stopped = true
		if s.Status == StatusPaused {
			if err := e.thaw(ctx, r, s); err != nil {
				return err
			}
		}
		if err := e.saveState(r, s); err != nil {
			return err
		}
		if err := e.endProcess(ctx, r, s, sig, 0); err != nil {
			return fmt.Errorf("kill container %s: %w", r.Name, err)
		}
	} else if err := e.signal(ctx, r, s, sig); err != nil {
		return fmt.Errorf("kill container %s: %w", r.Name, err)
	}
	e.event(ctx, "container", "kill", r, map[string]string{"signal": strconv.Itoa(int(sig))})
	if sig != unix.SIGKILL {
		return nil
	}
	if _, err := e.settle(ctx, r); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// Restart stops a container, if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, name string, o StopOptions) error {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if s.running() {
		// Its end must not remove it.
		rm := r.Options.AutoRemove
		r.Options.AutoRemove = false
		err := e.stop(ctx, r, s, o)
		r.Options.AutoRemove = rm
		if err != nil {
			return err
		}
	}
	if err := e.startAnew(r, s); err != nil {
		return err
	}
	_, err = e.start(ctx, r, s, startOptions{lock: l})
	if err != nil {
		return e.startFailed(r, s, err)
	}
	e.event(ctx, "container", "restart", r, nil)
	return nil
}

// Pause freezes all processes of a container.
func (e *Engine) Pause(ctx context.Context, name string) error {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if s.Status != StatusRunning {
		return fmt.Errorf("pause container %s: it is %s, not running: %w", r.Name, s.Status, ErrState)
	}
	if err := e.freeze(ctx, r, s); err != nil {
		return err
	}
	s.Status = StatusPaused
	if err := e.saveState(r, s); err != nil {
		return err
	}
	e.event(ctx, "container", "pause", r, nil)
	return nil
}

func (e *Engine) freeze(ctx context.Context, r *record, s *runState) error {
	if r.Runtime != "" {
		return e.foreign(ctx, r, "pause", r.ID)
	}
	g := e.group(s)
	if g == nil {
		cure := "run it without --cgroups=disabled"
		if e.o.Rootless && firstOf(r.Options.Cgroups, e.o.Defaults.Cgroups) != "disabled" {
			cure = "no cgroup is delegated to this user: that needs cgroup v2 and a systemd user service"
		}
		return hint(fmt.Errorf("pause container %s: it has no cgroup", r.Name), "%s", cure)
	}
	if err := g.Freeze(ctx); err != nil {
		return fmt.Errorf("pause container %s: %w", r.Name, err)
	}
	return nil
}

// Unpause continues them.
func (e *Engine) Unpause(ctx context.Context, name string) error {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if s.Status != StatusPaused {
		return fmt.Errorf("unpause container %s: it is %s, not paused: %w", r.Name, s.Status, ErrState)
	}
	if err := e.thaw(ctx, r, s); err != nil {
		return err
	}
	e.event(ctx, "container", "unpause", r, nil)
	return nil
}

func (e *Engine) thaw(ctx context.Context, r *record, s *runState) error {
	if r.Runtime != "" {
		if err := e.foreign(ctx, r, "resume", r.ID); err != nil {
			return err
		}
		s.Status = StatusRunning
		return e.saveState(r, s)
	}
	g := e.group(s)
	if g == nil {
		return fmt.Errorf("unpause container %s: its cgroup is gone", r.Name)
	}
	if err := g.Thaw(ctx); err != nil {
		return fmt.Errorf("unpause container %s: %w", r.Name, err)
	}
	s.Status = StatusRunning
	return e.saveState(r, s)
}

// Init makes a container's processes up to the program, which waits for Start.
func (e *Engine) Init(ctx context.Context, name string) error {
	r, s, l, err := e.openForStart(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if s.Status == StatusRunning || s.Status == StatusInitialized {
		return fmt.Errorf("initialize container %s: it is %s: %w", r.Name, s.Status, ErrState)
	}
	_, err = e.start(ctx, r, s, startOptions{lock: l, wait: true})
	if err != nil {
		return e.startFailed(r, s, err)
	}
	e.event(ctx, "container", "init", r, nil)
	return nil
}

const controlFile = "start"

// makeControl makes the pipe that an initialized container waits at. Both ends
// are open in the plan, so that nobody's end makes it go on.
func (e *Engine) makeControl(id string) (*os.File, error) {
	file := e.containerRun(id) + "/" + controlFile
	os.Remove(file)
	if err := unix.Mkfifo(file, 0o600); err != nil {
		return nil, fmt.Errorf("make start pipe: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open start pipe: %w", err)
	}
	return f, nil
}

// releaseInit lets an initialized container's program go, and waits until it
// is known that it does.
func (e *Engine) releaseInit(ctx context.Context, r *record, s *runState) error {
	f, err := os.OpenFile(e.containerRun(r.ID)+"/"+controlFile, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("start container %s: %w", r.Name, err)
	}
	defer f.Close()
	if _, err := f.Write([]byte{1}); err != nil {
		return fmt.Errorf("start container %s: %w", r.Name, err)
	}
	s.Status, s.StartedAt = StatusRunning, time.Now()
	if err := e.saveState(r, s); err != nil {
		return err
	}
	os.Remove(e.containerRun(r.ID) + "/" + controlFile)
	if err := e.awaitProgram(r, s.Pid); err != nil {
		return err
	}
	e.event(ctx, "container", "start", r, nil)
	return nil
}

// awaitProgram waits until the program of a plan that was told to go on runs.
func (e *Engine) awaitProgram(r *record, pid int) error {
	report := e.containerRun(r.ID) + "/" + monitor.ReportFile
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(report); err == nil {
			return fmt.Errorf("start container %s: its program could not be executed", r.Name)
		}
		if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err != nil || r.Options.Init || !strings.HasPrefix(exe, "/memfd:") {
			break
		}
	}
	return nil
}
