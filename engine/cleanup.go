package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/image"
	"hull/monitor"
	"hull/network"
	"hull/state"
)

// Cleanup does what is to be done after a container's exit. A monitor becomes
// this; a command that watched the container does it in its place. Whoever
// comes second finds nothing to do.
func (e *Engine) Cleanup(ctx context.Context, id string) error {
	pod := ""
	if r, err := e.loadRecord(id); err == nil {
		pod = r.Pod
	}
	again, err := e.cleanup(ctx, id)
	if err != nil || again < 0 {
		return errors.Join(err, e.podSettled(ctx, pod))
	}
	return e.restartLater(ctx, id, again)
}

// cleanup settles a container that has ended. again says after how long its
// restart policy begins it anew; below 0 it does not.
func (e *Engine) cleanup(ctx context.Context, id string) (again time.Duration, err error) {
	l, err := e.lock(ctx, "container", id)
	if err != nil {
		return -1, err
	}
	defer l.Release()
	r, err := e.loadRecord(id)
	if errors.Is(err, ErrNotFound) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	s, err := e.settle(ctx, r)
	if errors.Is(err, ErrNotFound) {
		return -1, nil
	}
	if err != nil || s.Status != StatusExited {
		return -1, err
	}
	return r.again(s), nil
}

// settle makes a container that has ended an exited one: what it held is given
// back. Its lock is held. A container of --rm is removed; the error is
// ErrNotFound then.
func (e *Engine) settle(ctx context.Context, r *record) (*runState, error) {
	s, err := e.state(r)
	if err != nil {
		return nil, err
	}
	if r.Incomplete {
		if err := e.discard(ctx, r); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("container %s: %w", r.ID, ErrNotFound)
	}
	switch {
	case r.builders():
		return s, nil
	case s.Status == StatusStopped:
		if s, err = e.awaitExit(ctx, r, s); err != nil {
			return nil, err
		}
		return s, e.finish(ctx, r, s)
	case s.Status != StatusExited:
		return s, nil
	case r.Options.AutoRemove || e.bootChanged(r):
		return s, e.finish(ctx, r, s)
	}
	return s, nil
}

// bootChanged says whether the state of an earlier boot still says "running".
func (e *Engine) bootChanged(r *record) bool {
	s, err := e.loadState(r)
	return err == nil && s.running() && s.Boot != state.BootID()
}

// longestExit is how long a monitor may take to write how its container ended.
const longestExit = time.Minute

// awaitExit waits until the monitor of a container whose process is gone has
// written how it ended, which takes it a moment. One that cannot write it lives
// on until it is told that all was cleaned up, so the wait has an end.
func (e *Engine) awaitExit(ctx context.Context, r *record, s *runState) (*runState, error) {
	end := time.Now().Add(longestExit)
	for wait := 100 * time.Microsecond; !e.exited(r.ID); wait = min(2*wait, 10*time.Millisecond) {
		if time.Now().After(end) {
			s.ExitCode, s.Error = 255, "the container's monitor could not record its exit status"
			return s, nil
		}
		if !(state.ProcessID{Pid: s.Monitor, Start: s.MonitorStart}).Alive() && !e.exited(r.ID) {
			return e.state(r)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	return e.state(r)
}

// finish gives back what a run held and records its end.
func (e *Engine) finish(ctx context.Context, r *record, s *runState) error {
	s.Status, s.Pid = StatusExited, 0
	if s.FinishedAt.IsZero() || s.FinishedAt.Before(s.StartedAt) {
		s.FinishedAt = time.Now()
	}
	if s.Error != "" && s.ExitCode == 0 {
		s.ExitCode = 255
	}
	if fileExists(filepath.Join(e.containerRun(r.ID), monitor.OOMFile)) {
		s.OOMKilled = true
	}
	if err := e.giveBack(ctx, r, s); err != nil {
		return err
	}
	e.poststop(ctx, r)
	if err := e.podHosts(r, false); err != nil {
		e.warn("%v", err)
	}
	s.Cgroup, s.Networks, s.Monitor, s.MonitorStart = "", nil, 0, 0
	e.event(ctx, "container", "died", r, map[string]string{"containerExitCode": strconv.Itoa(s.ExitCode)})
	if r.Options.AutoRemove {
		if err := e.unbuild(ctx, r, true); err != nil {
			return err
		}
		e.event(ctx, "container", "remove", r, nil)
		if r.Options.AutoRemoveImage {
			e.removeImage(ctx, r)
		}
		return fmt.Errorf("container %s: %w", r.ID, ErrNotFound)
	}
	if err := e.saveState(r, s); noRoom(err) {
		// Nor is there room below RUN. The state that is there leads to the exit
		// record, so that the next command comes here again: one that removes must get on.
		e.warn("%v", err)
		return nil
	} else if err != nil {
		return err
	}
	if !r.transient {
		if err := e.clearRun(r); err != nil {
			return fmt.Errorf("remove run directory: %w", err)
		}
	}
	e.event(ctx, "container", "cleanup", r, nil)
	return nil
}

// clearRun removes what a run had below RUN, but for a state that found no room
// elsewhere. A state that says "running" goes first: while it is there, the exit
// record must be, which tells how that ended.
func (e *Engine) clearRun(r *record) error {
	dir := e.containerRun(r.ID)
	file := filepath.Join(dir, "state.json")
	kept, err := e.loadState(r)
	if err != nil || kept.running() || !fileExists(file) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, d := range entries {
		if d.Name() != filepath.Base(file) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, d.Name())))
		}
	}
	return errors.Join(errs...)
}

// group opens the cgroup of a state; nil when it has none or cannot be told.
func (e *Engine) group(s *runState) *cgroup.Group {
	if s.Cgroup == "" {
		return nil
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return nil
	}
	g, err := host.Open(s.Cgroup)
	if err != nil {
		return nil
	}
	return g.OfUnit(firstOf(g.Unit(), unitOf(s.Cgroup)))
}

// giveBack returns what a start took: addresses, ports, cgroup, the ends of
// volumes. It needs no more than the container's ID, and may be repeated.
func (e *Engine) giveBack(ctx context.Context, r *record, s *runState) error {
	var errs []error
	var networks beside
	if search := !s.running() && s.Networks == nil; r.Created.IsZero() || r.usesNetwork(e) {
		networks = begin(func() error { return e.leaveNetworks(ctx, r.ID, search) })
	}
	if err := e.foreignGone(ctx, r); err != nil {
		errs = append(errs, err)
	}
	if err := e.removeGroup(r, s); err != nil {
		errs = append(errs, err)
	}
	for i := range r.Mounts {
		if m := &r.Mounts[i]; m.Type == "volume" {
			if err := e.unmountVolume(ctx, m.Source, r); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, networks.wait())...)
}

// leaveNetworks gives back a container's addresses, devices and ports. search
// says that nobody wrote down where it has any.
func (e *Engine) leaveNetworks(ctx context.Context, id string, search bool) error {
	m, err := e.Networks()
	if err != nil {
		return err
	}
	return m.Teardown(ctx, network.TeardownOptions{ContainerID: id, Search: search})
}

// usesNetwork says whether starts call network.Setup.
func (r *record) usesNetwork(e *Engine) bool {
	switch word, _, _ := strings.Cut(r.networkMode(e), ":"); word {
	case "none", "host", "container", "ns":
		return false
	}
	return true
}

// removeGroup removes the container's cgroup, with whoever is left in it, and
// takes down what only it knows: whether the kernel killed for want of memory.
func (e *Engine) removeGroup(r *record, s *runState) error {
	path := s.Cgroup
	if path == "" {
		// A start that was cut off wrote nothing down: the path follows from
		// the ID.
		if path = e.cgroupPath(r); path == "" || r.Created.IsZero() && r.ID == "" {
			return nil
		}
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return err
	}
	g, err := host.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	g.OfUnit(firstOf(g.Unit(), unitOf(path)))
	if n, err := g.OOMKills(); err == nil && n > 0 {
		s.OOMKilled = true
	}
	// With a pid namespace its processes ended with the first. But a plan whose
	// monitor was killed goes on, and may enter the group only now.
	for range 3 {
		if pids, err := g.Pids(); err == nil && len(pids) > 0 {
			if err := g.Kill(); err != nil {
				return fmt.Errorf("remove cgroup: %w", err)
			}
		}
		if err = g.Remove(); err == nil {
			e.removePodsGroup(host, path)
			return nil
		}
	}
	return err
}

// removePodsGroup removes what was the group of a user's pod with its last
// member's: where it is depends on where it was made from.
func (e *Engine) removePodsGroup(host *cgroup.Host, member string) {
	if pod := filepath.Dir(member); e.o.Rootless && strings.HasPrefix(filepath.Base(pod), "hull-pod-") {
		if g, err := host.Open(pod); err == nil {
			g.RemoveEmpty()
		}
	}
}

// killLeft kills what of a container still runs, when no state says what.
func (e *Engine) killLeft(ctx context.Context, id string) {
	mon, pid := e.findRunning(id)
	if pid > 0 {
		unix.Kill(pid, unix.SIGKILL)
	}
	if mon.Pid == 0 {
		return
	}
	for end := time.Now().Add(2 * time.Second); mon.Alive() && time.Now().Before(end) && !e.exited(id); {
		time.Sleep(time.Millisecond)
	}
}

// findRunning asks the attach socket who the container's monitor is, and the
// kernel for its child.
func (e *Engine) findRunning(id string) (mon state.ProcessID, pid int) {
	dir := e.containerRun(id)
	if _, err := os.Lstat(filepath.Join(dir, monitor.AttachSocket)); err != nil {
		return mon, 0
	}
	c, err := monitor.Dial(dir, 0)
	if err != nil {
		return mon, 0
	}
	defer c.Close()
	peer, err := c.Peer()
	if err != nil {
		return mon, 0
	}
	if mon, err = state.IdentifyProcess(peer); err != nil {
		return state.ProcessID{}, 0
	}
	// Its plan may still be at work: that has one child more for a moment.
	for range 200 {
		f := children(mon.Pid)
		if len(f) == 1 {
			if n, err := strconv.Atoi(f[0]); err == nil {
				return mon, n
			}
		}
		if len(f) == 0 && (e.exited(id) || !mon.Alive()) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return mon, 0
}

// children are a process's, of all its threads.
func children(pid int) []string {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			out = append(out, strings.Fields(string(b))...)
		}
	}
	return out
}

// adopt finds a container that runs though no state says so: the command that
// started it was killed at that moment.
func (e *Engine) adopt(r *record, s *runState) (bool, error) {
	mon, pid := e.findRunning(r.ID)
	if pid == 0 {
		return false, nil
	}
	id, err := state.IdentifyProcess(pid)
	if err != nil {
		return false, nil
	}
	restarts := s.Restarts
	*s = runState{Status: StatusRunning, Pid: id.Pid, PidStart: id.Start, Monitor: mon.Pid, MonitorStart: mon.Start,
		StartedAt: time.Now(), Restarts: restarts, Started: true}
	s.Cgroup = e.cgroupText(r)
	if r.usesNetwork(e) {
		if m, err := e.Networks(); err == nil {
			if st, err := m.Container(r.ID); err == nil {
				s.Networks, s.Ports = st.Networks, st.Ports
			}
		}
	}
	return true, e.saveState(r, s)
}

func (e *Engine) cgroupText(r *record) string {
	path := e.cgroupPath(r)
	if path == "" {
		return ""
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return ""
	}
	g, err := host.Open(path)
	if err != nil {
		return ""
	}
	return g.String()
}

// newBoot is called when the run directory is not there: the machine has
// booted. What only a run holds is taken from the store.
func (e *Engine) newBoot(dir string) {
	if _, err := os.Stat(filepath.Join(e.imageRoot(), "snapshots")); err != nil {
		return
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return
	}
	all, err := snaps.List()
	if err != nil {
		return
	}
	for _, s := range all {
		if isHostPin(s.Name) {
			_ = snaps.Remove(context.Background(), s.Name) // its mount ended with the boot
			continue
		}
		if len(s.Name) != 64 || !isHex(s.Name) || e.exists(s.Name) {
			continue
		}
		if l, ok, err := state.TryAcquire(filepath.Join(e.locksDir(), "container-"+s.Name)); err == nil && ok {
			if !e.exists(s.Name) {
				_ = snaps.Remove(context.Background(), s.Name)
			}
			l.Remove()
		}
	}
}

// removeImage removes the image of a container of --rmi, unless it is used.
func (e *Engine) removeImage(ctx context.Context, r *record) {
	store, err := e.Images()
	if err == nil {
		all, rerr := e.records()
		for _, other := range all {
			if other.ImageID == r.ImageID {
				return
			}
		}
		if err = rerr; err == nil {
			// By its name: an image that has others keeps them.
			_, err = store.Remove(ctx, firstOf(r.ImageName, r.ImageID), image.RemoveOptions{})
		}
	}
	if err != nil {
		e.warn("remove image %s: %v", r.ImageName, err)
	}
}
