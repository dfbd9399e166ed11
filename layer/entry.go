package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// timespec is what the header says, or the time now.
func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

func modeOf(h *tar.Header) uint32 { return uint32(h.Mode & 0o7777) }

// chown reports whether the owner of a new entry has to be set.
func (a *applier) chown(h *tar.Header) bool {
	return !a.o.IgnoreChown && (h.Uid != a.uid || h.Gid != a.gid || a.dirs.top().setgid)
}

func chownError(h *tar.Header, err error) error {
	if err == nil {
		return nil
	}
	return &OwnerError{h.Uid, h.Gid, err}
}

// An OwnerError reports an owner that the user namespace has no id for.
type OwnerError struct {
	UID, GID int
	Err      error
}

func (e *OwnerError) Error() string { return fmt.Sprintf("set owner %d:%d: %v", e.UID, e.GID, e.Err) }
func (e *OwnerError) Unwrap() error { return e.Err }

// Hint is printed under the error.
func (e *OwnerError) Hint() string {
	if !errors.Is(e.Err, unix.EINVAL) {
		return ""
	}
	return "give the user enough subordinate ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
}

// again runs make, and once more after what is in its way was removed.
func (a *applier) again(base string, make func(dir int) error) error {
	top := a.dirs.top()
	top.dirty = true
	err := make(top.fd)
	if err != unix.EEXIST {
		return err
	}
	if err := inroot.RemoveAllAt(top.fd, base); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	return make(top.fd)
}

// file makes a regular file: for nobody else's eyes until it has its owner (UNP-10).
func (a *applier) file(base string, h *tar.Header) error {
	fd := -1
	err := a.again(base, func(dir int) (err error) {
		fd, err = retry(func() (int, error) {
			return unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		})
		return err
	})
	if err != nil {
		return err
	}
	if isSparse(h) {
		err = a.writeSparse(fd, h.Size)
	} else if h.Size > 0 {
		err = a.write(fd)
	}
	if err == nil {
		err = a.finish(fd, h)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

func (a *applier) write(fd int) error {
	for {
		n, err := a.tr.Read(a.buf)
		if werr := writeAll(fd, a.buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
	}
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for _, key := range []string{"GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize"} {
		if _, ok := h.PAXRecords[key]; ok {
			return true
		}
	}
	return false
}

// holeSize is the smallest run of zeros that is left out of a sparse file.
const holeSize = 4096

// writeSparse leaves holes where the file has only zeros.
func (a *applier) writeSparse(fd int, size int64) error {
	var pos int64
	for {
		n, err := io.ReadFull(a.tr, a.buf)
		for b := a.buf[:n]; len(b) > 0; {
			k := min(holeSize, len(b))
			if !isZero(b[:k]) {
				if _, err := retry(func() (int, error) { return unix.Pwrite(fd, b[:k], pos) }); err != nil {
					return err
				}
			}
			pos, b = pos+int64(k), b[k:]
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF && pos == size {
			return unix.Ftruncate(fd, size)
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// finish gives a file or directory its owner, attributes, mode and time. The
// order is the kernel's: a change of owner takes set-uid bits and capabilities away.
func (a *applier) finish(fd int, h *tar.Header) error {
	if a.chown(h) {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return chownError(h, err)
		}
	}
	if err := a.xattrs(fd, h); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, modeOf(h)); err != nil {
		return err
	}
	return setTime(fd, timespec(h.ModTime))
}

func (a *applier) dir(base string, h *tar.Header) error {
	if _, err := a.mkdir(base); err != nil {
		return err
	}
	a.listed()
	return a.finishDir(h)
}

// finishDir is finish for the top directory, whose time is set when it is left.
func (a *applier) finishDir(h *tar.Header) error {
	top := a.dirs.top()
	// An old directory has its own owner, so it is always set.
	if !a.o.IgnoreChown {
		if err := unix.Fchown(top.fd, h.Uid, h.Gid); err != nil {
			return chownError(h, err)
		}
	}
	if err := a.xattrs(top.fd, h); err != nil {
		return err
	}
	if err := unix.Fchmod(top.fd, modeOf(h)); err != nil {
		return err
	}
	top.mtime, top.timed, top.dirty = timespec(h.ModTime), true, true
	top.setgid = h.Mode&unix.S_ISGID != 0
	return nil
}

func (a *applier) symlink(base string, h *tar.Header) error {
	err := a.again(base, func(dir int) error { return unix.Symlinkat(h.Linkname, dir, base) })
	if err != nil {
		return err
	}
	return a.finishAt(base, h)
}

// finishAt gives what cannot be opened its owner and time, by its name, never
// through a link. The directory above is held open.
func (a *applier) finishAt(base string, h *tar.Header) error {
	dir := a.dirs.top().fd
	if a.chown(h) {
		if err := unix.Fchownat(dir, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(h, err)
		}
	}
	t := timespec(h.ModTime)
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

// link makes a hard link to what the layer has already. A symbolic link as
// its target is linked itself, not what it names.
func (a *applier) link(base string, h *tar.Header) error {
	target, err := splitName(h.Linkname, nil)
	if err != nil {
		return fmt.Errorf("link to %s: %w", printable(h.Linkname), err)
	}
	if len(target) == 0 {
		return errors.New("a link to the root")
	}
	dir, err := a.lookUp(target[:len(target)-1])
	if err != nil {
		return fmt.Errorf("link to %s: %w", printable(h.Linkname), err)
	}
	defer unix.Close(dir)
	name := target[len(target)-1]
	var have, old unix.Stat_t
	if err := unix.Fstatat(dir, name, &have, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("link to %s: %w", printable(h.Linkname), err)
	}
	switch {
	case have.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("link to %s: a directory", printable(h.Linkname))
	case a.o.Whiteouts != Delete && isWhiteout(&have):
		return fmt.Errorf("link to %s: %w", printable(h.Linkname), unix.ENOENT)
	}
	// A link to itself must not be removed to make room.
	top := a.dirs.top()
	if unix.Fstatat(top.fd, base, &old, unix.AT_SYMLINK_NOFOLLOW) == nil && old.Ino == have.Ino && old.Dev == have.Dev {
		return nil
	}
	return a.again(base, func(to int) error { return unix.Linkat(dir, name, to, base, 0) })
}

// lookUp opens the directory path as enter does, but makes nothing.
func (a *applier) lookUp(path []string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	p := "."
	if len(path) > 0 {
		p = strings.Join(path, "/")
	}
	for range 128 {
		fd, err := unix.Openat2(a.dirs.stack[0].fd, p, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// node makes a device or a named pipe. Linux numbers have 12 and 20 bits: what
// is larger would name another device than the archive says (UNP-05).
func (a *applier) node(base string, h *tar.Header) error {
	mode, dev := uint32(unix.S_IFIFO), uint64(0)
	if h.Typeflag != tar.TypeFifo {
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("there is no device %d:%d", h.Devmajor, h.Devminor)
		}
		mode, dev = unix.S_IFBLK, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if h.Typeflag == tar.TypeChar {
			mode = unix.S_IFCHR
			if dev == 0 {
				return errors.New("device 0:0 is overlay's own mark")
			}
		}
	}
	err := a.again(base, func(dir int) error { return unix.Mknodat(dir, base, mode|0o600, int(dev)) })
	if err == unix.EPERM && mode != unix.S_IFIFO {
		return nil // the user namespace may not; a container gets its devices another way
	}
	if err != nil {
		return err
	}
	if err := a.finishAt(base, h); err != nil {
		return err
	}
	return chmodNode(a.dirs.top().fd, base, mode, modeOf(h))
}

// chmodNode sets the mode, the umask notwithstanding, of a node that is
// checked to be the one that was made: chmod by name would follow a link (UNP-03).
func chmodNode(dir int, base string, kind, mode uint32) error {
	fd, err := retry(func() (int, error) { return unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind {
		return unix.ESTALE
	}
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), os.FileMode(mode&0o777)|specialBits(mode))
}

func specialBits(mode uint32) os.FileMode {
	var m os.FileMode
	if mode&unix.S_ISUID != 0 {
		m |= os.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, b) })
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// readNames lists the open directory fd from its beginning.
func readNames(fd int) ([]string, error) {
	d, err := retry(func() (int, error) { return unix.Openat(fd, ".", openDir, 0) })
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(d), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}
