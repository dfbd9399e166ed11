package ociruntime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hull/oci"
)

// A mount may have maps of its own, in a container without a user namespace as well.
func TestMountMaps(t *testing.T) {
	busyboxRoot(t)
	data := t.TempDir()
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(data, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(data, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ids := []oci.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 10}}
	mount := func(change func(*oci.Mount)) (int, error) {
		m := oci.Mount{Destination: "/data", Type: "bind", Source: data, Options: []string{"bind", "idmap"}, UIDMappings: ids, GIDMappings: ids}
		change(&m)
		r, b := bundle(t, func(s *oci.Spec) { s.Mounts = append(s.Mounts, m) }, "sh", "-c", "test $(stat -c %u:%g /data/file) = 5000:5000")
		return r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}})
	}
	if code, err := mount(func(*oci.Mount) {}); code != 0 || err != nil {
		t.Errorf("Run = %d, %v", code, err)
	}
	for want, change := range map[string]func(*oci.Mount){
		"alone":               func(m *oci.Mount) { m.GIDMappings = nil },
		"idmap needs":         func(m *oci.Mount) { m.UIDMappings, m.GIDMappings = nil, nil },
		"idmap is for bind":   func(m *oci.Mount) { m.Type, m.Options = "tmpfs", []string{"idmap"} },
		"make user namespace": func(m *oci.Mount) { m.UIDMappings = []oci.LinuxIDMapping{{Size: 0}} },
	} {
		if _, err := mount(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want an error with %q", err, want)
		}
	}
}

// A hook's environment is the one that is given and no other; a hook has more than no time.
func TestHookEnvironment(t *testing.T) {
	t.Setenv("OF_THE_RUNTIME", "1")
	log := filepath.Join(t.TempDir(), "log")
	r, b := bundle(t, func(s *oci.Spec) {
		hook := []oci.Hook{{Path: "/usr/bin/env", Args: []string{"env", "sh", "-c", "env | grep -v -e PWD -e SHLVL -e '^_' >>" + log}, Env: []string{"PATH=/bin:/usr/bin", "A=b c"}}}
		s.Hooks = &oci.Hooks{CreateRuntime: hook, CreateContainer: hook}
	}, "true")
	if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
		t.Fatalf("Run = %d, %v", code, err)
	}
	got, _ := os.ReadFile(log)
	if one := "A=b c\nPATH=/bin:/usr/bin\n"; strings.Count(string(got), "\n") != 4 || strings.Count(string(got), "A=b c\n") != 2 || strings.Contains(string(got), "OF_THE_RUNTIME") {
		t.Errorf("environment %q, want twice %q", got, one)
	}
	zero := 0
	r, b = bundle(t, func(s *oci.Spec) {
		s.Hooks = &oci.Hooks{CreateRuntime: []oci.Hook{{Path: "/bin/true", Timeout: &zero}}}
	}, "true")
	if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("Create with a timeout of 0 = %v", err)
	}
}

// Hooks that run in the container are ended when their time is over, too.
func TestHooksInsideTimeOut(t *testing.T) {
	second := 1
	for kind, set := range map[string]func(*oci.Hooks, []oci.Hook){
		"createContainer": func(h *oci.Hooks, l []oci.Hook) { h.CreateContainer = l },
		"startContainer":  func(h *oci.Hooks, l []oci.Hook) { h.StartContainer = l },
	} {
		r, b := bundle(t, func(s *oci.Spec) {
			s.Hooks = &oci.Hooks{}
			set(s.Hooks, []oci.Hook{{Path: "/bin/busybox", Args: []string{"sleep", "20"}, Timeout: &second}})
		}, "true")
		_, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}})
		if err == nil || !strings.Contains(err.Error(), "ran past") || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: Run = %v", kind, err)
		}
		if _, err := os.Stat(filepath.Join(r.Root, "c")); err == nil {
			t.Errorf("%s: the container's directory is left", kind)
		}
	}
}

// CPUs of one more process: first and for good.
func TestExecCPUAffinity(t *testing.T) {
	r, b := bundle(t, nil, "sleep", "100")
	ctx := context.Background()
	if _, err := r.Create(ctx, "c", CreateOptions{Bundle: b}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	run := func(a oci.CPUAffinity, script string) (int, error) {
		return r.Exec(ctx, "c", ExecOptions{Process: &oci.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}, ExecCPUAffinity: &a}})
	}
	for _, a := range []oci.CPUAffinity{{Final: "0"}, {Initial: "0"}, {Initial: "0-3", Final: "0"}} {
		if code, err := run(a, "grep -q 'Cpus_allowed_list:.0$' /proc/self/status"); code != 0 || err != nil {
			t.Errorf("%+v: Exec = %d, %v", a, code, err)
		}
	}
	for _, a := range []oci.CPUAffinity{{Final: "zero"}, {Initial: "3-1"}, {Final: "1000"}} {
		if _, err := run(a, "true"); err == nil {
			t.Errorf("%+v: Exec without an error", a)
		}
	}
}

// What the kernel would refuse or misread is refused before.
func TestScheduleRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*oci.Spec)
		want   string
	}{
		"I/O class":    {func(s *oci.Spec) { s.Process.IOPriority = &oci.LinuxIOPriority{Class: "IOPRIO_CLASS_NONE"} }, "IOPRIO_CLASS_NONE"},
		"I/O priority": {func(s *oci.Spec) { s.Process.IOPriority = &oci.LinuxIOPriority{Class: "IOPRIO_CLASS_BE", Priority: 8} }, "from 0 to 7"},
		"scheduler flag": {func(s *oci.Spec) {
			s.Process.Scheduler = &oci.Scheduler{Policy: "SCHED_OTHER", Flags: []specs.LinuxSchedulerFlag{"SCHED_FLAG_NAP"}}
		}, "SCHED_FLAG_NAP"},
		"memory mode": {func(s *oci.Spec) { s.Linux.MemoryPolicy = &oci.LinuxMemoryPolicy{Mode: "MPOL_FAR"} }, "MPOL_FAR"},
		"memory flag": {func(s *oci.Spec) {
			s.Linux.MemoryPolicy = &oci.LinuxMemoryPolicy{Mode: "MPOL_BIND", Nodes: "0", Flags: []specs.MemoryPolicyFlagType{"MPOL_F_X"}}
		}, "MPOL_F_X"},
		"memory nodes": {func(s *oci.Spec) { s.Linux.MemoryPolicy = &oci.LinuxMemoryPolicy{Mode: "MPOL_BIND", Nodes: "a"} }, "nodes"},
		"clock": {func(s *oci.Spec) {
			s.Linux.TimeOffsets = map[string]oci.LinuxTimeOffset{"realtime": {}}
			s.Linux.Namespaces = append(s.Linux.Namespaces, oci.LinuxNamespace{Type: oci.TimeNamespace})
		}, "realtime"},
		"recursive": {func(s *oci.Spec) {
			s.Mounts = append(s.Mounts, oci.Mount{Destination: "/x", Type: "bind", Source: "/y", Options: []string{"rbind", "rnothing"}})
		}, "rnothing"},
	} {
		spec := basicSpec("/nowhere", "true")
		c.change(spec)
		if _, _, err := Compile(spec, CompileOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Compile = %v, want an error with %q", name, err, c.want)
		}
	}
}

// What features says is known is what the runtime takes.
func TestFeaturesAreTaken(t *testing.T) {
	f := Features()
	for _, name := range f.MountOptions {
		o, err := parseMount(oci.Mount{Destination: "/x", Type: "bind", Source: "/y", Options: []string{"bind", name}})
		if err != nil || len(o.data) > 0 {
			t.Errorf("mount option %s: %v, %v", name, o.data, err)
		}
	}
	for _, mode := range f.Linux.MemoryPolicy.Modes {
		if _, err := memoryModes.lookup("mode", mode); err != nil {
			t.Error(err)
		}
	}
}

// tmpcopyup: what a new tmpfs covers is copied into it, owners and modes with it, links as
// they are and followed nowhere, also when the tmpfs is read-only; without, it is empty.
func TestCopyUp(t *testing.T) {
	setup := func(s *oci.Spec) {
		dir := filepath.Join(s.Root.Path, "srv")
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o750)
		os.Chmod(dir, 0o711)
		os.WriteFile(filepath.Join(dir, "a/file"), []byte("content"), 0o640)
		os.Chown(filepath.Join(dir, "a/file"), 7, 8)
		os.Chmod(filepath.Join(dir, "a/file"), 0o755|os.ModeSetuid)
		os.Symlink("/etc/passwd", filepath.Join(dir, "out"))
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)
	}
	for name, c := range map[string]struct {
		options []string
		script  string
	}{
		"copied":    {[]string{"tmpcopyup"}, "test $(cat /srv/a/file) = content && test $(stat -c %u:%g:%a /srv/a/file) = 7:8:4755 && test $(stat -c %a /srv) = 711 && test $(stat -c %a /srv/a/b) = 750 && test $(readlink /srv/out) = /etc/passwd && ! test -e /srv/pipe && touch /srv/new"},
		"mode":      {[]string{"tmpcopyup", "mode=1777"}, "test $(stat -c %a /srv) = 1777 && test -e /srv/a/file"},
		"read-only": {[]string{"tmpcopyup", "ro"}, "test -e /srv/a/file && ! touch /srv/new 2>/dev/null"},
		"empty":     {nil, "test $(ls /srv | busybox wc -l) = 0"},
	} {
		r, b := bundle(t, func(s *oci.Spec) {
			setup(s)
			s.Mounts = append(s.Mounts, oci.Mount{Destination: "/srv", Type: "tmpfs", Source: "tmpfs", Options: c.options},
				oci.Mount{Destination: "/new", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
		}, "sh", "-c", c.script)
		if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
			t.Errorf("%s: Run = %d, %v", name, code, err)
		}
	}
	// What is mounted on the tmpfs is not written to; files belong to a user namespace's ids.
	volume := t.TempDir()
	for _, userns := range []bool{false, true} {
		r, b := bundle(t, func(s *oci.Spec) {
			setup(s)
			os.WriteFile(filepath.Join(s.Root.Path, "srv/here"), nil, 0o600)
			if userns {
				for d := s.Root.Path; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
					os.Chmod(d, 0o755)
				}
				os.Chmod(filepath.Dir(volume), 0o755)
				withUserNS(s)
				filepath.WalkDir(s.Root.Path, func(p string, _ os.DirEntry, err error) error { return os.Lchown(p, 100000, 100000) })
			}
			s.Mounts = append(s.Mounts, oci.Mount{Destination: "/srv", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
				oci.Mount{Destination: "/srv/a", Type: "bind", Source: volume, Options: []string{"bind"}},
				oci.Mount{Destination: "/srv/here", Type: "bind", Source: "/etc/hostname", Options: []string{"bind", "ro"}})
		}, "sh", "-c", "test $(stat -c %u /srv/out) = 0 && test $(ls /srv/a | busybox wc -l) = 0 && test -s /srv/here")
		if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
			t.Errorf("user namespace %v: Run = %d, %v", userns, code, err)
		}
	}
	if left, _ := os.ReadDir(volume); len(left) > 0 {
		t.Errorf("%s was copied into a volume", left[0].Name())
	}
	r, b := bundle(t, func(s *oci.Spec) {
		setup(s)
		os.WriteFile(filepath.Join(s.Root.Path, "srv/large"), make([]byte, 1<<20), 0o600)
		s.Mounts = append(s.Mounts, oci.Mount{Destination: "/srv", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "size=64k"}})
	}, "true")
	if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), "copy what lies below /srv") {
		t.Errorf("Create with too small a tmpfs = %v", err)
	}
}
