// Package inroot opens and removes paths below a directory that
// somebody else may change at any time, without ever leaving it.
//
// The directory is held open, and everything below it is reached from its
// descriptor. Two rules are used, never a third:
//
//	Open       the directory is the root of every path: an absolute link
//	           begins at it and ".." stops at it, as inside a container
//	RemoveAll  no link is followed and no mount is entered at all
//
// A name that changes between two calls can therefore lead to another place
// below the directory, but not out of it. Links of /proc that lead to open
// files ("magic links") are never followed.
package inroot

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxRetries bounds how often a lookup that raced a rename or a mount is tried
// again, the kernel answering EAGAIN to ".."; any on the machine counts. After
// quickRetries there is a pause between, which lets a burst of them pass.
const (
	maxRetries   = 128
	quickRetries = 16
	retryPause   = 100 * time.Microsecond
)

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
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN && i < maxRetries {
			if i >= quickRetries {
				time.Sleep(retryPause)
			}
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
