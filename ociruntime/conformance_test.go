package ociruntime

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// A masked file reads as an empty one, as with the peers, and is not to be written.
func TestMaskedFileReads(t *testing.T) {
	root := busyboxRoot(t)
	if err := os.WriteFile(filepath.Join(root, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := basicSpec(root, "sh", "-c", "busybox wc -c </secret; echo x >/secret; busybox rm /secret")
	spec.Linux.MaskedPaths = append(spec.Linux.MaskedPaths, "/secret")
	out, code := start(t, spec, CompileOptions{})
	if !strings.HasPrefix(out, "0\n") || strings.Count(out, "Read-only file system")+strings.Count(out, "ermission denied")+strings.Count(out, "busy") != 2 || code == 0 {
		t.Errorf("output %q, code %d", out, code)
	}
}

// A read-only /dev has its devices, and nothing more can be put into it.
func TestReadOnlyDev(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "echo x >/dev/null && touch /dev/shm/y && ! touch /dev/z")
	spec.Mounts[1].Options = append(spec.Mounts[1].Options, "ro")
	spec.Linux.Devices = []oci.LinuxDevice{{Path: "/dev/pipe", Type: "p"}}
	out, code := start(t, spec, CompileOptions{})
	if code != 0 || !strings.Contains(out, "Read-only file system") {
		t.Errorf("output %q, code %d", out, code)
	}
}

// The working directory may be one that only the container's root of before reaches, or none.
func TestWorkingDirectoryOfOthers(t *testing.T) {
	root := busyboxRoot(t)
	if err := os.Mkdir(filepath.Join(root, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(root, "home"), 42, 42); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []uint32{0, 42, 43} { // none of them has CAP_DAC_OVERRIDE
		spec := basicSpec(root, "sh", "-c", "pwd")
		spec.Process.Cwd, spec.Process.User.UID = "/home", uid
		if out, code := start(t, spec, CompileOptions{}); out != "/home\n" || code != 0 {
			t.Errorf("user %d: output %q, code %d", uid, out, code)
		}
	}
	r, b := bundle(t, func(s *oci.Spec) { s.Process.Cwd = "/bin/busybox" }, "true")
	if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), "working directory") {
		t.Errorf("Create with a file as working directory: %v", err)
	}
}

// CVE-2019-19921: without pivot_root a user namespace in the container cannot mount proc
// anew, since the host's, which is not masked, does not stand in the mount namespace.
func TestNoPivotHidesProc(t *testing.T) {
	r, b := bundle(t, func(s *oci.Spec) {
		caps := s.Process.Capabilities
		caps.Bounding = append(caps.Bounding, "CAP_SETFCAP")
		caps.Permitted, caps.Effective = caps.Bounding, caps.Bounding
	}, "/bin/busybox", "unshare", "-mrpf", "sh", "-c", "mount -t proc none /proc")
	for _, noPivot := range []bool{true, false} {
		code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b, NoPivot: noPivot}})
		if code == 0 || err != nil {
			t.Errorf("no pivot %v: Run = %d, %v: proc was mounted without masks", noPivot, code, err)
		}
	}
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Error("the host's /proc is gone:", err)
	}
}

// CVE-2019-19921: an image whose /proc is a link is refused in the words that are looked for.
func TestProcIsALink(t *testing.T) {
	r, b := bundle(t, func(s *oci.Spec) {
		os.Remove(filepath.Join(s.Root.Path, "proc"))
		os.Symlink("/tmp", filepath.Join(s.Root.Path, "proc"))
	}, "true")
	if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), "must be mounted on ordinary directory") {
		t.Errorf("Create = %v", err)
	}
}

// RT-16: standard input, output and error are given to the program's user where they are
// pipes; what else the caller passes, such as a device of the host, stays as it is.
func TestRT16OnlyPipesAreGiven(t *testing.T) {
	root := busyboxRoot(t)
	node := filepath.Join(t.TempDir(), "null")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	spec := basicSpec(root, "true")
	spec.Process.User.UID = 1000
	p, _, err := Compile(spec, CompileOptions{ChownStdio: true})
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	proc, err := plan.Launch(p, plan.LaunchOptions{Stdin: device, Stdout: w, Stderr: device})
	if err != nil {
		t.Fatal(err)
	}
	wait(proc.Pid)
	owner := func(f *os.File) uint32 {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return st.Uid
	}
	if got := owner(device); got != 0 {
		t.Errorf("the device belongs to %d, want 0", got)
	}
	if got := owner(w); got != 1000 {
		t.Errorf("the pipe belongs to %d, want 1000", got)
	}
}

// A user namespace shows the container its cgroups as well, with a cgroup namespace or without.
func TestCgroupsInUserNamespace(t *testing.T) {
	for _, own := range []bool{true, false} {
		r, b := bundle(t, func(s *oci.Spec) {
			for d := s.Root.Path; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				os.Chmod(d, 0o755) // open to the container's ids
			}
			withUserNS(s)
			if !own {
				s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == oci.CgroupNamespace })
			}
		}, "sh", "-c", "cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/tasks 2>/dev/null | busybox grep -qx 1")
		if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
			t.Errorf("own cgroup namespace %v: Run = %d, %v", own, code, err)
		}
	}
}

// A configuration may have no process until start, which then is an error that changes nothing.
func TestCreateWithoutProcess(t *testing.T) {
	ctx := context.Background()
	r, b := bundle(t, func(s *oci.Spec) { s.Process = nil })
	if _, err := r.Run(ctx, "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); err == nil {
		t.Error("Run without a process: no error")
	}
	c, err := r.Create(ctx, "c", CreateOptions{Bundle: b})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx, "c"); err == nil || c.Status() != "created" {
		t.Errorf("Start = %v, container is %s, want created", err, c.Status())
	}
	if code, err := r.Exec(ctx, "c", ExecOptions{Process: &oci.Process{Args: []string{"true"}, Cwd: "/", Env: []string{"PATH=/bin"}}}); code != 0 || err != nil {
		t.Errorf("Exec = %d, %v", code, err)
	}
	if err := r.Delete(ctx, "c", true); err != nil {
		t.Error(err)
	}
}

// A program that is there and cannot be executed is an error of start, when no more can be
// said at create; one that fails by itself is none.
func TestStartOfWhatCannotBeExecuted(t *testing.T) {
	for script, want := range map[string]bool{"#!/nonexistent/interpreter\n": false, "#!/bin/sh\nexit 255\n": true} {
		r, b := bundle(t, func(s *oci.Spec) {
			os.WriteFile(filepath.Join(s.Root.Path, "bin/program"), []byte(script), 0o755)
		}, "/bin/program")
		c, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Start(context.Background(), "c")
		if (err == nil) != want {
			t.Errorf("%q: Start = %v", script, err)
		}
		reap(c.Init.Pid)
	}
}
