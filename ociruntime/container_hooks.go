package ociruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
	"hull/state"
)

func hasEarlyHooks(h *oci.Hooks) bool {
	//lint:ignore SA1019 prestart is deprecated and still used
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0
}

// waitsEarly reports whether a plan must wait before its root is changed.
func waitsEarly(spec *oci.Spec) bool {
	return hasEarlyHooks(spec.Hooks) || CopiesUp(spec) || movesDevices(spec)
}

// runHooks is RunHooks.
func runHooks(ctx context.Context, kind string, hooks []oci.Hook, s oci.State, pid int, root string) error {
	if len(hooks) == 0 {
		return nil
	}
	return eachHook(ctx, kind, hooks, s, func(ctx context.Context, h *oci.Hook, stdin []byte) error {
		if pid != 0 {
			return joinHook(ctx, h, stdin, pid, root)
		}
		return hostHook(ctx, h, stdin, s.Bundle)
	})
}

// eachHook calls run for each hook, with the state and until the hook's time is over.
func eachHook(ctx context.Context, kind string, hooks []oci.Hook, s oci.State, run func(context.Context, *oci.Hook, []byte) error) error {
	data, err := state.Marshal(s)
	if err != nil {
		return err
	}
	for i := range hooks {
		if err := timedHook(ctx, &hooks[i], data, run); err != nil {
			return fmt.Errorf("error running hook #%d: error running %s hook %s: %w", i, kind, hooks[i].Path, err)
		}
	}
	return nil
}

func timedHook(ctx context.Context, h *oci.Hook, stdin []byte, run func(context.Context, *oci.Hook, []byte) error) error {
	if h.Timeout != nil {
		if *h.Timeout <= 0 {
			return fmt.Errorf("timeout of %d seconds is not above 0", *h.Timeout)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(*h.Timeout)*time.Second,
			fmt.Errorf("hook ran past specified timeout of %.1fs", float64(*h.Timeout)))
		defer cancel()
	}
	return run(ctx, h, stdin)
}

// hostHook runs a hook in the runtime's own namespaces.
func hostHook(ctx context.Context, h *oci.Hook, stdin []byte, bundle string) error {
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Args = hookArgs(h)
	if st, err := os.Stat(bundle); err == nil && st.IsDir() {
		cmd.Dir = bundle // as with the peers; it may be gone after the container's end
	}
	cmd.Env = h.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // not the runtime's own
	}
	cmd.Stdin = bytes.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w, stdout: , stderr: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// joinHook runs a hook in a process's namespaces.
func joinHook(ctx context.Context, h *oci.Hook, stdin []byte, pid int, root string) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(pidfd), "container")
	defer file.Close()
	b := plan.NewBuilder()
	b.Phase("hook")
	b.Cloexec(plan.ReportFD)
	fd := b.Inherit("container", file)
	b.Prctl(unix.PR_SET_DUMPABLE, 0)
	flags := namespacesOf(pid)
	if flags != 0 {
		b.Setns(fd, flags)
	}
	b.Close(fd)
	if flags&unix.CLONE_NEWNS == 0 {
		// Its mount namespace is this program's, its root perhaps not.
		dir, err := rootOf(pid)
		if err != nil {
			return fmt.Errorf("open the root of process %d: %w", pid, err)
		}
		defer dir.Close()
		fd := b.Inherit("root", dir)
		b.Fchdir(fd)
		b.Chroot(".")
		b.Close(fd)
	}
	b.Fork(0)
	b.Close(plan.ConsoleFD)
	b.Chdir(root)
	b.Subject("execute hook " + h.Path)
	b.Execve(h.Path, hookArgs(h), h.Env)
	p, err := b.Plan()
	if err != nil {
		return err
	}
	return feedHook(ctx, stdin, func(r *os.File) (*plan.Process, error) {
		return plan.Launch(p, plan.LaunchOptions{Stdin: r, Stdout: os.Stderr, Stderr: os.Stderr})
	})
}

// feedHook launches a hook's process, gives it its input and waits for its end.
func feedHook(ctx context.Context, stdin []byte, launch func(in *os.File) (*plan.Process, error)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	process, err := launch(r)
	r.Close()
	if err != nil {
		return err
	}
	done := make(chan unix.WaitStatus, 1)
	go func() { done <- reap(process.Pid) }()
	go func() { w.Write(stdin); w.Close() }()
	select {
	case status := <-done:
		switch {
		case status.Signaled():
			return fmt.Errorf("signal: %v", status.Signal())
		case status.ExitStatus() != 0:
			return fmt.Errorf("exit status %d", status.ExitStatus())
		}
		return nil
	case <-ctx.Done():
		unix.Kill(process.Pid, unix.SIGKILL)
		<-done
		return context.Cause(ctx)
	}
}

// startContainer runs the hooks of that name: programs of the container's own, which get
// no more rights than its process is about to have.
func (r *Runtime) startContainer(ctx context.Context, c *Container) error {
	hooks := c.Spec.Hooks.StartContainer
	if len(hooks) == 0 {
		return nil
	}
	return eachHook(ctx, "startContainer", hooks, c.State(), func(ctx context.Context, h *oci.Hook, stdin []byte) error {
		p := *c.Spec.Process
		p.Args, p.Env, p.Cwd, p.Terminal = hookArgs(h), h.Env, "/", false
		x := &execution{r: r, c: c, executable: h.Path, o: ExecOptions{Process: &p, Stdout: os.Stderr, Stderr: os.Stderr, Detach: true}}
		defer x.close()
		return feedHook(ctx, stdin, func(in *os.File) (*plan.Process, error) {
			x.o.Stdin = in
			return x.launch()
		})
	})
}

func hookArgs(h *oci.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}

// namespacesOf are the kinds in which a process differs from this one.
func namespacesOf(pid int) int {
	flags := 0
	for _, n := range []struct {
		name string
		flag int
	}{
		{"user", unix.CLONE_NEWUSER}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET},
		{"pid", unix.CLONE_NEWPID}, {"cgroup", unix.CLONE_NEWCGROUP}, {"time", unix.CLONE_NEWTIME}, {"mnt", unix.CLONE_NEWNS},
	} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, n.name))
		ours, _ := os.Readlink("/proc/self/ns/" + n.name)
		if err == nil && theirs != ours {
			flags |= n.flag
		}
	}
	return flags
}

// exitCode is a status as shells report it.
func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// poststop runs those hooks; one that fails is only told, and the others follow.
func (r *Runtime) poststop(ctx context.Context, c *Container) {
	if c.Spec.Hooks == nil {
		return
	}
	s := c.State()
	s.Status, s.Pid = "stopped", 0
	r.late(ctx, "poststop", c.Spec.Hooks.Poststop, s)
}

func (r *Runtime) late(ctx context.Context, kind string, hooks []oci.Hook, s oci.State) {
	for i := range hooks {
		if err := runHooks(ctx, kind, hooks[i:i+1], s, 0, ""); err != nil && !errors.Is(err, context.Canceled) {
			r.warn("%v", err)
		}
	}
}
