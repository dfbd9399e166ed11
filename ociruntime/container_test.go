package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
)

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{"a": true, "A.b-c_d+9": true, "": false, ".": false, "..": false, "a/b": false, "a b": false, strings.Repeat("x", 1025): false} {
		if err := validID(id); (err == nil) != want {
			t.Errorf("validID(%q) = %v, want ok %v", id, err, want)
		}
	}
}

// CG-02: without a word in the configuration nothing but the default devices is allowed.
func TestCG02DeviceRules(t *testing.T) {
	rules := deviceRules(nil)
	if first := rules[0]; first.Allow || first.Access != "rwm" || first.Type != "" {
		t.Errorf("first rule %+v, want one that denies all", first)
	}
	for _, r := range rules[1:] {
		if r.Major == nil && r.Access != "m" {
			t.Errorf("rule %+v allows more than to make nodes", r)
		}
	}
	all := deviceRules([]oci.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}})
	if len(all) != 2 {
		t.Errorf("rules beside one that allows all: %+v", all)
	}
}

func TestMergeResources(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	old := &oci.LinuxResources{Memory: &oci.LinuxMemory{Limit: n(1), Swap: n(2)}, Pids: &oci.LinuxPids{Limit: n(3)}}
	got := merge(old, &oci.LinuxResources{Memory: &oci.LinuxMemory{Limit: n(5)}})
	if *got.Memory.Limit != 5 || *got.Memory.Swap != 2 || *got.Pids.Limit != 3 || *old.Memory.Limit != 1 {
		t.Errorf("merge = %+v, %+v", got.Memory, got.Pids)
	}
}

func TestSubgroups(t *testing.T) {
	if _, err := subgroups([]string{"/x/cgroup.procs"}, []string{".."}); err == nil || !strings.Contains(err.Error(), "is not a sub cgroup path") {
		t.Errorf("subgroups(..) = %v", err)
	}
	if _, err := subgroups([]string{"/sys/fs/cgroup/pids/x/cgroup.procs"}, []string{"nonsense:a"}); err == nil {
		t.Error("a controller that is not there was taken")
	}
}

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "bin"), 0o755)
	os.WriteFile(filepath.Join(dir, "bin/yes"), nil, 0o755)
	os.WriteFile(filepath.Join(dir, "bin/no"), nil, 0o644)
	os.Symlink("/bin/yes", filepath.Join(dir, "bin/link"))
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]error{
		"yes": nil, "/bin/yes": nil, "link": nil, "bin/yes": nil, "no": os.ErrPermission, "nothing": os.ErrNotExist, "/etc/passwd": os.ErrNotExist, "/bin": os.ErrPermission,
	} {
		err := findProgram(root, &oci.Process{Args: []string{name}, Env: []string{"PATH=/sbin:/bin"}, Cwd: "/"})
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("findProgram(%q) = %v, want %v", name, err, want)
		}
	}
}

// bundle makes a bundle that runs args; hooks and the rest may be changed.
func bundle(t *testing.T, change func(*oci.Spec), args ...string) (*Runtime, string) {
	t.Helper()
	dir := busyboxRoot(t)
	s := basicSpec(dir, args...)
	s.Linux.CgroupsPath = "/hull-oci-test/" + strings.ReplaceAll(t.Name(), "/", "-")
	if change != nil {
		change(s)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	b := t.TempDir()
	if err := os.WriteFile(filepath.Join(b, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &Runtime{Root: t.TempDir(), Warn: func(text string) { t.Log(text) }}
	t.Cleanup(func() {
		r.Delete(context.Background(), "c", true)
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/hull-oci-test")
		for _, g := range append(groups, "/sys/fs/cgroup/hull-oci-test") {
			unix.Rmdir(g) // when no other test is in it
		}
	})
	return r, b
}

func TestLife(t *testing.T) {
	r, b := bundle(t, nil, "sleep", "100")
	ctx := context.Background()
	pidFile := filepath.Join(t.TempDir(), "pid")
	if _, err := r.Create(ctx, "c", CreateOptions{Bundle: b, PidFile: pidFile}); err != nil {
		t.Fatal(err)
	}
	status := func(want string) {
		t.Helper()
		c, err := r.Load("c")
		if err != nil || c.Status() != want {
			t.Fatalf("Load: %v, %v; want %s", c.Status(), err, want)
		}
	}
	status("created")
	if _, err := r.Create(ctx, "c", CreateOptions{Bundle: b}); !errors.Is(err, ErrExist) {
		t.Errorf("second Create: %v", err)
	}
	if err := r.Delete(ctx, "c", false); err == nil {
		t.Error("a created container was deleted without force")
	}
	if err := r.Start(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	status("running")
	if err := r.Start(ctx, "c"); err == nil {
		t.Error("started twice")
	}
	if code, err := r.Exec(ctx, "c", ExecOptions{Process: &oci.Process{Args: []string{"sh", "-c", "exit 5"}, Cwd: "/", Env: []string{"PATH=/bin"}}}); code != 5 || err != nil {
		t.Errorf("Exec = %d, %v, want 5", code, err)
	}
	if _, err := r.Exec(ctx, "c", ExecOptions{Process: &oci.Process{Args: []string{"nosuch"}, Cwd: "/", Env: []string{"PATH=/bin"}}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Exec of no program: %v", err)
	}
	if err := r.Pause(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	status("paused")
	if err := r.Resume(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	limit := int64(40 << 20)
	if err := r.Update("c", &oci.LinuxResources{Memory: &oci.LinuxMemory{Limit: &limit}}); err != nil {
		t.Error(err)
	}
	if s, _, err := r.Stats("c"); err != nil || s.MemoryLimit != uint64(limit) {
		t.Errorf("Stats = %+v, %v", s, err)
	}
	if pids, err := r.Pids("c"); err != nil || len(pids) != 1 {
		t.Errorf("Pids = %v, %v", pids, err)
	}
	if err := r.Kill("c", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	c, _ := r.Load("c")
	reap(c.Init.Pid)
	status("stopped")
	if err := r.Kill("c", unix.SIGTERM, false); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Kill of a stopped container: %v", err)
	}
	if err := r.Delete(ctx, "c", false); err != nil {
		t.Error(err)
	}
	if _, err := r.Load("c"); !errors.Is(err, ErrNotExist) {
		t.Errorf("Load of a deleted container: %v", err)
	}
}

func TestRunCodes(t *testing.T) {
	for want, args := range map[int][]string{0: {"true"}, 7: {"sh", "-c", "exit 7"}, 128 + 15: {"sh", "-c", "trap - TERM; sleep 9 & sleep .1; exit 143"}} {
		r, b := bundle(t, nil, args...)
		if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != want || err != nil {
			t.Errorf("Run(%q) = %d, %v, want %d", args, code, err, want)
		}
		if all, _ := r.List(); len(all) != 0 {
			t.Errorf("left after Run: %v", all)
		}
	}
}

// All six kinds run, in the order of the specification, with the state on their input.
func TestHooks(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	inside := "/tmp/hooks"
	r, b := bundle(t, func(s *oci.Spec) {
		hook := func(name, file string) []oci.Hook {
			return []oci.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `read -r x; case $x in *'"id":"c"'*) echo ` + name + ` >>` + file + `;; esac`}, Env: []string{"PATH=/bin"}}}
		}
		s.Hooks = &oci.Hooks{
			Prestart: hook("prestart", log), CreateRuntime: hook("createRuntime", log), CreateContainer: hook("createContainer", log), //nolint:staticcheck // deprecated, still used
			StartContainer: hook("startContainer", inside), Poststart: hook("poststart", log), Poststop: hook("poststop", log),
		}
	}, "sh", "-c", "cat /tmp/hooks; test $(cat /tmp/hooks) = startContainer")
	if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
		t.Errorf("Run = %d, %v", code, err)
	}
	data, _ := os.ReadFile(log)
	want := []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"}
	if got := strings.Fields(string(data)); !slices.Equal(got, want) {
		t.Errorf("hooks ran: %v, want %v", got, want)
	}
}

func TestHookFailsAndTimesOut(t *testing.T) {
	second := 1
	for name, h := range map[string]oci.Hook{
		"exit status 3": {Path: "/bin/sh", Args: []string{"sh", "-c", "exit 3"}},
		"ran past":      {Path: "/bin/sleep", Args: []string{"sleep", "9"}, Timeout: &second},
	} {
		r, b := bundle(t, func(s *oci.Spec) { s.Hooks = &oci.Hooks{CreateRuntime: []oci.Hook{h}} }, "true")
		begin := time.Now()
		_, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b})
		if err == nil || !strings.Contains(err.Error(), name) || time.Since(begin) > 5*time.Second {
			t.Errorf("Create = %v after %v, want %q", err, time.Since(begin), name)
		}
		if _, err := os.Stat(filepath.Join(r.Root, "c")); err == nil {
			t.Error("the failed container's directory is left")
		}
	}
}
