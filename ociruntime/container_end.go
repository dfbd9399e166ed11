package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// Kill sends a signal to the container's first process, with all to all of them.
func (r *Runtime) Kill(id string, sig unix.Signal, all bool) error {
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	alive := c.Init.Alive()
	if all {
		g, err := c.group()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if g != nil {
			return signalAll(g.Pids, sig, func() error { return g.Kill() })
		}
	}
	if !alive {
		return ErrNotRunning
	}
	if err := c.signal(sig); err != nil {
		return err
	}
	if sig == unix.SIGKILL {
		// A frozen process dies when it runs again; one without its own pid namespace may leave others.
		r.afterKill(c)
	}
	return nil
}

// signal names the process by a pidfd, so that none that got its number since is met.
func (c *Container) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(c.Init.Pid, 0)
	if err != nil {
		return ErrNotRunning
	}
	defer unix.Close(fd)
	if !c.Init.Alive() {
		return ErrNotRunning
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err == unix.ESRCH {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("unable to signal init: %w", err)
	}
	return nil
}

func (r *Runtime) afterKill(c *Container) {
	g, err := c.group()
	if err != nil || g == nil {
		return
	}
	if frozen, _ := g.Frozen(); frozen {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		g.Thaw(ctx)
	}
	if !c.ownPIDs() {
		g.Kill()
	}
}

func (c *Container) ownPIDs() bool {
	if c.Spec.Linux == nil {
		return false
	}
	for _, n := range c.Spec.Linux.Namespaces {
		if n.Type == oci.PIDNamespace {
			return n.Path == ""
		}
	}
	return false
}

func signalAll(list func() ([]int, error), sig unix.Signal, kill func() error) error {
	if sig == unix.SIGKILL {
		return kill()
	}
	pids, err := list()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// Delete removes a stopped container; with force it is killed before, and one that is not there is no error.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	c, err := r.Load(id)
	if errors.Is(err, ErrNotExist) {
		// What a killed create left has no state yet.
		if validID(id) == nil && force {
			os.RemoveAll(r.Root + "/" + id)
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	switch s := c.Status(); {
	case s == "stopped":
	case force:
		r.kill(c)
		waitEnd(c)
	default:
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, s)
	}
	return r.remove(ctx, c)
}

// waitEnd waits until the first process is a zombie or gone.
func waitEnd(c *Container) {
	for i := 0; i < 1000 && c.Init.Alive(); i++ {
		if fd, err := unix.PidfdOpen(c.Init.Pid, 0); err == nil {
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10)
			unix.Close(fd)
			continue
		}
		time.Sleep(time.Millisecond)
	}
}

// remove removes a container whose first process has ended, and what is left of its others.
func (r *Runtime) remove(ctx context.Context, c *Container) error {
	g, err := c.group()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	if g != nil && err == nil {
		if !c.ownPIDs() {
			g.Kill()
		}
		if err := g.Remove(); err != nil {
			return fmt.Errorf("remove container %s: %w", c.ID, err)
		}
	}
	if err := c.Rdt.remove(); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	if err := c.unmount(); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	r.poststop(ctx, c)
	return nil
}

// Pause stops all processes of a container, and Resume continues them.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	if s := c.Status(); s != "running" && s != "created" {
		return ErrNotRunning
	}
	g, err := c.needGroup()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return g.Freeze(ctx)
}

// Resume continues the processes of a paused container.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	if c.Status() != "paused" {
		return errors.New("container not paused")
	}
	g, err := c.needGroup()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return g.Thaw(ctx)
}

// Pids are the container's processes.
func (r *Runtime) Pids(id string) ([]int, error) {
	c, err := r.Load(id)
	if err != nil {
		return nil, err
	}
	g, err := c.needGroup()
	if err != nil {
		return nil, err
	}
	return g.Pids()
}

// Update changes limits.
func (r *Runtime) Update(id string, res *oci.LinuxResources) error {
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	if c.Status() == "stopped" {
		return ErrNotRunning
	}
	g, err := c.needGroup()
	if err != nil {
		return err
	}
	if err := g.Set(res); err != nil {
		return err
	}
	if c.Spec.Linux != nil {
		c.Spec.Linux.Resources = merge(c.Spec.Linux.Resources, res)
		c.Cgroup = g.String()
		return c.save()
	}
	return nil
}

// merge keeps what more does not name.
func merge(old, more *oci.LinuxResources) *oci.LinuxResources {
	if old == nil {
		return more
	}
	out := *old
	if more.Memory != nil {
		m := oci.LinuxMemory{}
		if old.Memory != nil {
			m = *old.Memory
		}
		for _, f := range []struct{ to, from **int64 }{
			{&m.Limit, &more.Memory.Limit}, {&m.Swap, &more.Memory.Swap}, {&m.Reservation, &more.Memory.Reservation},
		} {
			if *f.from != nil {
				*f.to = *f.from
			}
		}
		out.Memory = &m
	}
	if more.CPU != nil {
		out.CPU = more.CPU
	}
	if more.Pids != nil {
		out.Pids = more.Pids
	}
	if more.BlockIO != nil {
		out.BlockIO = more.BlockIO
	}
	return &out
}
