package blob

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"hull/oci"
)

func reopen(t *testing.T, s *Store, boot string) *Store {
	t.Helper()
	n, err := Open(s.root)
	if err != nil {
		t.Fatal(err)
	}
	n.boot = boot
	return n
}

func store(t *testing.T, s *Store, data []byte) oci.Digest {
	t.Helper()
	d := oci.FromBytes(data)
	w, err := s.Writer(context.Background(), d, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return d
}

// A blob that was not synced is read again after a power cut: it stays when it
// is whole, and can be stored again when it is not.
func TestUnsyncedBlob(t *testing.T) {
	s := reopen(t, open(t), "boot-1")
	good, bad, synced := random(1000), random(2000), random(3000)
	syncedID := store(t, s, synced)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Readlink(s.markPath(syncedID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark after Sync: %v", err)
	}
	goodID, badID := store(t, s, good), store(t, s, bad)
	if _, err := reopen(t, s, "boot-1").Stat(badID); err != nil {
		t.Errorf("in the same boot: %v", err)
	}
	if err := os.Truncate(s.Path(badID), 0); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, "boot-2")
	if size, err := s.Stat(goodID); err != nil || size != 1000 {
		t.Errorf("the whole blob: %d, %v", size, err)
	}
	if _, err := s.Open(badID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the blob that is empty: %v, want fs.ErrNotExist", err)
	}
	if store(t, s, bad); s.Verify(context.Background(), badID) != nil {
		t.Error("the blob cannot be stored again")
	}
	if _, err := os.Readlink(s.markPath(goodID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark of a blob that was looked at: %v", err)
	}
}

// A writer meets the damaged blob with its lock held.
func TestUnsyncedBlobWriter(t *testing.T) {
	s := reopen(t, open(t), "boot-1")
	data := random(1000)
	d := store(t, s, data)
	if err := os.WriteFile(s.Path(d), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, "boot-2")
	store(t, s, data)
	if err := s.Verify(context.Background(), d); err != nil {
		t.Error(err)
	}
}

// After a sync that failed, what was to be synced is not there, however whole it
// looks; what an earlier one brought to the disk is.
func TestF34DropUnsynced(t *testing.T) {
	s := open(t)
	kept := store(t, s, random(1000))
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	lost, cut := store(t, s, random(2000)), oci.FromBytes([]byte("cut"))
	w, err := s.Writer(context.Background(), cut, 200_000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(random(100_000)); err != nil {
		t.Fatal(err)
	}
	w.Close() // to be resumed
	if err := s.DropUnsynced(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(kept); err != nil {
		t.Errorf("the blob that was synced: %v", err)
	}
	for _, d := range []oci.Digest{lost, cut} {
		if _, err := s.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("blob %s that was not synced: %v", d, err)
		}
	}
	if w, err = s.Writer(context.Background(), cut, 200_000); err != nil || w.Offset() != 0 {
		t.Errorf("the partial is resumed at %d (%v)", w.Offset(), err)
	}
	w.Abort()
}
