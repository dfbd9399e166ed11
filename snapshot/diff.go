package snapshot

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
	"hull/state"
)

// Changes lists what an active snapshot changed above its parent, sorted by path.
func (s *Store) Changes(ctx context.Context, name string) ([]layer.Change, error) {
	if !validName(name) {
		return nil, fmt.Errorf("list changes of snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	changes, err := s.changes(ctx, s.activeDir(name))
	if err != nil {
		return nil, fmt.Errorf("list changes of snapshot %s: %w", name, err)
	}
	return changes, nil
}

// ChangesAbove is Changes for who has the parent's tree open already; nil is an
// empty one.
func (s *Store) ChangesAbove(ctx context.Context, name string, base *os.File) ([]layer.Change, error) {
	if !validName(name) {
		return nil, fmt.Errorf("list changes of snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	changes, err := s.changesAbove(ctx, s.activeDir(name), base)
	if err != nil {
		return nil, fmt.Errorf("list changes of snapshot %s: %w", name, err)
	}
	return changes, nil
}

func (s *Store) changes(ctx context.Context, dir string) ([]layer.Change, error) {
	parent, err := s.parentOf(dir)
	if err != nil {
		return nil, err
	}
	if parent == "" {
		return s.changesAbove(ctx, dir, nil)
	}
	base, err := s.ViewTree(parent)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	return s.changesAbove(ctx, dir, base)
}

func (s *Store) changesAbove(ctx context.Context, dir string, base *os.File) ([]layer.Change, error) {
	upper, err := os.Open(filepath.Join(dir, "u"))
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	if s.d.layered() {
		return layer.Upper(ctx, upper, base, s.whiteouts())
	}
	changes, err := layer.Compare(ctx, base, upper)
	return withParents(changes), err
}

// WriteDiff writes what an active snapshot changed above its parent as an uncompressed layer tar.
func (s *Store) WriteDiff(ctx context.Context, name string, w io.Writer) error {
	changes, err := s.Changes(ctx, name)
	if err != nil {
		return err
	}
	upper, err := os.Open(filepath.Join(s.activeDir(name), "u"))
	if err != nil {
		return fmt.Errorf("write changes of snapshot %s: %w", name, err)
	}
	defer upper.Close()
	return layer.WriteChanges(ctx, w, upper, changes)
}

// Diff lists what differs between any two committed layers ("" is empty).
func (s *Store) Diff(ctx context.Context, from, to oci.Digest) ([]layer.Change, error) {
	open := func(chain oci.Digest) (*os.File, error) {
		if chain == "" {
			return nil, nil
		}
		return s.ViewTree(chain)
	}
	a, err := open(from)
	if err != nil {
		return nil, err
	}
	if a != nil {
		defer a.Close()
	}
	b, err := open(to)
	if err != nil {
		return nil, err
	}
	if b != nil {
		defer b.Close()
	}
	return layer.Compare(ctx, a, b)
}

// Usage of an active snapshot's own bytes and inodes.
func (s *Store) Usage(ctx context.Context, name string) (size, inodes int64, err error) {
	if !validName(name) {
		return 0, 0, fmt.Errorf("measure snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	dir := s.activeDir(name)
	if s.d.layered() {
		return usage(ctx, filepath.Join(dir, "u"))
	}
	changes, err := s.Changes(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	return changedUsage(filepath.Join(dir, "u"), changes)
}

// LayerUsage of a committed layer's own bytes.
func (s *Store) LayerUsage(ctx context.Context, chain oci.Digest) (size, inodes int64, err error) {
	if !s.Exists(chain) {
		return 0, 0, fmt.Errorf("measure layer %s: %w", chain, fs.ErrNotExist)
	}
	dir := s.layerDir(chain)
	if s.d.layered() {
		return usage(ctx, filepath.Join(dir, "d"))
	}
	parent, err := state.ReadFile(filepath.Join(dir, "parent"))
	if err != nil {
		return 0, 0, fmt.Errorf("measure layer %s: %w", chain, err)
	}
	changes, err := s.Diff(ctx, oci.Digest(parent), chain)
	if err != nil {
		return 0, 0, err
	}
	return changedUsage(filepath.Join(dir, "d"), changes)
}

// changedUsage is what files that changed use of a tree that holds others too.
func changedUsage(dir string, changes []layer.Change) (size, inodes int64, err error) {
	seen := make(map[inode]bool)
	for _, c := range changes {
		var st unix.Stat_t
		if c.Kind == layer.Deleted || unix.Lstat(filepath.Join(dir, c.Path), &st) != nil || seen[inode{st.Dev, st.Ino}] {
			continue
		}
		seen[inode{st.Dev, st.Ino}] = true
		inodes++
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			size += st.Size
		}
	}
	return size, inodes, nil
}

// usage counts a file with several names once.
func usage(ctx context.Context, dir string) (size, inodes int64, err error) {
	seen := make(map[inode]bool)
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if cause := ctx.Err(); cause != nil {
			return context.Cause(ctx)
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(p, &st)
		}
		if os.IsNotExist(err) || err == unix.ENOENT {
			return nil
		}
		if err != nil {
			return err
		}
		if st.Nlink > 1 && !d.IsDir() {
			key := inode{st.Dev, st.Ino}
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		inodes++
		if !d.IsDir() {
			size += st.Size
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return size, inodes, nil
}
