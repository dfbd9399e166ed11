package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Draft is a file that is written piece by piece and gets its name when it
// is whole. Until then it has none, where the file system can do that: nothing
// is left of a killed writer.
type Draft struct {
	*os.File
	path string
	tmp  string // "" while it has no name
}

// NewDraft begins the file that shall be at path.
func NewDraft(path string) (*Draft, error) {
	dir := filepath.Dir(path)
	f, err := nameless(dir)
	if err == nil {
		return &Draft{File: f, path: path}, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, fmt.Errorf("make file: %w", err)
	}
	tmp := newTempName()
	if f, err = os.OpenFile(filepath.Join(dir, tmp), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, fmt.Errorf("make file: %w", err)
	}
	return &Draft{f, path, tmp}, nil
}

// Commit gives the file its name, in place of what had it, and closes it.
// perm is exact.
func (d *Draft) Commit(perm os.FileMode) error {
	if err := d.Chmod(perm); err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	if err := d.name(); err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	return d.File.Close()
}

func (d *Draft) name() error {
	dir := filepath.Dir(d.path)
	if d.tmp == "" {
		self := "/proc/self/fd/" + strconv.Itoa(int(d.Fd()))
		err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, d.path, unix.AT_SYMLINK_FOLLOW)
		if err != unix.EEXIST {
			return err
		}
		tmp := newTempName()
		if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, filepath.Join(dir, tmp), unix.AT_SYMLINK_FOLLOW); err != nil {
			return err
		}
		d.tmp = tmp
	}
	if err := os.Rename(filepath.Join(dir, d.tmp), d.path); err != nil {
		return err
	}
	d.tmp = ""
	return nil
}

// Close closes the file, and removes it when it was not committed. One that was
// is closed already, which does no harm.
func (d *Draft) Close() error {
	if d.tmp != "" {
		os.Remove(filepath.Join(filepath.Dir(d.path), d.tmp))
	}
	return d.File.Close()
}

// TempFile makes a file in dir that has no name and goes when it is closed.
func TempFile(dir string) (*os.File, error) {
	f, err := nameless(dir)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	if f, err = os.OpenFile(filepath.Join(dir, newTempName()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	return f, os.Remove(f.Name())
}

func nameless(dir string) (*os.File, error) {
	fd, err := retry(func() (int, error) { return unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, "nameless")), nil
}
