package engine

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/ociruntime"
	"hull/plan"
)

// connectAgent connects to the agent of a container's filter that notifies, which is told
// the process's number before the program runs.
func (t *starting) connectAgent(o *ociruntime.CompileOptions) (err error) {
	if t.spec.Linux == nil || t.spec.Linux.Seccomp == nil {
		return nil
	}
	t.agent, err = ociruntime.ConnectAgent(t.spec.Linux.Seccomp, o, t.e.hookState(t.r, "creating", 0))
	o.WaitHooks = o.WaitHooks || t.agent != nil
	return err
}

// connectAgent is the same for one more process, which waits where a container waits to be started.
func (x *execution) connectAgent(spec *oci.Spec, o *ociruntime.CompileOptions) (err error) {
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return nil
	}
	x.agent, err = ociruntime.ConnectAgent(spec.Linux.Seccomp, o, x.e.hookState(x.r, "running", x.s.Pid))
	if err != nil || x.agent == nil {
		return err
	}
	o.Wait = true
	if o.Control, x.start, err = os.Pipe(); err != nil {
		return fmt.Errorf("make start pipe: %w", err)
	}
	x.files = append(x.files, o.Control, x.start)
	return nil
}

// launch starts the plan; its program runs when it returns.
func (x *execution) launch(l plan.LaunchOptions) (*plan.Process, error) {
	l.UntilCreated = x.start != nil
	p, err := plan.Launch(x.plan, l)
	if err != nil || x.start == nil {
		return p, err
	}
	defer p.Report.Close()
	if err := x.release(p.Pid); err != nil {
		unix.Kill(p.Pid, unix.SIGKILL)
		waitChild(p.Pid)
		return nil, err
	}
	return p, nil
}

// release tells the agent of a plan's process that waits for it, and lets it go on.
func (x *execution) release(pid int) error {
	if x.start == nil {
		return nil
	}
	err := x.agent.Fill(pid, x.s.Pid)
	if err == nil {
		_, err = x.start.Write([]byte{0})
	}
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	return nil
}
