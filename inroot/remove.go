package inroot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrMount reports a tree that is not removed since something is mounted in it.
var ErrMount = errors.New("a file system is mounted there")

// beneath is how RemoveAll reaches everything: no link, no mount, nothing above.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS

// maxDepth is how many directories are held open at once. What lies deeper is
// moved up and removed from there: a container can nest directories without end.
const maxDepth = 64

// RemoveAll removes the tree at path below root: by descriptors, never through
// a link, never into another mount (STO-06). A path that is not there is no
// error; root itself cannot be removed. When something is mounted in the tree
// the error is ErrMount, and what lies under the mount is kept.
func RemoveAll(root *os.File, path string) error {
	path = strings.Trim(path, "/")
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	if name == "" || name == "." || name == ".." {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrInvalid}
	}
	parent, err := openat2(int(root.Fd()), dir, unix.O_PATH|unix.O_DIRECTORY, 0, beneath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer unix.Close(parent)
		err = RemoveAllAt(parent, name)
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// RemoveAllAt is RemoveAll of one name in an open directory.
func RemoveAllAt(parent int, name string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	if rerr := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); rerr == nil || rerr == unix.ENOENT {
		return nil
	} else if rerr == unix.ENOTDIR {
		return err // a file that may not be removed
	} else if rerr == unix.EBUSY {
		return ErrMount
	}
	r := remover{}
	return r.tree(parent, name, 0)
}

// A remover removes one tree.
type remover struct {
	top   int // the tree's own directory, that deep ones are moved to
	moved int
}

// tree removes the directory name of parent.
func (r *remover) tree(parent int, name string, depth int) error {
	fd, err := openat2(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath)
	switch {
	case err == unix.ENOENT:
		return nil
	case err == unix.EXDEV:
		return ErrMount
	case err != nil:
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	if depth == 0 {
		r.top = fd
	}
	// Names that a writer adds meanwhile, or that the file system passed over
	// while others were removed, are met in the next round.
	for range 100 {
		if err := r.content(dir, fd, depth); err != nil {
			return err
		}
		err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
		switch err {
		case nil, unix.ENOENT:
			return nil
		case unix.EBUSY:
			return ErrMount
		case unix.ENOTEMPTY:
		default:
			return err
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return err
}

// content removes what is in the directory.
func (r *remover) content(dir *os.File, fd, depth int) error {
	for {
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			if err := r.entry(fd, e, depth); err != nil {
				if err == ErrMount {
					return &fs.PathError{Op: "remove", Path: e.Name(), Err: err}
				}
				return err
			}
		}
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *remover) entry(fd int, e os.DirEntry, depth int) error {
	if !e.IsDir() {
		err := unix.Unlinkat(fd, e.Name(), 0)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err == unix.EBUSY {
			return ErrMount
		}
		if err != unix.EISDIR {
			return &fs.PathError{Op: "remove", Path: e.Name(), Err: err}
		}
	}
	if depth < maxDepth {
		return r.tree(fd, e.Name(), depth+1)
	}
	for {
		r.moved++
		name := ".hull-deep-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(r.moved)
		err := unix.Renameat(fd, e.Name(), r.top, name)
		switch err {
		case nil, unix.ENOENT:
			return nil
		case unix.EEXIST, unix.ENOTEMPTY: // left by one that was killed
			continue
		case unix.EBUSY, unix.EXDEV:
			return ErrMount
		}
		return &fs.PathError{Op: "remove", Path: e.Name(), Err: err}
	}
}
