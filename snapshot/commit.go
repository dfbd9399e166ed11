package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/layer"
	"hull/oci"
)

// CommitActive makes the layer chain of what an active snapshot changed above
// its parent, without a copy: its upper directory becomes the layer's. No
// process may write to it any more. What is left of the snapshot is removed by
// Remove. A layer that exists already is no error. As after Draft.Commit, it
// is on disk after the next Sync.
func (s *Store) CommitActive(ctx context.Context, name string, chain oci.Digest) error {
	fail := func(err error) error { return fmt.Errorf("commit snapshot %s: %w", name, err) }
	if !validName(name) {
		return fail(fs.ErrNotExist)
	}
	if err := chain.Validate(); err != nil {
		return fail(err)
	}
	if s.Exists(chain) {
		return nil
	}
	active := s.activeDir(name)
	parent, err := s.parentOf(active)
	if err != nil {
		return fail(err)
	}
	dir, err := s.temp()
	if err == nil {
		err = s.disk.Begin(s.dir)
	}
	if err != nil {
		return fail(err)
	}
	upper, files := filepath.Join(active, "u"), filepath.Join(dir, "d")
	err = os.Rename(upper, files)
	if err == nil {
		if err = s.commit(ctx, dir, chain, parent); err == nil {
			return nil
		}
		err = errors.Join(err, os.Rename(files, upper))
	}
	return fail(errors.Join(err, s.removeTree(dir)))
}

// Upper opens the files of an active snapshot: what Changes lists is in it, and
// with a driver that is not Layered all else too.
func (s *Store) Upper(name string) (*os.File, error) {
	if !validName(name) {
		return nil, fmt.Errorf("open snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	f, err := os.Open(filepath.Join(s.activeDir(name), "u"))
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", name, err)
	}
	return f, nil
}

// Revert takes changes of an active snapshot back, which must be a file or
// directory each that is Added, or a directory that is Modified and in which
// nothing else is changed. The order is that of Changes.
func (s *Store) Revert(name string, changes []layer.Change) error {
	upper, err := s.Upper(name)
	if err != nil {
		return err
	}
	defer upper.Close()
	var base *os.File
	if !s.d.layered() {
		parent, err := s.parentOf(s.activeDir(name))
		if err == nil && parent != "" {
			base, err = s.ViewTree(parent)
		}
		if err != nil {
			return fmt.Errorf("revert snapshot %s: %w", name, err)
		}
		if base != nil {
			defer base.Close()
		}
	}
	for i := len(changes) - 1; i >= 0; i-- {
		c := changes[i]
		if base != nil && c.Kind == layer.Modified {
			err = revertDir(upper, base, c.Path)
		} else {
			err = revert(upper, c.Path)
		}
		if err != nil {
			return fmt.Errorf("revert %s of snapshot %s: %w", c.Path, name, err)
		}
	}
	return nil
}

// revertDir makes a directory what it was: it is not one that only hides another.
func revertDir(upper, base *os.File, path string) error {
	var f [2]*os.File
	for i, root := range []*os.File{upper, base} {
		var err error
		if f[i], err = inroot.Open(root, path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err != nil {
			return err
		}
		defer f[i].Close()
	}
	return likeDir(f[0], f[1])
}

func revert(upper *os.File, path string) error {
	dir, err := inroot.Open(upper, filepath.Dir(path), os.O_RDONLY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer dir.Close()
	err = inroot.RemoveAll(dir, filepath.Base(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
