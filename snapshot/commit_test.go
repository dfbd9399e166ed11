package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"hull/oci"
)

// A layer made of a snapshot is marked as any other until it is synced; a
// commit that fails leaves the snapshot as it was.
func TestCommitActive(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, "boot-1")
	base := addLayer(t, s, "", "a", "a")
	if _, err := s.Prepare(ctx, "c1", base, PrepareOptions{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.activeDir("c1"), "u", "new")
	if err := os.WriteFile(file, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.layerDir(base), s.layerDir(base)+"-away"); err != nil {
		t.Fatal(err)
	}
	top := oci.FromBytes([]byte("top"))
	if err := s.CommitActive(ctx, "c1", top); err == nil {
		t.Fatal("a layer without its parent was made")
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the failed commit took the files: %v", err)
	}
	if err := os.Rename(s.layerDir(base)+"-away", s.layerDir(base)); err != nil {
		t.Fatal(err)
	}
	if err := s.CommitActive(ctx, "c1", top); err != nil {
		t.Fatal(err)
	}
	if open(t, dir, "boot-2").Exists(top) {
		t.Error("the layer has no mark")
	}
	tree, err := s.ViewTree(top)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	names, _ := tree.Readdirnames(-1)
	if len(names) != 2 {
		t.Errorf("the layer's tree holds %v, want a and new", names)
	}
}
