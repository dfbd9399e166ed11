package engine

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// reboot takes away what a boot takes away: processes, cgroups, mounts and the
// run directory.
func (h *harness) reboot() {
	h.Helper()
	all, err := h.e.records()
	if err != nil {
		h.Fatal(err)
	}
	for _, r := range all {
		s := h.status(r.ID)
		if !s.running() {
			continue
		}
		mon := state.ProcessID{Pid: s.Monitor, Start: s.MonitorStart}
		unix.Kill(s.Monitor, unix.SIGKILL)
		unix.Kill(s.Pid, unix.SIGKILL)
		h.eventually("the processes are gone", func() bool { return !mon.Alive() && !s.process().Alive() })
		if g := h.e.group(s); g != nil {
			h.eventually("the cgroup is gone", func() bool { return g.Remove() == nil })
		}
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.Fatal(err)
	}
	for _, l := range slices.Backward(strings.Split(string(info), "\n")) {
		if f := strings.Fields(l); len(f) > 4 && strings.HasPrefix(f[4], h.dir+"/") {
			unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(h.e.o.RunRoot); err != nil {
		h.Fatal(err)
	}
	h.e = h.open()
}

func TestBootStartsByPolicyOnceInOrder(t *testing.T) {
	h := newHarness(t)
	sleeper := func(name, policy string, requires ...string) CreateOptions {
		o := h.options("sleep", "1000")
		o.Name, o.Restart, o.Requires = name, policy, requires
		return o
	}
	needed := h.detached(sleeper("needed", ""))
	// Made before what it needs would be by name: the order is not that of creation.
	always := h.detached(sleeper("always", "always", "needed"))
	unless := h.detached(sleeper("unless", "unless-stopped", "always"))
	no := h.detached(sleeper("no", "no"))
	failure := h.detached(sleeper("failure", "on-failure"))
	stopped := h.detached(sleeper("stopped", "unless-stopped"))
	again := h.detached(sleeper("again", "unless-stopped"))
	alwaysStopped := h.detached(sleeper("always-stopped", "always"))
	zero := uint(0)
	for _, id := range []string{stopped, again, alwaysStopped} {
		if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.e.Start(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	h.reboot()
	started, err := h.e.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(started)
	if want := []string{"again", "always", "always-stopped", "unless"}; !slices.Equal(started, want) {
		t.Errorf("started %v, want %v", started, want)
	}
	for id, running := range map[string]bool{
		needed: true, always: true, unless: true, no: false, failure: false, stopped: false, again: true, alwaysStopped: true,
	} {
		if s := h.status(id); s.running() != running {
			t.Errorf("container %.12s is %s", id, s.Status)
		}
	}
	if a, n := h.status(always), h.status(needed); a.StartedAt.Before(n.StartedAt) {
		t.Error("always was started before what it needs")
	}
	if err := h.e.Stop(t.Context(), always, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if started, err := h.e.Boot(t.Context()); err != nil || len(started) > 0 {
		t.Errorf("a second time: started %v, %v", started, err)
	}
}

func TestShutdownIsNoUsersStop(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.Name, o.Restart = "c", "unless-stopped"
	id := h.detached(o)
	o.Name, o.Restart = "other", ""
	other := h.detached(o)
	zero := uint(0)
	stopped, err := h.e.Shutdown(t.Context(), StopOptions{Timeout: &zero})
	if err != nil || !slices.Equal(stopped, []string{"c"}) {
		t.Errorf("stopped %v, %v", stopped, err)
	}
	time.Sleep(300 * time.Millisecond) // longer than the first back-off
	if s := h.status(id); s.running() {
		t.Error("it was started again by its policy")
	}
	if s := h.status(other); !s.running() {
		t.Error("a container without a policy was stopped")
	}
	h.reboot()
	if started, err := h.e.Boot(t.Context()); err != nil || !slices.Equal(started, []string{"c"}) {
		t.Errorf("after the boot: started %v, %v", started, err)
	}
	if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	h.reboot()
	if started, err := h.e.Boot(t.Context()); err != nil || len(started) > 0 {
		t.Errorf("after a user's stop: started %v, %v", started, err)
	}
}
