package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// Whiteout names of the image specification (layer.md#whiteouts).
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh."
)

// Errors of a layer that is not to be trusted.
var (
	ErrTooLarge = errors.New("layer unpacks to more than is allowed")
	errName     = errors.New("not a name of a file in a layer")
)

// Apply unpacks the uncompressed tar r into the directory root is open on.
func Apply(ctx context.Context, root *os.File, r io.Reader, o ApplyOptions) error {
	a := applier{root: root, o: o, buf: make([]byte, 256<<10)}
	defer a.close()
	if o.Whiteouts == Delete {
		a.made = make(map[string]bool)
	}
	t := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		if err := a.entry(h, t); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	// What follows the end mark belongs to the stream that is hashed.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	return a.finish()
}

// An applier is one Apply under way.
type applier struct {
	root   *os.File
	o      ApplyOptions
	buf    []byte
	size   int64
	files  int64
	dir    string // what parent is open on
	parent *os.File
	made   map[string]bool // what this layer made, for opaque directories
	times  []dirTime
}

// A dirTime is set last: what is made in a directory changes its time.
type dirTime struct {
	path  string
	mtime time.Time
}

func (a *applier) close() {
	if a.parent != nil && a.parent != a.root {
		a.parent.Close()
	}
}

// open returns the directory of a name, made if it is missing. The last one is
// kept: archives list a directory's files together.
func (a *applier) open(dir string) (*os.File, error) {
	if a.parent != nil && a.dir == dir {
		return a.parent, nil
	}
	f := a.root
	if dir != "" {
		var err error
		f, err = inroot.Open(a.root, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if errors.Is(err, os.ErrNotExist) {
			f, err = inroot.MkdirAll(a.root, dir, 0o755, -1, -1)
		}
		if err != nil {
			return nil, err
		}
	}
	a.close()
	a.parent, a.dir = f, dir
	return f, nil
}

// entry unpacks one member.
func (a *applier) entry(h *tar.Header, content io.Reader) error {
	if a.files++; a.o.MaxFiles > 0 && a.files > a.o.MaxFiles {
		return ErrTooLarge
	}
	if a.size += h.Size; a.o.MaxSize > 0 && a.size > a.o.MaxSize {
		return ErrTooLarge
	}
	if strings.IndexByte(h.Name, 0) >= 0 || strings.IndexByte(h.Linkname, 0) >= 0 {
		return errName
	}
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		if h.Typeflag == tar.TypeDir {
			return a.attributes(a.root, h)
		}
		return errName
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	parent, err := a.open(dir)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(parent, dir, base)
	}
	if a.made != nil {
		a.made[name] = true
	}
	return a.make(parent, base, name, h, content)
}

// make makes one file of any kind in place of what is there.
func (a *applier) make(parent *os.File, base, name string, h *tar.Header, content io.Reader) error {
	p := int(parent.Fd())
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeDir:
		return a.directory(parent, base, name, h)
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old archives have it
		return a.file(parent, base, h, content)
	case tar.TypeSymlink:
		if err := a.replace(parent, base, func() error { return unix.Symlinkat(h.Linkname, p, base) }); err != nil {
			return err
		}
		return a.linkAttributes(p, base, h)
	case tar.TypeLink:
		return a.hardLink(parent, base, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		if kind == unix.S_IFCHR && h.Devmajor == 0 && h.Devminor == 0 {
			return fmt.Errorf("a device 0:0 is overlay's mark of a deletion: %w", errName)
		}
		dev := int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		err := a.replace(parent, base, func() error { return unix.Mknodat(p, base, kind|mode, dev) })
		if err == unix.EPERM && kind != unix.S_IFIFO {
			return nil // a user may not make devices, and may not use one either
		}
		if err != nil {
			return err
		}
		if err := a.linkAttributes(p, base, h); err != nil {
			return err
		}
		return unix.Fchmodat(p, base, mode, 0)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("kind %q of file is not known: %w", h.Typeflag, errName)
}

// replace calls make, and once more after removing what is in the way.
func (a *applier) replace(parent *os.File, base string, make func() error) error {
	err := make()
	if err == unix.EEXIST {
		if err := a.remove(parent, base); err != nil {
			return err
		}
		err = make()
	}
	return err
}

func (a *applier) remove(parent *os.File, base string) error {
	err := unix.Unlinkat(int(parent.Fd()), base, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		return inroot.RemoveAll(parent, base)
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func (a *applier) directory(parent *os.File, base, name string, h *tar.Header) error {
	p := int(parent.Fd())
	err := unix.Mkdirat(p, base, 0o700)
	if err != nil && err != unix.EEXIST {
		return err
	}
	const how = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(p, base, how, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		if err := a.remove(parent, base); err != nil {
			return err
		}
		if err := unix.Mkdirat(p, base, 0o700); err != nil {
			return err
		}
		fd, err = unix.Openat(p, base, how, 0)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	a.times = append(a.times, dirTime{name, h.ModTime})
	return a.attributes(f, h)
}

func (a *applier) file(parent *os.File, base string, h *tar.Header, content io.Reader) error {
	p := int(parent.Fd())
	var fd int
	err := a.replace(parent, base, func() (err error) {
		fd, err = unix.Openat(p, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if h.Size > 0 {
		// Hidden, or io.CopyBuffer would ignore the buffer for splice.
		if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, a.buf); err != nil {
			return err
		}
	}
	if err := a.attributes(f, h); err != nil {
		return err
	}
	return setTime(fd, "", h.ModTime)
}

// hardLink links to a file of the same tree; what it names is not followed.
func (a *applier) hardLink(parent *os.File, base string, h *tar.Header) error {
	dir, file := path.Split(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"))
	if file == "" {
		return errName
	}
	from, err := inroot.Open(a.root, strings.TrimSuffix(dir, "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	return a.replace(parent, base, func() error {
		return unix.Linkat(int(from.Fd()), file, int(parent.Fd()), base, 0)
	})
}

// whiteout notes a deletion of what is in a layer below.
func (a *applier) whiteout(parent *os.File, dir, base string) error {
	if base == whiteoutOpaque {
		return a.opaque(parent, dir)
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // aufs's own files
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return errName
	}
	if err := a.remove(parent, name); err != nil {
		return err
	}
	if a.o.Whiteouts == Delete {
		return nil
	}
	return unix.Mknodat(int(parent.Fd()), name, unix.S_IFCHR, 0)
}

// opaque hides all that layers below have in a directory.
func (a *applier) opaque(parent *os.File, dir string) error {
	switch a.o.Whiteouts {
	case Overlay:
		return unix.Fsetxattr(int(parent.Fd()), "trusted.overlay.opaque", []byte("y"), 0)
	case OverlayUser:
		return unix.Fsetxattr(int(parent.Fd()), "user.overlay.opaque", []byte("y"), 0)
	}
	d, err := inroot.Open(parent, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !a.made[path.Join(dir, n)] {
			if err := a.remove(parent, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// attributes sets owner, mode and extended attributes of an open file; the
// order matters, since a change of the owner clears set-uid bits and capabilities.
func (a *applier) attributes(f *os.File, h *tar.Header) error {
	fd := int(f.Fd())
	if !a.o.IgnoreChown {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return ownerError(h, err)
		}
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !xattrAllowed(name) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil && err != unix.EOPNOTSUPP && err != unix.EPERM {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return unix.Fchmod(fd, uint32(h.Mode&0o7777))
}

func ownerError(h *tar.Header, err error) error {
	if err == unix.EINVAL {
		return fmt.Errorf("give to user %d and group %d: the ids are not in this user namespace: %w", h.Uid, h.Gid, err)
	}
	return fmt.Errorf("give to user %d and group %d: %w", h.Uid, h.Gid, err)
}

// xattrAllowed: overlay's own would let a layer rule over the ones below, and
// labels are the host's to give.
func xattrAllowed(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

func (a *applier) linkAttributes(dir int, base string, h *tar.Header) error {
	if !a.o.IgnoreChown {
		if err := unix.Fchownat(dir, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return ownerError(h, err)
		}
	}
	return setTime(dir, base, h.ModTime)
}

// setTime sets the time of base in a directory, or of the open file itself.
func setTime(fd int, base string, mtime time.Time) error {
	if mtime.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(mtime.UnixNano())
	times := []unix.Timespec{ts, ts}
	if base == "" {
		return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), times, 0)
	}
	return unix.UtimesNanoAt(fd, base, times, unix.AT_SYMLINK_NOFOLLOW)
}

// finish sets the times of directories, the deepest first.
func (a *applier) finish() error {
	for i := len(a.times) - 1; i >= 0; i-- {
		d := a.times[i]
		f, err := inroot.Open(a.root, d.path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			continue // a later member replaced it
		}
		err = setTime(int(f.Fd()), "", d.mtime)
		f.Close()
		if err != nil {
			return fmt.Errorf("set the time of %q: %w", d.path, err)
		}
	}
	return nil
}
