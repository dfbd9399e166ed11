package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hull/oci"
)

// open opens a store in dir in the given boot.
func open(t testing.TB, dir, boot string) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s, err := Open(dir, Options{BootID: boot})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// layerOf is a tar of files with their texts.
func layerOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// addLayer commits a layer of one file above parent.
func addLayer(t testing.TB, s *Store, parent oci.Digest, files ...string) oci.Digest {
	t.Helper()
	tarball := layerOf(t, files...)
	chain := oci.FromBytes(append([]byte(parent), tarball...))
	d, err := s.NewDraft(context.Background(), parent)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if err := d.Unpack(context.Background(), bytes.NewReader(tarball)); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(chain); err != nil {
		t.Fatal(err)
	}
	return chain
}

// A layer that was not synced is whole while its boot lasts, for every process,
// and gone after it.
func TestUnsyncedLayer(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	first := open(t, dir, "boot-1")
	base := addLayer(t, first, "", "a", "a")
	if err := first.Sync(); err != nil {
		t.Fatal(err)
	}
	top := addLayer(t, first, base, "b", "b")
	if _, err := open(t, dir, "boot-1").Prepare(ctx, "c1", top, PrepareOptions{}); err != nil {
		t.Fatalf("in the same boot: %v", err)
	}

	second := open(t, dir, "boot-2")
	if !second.Exists(base) {
		t.Error("the synced layer is gone")
	}
	if second.Exists(top) {
		t.Error("the layer that was not synced is taken for whole")
	}
	_, err := second.Prepare(ctx, "c2", top, PrepareOptions{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Prepare above it = %v, want one of fs.ErrNotExist", err)
	}
	var h interface{ Hint() string }
	if !errors.As(err, &h) || h.Hint() == "" {
		t.Errorf("no hint with %v", err)
	}
	if _, err := second.Mounts("c1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Mounts of a snapshot above it = %v, want one of fs.ErrNotExist", err)
	}
	// What the power cut did to it must not be seen after it is made again.
	if err := os.Truncate(filepath.Join(second.layerDir(top), "d/b"), 0); err != nil {
		t.Fatal(err)
	}
	if again := addLayer(t, second, base, "b", "b"); again != top || !second.Exists(top) {
		t.Fatal("the layer cannot be made again")
	}
	if text, err := os.ReadFile(filepath.Join(second.layerDir(top), "d/b")); err != nil || string(text) != "b" {
		t.Errorf("b = %q, %v", text, err)
	}
	if _, err := second.Mounts("c1"); err != nil {
		t.Errorf("Mounts above the new layer: %v", err)
	}
	if err := second.Sync(); err != nil {
		t.Fatal(err)
	}
	if !open(t, dir, "boot-3").Exists(top) {
		t.Error("the layer is gone although it was synced")
	}
}

// Sync answers for every layer that this process uses, whoever made it, and for
// no other.
func TestSyncMarks(t *testing.T) {
	dir := t.TempDir()
	maker, user := open(t, dir, "boot-1"), open(t, dir, "boot-1")
	used := addLayer(t, maker, "", "a", "a")
	above := addLayer(t, maker, used, "b", "b")
	other := addLayer(t, maker, "", "c", "c")
	if !user.Exists(above) || !user.Exists(used) {
		t.Fatal("the layers are not there")
	}
	if err := user.Sync(); err != nil {
		t.Fatal(err)
	}
	later := open(t, dir, "boot-2")
	for chain, want := range map[oci.Digest]bool{used: true, above: true, other: false} {
		if later.Exists(chain) != want {
			t.Errorf("after the power cut: %t, want %t", !want, want)
		}
	}
}

// A mark is taken by the Sync that began after it was made, not by one for an
// earlier layer of the same name.
func TestSyncOfAnOldMark(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, "boot-1")
	chain := addLayer(t, s, "", "a", "a")
	old := map[string]string{short(chain): s.unsynced[short(chain)]}
	if err := s.RemoveLayer(ctx, chain); err != nil {
		t.Fatal(err)
	}
	addLayer(t, s, "", "a", "a")
	if err := s.unmark(old); err != nil {
		t.Fatal(err)
	}
	if open(t, dir, "boot-2").Exists(chain) {
		t.Error("the new layer lost its mark to the old one's sync")
	}
}

func TestCollectStale(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "boot-1")
	base := addLayer(t, s, "", "a", "a")
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	top := addLayer(t, s, base, "b", "b")
	if err := s.Collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !s.Exists(top) {
		t.Fatal("a layer of this boot was collected")
	}
	later := open(t, dir, "boot-2")
	if err := later.Collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "l"))
	if err != nil || len(entries) != 1 || entries[0].Name() != short(base) {
		t.Errorf("l holds %v, %v, want only the synced layer", entries, err)
	}
}

// After a sync that failed, the layers that it was for are not there, however
// whole they look.
func TestF34DropUnsynced(t *testing.T) {
	s := open(t, t.TempDir(), "boot-1")
	base := addLayer(t, s, "", "a", "a")
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	top := addLayer(t, s, base, "b", "b")
	if err := s.DropUnsynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.Exists(base) || s.Exists(top) {
		t.Errorf("the layer that was synced is there: %v, the other: %v", s.Exists(base), s.Exists(top))
	}
	if addLayer(t, s, base, "b", "b"); !s.Exists(top) {
		t.Error("the layer cannot be made again")
	}
}

// A removal that failed half way is gone on with, by whoever removes it again
// or collects.
func TestRemoveAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "boot-1")
	left := filepath.Join(dir, "t", removedPrefix+"c1")
	for _, again := range []func() error{
		func() error { return s.Remove(t.Context(), "c1") },
		func() error { return s.Collect(t.Context()) },
		func() error { // and another of that name was made meanwhile
			prepare(t, s, "c1", "")
			return s.Remove(t.Context(), "c1")
		},
	} {
		prepare(t, s, "c1", "")
		if err := os.Rename(s.activeDir("c1"), left); err != nil {
			t.Fatal(err)
		}
		if err := again(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was left of the removal is still there: %v", err)
		}
		if err := s.Remove(t.Context(), "c1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Remove of what is gone = %v", err)
		}
	}
}

// A snapshot whose files are left to another is out of sight at once; if he
// does not come to it, the next collection does.
func TestLeave(t *testing.T) {
	s := open(t, t.TempDir(), "boot")
	for _, leave := range []bool{true, false} {
		prepare(t, s, "c1", "")
		s.Leave(leave)
		if err := s.Remove(t.Context(), "c1"); err != nil {
			t.Fatal(err)
		}
		left := s.Left()
		if leave != (len(left) == 1) || s.Left() != nil {
			t.Fatalf("Leave(%v): left %q", leave, left)
		}
		for _, dir := range left {
			if list, err := s.List(); err != nil || len(list) != 0 {
				t.Errorf("the store lists %v, %v", list, err)
			}
			if err := s.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after a collection: %v", err)
			}
		}
	}
}

// A layer that does not say which one it is makes room for the same layer.
func TestBrokenLayerIsMadeAgain(t *testing.T) {
	s := open(t, t.TempDir(), "boot-1")
	chain := addLayer(t, s, "", "a", "a")
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.layerDir(chain), "chain"), make([]byte, 71), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Exists(chain) {
		t.Error("the broken layer is whole")
	}
	if addLayer(t, s, "", "a", "a"); !s.Exists(chain) {
		t.Error("the layer was not made again")
	}
}

// A layer whose removal in its place was killed is not there, and goes.
func TestF31RemovalInPlace(t *testing.T) {
	s := open(t, t.TempDir(), "boot-1")
	chain := addLayer(t, s, "", "a", "a")
	kept := addLayer(t, s, "", "b", "b")
	if err := os.Remove(filepath.Join(s.layerDir(chain), "chain")); err != nil {
		t.Fatal(err)
	}
	if s.Exists(chain) {
		t.Error("what is left of a layer is whole")
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.layerDir(chain)); err == nil {
		t.Error("what is left of a layer stays")
	}
	if !s.Exists(kept) {
		t.Error("another layer is gone")
	}
	if err := s.dropInPlace(short(kept)); err != nil || s.Exists(kept) {
		t.Errorf("remove a layer in its place: %v", err)
	}
}
