package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestFindRuntime(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"kept", "inpath"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	e := &Engine{o: Options{Runtimes: map[string][]string{"named": {"/nonexistent", filepath.Join(dir, "kept")}}}}
	for name, want := range map[string]string{"": "", "hull": "", "named": filepath.Join(dir, "kept"), "inpath": filepath.Join(dir, "inpath"), filepath.Join(dir, "kept"): filepath.Join(dir, "kept")} {
		if got, err := e.findRuntime(name); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"none", filepath.Join(dir, "none")} {
		if _, err := e.findRuntime(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestForeignCode(t *testing.T) {
	for text, want := range map[string]int{
		`runc create: unable to start container process: exec: "x": executable file not found in $PATH`:                             127,
		"crun create: executable file `x` not found in $PATH: No such file or directory":                                            127,
		`runc create: exec: "/x": permission denied`:                                                                                126,
		"crun create: unknown version specified":                                                                                    125,
		`runsc start: starting container: starting sandbox: error finding executable "x" in PATH [/bin]: no such file or directory`: 127,
		"runsc start: starting container: starting sandbox: creating process: failed to load /etc/passwd: permission denied":        126,
	} {
		if got := foreignCode(&foreignFailure{text}); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// TestForeignRuntime takes containers of other runtimes from their start to their end: of those
// that are installed; runsc is gVisor's.
func TestForeignRuntime(t *testing.T) {
	for _, name := range []string{"runc", "runsc"} {
		t.Run(name, func(t *testing.T) { foreignLife(t, name) })
	}
}

func foreignLife(t *testing.T, name string) {
	h := newHarness(t)
	if _, err := h.e.findRuntime(name); err != nil {
		t.Skip(err)
	}
	h.e.o.Runtime = name
	if name == "runsc" {
		// It makes directories also for controllers that are not mounted, and leaves them.
		h.e.o.RuntimeFlags = []string{"ignore-cgroups"}
		t.Cleanup(h.e.resetRuntimes)
	}
	code, out, errs, err := h.run(CreateOptions{Rootfs: h.rootfs, RootfsOverlay: true, NetworkMode: "none", AutoRemove: true, Command: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}})
	if err != nil || code != 7 || out != "out\n" || errs != "err\n" {
		t.Fatalf("run: code %d, %q, %q, %v", code, out, errs, err)
	}
	o := h.options("nosuch")
	o.AutoRemove = true
	if _, _, _, err := h.run(o); ExitCode(err) != 127 {
		t.Errorf("a program that is not there: %d, %v", ExitCode(err), err)
	}
	// A runtime that fails before it makes the terminal is not waited for.
	o = h.options("true")
	o.AutoRemove, o.Terminal, o.Sysctls = true, true, []string{"net.ipv4.ip_local_port_range=nonsense"}
	if _, _, _, err := h.run(o); err == nil {
		t.Error("a sysctl that the kernel does not take: no error")
	}
	id := h.detached(h.options("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"))
	if code, out := h.exec(id, "sh", "-c", "echo in; exit 4"); code != 4 || out != "in\n" {
		t.Errorf("exec: %d, %q", code, out)
	}
	if code, out := h.exec(id, "nosuch"); code != 127 {
		t.Errorf("exec of a program that is not there: %d, %q", code, out)
	}
	ctx := h.Context()
	for _, step := range []func() error{
		func() error { return h.e.Pause(ctx, id) },
		func() error { return h.e.Unpause(ctx, id) },
		func() error { return h.e.Stop(ctx, id, StopOptions{}) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if s := h.status(id); s.ExitCode != 3 || s.Status != StatusExited {
		t.Errorf("stopped, it is %s with %d, want exited with its own 3", s.Status, s.ExitCode)
	}
	if err := h.e.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Remove(ctx, id, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.e.o.RunRoot, "runtimes", name, "*"+id+"*")); len(left) != 0 {
		t.Errorf("%s still knows %v", name, left)
	}
}
