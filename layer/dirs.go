package layer

import (
	"hash/maphash"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

const openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// A dir is an open directory. Its time is put back when it is left, since
// everything that was made in it changed it.
type dir struct {
	fd     int
	name   string
	mtime  unix.Timespec
	timed  bool // mtime is to be kept
	dirty  bool // something changed in it
	setgid bool // new files get its group
}

// A dirStack holds the directories from the root to the one that was last
// unpacked into: in most archives the next entry is in it or near.
type dirStack struct {
	stack []dir // never empty between open and close
	parts []string
}

func (s *dirStack) open(root int) error {
	fd, err := retry(func() (int, error) { return unix.Openat(root, ".", openDir, 0) })
	if err != nil {
		return err
	}
	return s.push(fd, "", true)
}

// push takes fd. The time of a directory that was there before is kept.
func (s *dirStack) push(fd int, name string, old bool) error {
	d := dir{fd: fd, name: name}
	if old {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return err
		}
		d.mtime, d.timed, d.setgid = st.Mtim, true, st.Mode&unix.S_ISGID != 0
	}
	s.stack = append(s.stack, d)
	return nil
}

func (s *dirStack) top() *dir { return &s.stack[len(s.stack)-1] }

func (s *dirStack) pop() error {
	d := s.top()
	var err error
	if d.timed && d.dirty {
		err = setTime(d.fd, d.mtime)
	}
	unix.Close(d.fd)
	s.stack = s.stack[:len(s.stack)-1]
	return err
}

// leave goes back to depth names below the root.
func (s *dirStack) leave(depth int) error {
	var first error
	for len(s.stack)-1 > depth {
		if err := s.pop(); first == nil {
			first = err
		}
	}
	return first
}

func (s *dirStack) close() error {
	err := s.leave(0)
	if perr := s.pop(); err == nil {
		err = perr
	}
	return err
}

// path is where the top is, with more names after it.
func (s *dirStack) path(more ...string) string {
	names := make([]string, 0, len(s.stack)+len(more))
	for _, d := range s.stack[1:] {
		names = append(names, d.name)
	}
	return strings.Join(append(names, more...), "/")
}

// setTime sets both times of what fd is open on.
func setTime(fd int, t unix.Timespec) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{t, t}, unix.AT_EMPTY_PATH)
}

// enter makes the directory names the top. What is missing is made; a link is
// followed inside the root, and what is no directory gives way to one.
func (a *applier) enter(names []string) error {
	s := &a.dirs
	same := 0
	for same < len(names) && same < len(s.stack)-1 && s.stack[same+1].name == names[same] {
		same++
	}
	if err := s.leave(same); err != nil {
		return err
	}
	for i := same; i < len(names); i++ {
		fd, err := retry(func() (int, error) { return unix.Openat(s.top().fd, names[i], openDir, 0) })
		switch err {
		case nil:
		case unix.ENOENT:
			if err := a.enterNew(names[i], names[:i+1]); err != nil {
				return err
			}
			continue
		case unix.ENOTDIR, unix.ELOOP:
			if fd, err = a.throughLink(names[i]); err != nil {
				return err
			}
			if fd < 0 {
				if err := a.enterNew(names[i], names[:i+1]); err != nil {
					return err
				}
				continue
			}
		default:
			return err
		}
		if err := s.push(fd, names[i], true); err != nil {
			return err
		}
		a.mark(names[:i+1])
	}
	return nil
}

// enterNew makes a directory that the layer does not list.
func (a *applier) enterNew(name string, path []string) error {
	hid, err := a.mkdir(name)
	if err != nil {
		return err
	}
	top := a.dirs.top()
	if err := unix.Fchmod(top.fd, 0o755); err != nil {
		return err
	}
	top.timed = false
	a.mark(path)
	if hid {
		return a.countFile()
	}
	return a.imply(strings.Join(path, "/"))
}

// throughLink opens the directory that the link name leads to inside the
// root, or returns -1 when there is none.
func (a *applier) throughLink(name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	path := a.dirs.path(name)
	for range 128 {
		fd, err := unix.Openat2(a.dirs.stack[0].fd, path, &how)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR, unix.EAGAIN:
		case unix.ENOTDIR, unix.ENOENT, unix.ELOOP:
			return -1, nil
		default:
			return -1, err
		}
	}
	return -1, unix.EAGAIN
}

// mkdir makes the directory name, where nothing but a directory may be, and
// enters it. hid reports that it hides what the layers below have there.
func (a *applier) mkdir(name string) (hid bool, err error) {
	top := a.dirs.top()
	top.dirty = true
	err = unix.Mkdirat(top.fd, name, 0o700)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(top.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return false, err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return false, a.enterFresh(name, st.Mode&unix.S_ISGID != 0)
		}
		// The layer deletes the name and makes it anew.
		hid = a.o.Whiteouts != Delete && isWhiteout(&st)
		if err := unix.Unlinkat(top.fd, name, 0); err != nil {
			return false, err
		}
		err = unix.Mkdirat(top.fd, name, 0o700)
	}
	if err != nil {
		return false, err
	}
	if err := a.enterFresh(name, top.setgid); err != nil {
		return false, err
	}
	if hid {
		return true, unix.Fsetxattr(a.dirs.top().fd, a.o.Whiteouts.opaqueXattr(), []byte("y"), 0)
	}
	return false, nil
}

// enterFresh enters a directory whose time is not to be kept.
func (a *applier) enterFresh(name string, setgid bool) error {
	fd, err := retry(func() (int, error) { return unix.Openat(a.dirs.top().fd, name, openDir, 0) })
	if err != nil {
		return err
	}
	if err := a.dirs.push(fd, name, false); err != nil {
		return err
	}
	a.dirs.top().setgid = setgid
	return nil
}

// mark remembers that this layer has the path.
func (a *applier) mark(path []string) {
	if a.made != nil {
		a.made[a.hash(path)] = struct{}{}
	}
}

func (a *applier) isMade(path []string) bool {
	_, ok := a.made[a.hash(path)]
	return ok
}

func (a *applier) hash(path []string) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	for _, p := range path {
		h.WriteString(p)
		h.WriteByte('/')
	}
	return h.Sum64()
}

// isWhiteout reports whether st is overlay's mark of a deleted name.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// whiteout deletes name of the layers below in the top directory. What this
// layer itself has by that name stays (image-spec layer.md#whiteouts).
func (a *applier) whiteout(name string) error {
	if name == "" || name == "." || name == ".." {
		return unix.EINVAL
	}
	top := a.dirs.top()
	if a.o.Whiteouts == Delete {
		return a.deleteBelow(top.fd, append(a.topPath(), name))
	}
	top.dirty = true
	err := unix.Mknodat(top.fd, name, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return err
	}
	fd, err := retry(func() (int, error) { return unix.Openat(top.fd, name, openDir, 0) })
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // a file hides what is below anyway
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsetxattr(fd, a.o.Whiteouts.opaqueXattr(), []byte("y"), 0)
}

// opaque deletes all that the layers below have in the top directory.
func (a *applier) opaque() error {
	top := a.dirs.top()
	if a.o.Whiteouts != Delete {
		return unix.Fsetxattr(top.fd, a.o.Whiteouts.opaqueXattr(), []byte("y"), 0)
	}
	return a.deleteContent(top.fd, a.topPath())
}

func (a *applier) topPath() []string {
	var path []string
	for _, d := range a.dirs.stack[1:] {
		path = append(path, d.name)
	}
	return path
}

// deleteContent deletes what is in fd, but not what this layer has made.
func (a *applier) deleteContent(fd int, path []string) error {
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.deleteBelow(fd, append(slices.Clone(path), name)); err != nil {
			return err
		}
	}
	return nil
}

// deleteBelow deletes the last name of path, which is in the directory parent.
func (a *applier) deleteBelow(parent int, path []string) error {
	name := path[len(path)-1]
	if !a.isMade(path) {
		a.dirs.top().dirty = true
		return inroot.RemoveAllAt(parent, name)
	}
	fd, err := retry(func() (int, error) { return unix.Openat(parent, name, openDir, 0) })
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.deleteContent(fd, path)
}
