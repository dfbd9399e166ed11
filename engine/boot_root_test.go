package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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
	h.powerOff()
	if err := os.RemoveAll(h.e.o.RunRoot); err != nil {
		h.Fatal(err)
	}
	h.e = h.open()
}

// powerOff is reboot without the run directory, which may lie on a disk.
func (h *harness) powerOff() {
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
}

// inBoot does a verb in a process to which the kernel tells another boot.
func (h *harness) inBoot(id, verb, name string) string {
	h.Helper()
	file := filepath.Join(h.dir, "boot_id")
	if err := os.WriteFile(file, []byte(id+"\n"), 0o644); err != nil {
		h.Fatal(err)
	}
	c := exec.Command("unshare", append([]string{"-m", "sh", "-c", `mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"`, "sh", file, os.Args[0]},
		append(slices.Clone(h.e.o.GlobalArgs), "test-do", verb, name)...)...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		h.Fatalf("%s %s in boot %s: %v: %s", verb, name, id, err, errs.String())
	}
	return string(out)
}

// A bootCase is a container before a reboot, and whether it runs after it.
type bootCase struct {
	policy  string
	stopped bool
	runs    bool
	needs   string
}

// bootCases are made under the names c0, c1…
var bootCases = []bootCase{
	{"no", false, false, ""}, {"no", true, false, ""}, {"", false, false, ""}, {"on-failure", false, false, ""}, {"on-failure:3", false, false, ""},
	{"on-failure", true, false, ""}, {"always", false, true, ""}, {"always", false, true, ""}, {"always", true, true, ""}, {"unless-stopped", false, true, ""},
	{"unless-stopped", false, true, ""}, {"unless-stopped", true, false, ""}, {"", false, true, ""}, {"always", false, true, "c12"}, {"always", false, true, "c13"},
	{"unless-stopped", true, false, "c13"}, {"", false, true, ""}, {"unless-stopped", false, true, "c16"}, {"no", false, false, "c6"}, {"always", true, true, "c6"},
}

// TestF16F17Reboot: the boot ID tells a reboot, also where the run directory
// outlives it, and policies start what they must, once and in order.
func TestF16F17Reboot(t *testing.T) {
	t.Run("run directory emptied", func(t *testing.T) { testReboot(t, false) })
	t.Run("run directory kept", func(t *testing.T) { testReboot(t, true) })
}

func testReboot(t *testing.T, kept bool) {
	h := newHarness(t)
	zero := uint(0)
	for i, c := range bootCases {
		o := h.options("sleep", "1000")
		o.Name, o.Restart = "c"+strconv.Itoa(i), c.policy
		if c.needs != "" {
			o.Requires = []string{c.needs}
		}
		id := h.detached(o)
		if c.stopped {
			if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.powerOff()
	if !kept {
		if err := os.RemoveAll(h.e.o.RunRoot); err != nil {
			t.Fatal(err)
		}
	}
	const boot = "11111111-2222-3333-4444-555555555555"
	for line := range strings.Lines(h.inBoot(boot, "states", "x")) {
		if f := strings.Fields(line); f[1] != string(StatusExited) {
			t.Errorf("before hull boot: %s", line)
		}
	}
	h.inBoot(boot, "boot", "x")
	if again := strings.TrimSpace(h.inBoot(boot, "boot", "x")); again != "" {
		t.Errorf("a second time: started %s", again)
	}
	began := map[string]string{}
	for line := range strings.Lines(h.inBoot(boot, "states", "x")) {
		f := strings.Fields(line)
		i, _ := strconv.Atoi(f[0][1:])
		if began[f[0]] = f[2]; (f[1] == string(StatusRunning)) != bootCases[i].runs {
			t.Errorf("after hull boot: %s", line)
		}
	}
	if began["c12"] > began["c13"] || began["c13"] > began["c14"] || began["c16"] > began["c17"] {
		t.Errorf("not in order: %v", began)
	}
	for i := range bootCases {
		h.inBoot(boot, "rm", "c"+strconv.Itoa(len(bootCases)-1-i))
	}
}

// TestF18RunDirectoryDeleted: who deletes it under a running container is told
// the truth, and can stop it.
func TestF18RunDirectoryDeleted(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	s := h.status(id)
	if err := os.RemoveAll(h.e.o.RunRoot); err != nil {
		t.Fatal(err)
	}
	h.e = h.open()
	if now := h.status(id); !now.running() || now.Pid != s.Pid || now.Monitor != s.Monitor {
		t.Fatalf("it is %s with process %d, want process %d", now.Status, now.Pid, s.Pid)
	}
	if code, out := h.exec(id, "echo", "here"); code != 0 || !strings.Contains(out, "here") {
		t.Errorf("exec = %d, %q", code, out)
	}
	zero := uint(0)
	if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	h.eventually("its end is known", func() bool { return h.status(id).Status == StatusExited })
	if now := h.status(id); now.ExitCode != 137 {
		t.Errorf("exit code %d", now.ExitCode)
	}
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

// A reboot of user space ends every process and keeps the run directory.
func TestBootRemovesWhatWasToBeRemoved(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.AutoRemove = true
	h.detached(o)
	o.Name, o.AutoRemove, o.Restart = "kept", false, "always"
	h.detached(o)
	h.powerOff()
	h.e = h.open()
	if started, err := h.e.Boot(t.Context()); err != nil || !slices.Equal(started, []string{"kept"}) {
		t.Errorf("started %v, %v", started, err)
	}
	if all, err := h.e.records(); err != nil || len(all) != 1 {
		t.Errorf("%d containers, want the one that is kept; %v", len(all), err)
	}
}
