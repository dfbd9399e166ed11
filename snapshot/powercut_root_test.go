package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// A disk is a file system in a file. What the file holds at a moment is what a
// power cut at that moment would leave: the rest is in memory.
type disk struct{ kind, image, dir string }

func newDisk(t *testing.T, kind string) *disk {
	t.Helper()
	d := &disk{kind: kind, image: filepath.Join(t.TempDir(), "disk")}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 320<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs."+kind, "-q", d.image).CombinedOutput(); err != nil {
		t.Skipf("no %s: %v: %s", kind, err, out)
	}
	d.mount(t)
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	d.dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", d.kind, "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("no %s: %v: %s", d.kind, err, out)
	}
	t.Cleanup(func() { d.unmount(t) })
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if d.dir == "" {
		return
	}
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		t.Errorf("unmount: %v: %s", err, out)
	}
	d.dir = ""
}

// cut returns the disk as it is after a power cut now. It can be mounted when
// the other is not: they have one identity.
func (d *disk) cut(t *testing.T) *disk {
	t.Helper()
	c := &disk{kind: d.kind, image: filepath.Join(t.TempDir(), "disk")}
	if out, err := exec.Command("cp", "--sparse=always", d.image, c.image).CombinedOutput(); err != nil {
		t.Fatalf("copy the disk: %v: %s", err, out)
	}
	return c
}

// After a power cut at any moment a layer is whole or not there, and a snapshot
// stands on what it stood on or is not there.
func TestPowerCut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			d := newDisk(t, kind)
			s := open(t, filepath.Join(d.dir, "store"), "boot-1")
			text := string(bytes.Repeat([]byte("content "), 4000))
			layer := func(n int) []byte { return layerOf(t, fmt.Sprintf("f%d", n), text, "g", text) }
			base := addTar(t, s, "", layer(0))
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Prepare(ctx, "c1", base, PrepareOptions{}); err != nil {
				t.Fatal(err)
			}
			top := addTar(t, s, base, layer(1))
			if _, err := s.Prepare(ctx, "c2", top, PrepareOptions{}); err != nil {
				t.Fatal(err)
			}
			// Some other program's sync brings the journal, and with it all names, to the disk.
			if err := state.WriteFile(d.dir, "other", []byte("x"), 0o600, true); err != nil {
				t.Fatal(err)
			}
			before := d.cut(t)
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			later := d.cut(t)
			d.unmount(t)
			after(t, before, text, map[oci.Digest]bool{base: true, top: false})
			after(t, later, text, map[oci.Digest]bool{base: true, top: true})
		})
	}
}

// after looks at the store on a disk after a power cut.
func after(t *testing.T, d *disk, text string, layers map[oci.Digest]bool) {
	t.Helper()
	d.mount(t)
	defer d.unmount(t)
	s := open(t, filepath.Join(d.dir, "store"), "boot-2")
	for chain, want := range layers {
		files, _ := filepath.Glob(filepath.Join(s.layerDir(chain), "d/*"))
		damaged := len(files) != 2
		for _, f := range files {
			got, err := os.ReadFile(f)
			damaged = damaged || err != nil || string(got) != text
		}
		have := s.Exists(chain)
		if have != want || have && damaged {
			t.Errorf("layer there: %t, want %t; damaged: %t", have, want, damaged)
		}
		if !want {
			t.Logf("what is left of the layer that was not synced: %d files, damaged: %t", len(files), damaged)
		}
	}
	for _, name := range []string{"c1", "c2"} {
		m, err := s.Mounts(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if name == "c1" && d.kind != "btrfs" { // whose journal has only what was asked for
				t.Errorf("snapshot %s: %v", name, err)
			}
		case err != nil:
			t.Errorf("snapshot %s: %v", name, err)
		case m[0].Type != "overlay":
			t.Errorf("snapshot %s stands on nothing: %+v", name, m)
		default:
			tree, err := s.Tree(name)
			if err != nil {
				t.Error(err)
				continue
			}
			if err := unix.Faccessat(int(tree.Fd()), "f0", unix.R_OK, 0); err != nil {
				t.Errorf("snapshot %s lacks the base: %v", name, err)
			}
			tree.Close()
		}
	}
}
