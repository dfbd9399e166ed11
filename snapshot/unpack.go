package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/layer"
	"hull/state"
)

// What one layer may unpack to, unless the options say otherwise: more than any
// real one, and less than what keeps a machine busy for a day (UNP-02).
const (
	maxLayerSize  = 1 << 40
	maxLayerFiles = 4 << 20
)

// bound is the limit that an option means: 0 is the default, below it none.
func bound(option, otherwise int64) int64 {
	if option == 0 {
		return otherwise
	}
	return max(option, 0)
}

// Unpack applies the uncompressed tar r (layer.Apply with the driver's own kind of whiteouts).
func (d *Draft) Unpack(ctx context.Context, r io.Reader) error {
	root, err := os.Open(filepath.Join(d.dir, "d"))
	if err != nil {
		return fmt.Errorf("unpack layer: %w", err)
	}
	defer root.Close()
	o := &d.s.o
	d.implied = nil
	err = layer.Apply(ctx, root, &roomReader{r: r, fs: root}, layer.ApplyOptions{
		Whiteouts: d.s.whiteouts(),
		MaxSize:   bound(o.MaxLayerSize, maxLayerSize), MaxFiles: bound(o.MaxLayerFiles, maxLayerFiles),
		IgnoreChown: o.IgnoreChown,
		Implicit:    func(path string) { d.implied = append(d.implied, path) },
	})
	if errors.Is(err, layer.ErrTooLarge) {
		err = &hintError{err, "if the layer is to be trusted, allow more: --storage-opt maxlayersize=SIZE, maxlayerfiles=N"}
	}
	return err
}

// A hintError is an error that the user can cure.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// Hint is the cure.
func (e *hintError) Hint() string { return e.hint }

// roomReader ends when little room is left on the file system that what is
// read is written to (STO-05).
type roomReader struct {
	r    io.Reader
	fs   *os.File
	left int64 // bytes until the next look
}

// roomEvery is how many bytes are read between two looks.
const roomEvery = 32 << 20

func (r *roomReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		if err := state.CheckRoom(r.fs); err != nil {
			return 0, err
		}
		r.left = roomEvery
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	return n, err
}

// settleImplied gives directories that the layer has something in but does not
// list the owner, mode and attributes of those below: the merged tree shows
// the topmost.
func (d *Draft) settleImplied() error {
	if d.parent == "" || len(d.implied) == 0 || d.s.whiteouts() == layer.Delete {
		return nil // there are none below, or they are these
	}
	if len(d.implied) == 1 && d.implied[0] == "" {
		return nil // inheritRoot knows the root
	}
	below, err := d.s.ViewTree(d.parent)
	if err != nil {
		return err
	}
	defer below.Close()
	root, err := os.Open(filepath.Join(d.dir, "d"))
	if err != nil {
		return err
	}
	defer root.Close()
	for _, path := range d.implied {
		if path == "" {
			continue
		}
		if err := settle(root, below, path); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	return nil
}

// settle makes the directory path of root like that of below.
func settle(root, below *os.File, path string) error {
	dir, err := inroot.Open(root, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if gone(err) {
		return nil // the layer put something else there
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&0o7777 != 0o755 || int(st.Uid) != os.Geteuid() {
		return nil // listed by another name
	}
	// The layer's own links are not those of the layers below: where the
	// directory really is counts.
	if path, err = pathIn(root, dir); err != nil {
		return err
	}
	old, err := inroot.Open(below, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer old.Close()
	return likeDir(dir, old)
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// pathIn is where dir is below root.
func pathIn(root, dir *os.File) (string, error) {
	var paths [2]string
	for i, f := range []*os.File{root, dir} {
		p, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return "", err
		}
		paths[i] = p
	}
	rest, ok := strings.CutPrefix(paths[1], paths[0]+"/")
	if !ok {
		return "", fmt.Errorf("%s is not below %s", paths[1], paths[0])
	}
	return rest, nil
}

// likeDir gives dir the owner, mode, attributes and times of old.
func likeDir(dir, old *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(old.Fd()), &st); err != nil {
		return err
	}
	name := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if err := unix.Fchown(int(dir.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyAttributes(dir, old); err != nil {
		return err
	}
	if err := unix.Fchmod(int(dir.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// copyAttributes copies extended attributes, overlay's own marks aside.
func copyAttributes(to, from *os.File) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(from.Fd()), buf)
	if err == unix.EOPNOTSUPP || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") || name == "security.selinux" {
			continue
		}
		k, err := unix.Fgetxattr(int(from.Fd()), name, value)
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), name, value[:k], 0)
		}
		if err != nil && err != unix.ENODATA && err != unix.EPERM && err != unix.EOPNOTSUPP {
			return fmt.Errorf("copy attribute %s: %w", name, err)
		}
	}
	return nil
}
