package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// A layer gets its name before the disk has its files: a pull makes many and
// waits once, at its end (Sync). Until then the layer carries a mark with the
// boot it was made in. While that boot lasts the layer is as good as any; after
// a power cut its files may be empty, so a mark of another boot makes the layer
// one that is not there, and it is unpacked again.
//
// The mark is a symbolic link that leads nowhere. A short one is kept in the
// inode, so the journal has its text together with its name; a file's text
// would come to the disk later, or not at all.

// marked is the name of the mark in a layer's directory.
const marked = "unsynced"

// mark marks the layer that is made in dir.
func (s *Store) mark(dir string) (string, error) {
	// What follows the boot tells this mark from that of a layer of the same
	// name which is made later: Sync must not take that one away.
	text := s.boot() + " " + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.FormatUint(drafts.Add(1), 36)
	return text, os.Symlink(text, filepath.Join(dir, marked))
}

// boot is never empty.
func (s *Store) boot() string {
	if s.o.BootID != "" {
		return s.o.BootID
	}
	if id := state.BootID(); id != "" {
		return id
	}
	return "unknown"
}

// A health says whether a layer can be used.
type health uint8

const (
	absent health = iota
	stale         // another boot made it and did not sync it
	whole
)

// look finds out whether the layer is there and whole. One that only this boot
// can use is noted for the next Sync.
func (s *Store) look(chain oci.Digest) health {
	if chain.Validate() != nil {
		return absent
	}
	dir := s.layerDir(chain)
	text, err := os.Readlink(filepath.Join(dir, marked))
	switch {
	case err == nil && !s.ofThisBoot(text):
		return stale
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return absent
	}
	have, cerr := state.ReadFile(filepath.Join(dir, "chain"))
	if cerr != nil || string(have) != string(chain) {
		return absent
	}
	if err == nil {
		s.note(short(chain), text)
	}
	return whole
}

func (s *Store) ofThisBoot(mark string) bool {
	boot, _, _ := strings.Cut(mark, " ")
	return boot == s.boot()
}

// note keeps the mark for the next Sync.
func (s *Store) note(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsynced == nil {
		s.unsynced = make(map[string]string)
	}
	s.unsynced[name] = text
}

// Sync waits until the disk has every committed layer, and takes their marks
// away. After an error those layers are removed: see DropUnsynced.
func (s *Store) Sync() error {
	d, err := s.disk.End(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // every layer is in another store
	}
	if err != nil {
		return fmt.Errorf("sync snapshots: %w", err)
	}
	s.mu.Lock()
	marks := maps.Clone(s.unsynced)
	s.mu.Unlock()
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync snapshots: %w", errors.Join(err, s.DropUnsynced(context.Background())))
	}
	if len(marks) == 0 {
		return nil
	}
	if err := s.unmark(marks); err != nil {
		return fmt.Errorf("sync snapshots: %w", err)
	}
	return nil
}

// DropUnsynced removes the layers that were to be synced, for use after a sync
// that failed: what the disk has of them nobody can tell, whatever a look at
// them says. What stands on one cannot be mounted until the layer is there again.
func (s *Store) DropUnsynced(ctx context.Context) error {
	s.mu.Lock()
	marks := s.unsynced
	s.unsynced = nil
	s.mu.Unlock()
	var errs []error
	for name, text := range marks {
		errs = append(errs, s.drop(ctx, name, func() bool { return s.markOf(name) == text }))
	}
	return errors.Join(errs...)
}

// unmark takes marks away, durably: the first directory's sync brings the
// journal to the disk, and the others find nothing left to do. A layer loses its
// mark after those below it, so that one without a mark stands on such ones only.
func (s *Store) unmark(marks map[string]string) error {
	l, err := s.lock(context.Background(), false)
	if err != nil {
		return err
	}
	defer l.Release()
	var gone []string
	for _, name := range s.lowestFirst(slices.Collect(maps.Keys(marks))) {
		dir := filepath.Join(s.dir, "l", name)
		have, err := os.Readlink(filepath.Join(dir, marked))
		if err == nil && have == marks[name] {
			err = os.Remove(filepath.Join(dir, marked))
			gone = append(gone, dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range gone {
		if err := state.SyncDir(dir); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, text := range marks {
		if s.unsynced[name] == text {
			delete(s.unsynced, name)
		}
	}
	return nil
}

// lowestFirst sorts layers by how many they stand on.
func (s *Store) lowestFirst(names []string) []string {
	depth := make(map[string]int, len(names))
	for _, name := range names {
		lower, _ := state.ReadFile(filepath.Join(s.dir, "l", name, "lower"))
		depth[name] = len(lower)
	}
	slices.SortFunc(names, func(a, b string) int { return depth[a] - depth[b] })
	return names
}

// A staleError reports a layer that a power cut may have damaged.
type staleError struct{ chain oci.Digest }

func (e *staleError) Error() string {
	return fmt.Sprintf("layer %s: the machine stopped before the disk had it", e.chain)
}

// Is makes the layer one that does not exist.
func (e *staleError) Is(target error) bool { return target == fs.ErrNotExist }

// Hint is the cure.
func (e *staleError) Hint() string { return "pull or load the image again" }

// missing is the error of a layer that cannot be used.
func (s *Store) missing(chain oci.Digest) error {
	if s.look(chain) == stale {
		return &staleError{chain}
	}
	return fs.ErrNotExist
}

// collectStale removes layers that a power cut may have damaged.
func (s *Store) collectStale(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "l"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if s.isStale(e.Name()) || s.isLeft(e.Name()) {
			errs = append(errs, s.dropStale(ctx, e.Name()))
		}
	}
	return errors.Join(errs...)
}

// isStale looks at a layer by the name of its directory.
func (s *Store) isStale(name string) bool {
	text := s.markOf(name)
	return text != "" && !s.ofThisBoot(text)
}

// markOf is a layer's mark; "" without one.
func (s *Store) markOf(name string) string {
	text, _ := os.Readlink(filepath.Join(s.dir, "l", name, marked))
	return text
}

// topOf is the topmost layer of a list.
func topOf(lower string) string { return lower[:min(16, len(lower))] }

// dropStale removes a stale layer. What stands on it, if anything does, cannot
// be mounted until the layer is there again.
func (s *Store) dropStale(ctx context.Context, name string) error {
	return s.drop(ctx, name, func() bool { return s.isStale(name) || s.isLeft(name) })
}

// isLeft reports what dropInPlace has begun to remove.
func (s *Store) isLeft(name string) bool {
	dir := filepath.Join(s.dir, "l", name)
	_, err := os.Lstat(filepath.Join(dir, "chain"))
	_, there := os.Lstat(dir)
	return !strings.Contains(name, pointsMark) && errors.Is(err, fs.ErrNotExist) && there == nil
}

// isBroken reports a directory that has a layer's name and does not say which
// layer it is.
func (s *Store) isBroken(name string) bool {
	dir := filepath.Join(s.dir, "l", name)
	if _, err := os.Lstat(dir); err != nil {
		return false
	}
	chain, err := state.ReadFile(filepath.Join(dir, "chain"))
	return err != nil || oci.Digest(chain).Validate() != nil
}

// drop removes a layer if it is still one to be removed.
func (s *Store) drop(ctx context.Context, name string, is func() bool) error {
	l, err := s.lock(ctx, true)
	if err != nil {
		return err
	}
	if !is() { // another was quicker
		l.Release()
		return nil
	}
	dir, err := s.temp()
	if err == nil {
		err = os.Rename(filepath.Join(s.dir, "l", name), filepath.Join(dir, "l"))
	}
	if noRoom(err) {
		err = s.dropInPlace(name)
	}
	l.Release()
	if err != nil {
		return err
	}
	return s.removeTree(dir)
}
