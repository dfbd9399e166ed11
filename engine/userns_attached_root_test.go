package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// Kernels before Linux 6.15 want layers of overlays attached: the root that is
// made so is the same, and the thread leaves nothing where others see it.
func TestLayersAttached(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	layers := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	for _, l := range layers {
		if err := os.Mkdir(l, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(l, filepath.Base(l)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m := oci.Mount{Type: "overlay", Options: []string{"lowerdir=" + strings.Join(layers, ":"), "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"}}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var root *os.File
	state.OnLostThread(func() {
		if err = alone(attachPlace); err == nil {
			root, err = (&record{}).idmappedOverlay(m, nil, attachPlace)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"a", "b"} {
		if err := unix.Faccessat(int(root.Fd()), name, unix.F_OK, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	fd, err := unix.Openat(int(root.Fd()), "new", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := os.Stat(dir + "/upper/new"); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the process's own mounts have changed")
	}
}
