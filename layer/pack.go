package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// PackOptions for WriteChangesWith.
type PackOptions struct {
	// Time, when not nil, says which modification time a file of another is
	// packed with.
	Time func(time.Time) time.Time
}

// WriteChanges writes changes as an uncompressed layer: files of the tree that
// root is open on, whiteouts for what was deleted. The same tree gives the same bytes.
func WriteChanges(ctx context.Context, w io.Writer, root *os.File, changes []Change) error {
	return WriteChangesWith(ctx, w, root, changes, PackOptions{})
}

// WriteChangesWith is WriteChanges with options.
func WriteChangesWith(ctx context.Context, w io.Writer, root *os.File, changes []Change, o PackOptions) error {
	p := packer{root: root, t: tar.NewWriter(w), links: make(map[inode]string), o: o}
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var err error
		if c.Kind == Deleted {
			err = p.whiteout(c.Path)
		} else {
			err = p.file(c.Path)
		}
		if err != nil {
			return fmt.Errorf("pack %s: %w", c.Path, err)
		}
	}
	if err := p.t.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

// WriteTree writes a whole tree as WriteChanges does.
func WriteTree(ctx context.Context, w io.Writer, root *os.File) error {
	all, err := Compare(ctx, nil, root)
	if err != nil {
		return err
	}
	return WriteChanges(ctx, w, root, all)
}

type inode struct{ dev, ino uint64 }

type packer struct {
	root  *os.File
	t     *tar.Writer
	links map[inode]string // the first name of a file with several
	o     PackOptions
}

func (p *packer) whiteout(name string) error {
	dir, base := path.Split(strings.TrimPrefix(name, "/"))
	return p.t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + whiteoutPrefix + base, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)})
}

// file writes one file of any kind; one that is gone, and a socket, are left out.
func (p *packer) file(name string) error {
	dir, base := path.Split(name)
	parent, err := inroot.Open(p.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
		return nil
	} else if err != nil {
		return err
	}
	h := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec), Format: tar.FormatPAX}
	if p.o.Time != nil {
		h.ModTime = p.o.Time(h.ModTime)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(parent.Fd()), base, buf)
		if err != nil {
			return err
		}
		h.Linkname = string(buf[:n])
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFREG:
		return p.regular(parent, base, h, &st)
	default:
		return nil // a socket is nothing without its program
	}
	return p.header(parent, base, h)
}

func (p *packer) regular(parent *os.File, base string, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := p.links[key]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.t.WriteHeader(h)
		}
		p.links[key] = h.Name
	}
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	h.Size = st.Size
	if err := p.header(parent, base, h); err != nil {
		return err
	}
	// A file that is written to meanwhile must not break the archive: as many
	// bytes as the header says, the missing ones zero.
	n, err := io.CopyN(p.t, f, h.Size)
	if err == io.EOF {
		_, err = io.CopyN(p.t, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// header writes h with the extended attributes that layers keep.
func (p *packer) header(parent *os.File, base string, h *tar.Header) error {
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir {
		fd, err := unix.Openat(int(parent.Fd()), base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			h.PAXRecords = xattrs(fd)
			unix.Close(fd)
		}
	}
	return p.t.WriteHeader(h)
}

func xattrs(fd int) map[string]string {
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, buf)
	if err != nil || n <= 0 {
		return nil
	}
	out := make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !keepXattr(name) {
			continue
		}
		value := make([]byte, 64<<10)
		if k, err := unix.Fgetxattr(fd, name, value); err == nil {
			out["SCHILY.xattr."+name] = string(value[:k])
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
