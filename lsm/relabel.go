package lsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Set gives a file a label; a link gets it itself.
func Set(file, label string) error {
	if err := unix.Lsetxattr(file, xattr, []byte(label), 0); err != nil {
		return labelError(file, label, err)
	}
	return nil
}

// Get is a file's label.
func Get(file string) (string, error) {
	buf := make([]byte, maxLabel+1)
	n, err := unix.Lgetxattr(file, xattr, buf)
	if err != nil {
		return "", &os.PathError{Op: "lgetxattr", Path: file, Err: err}
	}
	for n > 0 && buf[n-1] == 0 {
		n--
	}
	return string(buf[:n]), nil
}

// ErrUnsupported is returned for files that can have no label.
var ErrUnsupported = errors.New("its file system has no labels")

func labelError(file, label string, err error) error {
	switch err {
	case unix.ENOTSUP:
		err = ErrUnsupported
	case unix.EINVAL:
		err = errors.New("the policy does not know this label")
	}
	return fmt.Errorf("label %s as %s: %w", file, label, err)
}

// hosts are directories and files that the host needs with the labels they
// have: giving one to a container would lock everybody else out.
var hosts = []string{
	"/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media",
	"/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin",
	"/var", "/var/lib", "/var/log", "/var/run", "/var/tmp",
}

// Relabel gives a file, or a directory and all below it, a label. Links get it
// themselves and are not followed. What belongs to the host is refused.
func Relabel(path, label string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	real, err := os.Readlink(self)
	if err != nil {
		return err
	}
	if refused(real) {
		return fmt.Errorf("label %s for a container: refused, the host needs it as it is", path)
	}
	// By a descriptor: what is found at the path now is what gets the label.
	if err := unix.Setxattr(self, xattr, []byte(label), 0); err != nil {
		return labelError(path, label, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return below(os.NewFile(uintptr(dir), path), label)
}

// refused are the host's own places, and users' homes.
func refused(real string) bool {
	homes := []string{os.Getenv("HOME")}
	if user := os.Getenv("SUDO_USER"); user != "" {
		homes = append(homes, filepath.Join("/home", user))
	}
	for _, h := range homes {
		if h != "" && (real == filepath.Clean(h)) {
			return true
		}
	}
	return slices.Contains(hosts, real) || filepath.Dir(real) == "/home"
}

// below labels what is in dir, and closes it. What vanishes meanwhile needs no
// label any more.
func below(dir *os.File, label string) error {
	defer dir.Close()
	at := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/"
	for {
		names, err := dir.ReadDir(256)
		for _, d := range names {
			if err := one(dir, at, d.Name(), label); err != nil {
				return err
			}
		}
		if err != nil || len(names) == 0 {
			return nil
		}
	}
}

func one(dir *os.File, at, name, label string) error {
	path := filepath.Join(dir.Name(), name)
	if have, err := Get(at + name); err != nil || have != label {
		// The last element alone is looked up, and no link is followed.
		switch err := unix.Lsetxattr(at+name, xattr, []byte(label), 0); err {
		case nil:
		case unix.ENOENT:
			return nil
		default:
			return labelError(path, label, err)
		}
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil
	default:
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return below(os.NewFile(uintptr(fd), path), label)
}
