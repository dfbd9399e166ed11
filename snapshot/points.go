package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/oci"
)

// Points are paths that mounts will cover. A container's own layer holds what
// the container wrote; to make these there at each start, and to remove them
// at each end, would cost more than the rest of the layer. So those that the
// parent lacks are made once, in a layer between.
type Points struct {
	Files, Dirs []string // absolute paths
}

func (p Points) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "1\n%s\n\n%s\n", strings.Join(p.Files, "\n"), strings.Join(p.Dirs, "\n"))
	return hex.EncodeToString(h.Sum(nil))[:8]
}

// points returns the name of the layer of p above parent, made if need be; ""
// when the parent has them all. The lock that holds off removals is held.
func (s *Store) points(parent oci.Digest, p Points) (string, error) {
	if len(p.Files)+len(p.Dirs) == 0 {
		return "", nil
	}
	name := short(parent) + pointsMark + p.key()
	dir := filepath.Join(s.dir, "l", name)
	if _, err := os.Lstat(filepath.Join(dir, "d")); err == nil {
		return name, nil
	}
	switch _, err := os.Lstat(filepath.Join(dir, "none")); {
	case err == nil:
		return "", nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	draft, err := s.temp()
	if err != nil {
		return "", err
	}
	defer removeTree(draft)
	made, err := s.makePoints(draft, parent, p)
	if err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(draft, "l"), dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if !made {
		return "", nil
	}
	return name, nil
}

// pointsMark stands in the names of such layers, which List and Exists do not
// know: they go with their parent.
const pointsMark = "-points-"

func (s *Store) makePoints(draft string, parent oci.Digest, p Points) (made bool, err error) {
	view, err := s.ViewTree(parent)
	if err != nil {
		return false, err
	}
	defer view.Close()
	m := pointMaker{view: view, top: filepath.Join(draft, "l", "d")}
	if err := os.MkdirAll(m.top, 0o755); err != nil {
		return false, err
	}
	for _, f := range p.Files {
		if err := m.make(f, true); err != nil {
			return false, fmt.Errorf("make mount point %s: %w", f, err)
		}
	}
	for _, d := range p.Dirs {
		if err := m.make(d, false); err != nil {
			return false, fmt.Errorf("make mount point %s: %w", d, err)
		}
	}
	if m.made {
		return true, m.setTimes()
	}
	// The draft's directory says that there is nothing to lay between; what is in
	// it are the directories that lead to points which the parent has.
	if err := removeTree(m.top); err != nil {
		return false, err
	}
	return false, os.WriteFile(filepath.Join(draft, "l", "none"), nil, 0o600)
}

// A pointMaker makes in top what view lacks.
type pointMaker struct {
	view  *os.File
	top   string
	made  bool
	times []dirTimes
}

type dirTimes struct {
	dir   string
	times []unix.Timespec
}

// make makes one point. A path that leads through a link is left to the start,
// which resolves it inside the container's root.
func (m *pointMaker) make(point string, regular bool) error {
	names := strings.Split(path.Clean("/" + point)[1:], "/")
	for i := range names {
		sub, last := strings.Join(names[:i+1], "/"), i == len(names)-1
		below, err := inroot.Open(m.view, sub, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if err := makeEntry(filepath.Join(m.top, sub), last && regular); err != nil {
				return err
			}
			m.made = m.made || last
			continue
		}
		if err != nil {
			return err
		}
		more, err := m.enter(sub, below, last)
		below.Close()
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// enter makes a directory like the one below it, whose place it takes in the
// merged tree. more is false for what is no directory, and at the last name.
func (m *pointMaker) enter(sub string, below *os.File, last bool) (more bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(below.Fd()), &st); err != nil {
		return false, err
	}
	if last || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, nil
	}
	dir := filepath.Join(m.top, sub)
	if err := unix.Mkdir(dir, 0o700); err == unix.EEXIST {
		return true, nil
	} else if err != nil {
		return false, err
	}
	if err := unix.Lchown(dir, int(st.Uid), int(st.Gid)); err != nil {
		return false, err
	}
	if err := unix.Chmod(dir, st.Mode&0o7777); err != nil {
		return false, err
	}
	m.times = append(m.times, dirTimes{dir, []unix.Timespec{st.Atim, st.Mtim}})
	return true, copyXattrs(dir, below)
}

// setTimes is the last step: each entry that is made changes its directory's.
func (m *pointMaker) setTimes() error {
	for _, t := range m.times {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, t.dir, t.times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

func makeEntry(file string, regular bool) error {
	var err error
	if regular {
		err = unix.Mknod(file, unix.S_IFREG|0o644, 0)
	} else {
		err = unix.Mkdir(file, 0o755)
	}
	if err == unix.EEXIST {
		return nil
	}
	return err
}

func copyXattrs(dir string, from *os.File) error {
	src := fmt.Sprintf("/proc/self/fd/%d", from.Fd())
	buf := make([]byte, 1<<16)
	n, err := unix.Listxattr(src, buf)
	if err == unix.EOPNOTSUPP || n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 1<<16)
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		n, err := unix.Getxattr(src, name, value)
		if err == nil {
			err = unix.Lsetxattr(dir, name, value[:n], 0)
		}
		if err != nil && err != unix.ENODATA && err != unix.EPERM {
			return fmt.Errorf("copy attribute %s: %w", name, err)
		}
	}
	return nil
}

// detachPoints moves the layers of a parent's mount points to dir, with the
// lock held.
func (s *Store) detachPoints(parent oci.Digest, dir string) error {
	found, err := filepath.Glob(s.layerDir(parent) + pointsMark + "*")
	for _, f := range found {
		if err == nil {
			err = os.Rename(f, filepath.Join(dir, filepath.Base(f)))
		}
	}
	return err
}

// dropPoints is detachPoints where nothing can be moved.
func (s *Store) dropPoints(parent oci.Digest) error {
	found, err := filepath.Glob(s.layerDir(parent) + pointsMark + "*")
	for _, f := range found {
		err = errors.Join(err, s.removeTree(f))
	}
	return err
}
