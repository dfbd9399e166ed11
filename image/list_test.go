package image

import (
	"context"
	"errors"
	"testing"

	"hull/oci"
)

// A list has names and an ID as an image has, and means the image for this
// machine where one is wanted.
func TestManifestList(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	img := addImage(t, s, "app", "localhost/app:1")
	name := ref(t, "localhost/list:1")
	l, err := s.CreateList(ctx, name, List{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateList(ctx, name, List{}); !errors.Is(err, ErrNameInUse) {
		t.Errorf("the name twice: %v", err)
	}
	if _, err := s.CreateList(ctx, ref(t, "localhost/app:1"), List{}); !errors.Is(err, ErrNameInUse) {
		t.Errorf("an image's name: %v", err)
	}
	if _, err := s.Resolve(ctx, "list:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty list means an image: %v", err)
	}
	e, err := s.LocalEntry(img)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if l, err = s.ChangeList(ctx, l.ID, func(l *List) error { l.Put(e); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.List.Entries) != 1 {
		t.Errorf("%d entries, want 1: the same image twice is once", len(l.List.Entries))
	}
	if got, err := s.Resolve(ctx, "list:1"); err != nil || got.ID != img.ID {
		t.Errorf("Resolve(list:1) = %s, %v, want the image", got.ID, err)
	}
	if got, _, err := s.ResolveAny(ctx, "list:1"); err != nil || got.ID != l.ID {
		t.Errorf("ResolveAny(list:1) = %s, %v, want the list", got.ID, err)
	}
	if _, err := s.FindList(ctx, "app:1"); !errors.Is(err, ErrNoList) {
		t.Errorf("FindList of an image: %v", err)
	}
	// Without a name the image stays as long as the list refers to it.
	if _, err := s.Untag(ctx, img.ID); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Prune(ctx, PruneOptions{}); err != nil || len(r.Deleted) != 0 {
		t.Errorf("prune removed %v, %v", r.Deleted, err)
	}
	if _, err := s.RemoveList(ctx, "list:1"); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Prune(ctx, PruneOptions{}); err != nil || len(r.Deleted) != 1 {
		t.Errorf("prune after the list removed %v, %v, want the image", r.Deleted, err)
	}
}

func TestListRecordsAreChecked(t *testing.T) {
	id := oci.FromBytes(nil)
	for _, text := range []string{
		`{"version":1,"id":"` + string(id) + `","list":{"entries":[{"descriptor":{"digest":"sha256:../x","size":1}}]}}`,
		`{"version":1,"id":"` + string(id) + `","list":{"entries":[{"descriptor":{"digest":"` + string(id) + `","size":-1}}]}}`,
		`{"version":1,"id":"` + string(id) + `","list":{"entries":[{"descriptor":{"digest":"` + string(id) + `","size":1},"source":"A B"}]}}`,
		`{"version":1,"id":"` + string(id) + `"}`,
	} {
		if _, err := decodeRecord(id, []byte(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("decodeRecord(%s): %v, want ErrDamaged", text, err)
		}
	}
}
