package ociruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// Start lets a created container's program run.
func (r *Runtime) Start(ctx context.Context, id string) error {
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	switch c.Status() {
	case "created":
	case "stopped":
		return errors.New("cannot start a container that has stopped")
	case "running":
		return errors.New("cannot start an already running container")
	default:
		return fmt.Errorf("cannot start a container in the %s state", c.Status())
	}
	if c.Spec.Process == nil {
		return errors.New("cannot start a container whose config.json has no process")
	}
	plan := nameOf(c.Init.Pid)
	if err := r.start(ctx, c); err != nil {
		return err
	}
	// Who made the container has read the plan's report; what is left to see is that the
	// process ended under the plan's name, as it does with that code. It closes its files
	// shortly before it ends, or has its new name.
	for range 100 {
		if plan == "" || nameOf(c.Init.Pid) != plan {
			return nil
		}
		switch endedWith(c.Init.Pid) {
		case planFailed:
			return errors.New("start container: the program could not be executed")
		case -1:
			time.Sleep(time.Millisecond)
		default:
			return nil
		}
	}
	return nil
}

// planFailed is the exit code of a plan's process of which a step failed.
const planFailed = 255

// nameOf is the kernel's name of a process, which execve changes; "" of one that is gone.
func nameOf(pid int) string {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return string(data)
}

// endedWith is the exit code of a process that its parent has not yet waited for, else -1.
func endedWith(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return -1
	}
	// pid (name) state … exit_code, the 52nd; the name may hold anything.
	w := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(w) < 50 || w[0] != "Z" {
		return -1
	}
	code, err := strconv.Atoi(w[49])
	if err != nil {
		return -1
	}
	return exitCode(unix.WaitStatus(code))
}

func (r *Runtime) start(ctx context.Context, c *Container) error {
	h := c.Spec.Hooks
	if h != nil {
		if err := r.startContainer(ctx, c); err != nil {
			r.kill(c)
			return err
		}
	}
	if err := letGo(ctx, filepath.Join(c.dir, startPipe)); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	if h != nil {
		s := c.State()
		s.Status = "running"
		r.late(ctx, "poststart", h.Poststart, s)
	}
	return nil
}

// letGo lets the process go on that waits at the pipe, and returns when it executes its
// program, or has ended: it closes the pipe then, of which it is the only reader.
func letGo(ctx context.Context, fifo string) error {
	f, err := os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Gone before the program runs, which may ask for its state at once.
	if err := os.Remove(fifo); err != nil {
		return err
	}
	if _, err := f.Write([]byte{0}); err != nil {
		return err
	}
	reader := []unix.PollFd{{Fd: int32(f.Fd())}}
	for reader[0].Revents&unix.POLLERR == 0 {
		if _, err := unix.Poll(reader, 100); err != nil && err != unix.EINTR {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// RunOptions are what Run is told besides.
type RunOptions struct {
	CreateOptions
	// Detach returns when the program runs; without, Run waits and removes the container.
	Detach bool
	// Keep leaves a container that ended.
	Keep bool
	// Started is called with the program's number when it runs.
	Started func(pid int)
}

// Run creates and starts a container. Without Detach it returns its exit code, 128 and the signal for one that a signal ended.
func (r *Runtime) Run(ctx context.Context, id string, o RunOptions) (code int, err error) {
	if !o.Detach {
		// What the program leaves behind in its own namespace is ours when that has none for it.
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	if err := o.load(); err == nil && o.Spec.Process == nil {
		return 0, errors.New("cannot run a container whose config.json has no process")
	}
	c, proc, err := r.create(ctx, id, o.CreateOptions)
	if err != nil {
		return 0, err
	}
	defer proc.Report.Close()
	if err := r.start(ctx, c); err != nil {
		r.discard(ctx, c)
		return 0, err
	}
	if err := runs(proc); err != nil {
		r.discard(ctx, c)
		return 0, err
	}
	return r.stay(ctx, c, &o)
}

// stay tells of the container's process and, unless it is detached, waits for its end.
func (r *Runtime) stay(ctx context.Context, c *Container, o *RunOptions) (code int, err error) {
	if o.Started != nil {
		o.Started(c.Init.Pid)
	}
	if o.Detach {
		return 0, nil
	}
	code = exitCode(reap(c.Init.Pid))
	if o.Keep {
		return code, nil
	}
	return code, r.remove(context.WithoutCancel(ctx), c)
}

// runs waits until the program executes, or says why it does not.
func runs(proc *plan.Process) error {
	buf := make([]byte, 256)
	n, _ := proc.Report.Read(buf)
	if n == 0 {
		return nil
	}
	return fmt.Errorf("start container: %w", &startFailure{buf[:n]})
}

// A startFailure is a plan's report after its container was created.
type startFailure struct{ report []byte }

func (e *startFailure) Error() string {
	if len(e.report) < 16 {
		return "the program could not be executed"
	}
	return unix.Errno(e.report[8]).Error()
}

// discard kills and removes a container whose start failed.
func (r *Runtime) discard(ctx context.Context, c *Container) {
	r.kill(c)
	reap(c.Init.Pid)
	if err := r.remove(context.WithoutCancel(ctx), c); err != nil {
		r.warn("%v", err)
	}
}

// kill ends all of the container's processes.
func (r *Runtime) kill(c *Container) {
	if c.Init.Alive() {
		unix.Kill(c.Init.Pid, unix.SIGKILL)
	}
	if g, err := c.group(); err == nil && g != nil {
		if frozen, _ := g.Frozen(); frozen {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			g.Thaw(ctx)
		}
		g.Kill()
	}
}
