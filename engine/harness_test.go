package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the program that a monitor executes at the end, and
// the command that the kill tests kill.
func TestMain(m *testing.M) {
	if i := argument("internal-cleanup"); i > 0 {
		os.Exit(asCommand(func(e *Engine) error { return e.Cleanup(context.Background(), os.Args[i+1]) }))
	}
	if i := argument("internal-health"); i > 0 {
		os.Exit(asCommand(func(e *Engine) error { return e.HealthLoop(context.Background(), os.Args[i+1]) }))
	}
	if i := argument("internal-runtime"); i > 0 {
		if err := ForeignStart(context.Background(), os.Args[i+1]); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if i := argument("internal-restore"); i > 0 {
		os.Exit(asCommand(func(e *Engine) error { return e.RestoreStart(context.Background(), os.Args[i+1]) }))
	}
	if i := argument("test-run"); i > 0 {
		os.Exit(asCommand(func(e *Engine) error { return testRun(e, os.Args[i+1]) }))
	}
	if i := argument("test-do"); i > 0 {
		os.Exit(asCommand(func(e *Engine) error { return testDo(e, os.Args[i+1], os.Args[i+2]) }))
	}
	code := m.Run()
	if monitorDir != "" {
		os.RemoveAll(monitorDir)
	}
	os.Exit(code)
}

func argument(word string) int {
	for i, a := range os.Args {
		if a == word {
			return i
		}
	}
	return 0
}

func asCommand(do func(e *Engine) error) int {
	var o Options
	for _, a := range os.Args[1:] {
		if v, ok := strings.CutPrefix(a, "--root="); ok {
			o.Root = v
		}
		if v, ok := strings.CutPrefix(a, "--runroot="); ok {
			o.RunRoot = v
		}
		if v, ok := strings.CutPrefix(a, "--libexec="); ok {
			o.LibexecDir = v
		}
	}
	o.GlobalArgs = os.Args[1:4]
	o.Warn = func(text string) { fmt.Fprintln(os.Stderr, "warning:", text) }
	e, err := Open(context.Background(), o)
	if err == nil {
		err = do(e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return max(ExitCode(err), 1)
	}
	return 0
}

// testRun runs the container that text, JSON, describes.
func testRun(e *Engine, text string) error {
	var o struct {
		CreateOptions
		Detach bool
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	r, err := e.Run(context.Background(), o.CreateOptions, RunOptions{Detach: o.Detach, Streams: Streams{Stdout: os.Stdout, Stderr: os.Stderr}})
	if err == nil && o.Detach {
		fmt.Println(r.ID)
	}
	if err == nil {
		os.Exit(r.Code)
	}
	return err
}

// testDo does one verb to a container.
func testDo(e *Engine, verb, name string) error {
	ctx := context.Background()
	switch verb {
	case "boot":
		names, err := e.Boot(ctx)
		fmt.Println(strings.Join(names, " "))
		return err
	case "states":
		all, err := e.records()
		for _, r := range all {
			s, serr := e.state(r)
			if serr != nil {
				return serr
			}
			fmt.Println(r.Name, s.Status, s.StartedAt.UnixNano())
		}
		return err
	case "start":
		return e.Start(ctx, name)
	case "exec-sleep":
		_, err := e.Exec(ctx, name, ExecOptions{Command: []string{"sleep", "77"}, Streams: Streams{Stdout: io.Discard, Stderr: io.Discard}})
		return err
	case "stop":
		return e.Stop(ctx, name, StopOptions{})
	case "rm":
		_, err := e.Remove(ctx, name, RemoveOptions{Force: true, Volumes: true})
		return err
	}
	return fmt.Errorf("no verb %q", verb)
}

var monitorDir string

// libexec builds the helpers once.
func libexec(t testing.TB) string {
	t.Helper()
	if monitorDir != "" {
		return monitorDir
	}
	dir, err := os.MkdirTemp("", "hull-libexec-")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir, "hull/cmd/hull-monitor", "hull/cmd/hull-net")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		t.Fatalf("build the helpers: %v\n%s", err, out)
	}
	monitorDir = dir
	return dir
}

// A harness is an engine with a store of its own, and a root file system.
type harness struct {
	testing.TB
	e      *Engine
	dir    string
	rootfs string
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and namespaces")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	h := &harness{TB: t, dir: t.TempDir()}
	h.rootfs = busyboxTree(t, filepath.Join(h.dir, "rootfs"))
	h.e = h.open()
	t.Cleanup(h.check)
	return h
}

func (h *harness) open() *Engine {
	h.Helper()
	o := Options{Root: filepath.Join(h.dir, "root"), RunRoot: filepath.Join(h.dir, "run"), LibexecDir: libexec(h), Warn: func(text string) { h.Logf("warning: %s", text) }}
	o.GlobalArgs = []string{"--root=" + o.Root, "--runroot=" + o.RunRoot, "--libexec=" + o.LibexecDir}
	e, err := Open(context.Background(), o)
	if err != nil {
		h.Fatal(err)
	}
	return e
}

func busyboxTree(t testing.TB, dir string) string {
	t.Helper()
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp", "root", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000:Sailor:/home/sailor:/bin/sh\n1000:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\n",
		"etc/group":  "root:x:0:\nsailor:x:1000:\ncrew:x:2000:sailor\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sh", "true", "false", "cat", "echo", "ls", "id", "sleep", "mount", "hostname", "ps", "grep", "stat", "tty", "touch", "pwd", "readlink", "kill", "sed", "env", "head", "yes", "printf", "stty", "wc", "ip", "nslookup", "mkdir", "rm", "ln", "dd", "sort", "mknod", "unshare"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// options of a container with the harness's root, under a layer that is thrown
// away, without a network.
func (h *harness) options(args ...string) CreateOptions {
	return CreateOptions{Rootfs: h.rootfs, RootfsOverlay: true, NetworkMode: "none", Command: args}
}

// run runs to the end and returns what was written.
func (h *harness) run(o CreateOptions) (code int, stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	r, err := h.e.Run(h.Context(), o, RunOptions{Streams: Streams{Stdout: &out, Stderr: &errs}})
	return r.Code, out.String(), errs.String(), err
}

// output runs a container of --rm, which must succeed.
func (h *harness) output(o CreateOptions) string {
	h.Helper()
	o.AutoRemove = true
	code, out, errs, err := h.run(o)
	if err != nil || code != 0 {
		h.Fatalf("run %q: exit code %d, error %v\n%s%s", o.Command, code, err, out, errs)
	}
	return out
}

// detached starts a container and returns its ID.
func (h *harness) detached(o CreateOptions) string {
	h.Helper()
	r, err := h.e.Run(h.Context(), o, RunOptions{Detach: true})
	if err != nil {
		h.Fatalf("run -d %q: %v", o.Command, err)
	}
	return r.ID
}

func (h *harness) status(id string) *runState {
	h.Helper()
	_, s, err := h.e.open(h.Context(), id)
	if err != nil {
		h.Fatalf("state of %s: %v", id, err)
	}
	return s
}

func (h *harness) exec(id string, args ...string) (code int, out string) {
	h.Helper()
	var b bytes.Buffer
	r, err := h.e.Exec(h.Context(), id, ExecOptions{Command: args, Streams: Streams{Stdout: &b, Stderr: &b}})
	if err != nil {
		h.Fatalf("exec %q: %v", args, err)
	}
	return r.Code, b.String()
}

// check removes all containers and looks for what they left.
func (h *harness) check() {
	ctx := context.Background()
	ids, err := h.e.containerIDs()
	if err != nil {
		h.Error(err)
	}
	zero := uint(0)
	for _, id := range ids {
		if _, err := h.e.Remove(ctx, id, RemoveOptions{Force: true, Volumes: true, Depend: true, Timeout: &zero}); err != nil && !strings.Contains(err.Error(), "no such") {
			h.Errorf("remove %s: %v", id, err)
		}
	}
	if err := h.e.Recover(ctx); err != nil {
		h.Error(err)
	}
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left = h.left(); len(left) == 0 {
			return
		}
	}
	h.Errorf("left behind:\n%s", strings.Join(left, "\n"))
}

// left are the mounts, processes, cgroups and files of the harness's store.
func (h *harness) left() []string {
	var left []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.dir) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		words := bytes.Split(b, []byte{0})
		if len(words) > 1 && string(words[0]) == "hull-monitor" {
			if cwd, err := os.Readlink(filepath.Dir(p) + "/cwd"); err == nil && strings.HasPrefix(cwd, h.dir) {
				left = append(left, "monitor "+p)
			}
		}
		if bytes.Contains(b, []byte(h.dir)) && bytes.Contains(b, []byte("internal-cleanup")) {
			left = append(left, "clean-up "+p)
		}
	}
	for _, dir := range []string{"run/containers", "root/containers", "run/locks", "run/container-names", "root/container-names", "root/id-ranges", "root/volumes"} {
		entries, _ := os.ReadDir(filepath.Join(h.dir, dir))
		for _, d := range entries {
			left = append(left, "file "+filepath.Join(dir, d.Name()))
		}
	}
	for _, pattern := range []string{"run/network/*/containers/*", "run/network/*/leases/*/*.*.*.*", "run/network/*/names/*/*", "root/snapshots/a/*"} {
		names, _ := filepath.Glob(filepath.Join(h.dir, pattern))
		for _, n := range names {
			left = append(left, "file "+n)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/hull/hull-*")
	for _, g := range groups {
		if h.made(filepath.Base(g)) {
			left = append(left, "cgroup "+g)
		}
	}
	return left
}

// made says whether a cgroup is of this harness: the event log has all IDs.
func (h *harness) made(group string) bool {
	b, _ := os.ReadFile(filepath.Join(h.dir, "run", "events"))
	return bytes.Contains(b, []byte(strings.TrimPrefix(group, "hull-")))
}

// eventually waits for a condition.
func (h *harness) eventually(what string, is func() bool) {
	h.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	h.Fatalf("never: %s", what)
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }
