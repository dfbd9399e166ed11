package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Errors that callers ask for with errors.Is. ErrNotExist and ErrExist are
// those of io/fs.
var (
	ErrNotExist = fs.ErrNotExist
	ErrExist    = fs.ErrExist
	// ErrLocked reports a lock that another holds.
	ErrLocked = errors.New("locked by another process")
)

// tmpPrefix begins the name of every temporary file; CleanTemp removes what a
// killed writer left.
const tmpPrefix = ".tmp-"

var tmpCount atomic.Uint64

// WriteFile makes name in dir hold data, whole or not at all. durable waits
// until the disk has it; without, the file survives a kill but perhaps not a
// power cut. perm is exact: the umask does not count.
func WriteFile(dir, name string, data []byte, perm os.FileMode, durable bool) error {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer d.Close()
	return WriteFileAt(d, name, data, perm, durable)
}

// WriteFileAt is WriteFile in an open directory.
func WriteFileAt(dir *os.File, name string, data []byte, perm os.FileMode, durable bool) error {
	tmp, err := writeTemp(dir, data, perm, durable)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := unix.Renameat(int(dir.Fd()), tmp, int(dir.Fd()), name); err != nil {
		unix.Unlinkat(int(dir.Fd()), tmp, 0)
		return fmt.Errorf("write %s: rename: %w", name, err)
	}
	if durable {
		return syncDir(dir)
	}
	return nil
}

// writeTemp writes data to a new file in dir and returns its name.
func writeTemp(dir *os.File, data []byte, perm os.FileMode, durable bool) (string, error) {
	tmp := newTempName()
	fd, err := create(dir, tmp)
	if errors.Is(err, unix.EEXIST) { // of a dead process that had our number
		unix.Unlinkat(int(dir.Fd()), tmp, 0)
		fd, err = create(dir, tmp)
	}
	if err != nil {
		return "", err
	}
	err = fill(fd, data, perm, durable)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		unix.Unlinkat(int(dir.Fd()), tmp, 0)
		return "", err
	}
	return tmp, nil
}

func newTempName() string {
	return tmpPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(tmpCount.Add(1), 10)
}

func create(dir *os.File, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
}

func fill(fd int, data []byte, perm os.FileMode, durable bool) error {
	for len(data) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, data) })
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if perm != 0o600 {
		if err := unix.Fchmod(fd, uint32(perm.Perm())); err != nil {
			return err
		}
	}
	if durable {
		return unix.Fsync(fd)
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

// Remove removes a file; one that is not there is an error for which
// errors.Is(err, ErrNotExist) holds.
func Remove(path string, durable bool) error {
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if durable {
		return SyncDir(filepath.Dir(path))
	}
	return nil
}

// SyncDir waits until the disk has the names in dir.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := unix.Fsync(int(d.Fd())); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// syncDir syncs a directory that was opened with O_PATH or for reading.
func syncDir(d *os.File) error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(d.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", d.Name(), err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil {
		return fmt.Errorf("sync directory %s: %w", d.Name(), err)
	}
	return nil
}

// ReadFile reads a whole record. It is os.ReadFile in three system calls, for
// lists that read many.
func ReadFile(path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 1024)
	n := 0
	for {
		k, err := retry(func() (int, error) { return unix.Read(fd, buf[n:]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if k <= 0 {
			return buf[:n], nil
		}
		if n += k; n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// Mark makes an empty file, which says by its name what it has to say: it is
// there or not, so it needs no temporary file. It is not synced.
func Mark(path string) error {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return fmt.Errorf("mark %s: %w", path, err)
	}
	return unix.Close(fd)
}

// Claim makes path, with data in it, unless it exists: then the error is
// ErrExist. Of several that claim a name at once, one gets it.
func Claim(path string, data []byte, durable bool) error {
	dir, name := filepath.Split(path)
	d, err := os.OpenFile(filepath.Clean(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("claim %s: %w", name, err)
	}
	defer d.Close()
	tmp, err := writeTemp(d, data, 0o600, durable)
	if err != nil {
		return fmt.Errorf("claim %s: %w", name, err)
	}
	err = unix.Linkat(int(d.Fd()), tmp, int(d.Fd()), name, 0)
	unix.Unlinkat(int(d.Fd()), tmp, 0)
	if err != nil {
		return fmt.Errorf("claim %s: %w", name, err)
	}
	if durable {
		return syncDir(d)
	}
	return nil
}

// ReadDir lists a directory of records, sorted, without temporary files. Those
// that a killed writer left are removed on the way: who looks, tidies.
func ReadDir(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		pid, is := tempOwner(e.Name())
		if is && unix.Kill(pid, 0) == unix.ESRCH {
			os.Remove(filepath.Join(dir, e.Name()))
		}
		return is
	}), err
}

// CleanTemp removes the temporary files in dir whose writer is dead.
func CleanTemp(dir string) error {
	if _, err := ReadDir(dir); err != nil {
		return fmt.Errorf("clean directory: %w", err)
	}
	return nil
}

// IsTemp reports whether name is that of a temporary file, which lists of a
// directory must pass over.
func IsTemp(name string) bool {
	_, ok := tempOwner(name)
	return ok
}

func tempOwner(name string) (pid int, ok bool) {
	if len(name) <= len(tmpPrefix) || name[:len(tmpPrefix)] != tmpPrefix {
		return 0, false
	}
	rest := name[len(tmpPrefix):]
	for i := range len(rest) {
		if rest[i] == '-' {
			pid, err := strconv.Atoi(rest[:i])
			return pid, err == nil && pid > 0
		}
	}
	return 0, false
}
