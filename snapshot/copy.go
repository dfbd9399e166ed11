package snapshot

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/layer"
)

// copyTree makes path a copy of the tree below: owners, modes, times,
// attributes, links between files, holes and devices. Where the file system
// can, the files share their blocks.
func copyTree(path, below string) error {
	src, err := os.Open(below)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := unix.Mkdir(path, 0o700); err != nil {
		return err
	}
	dst, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dst.Close()
	c := copier{dst: int(dst.Fd()), links: map[inode]string{}, reflink: true}
	if err := c.directory(src, dst, ""); err != nil {
		return fmt.Errorf("copy %s: %w", below, err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// A copier copies one tree. Nobody else writes to either side.
type copier struct {
	dst     int
	links   map[inode]string // the copies of files with several names, by path
	reflink bool             // until it is known that there is none
}

// directory copies what is in src to dst, then what src itself is.
func (c *copier) directory(src, dst *os.File, path string) error {
	for {
		names, err := src.Readdirnames(1024)
		for _, name := range names {
			if err := c.entry(src, dst, name, path+name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err == io.EOF {
			return likeDir(dst, src)
		}
		if err != nil {
			return err
		}
	}
}

func (c *copier) entry(src, dst *os.File, name, path string) error {
	from, to := int(src.Fd()), int(dst.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		if first, ok := c.links[inode{st.Dev, st.Ino}]; ok {
			return unix.Linkat(c.dst, first, to, name, 0)
		}
		c.links[inode{st.Dev, st.Ino}] = path
	}
	switch kind {
	case unix.S_IFDIR:
		return c.subdirectory(from, to, name, path)
	case unix.S_IFREG:
		return c.regular(from, to, name, &st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err == nil {
			err = unix.Symlinkat(string(buf[:n]), to, name)
		}
		if err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(to, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	return finishNode(to, name, &st)
}

// finishNode gives what cannot be opened its owner, mode and times.
func finishNode(dir int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

func (c *copier) subdirectory(from, to int, name, path string) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	var f [2]*os.File
	for i, dir := range []int{from, to} {
		fd, err := unix.Openat(dir, name, openDirectory, 0)
		if err != nil {
			return err
		}
		f[i] = os.NewFile(uintptr(fd), name)
		defer f[i].Close()
	}
	return c.directory(f[0], f[1], path+"/")
}

func (c *copier) regular(from, to int, name string, st *unix.Stat_t) error {
	fd, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(fd), name)
	defer src.Close()
	fd, err = unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), name)
	defer dst.Close()
	if err := c.content(src, dst, st.Size); err != nil {
		return err
	}
	return likeDir(dst, src)
}

// content copies the bytes of a file, its holes as holes.
func (c *copier) content(src, dst *os.File, size int64) error {
	if c.reflink && size > 0 {
		err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
		if err == nil {
			return nil
		}
		c.reflink = false
	}
	for pos := int64(0); pos < size; {
		data, err := unix.Seek(int(src.Fd()), pos, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(src, dst, data, end); err != nil {
			return err
		}
		pos = end
	}
	return dst.Truncate(size)
}

func copyRange(src, dst *os.File, from, to int64) error {
	if _, err := src.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(from, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(dst, src, to-from) // by copy_file_range
	return err
}

// withParents adds to changes, which are sorted, the directories that lead to
// them: a copy does not say, as overlay does, that they were gone through.
func withParents(changes []layer.Change) []layer.Change {
	have := make(map[string]bool, len(changes))
	for _, c := range changes {
		have[c.Path] = true
	}
	out := changes
	for _, c := range changes {
		for d := path.Dir(c.Path); d != "/" && !have[d]; d = path.Dir(d) {
			have[d] = true
			out = append(out, layer.Change{Kind: layer.Modified, Path: d})
		}
	}
	slices.SortFunc(out, func(a, b layer.Change) int { return strings.Compare(a.Path, b.Path) })
	return out
}
