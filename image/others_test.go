package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// An image of another store is found, read and named here, and never changed
// there.
func TestOtherStores(t *testing.T) {
	ctx := context.Background()
	there := storeIn(t, t.TempDir())
	img := addImage(t, there, "shared", "localhost/shared:1", "localhost/both:1")
	root := filepath.Dir(there.dir)
	s := newStore(t)
	s.Also, s.blobs.Also = []string{root}, []string{root}
	mine := addImage(t, s, "mine", "localhost/both:1")

	got, err := s.Resolve(ctx, "shared:1")
	if err != nil || got.ID != img.ID || !got.ReadOnly {
		t.Fatalf("Resolve = %v, %v", got, err)
	}
	if _, _, err := s.ReadManifest(got); err != nil {
		t.Error(err)
	}
	if got, err := s.Resolve(ctx, "both:1"); err != nil || got.ID != mine.ID {
		t.Errorf("a name in both stores means %s, %v, want the own image", got.ID, err)
	}
	if list, err := s.List(ctx); err != nil || len(list) != 2 {
		t.Errorf("List: %d images, %v", len(list), err)
	}
	if _, err := s.Remove(ctx, "shared:1", RemoveOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Remove: %v, want ErrReadOnly", err)
	}
	if _, err := s.Prune(ctx, PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	if err := s.Tag(ctx, img.ID, ref(t, "localhost/copy:1")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve(ctx, "copy:1"); err != nil || got.ID != img.ID || got.ReadOnly {
		t.Errorf("after Tag: %v, %v", got, err)
	}
	if _, err := s.Remove(ctx, img.ID.Hex(), RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if got, err := there.Resolve(ctx, "shared:1"); err != nil || got.ID != img.ID {
		t.Errorf("the other store's image: %v", err)
	}
	if err := CheckOther(t.TempDir()); !errors.Is(err, ErrForeign) {
		t.Errorf("CheckOther of an empty directory: %v", err)
	}
	os.RemoveAll(root)
	if _, err := s.Resolve(ctx, "shared:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without the other store: %v", err)
	}
}
