package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// races is how often a race is tried: as often as the list of tests asks when
// HULL_RACES is full (make races), else so often that the test is short.
func races(short, full int) int {
	if os.Getenv("HULL_RACES") == "full" {
		return full
	}
	return short
}

// exchange swaps two names again and again until stop is called.
func exchange(a, b string) (stop func()) {
	end, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	}()
	return func() { close(end); <-done }
}

// maskedBelow lists what is mounted below the procfs of a process, without ids.
func maskedBelow(t *testing.T, pid int) []string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	procfs := ""
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if slices.Contains(f[6:], "proc") && f[3] == "/" && strings.Contains(line, " - proc ") {
			procfs = f[0]
			break
		}
	}
	if procfs == "" {
		return []string{"no procfs"}
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if f[1] == procfs {
			i := strings.LastIndex(f[4], "/")
			out = append(out, f[4][i:]+" "+f[3]+" "+strings.Split(f[5], ",")[0])
		}
	}
	slices.Sort(out)
	return out
}

// RT-06, RT-13: /proc of a root that is shared with an attacker changes place
// while others start: what they have is masked, and what the engine writes
// does not arrive elsewhere.
func TestRT06ProcMovesMeanwhile(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	options := func() CreateOptions {
		o := h.options("sleep", "1000")
		o.RootfsOverlay, o.Sysctls = false, []string{"net.ipv4.ip_forward=1"}
		return o
	}
	zero := uint(0)
	remove := func(id string) {
		if _, err := h.e.Remove(t.Context(), id, RemoveOptions{Force: true, Timeout: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	id := h.detached(options())
	want := maskedBelow(t, h.status(id).Pid)
	remove(id)
	if len(want) < 8 {
		t.Fatalf("a quiet start masks %q", want)
	}
	fake := filepath.Join(h.rootfs, "fake")
	for _, dir := range []string{"/self/attr", "/sys/net/ipv4", "/thread-self"} {
		if err := os.MkdirAll(fake+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"/self/attr/exec", "/sys/net/ipv4/ip_forward", "/self/oom_score_adj", "/sysrq-trigger", "/kcore"} {
		if err := os.Symlink(c.file, fake+file); err != nil {
			t.Fatal(err)
		}
	}
	host, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	stop := exchange(filepath.Join(h.rootfs, "proc"), fake)
	defer stop()
	started := 0
	for range races(40, 2000) {
		r, err := h.e.Run(t.Context(), options(), RunOptions{Detach: true})
		if err != nil {
			continue
		}
		started++
		if got := maskedBelow(t, h.status(r.ID).Pid); !slices.Equal(got, want) {
			t.Fatalf("below /proc is mounted\n%q, want\n%q", got, want)
		}
		remove(r.ID)
	}
	t.Logf("%d starts succeeded", started)
	c.check(t, "race", true)
	if now, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); !bytes.Equal(now, host) {
		t.Errorf("the host's setting was %q, is %q", host, now)
	}
}

// RT-10: places that are missing are made while their directory becomes a link
// to the host.
func TestRT10MissingPlaces(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	src := filepath.Join(h.dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(h.rootfs, "a"), filepath.Join(h.rootfs, "b")
	if err := os.Mkdir(a, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(c.dir, b); err != nil {
		t.Fatal(err)
	}
	before := h.mountCount()
	stop := exchange(a, b)
	defer stop()
	started := 0
	for i := range races(60, 5000) {
		o := h.options("true")
		o.RootfsOverlay, o.AutoRemove = false, true
		o.Mounts = []Mount{{Type: "bind", Source: src, Destination: fmt.Sprintf("/a/new%d/deep", i%7)}, {Type: "tmpfs", Destination: fmt.Sprintf("/a/tmp%d", i%5)}}
		if code, _, _, err := h.run(o); err == nil && code == 0 {
			started++
		}
	}
	t.Logf("%d starts succeeded", started)
	c.check(t, "race", false)
	if after := h.mountCount(); after != before {
		t.Errorf("the host has %d mounts, had %d", after, before)
	}
}

func (h *harness) mountCount() int {
	h.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.Fatal(err)
	}
	return strings.Count(string(data), h.dir)
}

// RT-12: the same while the terminal's place becomes a link.
func TestRT12ConsoleMovesMeanwhile(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	fake := filepath.Join(h.rootfs, "fakedev")
	if err := os.MkdirAll(fake+"/pts", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/pts/ptmx", "/console", "/null", "/ptmx"} {
		if err := os.Symlink(c.file, fake+file); err != nil {
			t.Fatal(err)
		}
	}
	stop := exchange(filepath.Join(h.rootfs, "dev"), fake)
	defer stop()
	for range races(40, 2000) {
		o := h.options("sh", "-c", "tty; stat -L -c %t /proc/self/fd/0")
		o.RootfsOverlay, o.AutoRemove, o.Terminal = false, true, true
		if _, out, _, err := h.run(o); err == nil && !strings.HasSuffix(strings.TrimSpace(out), "88") {
			t.Fatalf("the terminal is %q", out)
		}
	}
	c.check(t, "race", true)
}

// VOL-04: what is in a volume changes place with a link to the host while it is
// exported, filled and counted.
func TestVOL04VolumeChangesMeanwhile(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	if err := os.WriteFile(filepath.Join(c.dir, "secret"), []byte("do not export"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.before = c.list()
	if _, err := h.e.VolumeCreate(t.Context(), VolumeCreateOptions{Name: "v"}); err != nil {
		t.Fatal(err)
	}
	v, err := h.e.VolumeInspect(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(v.Mountpoint, "a"), filepath.Join(v.Mountpoint, "b")
	if err := os.Mkdir(a, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a, "mine"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := h.e.VolumeExport(t.Context(), "v", &archive); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(c.dir, b); err != nil {
		t.Fatal(err)
	}
	stop := exchange(a, b)
	defer func() { stop() }()
	for range races(100, 5000) {
		var out bytes.Buffer
		if err := h.e.VolumeExport(t.Context(), "v", &out); err == nil && bytes.Contains(out.Bytes(), []byte("do not export")) {
			t.Fatal("the host's file is in the archive")
		}
		h.e.VolumeImport(t.Context(), "v", bytes.NewReader(archive.Bytes()))
		h.e.DiskUsage(t.Context())
	}
	stop()
	stop = func() {}
	c.check(t, "race", false)
	if _, err := h.e.VolumeRemove(t.Context(), "v", true, nil); err != nil {
		t.Error(err)
	}
	c.check(t, "removal", false)
}
