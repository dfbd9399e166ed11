package monitor

import (
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// runeLen is the length of the rune at the front of s, 0 when there is none.
func runeLen(s []byte) int {
	r, n := utf8.DecodeRune(s)
	if r == utf8.RuneError && n <= 1 {
		return 0
	}
	return n
}

func openRetry(dir int, path string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags, perm)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// read reads once; n is 0 and err nil at the end of the file.
func read(fd int, p []byte) (int, error) {
	for {
		n, err := rawRead(fd, p)
		if err == unix.EINTR {
			continue
		}
		if n < 0 {
			n = 0
		}
		return n, err
	}
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func closeFD(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
		*fd = -1
	}
}

// writeRecord replaces the file name in dir by data, in the way of package
// state's routine, which this binary cannot afford to link: a temporary file
// beside it, fsync when durable, rename, fsync of the directory.
func writeRecord(dir, name string, data []byte, durable bool) error {
	d, err := openRetry(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	tmp := "." + name + ".tmp"
	unix.Unlinkat(d, tmp, 0)
	fd, err := openRetry(d, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = writeAll(fd, data)
	if err == nil && durable {
		err = unix.Fsync(fd)
	}
	unix.Close(fd)
	if err == nil {
		err = unix.Renameat(d, tmp, d, name)
	}
	if err != nil {
		unix.Unlinkat(d, tmp, 0)
		return err
	}
	if durable {
		return unix.Fsync(d)
	}
	return nil
}
