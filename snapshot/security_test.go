package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// STO-02: nobody else reaches a file of a layer or of a snapshot, a set-uid one
// least of all.
func TestSTO02NobodyReachesLayers(t *testing.T) {
	dir := t.TempDir()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, filepath.Join(dir, "snapshots"), "")
	base := addTar(t, s, "", entries(t, tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o777}, tar.Header{Name: "su", Typeflag: tar.TypeReg, Mode: 0o4777}))
	prepare(t, s, "c1", base)
	draft, err := s.NewDraft(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Abort()
	for _, path := range []string{filepath.Join(s.layerDir(base), "d/su"), filepath.Join(s.activeDir("c1"), "u"), filepath.Join(draft.dir, "d"), filepath.Join(s.dir, "l")} {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("stat", path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("nobody sees %s", out)
		}
	}
}

// STO-06: a snapshot whose tree has links and mounts: no link is followed and
// nothing that is mounted is removed.
func TestSTO06RemoveWithLinksAndMounts(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), "")
	canary := t.TempDir()
	if err := os.WriteFile(filepath.Join(canary, "file"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if text, err := os.ReadFile(filepath.Join(canary, "file")); err != nil || string(text) != "mine" {
			t.Fatalf("%s: the canary: %q, %v", when, text, err)
		}
	}
	prepare(t, s, "c1", "")
	u := filepath.Join(s.activeDir("c1"), "u")
	if err := errors.Join(os.Symlink(canary, filepath.Join(u, "l")), os.MkdirAll(filepath.Join(u, "d/m"), 0o755),
		unix.Mount(canary, filepath.Join(u, "d/m"), "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	mounted := filepath.Join(u, "d/m")
	t.Cleanup(func() { unix.Unmount(mounted, unix.MNT_DETACH) })
	err := s.Remove(ctx, "c1")
	check("with a mount")
	if !errors.Is(err, inroot.ErrMount) {
		t.Errorf("Remove = %v, want ErrMount", err)
	}
	// The snapshot has lost its name, and the mount went along.
	left, _ := filepath.Glob(filepath.Join(s.dir, "t/*/u/d/m"))
	if len(left) != 1 {
		t.Fatalf("the mount is at %v", left)
	}
	mounted = left[0]
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(s.dir, "t/999999999-1-1")
	if err := os.Rename(filepath.Dir(filepath.Dir(filepath.Dir(mounted))), dead); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(ctx); err != nil {
		t.Error(err)
	}
	check("after Collect")
	if entries, _ := os.ReadDir(filepath.Join(s.dir, "t")); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}
