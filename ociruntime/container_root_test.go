package ociruntime

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// withoutNamespace removes one kind from a configuration, and what needs it.
func withoutNamespace(s *oci.Spec, kind oci.LinuxNamespaceType) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == kind })
	s.Linux.MaskedPaths = nil
}

// A container that shares the host's mount namespace sees its own root, and the
// host is left with the mounts it had: after its end, and after a start that failed.
func TestHostMountNamespace(t *testing.T) {
	ctx := context.Background()
	r, b := bundle(t, func(s *oci.Spec) { withoutNamespace(s, oci.MountNamespace) }, "sleep", "100")
	before := mountLines(t)
	c, err := r.Create(ctx, "c", CreateOptions{Bundle: b})
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	theirs, _ := os.Readlink("/proc/" + strconv.Itoa(c.Init.Pid) + "/ns/mnt")
	if ours != theirs {
		t.Errorf("mount namespace %s, want the runtime's %s", theirs, ours)
	}
	if err := r.Start(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"test -e /bin/busybox && ! test -e " + b + "/config.json", "! test -e /usr"} {
		if code, err := r.Exec(ctx, "c", ExecOptions{Process: &oci.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}}}); code != 0 || err != nil {
			t.Errorf("exec %q = %d, %v", script, code, err)
		}
	}
	r.Kill("c", unix.SIGKILL, false)
	reap(c.Init.Pid)
	if err := r.Delete(ctx, "c", false); err != nil {
		t.Error(err)
	}
	if after := mountLines(t); after != before {
		t.Errorf("the host has %d mounts, had %d", after, before)
	}

	r, b = bundle(t, func(s *oci.Spec) {
		withoutNamespace(s, oci.MountNamespace)
		s.Mounts = append(s.Mounts, oci.Mount{Destination: "/x", Type: "nosuch", Source: "x"})
	}, "true")
	if _, err := r.Create(ctx, "c", CreateOptions{Bundle: b}); err == nil {
		t.Error("a file system that no kernel has was mounted")
	}
	if after := mountLines(t); after != before {
		t.Errorf("after a start that failed the host has %d mounts, had %d", after, before)
	}
}

// Masks would have to be made where the host sees them.
func TestHostMountNamespaceMasked(t *testing.T) {
	spec := &oci.Spec{Version: oci.SpecVersion, Linux: &oci.Linux{MaskedPaths: []string{"/proc/kcore"}}}
	if err := Validate(spec); err == nil || !strings.Contains(err.Error(), "private MNT namespace") {
		t.Errorf("Validate = %v", err)
	}
}

// A mount namespace is joined by its path, and the host's is left alone.
func TestMountNamespacePath(t *testing.T) {
	busyboxRoot(t)
	other := exec.Command("sleep", "100")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	file := "/proc/" + strconv.Itoa(other.Process.Pid) + "/ns/mnt"
	r, b := bundle(t, func(s *oci.Spec) {
		withoutNamespace(s, oci.MountNamespace)
		s.Linux.Namespaces = append(s.Linux.Namespaces, oci.LinuxNamespace{Type: oci.MountNamespace, Path: file})
	}, "true")
	before := mountLines(t)
	if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
		t.Errorf("Run = %d, %v", code, err)
	}
	if after := mountLines(t); after != before {
		t.Errorf("the host has %d mounts, had %d", after, before)
	}
}
