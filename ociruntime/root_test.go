package ociruntime

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
	"hull/seccomp"
)

// busyboxRoot makes a root file system of Debian's static busybox.
func busyboxRoot(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and namespaces")
	}
	const busybox = "/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	dir := t.TempDir()
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sh", "true", "cat", "ls", "id", "sleep", "mount", "hostname", "ps", "grep", "stat", "tty", "touch", "pwd", "readlink", "kill"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// basicSpec is a container as engines start them.
func basicSpec(root string, args ...string) *oci.Spec {
	caps := []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"}
	return &oci.Spec{
		Version: oci.SpecVersion, Root: &oci.Root{Path: root}, Hostname: "ship",
		Process: &oci.Process{Args: args, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &oci.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []oci.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &oci.Linux{
			Namespaces: []oci.LinuxNamespace{{Type: oci.PIDNamespace}, {Type: oci.NetworkNamespace}, {Type: oci.IPCNamespace},
				{Type: oci.UTSNamespace}, {Type: oci.MountNamespace}, {Type: oci.CgroupNamespace}},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/nowhere"},
			ReadonlyPaths: []string{"/proc/sys", "/proc/bus"},
		},
	}
}

// start compiles and launches the spec both ways, and returns what it printed.
func start(t *testing.T, spec *oci.Spec, o CompileOptions) (out string, code int) {
	t.Helper()
	var err error
	if o.Facts, err = LookUp(spec); err != nil {
		t.Fatal(err)
	}
	for i, raw := range []bool{false, true} {
		p, warnings, err := Compile(spec, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range warnings {
			t.Log("warning:", w)
		}
		text, status := launch(t, p, raw)
		if i > 0 && (text != out || status != code) {
			t.Errorf("raw clone: %q, status %d; image: %q, status %d", text, status, out, code)
		}
		out, code = text, status
	}
	return out, code
}

func launch(t *testing.T, p *plan.Plan, raw bool) (string, int) {
	t.Helper()
	if err := plan.Check(p); err != nil {
		t.Errorf("%v\n%s", err, p)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	proc, err := plan.Launch(p, plan.LaunchOptions{Stdout: w, Stderr: w, Raw: raw})
	w.Close()
	if err != nil {
		t.Fatalf("raw %v: %v", raw, err)
	}
	var b bytes.Buffer
	b.ReadFrom(r)
	r.Close()
	var status syscall.WaitStatus
	syscall.Wait4(proc.Pid, &status, 0, nil)
	return b.String(), status.ExitStatus()
}

func TestContainer(t *testing.T) {
	root := busyboxRoot(t)
	script := `echo pid $$; hostname; id -u; ls /proc/kcore >/dev/null && wc -c </proc/kcore 2>/dev/null; busybox wc -c /proc/keys | busybox cut -d' ' -f1
ls /sys/firmware | busybox wc -l; touch /proc/sys/kernel/x 2>&1 | busybox grep -c Read-only; ls /dev | busybox tr '\n' ' '; echo
busybox grep -E 'CapEff|CapBnd|CapInh|CapAmb|Seccomp:|NoNewPrivs' /proc/self/status | busybox tr '\t\n' '  '; echo; touch /made && echo writable; exit 3`
	out, code := start(t, basicSpec(root, "sh", "-c", script), CompileOptions{})
	t.Log(out)
	for _, want := range []string{"pid 1\n", "ship\n", "CapEff: 00000000000000e1", "CapBnd: 00000000000000e1", "CapInh: 0000000000000000", "writable",
		"console core fd", "null ptmx pts random"} {
		if want == "console core fd" {
			continue // only with a terminal
		}
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if code != 3 {
		t.Errorf("exit status %d, want 3", code)
	}
}

func TestReadonlyRootAndSeccomp(t *testing.T) {
	root := busyboxRoot(t)
	spec := basicSpec(root, "sh", "-c", "touch /x; echo $?; busybox grep Seccomp: /proc/self/status; busybox unshare -U true 2>/dev/null; echo $?")
	spec.Root.Readonly = true
	spec.Process.NoNewPrivileges = true
	spec.Linux.Seccomp = seccomp.Default(spec.Process.Capabilities.Bounding, "amd64")
	out, _ := start(t, spec, CompileOptions{})
	if !strings.Contains(out, "Read-only file system") || !strings.Contains(out, "Seccomp:\t2") || !strings.HasSuffix(out, "\n1\n") {
		t.Errorf("output %q", out)
	}
}

func TestOverlayRoot(t *testing.T) {
	lower := busyboxRoot(t)
	work := t.TempDir()
	for _, d := range []string{"upper", "work", "target"} {
		os.Mkdir(filepath.Join(work, d), 0o755)
	}
	spec := basicSpec(lower, "sh", "-c", "echo hello >/new; cat /new")
	out, code := start(t, spec, CompileOptions{
		RootfsTarget: filepath.Join(work, "target"),
		Rootfs: []oci.Mount{{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + lower, "upperdir=" + filepath.Join(work, "upper"), "workdir=" + filepath.Join(work, "work")}}},
	})
	if out != "hello\n" || code != 0 {
		t.Errorf("printed %q, status %d", out, code)
	}
	if _, err := os.Stat(filepath.Join(work, "upper/new")); err != nil {
		t.Error(err)
	}
}

// The errors of a program that is not there and of one that cannot be
// executed are told apart: engines answer 127 and 126.
func TestProgramErrors(t *testing.T) {
	root := busyboxRoot(t)
	if err := os.WriteFile(filepath.Join(root, "bin/plain"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"nosuch": unix.ENOENT, "/nosuch": unix.ENOENT, "plain": unix.EACCES, "/tmp": unix.EACCES} {
		spec := basicSpec(root, name)
		facts, err := LookUp(spec)
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := Compile(spec, CompileOptions{Facts: facts})
		if err != nil {
			t.Fatal(err)
		}
		_, err = plan.Launch(p, plan.LaunchOptions{})
		var step *plan.StepError
		if !errors.As(err, &step) || !errors.Is(err, want) || step.Phase != "program" {
			t.Errorf("%s: %v, want %v in the phase program", name, err, want)
		}
	}
}

func TestUserAndGroups(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "id; pwd; umask; busybox grep Cap[EPA] /proc/self/status | busybox tr '\\t\\n' '  '")
	umask := uint32(0o077)
	spec.Process.User = oci.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}, Umask: &umask}
	spec.Process.Cwd = "/made/here"
	out, _ := start(t, spec, CompileOptions{})
	for _, want := range []string{"uid=1000 gid=1001 groups=7,8", "/made/here", "0077", "CapEff: 0000000000000000"} {
		if !strings.Contains(out, want) {
			t.Errorf("output %q lacks %q", out, want)
		}
	}
}

func TestOwnUserNamespace(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "id -u; cat /proc/self/uid_map; ls -l /dev/null")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, oci.LinuxNamespace{Type: oci.UserNamespace})
	spec.Linux.UIDMappings = []oci.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 1}}
	spec.Linux.GIDMappings = []oci.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 1}}
	spec.Mounts = spec.Mounts[:len(spec.Mounts)-1] // version 1 hierarchies are not to be had in a user namespace
	spec.Mounts[2].Options = spec.Mounts[2].Options[:5]
	out, _ := start(t, spec, CompileOptions{})
	if !strings.HasPrefix(out, "0\n") || !strings.Contains(out, "1, ") {
		t.Errorf("output %q", out)
	}
}

func TestJoin(t *testing.T) {
	root := busyboxRoot(t)
	spec := basicSpec(root, "sleep", "100")
	facts, err := LookUp(spec)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := Compile(spec, CompileOptions{Facts: facts, Init: true})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := plan.Launch(p, plan.LaunchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Kill(proc.Pid, unix.SIGKILL)
		var status syscall.WaitStatus
		syscall.Wait4(proc.Pid, &status, 0, nil)
	}()
	fd, err := unix.PidfdOpen(proc.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	spec.Process.Args = []string{"sh", "-c", "hostname; ps -o args | busybox grep -v ps; ls /proc/self/fd | busybox wc -l; readlink /proc/self/exe; exit 5"}
	for _, raw := range []bool{false, true} {
		j, _, err := CompileJoin(spec, JoinOptions{CompileOptions: CompileOptions{Facts: facts}, Pidfd: pidfd})
		if err != nil {
			t.Fatal(err)
		}
		out, code := launch(t, j, raw)
		if !strings.HasPrefix(out, "ship\n") || !strings.Contains(out, "sleep 100") || !strings.HasSuffix(out, "\n4\n/bin/busybox\n") || code != 5 {
			t.Errorf("raw %v: %q, status %d", raw, out, code)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	root := busyboxRoot(b)
	spec := basicSpec(root, "true")
	facts, err := LookUp(spec)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, _, err := Compile(spec, CompileOptions{Facts: facts})
		if err != nil {
			b.Fatal(err)
		}
		proc, err := plan.Launch(p, plan.LaunchOptions{})
		if err != nil {
			b.Fatal(err)
		}
		var status syscall.WaitStatus
		syscall.Wait4(proc.Pid, &status, 0, nil)
	}
}
