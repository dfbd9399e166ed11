package ociruntime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/oci"
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
