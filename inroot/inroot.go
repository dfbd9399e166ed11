// Package inroot opens, makes and removes paths below a directory that
// somebody else may change at any time, without ever leaving it.
//
// The directory is held open, and everything below it is reached from its
// descriptor. Two rules are used, never a third:
//
//	Open, MkdirAll  the directory is the root of every path: an absolute link
//	                begins at it and ".." stops at it, as inside a container
//	RemoveAll       no link is followed and no mount is entered at all
//
// A name that changes between two calls can therefore lead to another place
// below the directory, but not out of it. Links of /proc that lead to open
// files ("magic links") are never followed.
package inroot

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRetries bounds how often a lookup that raced a rename is tried again; the
// kernel answers EAGAIN to ".." in a tree that is moved.
const maxRetries = 128

// Open opens path below root, where root is the root of every symbolic link
// (openat2 with RESOLVE_IN_ROOT). flags are O_…; O_CLOEXEC is added. An empty
// path is root itself.
func Open(root *os.File, path string, flags int, perm os.FileMode) (*os.File, error) {
	fd, err := openat2(int(root.Fd()), orDot(path), flags, perm, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func orDot(path string) string {
	if path == "" {
		return "."
	}
	return path
}

func openat2(dir int, path string, flags int, perm os.FileMode, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		how.Mode = uint64(modeBits(perm)) // openat2 refuses a mode where it means nothing
	}
	for i := 0; ; i++ {
		fd, err := unix.Openat2(dir, path, &how)
		if err == unix.EINTR || (err == unix.EAGAIN && i < maxRetries) {
			continue
		}
		return fd, err
	}
}

// modeBits is what chmod(2) calls perm.
func modeBits(perm os.FileMode) uint32 {
	m := uint32(perm.Perm())
	if perm&os.ModeSetuid != 0 {
		m |= unix.S_ISUID
	}
	if perm&os.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if perm&os.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	return m
}

// MkdirAll makes the directory path below root and what is missing above it,
// and returns it opened. What it makes gets perm, whatever the umask, and the
// owner; -1 leaves a user or group as it is. A link on the way is followed
// inside root, also when what it names has to be made.
func MkdirAll(root *os.File, path string, perm os.FileMode, uid, gid int) (*os.File, error) {
	const how = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := openat2(int(root.Fd()), orDot(path), how, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, fs.ErrNotExist) {
		w := walker{root: int(root.Fd()), perm: modeBits(perm), uid: uid, gid: gid}
		fd, err = w.mkdirAll(path)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "make directory", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// maxLinks is how many links one path may lead through, as in the kernel.
const maxLinks = 40

// A walker resolves a path one name at a time. It keeps the directories it
// came through, so ".." goes back to where it came from, also when that was
// moved meanwhile.
type walker struct {
	root     int
	perm     uint32
	uid, gid int
	stack    []int // opened directories below root
	links    int
}

func (w *walker) mkdirAll(path string) (int, error) {
	defer func() { w.pop(len(w.stack)) }()
	names := strings.Split(path, "/")
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			w.pop(min(1, len(w.stack)))
			continue
		}
		target, err := w.enter(name)
		if err != nil {
			return -1, err
		}
		if target != "" {
			if w.links++; w.links > maxLinks {
				return -1, unix.ELOOP
			}
			if strings.HasPrefix(target, "/") {
				w.pop(len(w.stack))
			}
			names = append(strings.Split(target, "/"), names...)
		}
	}
	return retry(func() (int, error) {
		return unix.Openat(w.top(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
}

func (w *walker) top() int {
	if len(w.stack) == 0 {
		return w.root
	}
	return w.stack[len(w.stack)-1]
}

func (w *walker) pop(n int) {
	for range n {
		unix.Close(w.top())
		w.stack = w.stack[:len(w.stack)-1]
	}
}

// enter opens name, which it makes if it is missing. Of a link it returns what it names.
func (w *walker) enter(name string) (target string, err error) {
	const how = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	open := func() (int, error) { return unix.Openat(w.top(), name, how, 0) }
	fd, err := retry(open)
	if err == unix.ENOENT {
		if err = w.make(name); err != nil && err != unix.EEXIST {
			return "", err
		}
		fd, err = retry(open)
	}
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.stack = append(w.stack, fd)
		return "", nil
	case unix.S_IFLNK:
		defer unix.Close(fd)
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(fd, "", buf[:])
		if err == nil && n == 0 {
			err = unix.ENOENT
		}
		return string(buf[:max(n, 0)]), err
	}
	unix.Close(fd)
	return "", unix.ENOTDIR
}

// make makes the directory name. It is nobody else's until it has its owner.
func (w *walker) make(name string) error {
	if err := unix.Mkdirat(w.top(), name, 0o700); err != nil {
		return err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(w.top(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if w.uid >= 0 || w.gid >= 0 {
		if err := unix.Fchown(fd, w.uid, w.gid); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, w.perm)
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
