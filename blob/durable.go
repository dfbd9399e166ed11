package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// A blob has its name before the disk has its bytes (see Sync). Until then a
// mark beside it, HEX.unsynced, names the boot that wrote it: a symbolic link
// that leads nowhere, since the journal has its text together with its name, and
// in the same directory, so that no sync can bring one to the disk without the
// other. A blob that another boot marked is read once and compared with its
// digest before it is used; a power cut may have left it empty.

func (s *Store) markPath(d oci.Digest) string {
	return s.Path(d) + ".unsynced"
}

// mark marks a blob that is about to get its name.
func (s *Store) mark(d oci.Digest) error {
	err := os.Symlink(s.boot, s.markPath(d))
	for errors.Is(err, fs.ErrExist) { // of a blob that was removed
		if boot, rerr := os.Readlink(s.markPath(d)); rerr == nil && boot == s.boot {
			err = nil
			break
		}
		if err = os.Remove(s.markPath(d)); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Symlink(s.boot, s.markPath(d))
		}
	}
	if err == nil {
		s.note(d)
	}
	return err
}

// note keeps the mark for the next Sync.
func (s *Store) note(d oci.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsynced == nil {
		s.unsynced = make(map[oci.Digest]bool)
	}
	s.unsynced[d] = true
}

// settle makes sure that a blob which has its name is whole, or takes the name
// away. locked says that the caller has the lock of its writers.
func (s *Store) settle(d oci.Digest, locked bool) error {
	for {
		boot, err := os.Readlink(s.markPath(d))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if boot == s.boot {
			s.note(d)
			return nil
		}
		if locked {
			return s.check(d)
		}
		l, ok, err := state.TryAcquire(filepath.Join(s.root, "partial", d.Hex()+".lock"))
		if err != nil {
			return err
		}
		if ok {
			err = s.check(d)
			return errors.Join(err, l.Remove())
		}
		// Whoever has it settles the blob first of all.
		time.Sleep(10 * time.Millisecond)
	}
}

// check compares a blob of another boot with its digest.
func (s *Store) check(d oci.Digest) error {
	if boot, err := os.Readlink(s.markPath(d)); err != nil || boot == s.boot {
		return nil
	}
	f, err := os.OpenFile(s.Path(d), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err == nil {
		defer f.Close()
		h := d.Hash()
		if err = hashAll(context.Background(), h, f); err == nil && sumDigest(d.Algorithm(), h) != d {
			err = os.Remove(s.Path(d))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("check blob %s after a power cut: %w", d, err)
	}
	return os.Remove(s.markPath(d))
}

// Sync waits until the disk has everything written to the store's file system.
// After an error the blobs that it was for are removed: see DropUnsynced.
func (s *Store) Sync() error {
	d, err := s.disk.End(s.root)
	if err != nil {
		return fmt.Errorf("sync blobs: %w", err)
	}
	s.mu.Lock()
	marks := maps.Clone(s.unsynced)
	s.mu.Unlock()
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync blobs: %w", errors.Join(err, s.DropUnsynced()))
	}
	// A mark that comes back costs a look at the blob, so nothing waits for
	// its removal. Nor does it matter if the blob was removed and written anew
	// meanwhile, unless the power fails before that one's own Sync; its writer
	// publishes it only after that.
	for d := range marks {
		if err := os.Remove(s.markPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync blobs: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range marks {
		delete(s.unsynced, d)
	}
	return nil
}

// DropUnsynced removes the blobs that were to be synced, and the partials that
// nobody writes, for use after a sync that failed. What the disk has of them
// nobody can tell: the kernel says once that it could not write, and gives what
// it has in memory for whole until it forgets it.
func (s *Store) DropUnsynced() error {
	s.mu.Lock()
	marks := s.unsynced
	s.unsynced = nil
	s.mu.Unlock()
	var errs []error
	for d := range marks {
		if boot, err := os.Readlink(s.markPath(d)); err == nil && boot == s.boot {
			errs = append(errs, s.Remove(d))
		}
	}
	_, err := s.Tidy(time.Now())
	return errors.Join(append(errs, err)...)
}

// TidyMarks removes the marks of blobs that never came. Nobody may be storing
// any: a mark is made before its blob.
func (s *Store) TidyMarks() {
	for _, alg := range []string{"sha256", "sha512"} {
		marks, _ := filepath.Glob(filepath.Join(s.root, alg, "*.unsynced"))
		for _, m := range marks {
			if _, err := os.Lstat(strings.TrimSuffix(m, ".unsynced")); errors.Is(err, fs.ErrNotExist) {
				os.Remove(m)
			}
		}
	}
}
