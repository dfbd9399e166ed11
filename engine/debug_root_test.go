package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scratch is a root with one static program: it sleeps, or fails.
func (h *harness) scratch() string {
	h.Helper()
	dir := filepath.Join(h.dir, "scratch")
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.Fatal(err)
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		h.Fatal(err)
	}
	for _, name := range []string{"sleep", "false"} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			h.Fatal(err)
		}
	}
	return dir
}

// A container without a shell is looked into while it runs, when it has
// stopped, and while it crashes again and again.
func TestDebug(t *testing.T) {
	h := newHarness(t)
	root := h.scratch()
	options := func(args ...string) CreateOptions {
		return CreateOptions{Rootfs: root, RootfsOverlay: true, NetworkMode: "none", Command: args}
	}
	up := h.detached(options("/sleep", "1000"))
	down, _, _, err := h.run(options("/false"))
	if err != nil || down != 1 {
		t.Fatalf("run /false = %d, %v", down, err)
	}
	all, err := h.e.List(t.Context(), ListOptions{Last: 1})
	if err != nil || len(all) != 1 {
		t.Fatalf("list: %v, %v", all, err)
	}
	o := options("/false")
	o.Restart = "always"
	loop := h.detached(o)
	h.eventually("restarts", func() bool { return h.status(loop).Restarts > 0 })

	debug := func(id string, d DebugOptions, script string) string {
		t.Helper()
		var out bytes.Buffer
		d.Command = []string{"sh", "-c", script}
		d.Streams = Streams{Stdout: &out, Stderr: &out}
		r, err := h.e.Debug(t.Context(), id, d)
		if err != nil || r.Code != 0 {
			t.Fatalf("debug: exit code %d, %v\n%s", r.Code, err, out.String())
		}
		return out.String()
	}
	const script = "ps; ls /container/; touch /container/new"
	for name, id := range map[string]string{"stopped": all[0].ID, "crashing": loop} {
		if out := debug(id, DebugOptions{}, script+"; chroot /container /false || echo ran"); !strings.Contains(out, "sleep") || !strings.Contains(out, "ran") {
			t.Errorf("%s:\n%s", name, out)
		}
		if out := debug(id, DebugOptions{}, "ls /container/"); strings.Contains(out, "new") {
			t.Errorf("%s: what a shell wrote is there:\n%s", name, out)
		}
	}
	if out := debug(up, DebugOptions{}, script); !strings.Contains(out, "/sleep 1000") || !strings.Contains(out, "false") {
		t.Errorf("running:\n%s", out)
	}
	if out := debug(up, DebugOptions{Apart: true}, "ps; ls /container/"); strings.Contains(out, "/sleep 1000") || !strings.Contains(out, "new") {
		t.Errorf("running, apart:\n%s", out)
	}
	if left, _ := os.ReadDir(filepath.Join(h.dir, "root/debug")); len(left) > 0 {
		t.Errorf("views left behind: %v", left)
	}
	if s := h.status(up); s.Status != StatusRunning {
		t.Errorf("the container is %s", s.Status)
	}
}

// A container that ends while somebody looks into it takes the shell along, and
// goes itself with --rm.
func TestDebugOfOneThatEnds(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.AutoRemove = true
	id := h.detached(o)
	done := make(chan error, 1)
	go func() {
		_, err := h.e.Debug(t.Context(), id, DebugOptions{Command: []string{"sleep", "1000"}})
		done <- err
	}()
	h.eventually("the shell", func() bool {
		all, _ := h.e.List(t.Context(), ListOptions{Filters: Filters{"label": {"hull.debug=" + id}}})
		return len(all) == 1
	})
	zero := uint(0)
	if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the shell goes on")
	}
	h.eventually("both are gone", func() bool { ids, _ := h.e.containerIDs(); return len(ids) == 0 })
}

func TestShell(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	if shell, err := h.e.Shell(t.Context(), id, ""); err != nil || shell != "/bin/sh" {
		t.Errorf("Shell = %q, %v", shell, err)
	}
	root := h.scratch()
	id = h.detached(CreateOptions{Rootfs: root, RootfsOverlay: true, NetworkMode: "none", Command: []string{"/sleep", "1000"}})
	if shell, err := h.e.Shell(t.Context(), id, ""); err == nil {
		t.Errorf("Shell of one without = %q", shell)
	}
}
