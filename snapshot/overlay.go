package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// PrepareOptions for Prepare.
type PrepareOptions struct {
	Volatile bool  // its content need not survive a power cut
	Size     int64 // quota in bytes; 0 none. A file system that has none returns an error
	Points   Points
}

// Prepare makes a writable snapshot above parent ("" is an empty one). fs.ErrNotExist: the parent is not there.
// It returns the mounts that make it a root file system, as Mounts does.
func (s *Store) Prepare(ctx context.Context, name string, parent oci.Digest, o PrepareOptions) ([]oci.Mount, error) {
	if !validName(name) {
		return nil, fmt.Errorf("prepare snapshot %q: not a name of one", name)
	}
	if o.Size != 0 {
		return nil, fmt.Errorf("prepare snapshot %s: size=: this file system has no project quota", name)
	}
	l, err := s.lock(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
	}
	defer l.Release()
	lower, top := "", ""
	if parent != "" {
		if lower, err = s.lower(parent); err != nil {
			return nil, fmt.Errorf("prepare snapshot %s: parent %s: %w", name, parent, err)
		}
		top = filepath.Join(s.layerDir(parent), "d")
		between, err := s.points(parent, o.Points)
		if err != nil {
			return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
		}
		if between != "" {
			lower = between + ":" + lower
		}
	}
	dir := s.activeDir(name)
	if err := s.makeActive(dir); err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
	}
	options := ""
	if o.Volatile {
		options = "volatile"
	}
	err = inheritRoot(filepath.Join(dir, "u"), top)
	for _, f := range []struct{ name, text string }{{"lower", lower}, {"options", options}, {"parent", string(parent)}} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600)
		}
	}
	if err != nil {
		removeTree(dir)
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
	}
	return s.mounts(dir, lower, options), nil
}

func (s *Store) makeActive(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dir), 0o700); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return err
	}
	for _, d := range []string{"u", "w"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	return unix.Chmod(filepath.Join(dir, "u"), untouched)
}

// mounts is the one overlay mount of an active snapshot.
func (s *Store) mounts(dir, lower, options string) []oci.Mount {
	upper := filepath.Join(dir, "u")
	if lower == "" {
		return []oci.Mount{{Type: "bind", Source: upper, Options: []string{"rbind"}}}
	}
	opts := []string{"lowerdir=" + s.lowerDirs(lower), "upperdir=" + upper, "workdir=" + filepath.Join(dir, "w")}
	if options != "" {
		// Overlay refuses to mount what was once mounted so, since a power cut
		// may have damaged it; there was none if this file system says so.
		mark := filepath.Join(dir, "w/work/incompat/volatile")
		unix.Unlink(filepath.Join(mark, "dirty"))
		unix.Rmdir(mark)
		opts = append(opts, strings.Split(options, ",")...)
	}
	return []oci.Mount{{Type: "overlay", Source: "overlay", Options: s.extra(opts)}}
}

func (s *Store) extra(opts []string) []string {
	if s.o.Rootless {
		opts = append(opts, "userxattr")
	}
	return append(opts, s.o.MountOptions...)
}

func (s *Store) lowerDirs(lower string) string {
	names := strings.Split(lower, ":")
	for i, n := range names {
		names[i] = filepath.Join(s.layerNamed(n), "d")
	}
	return strings.Join(names, ":")
}

// Mounts returns the mounts of an active snapshot: one oci.Mount, overlay with options
// lowerdir=A:B:C,upperdir=…,workdir=… or a bind of a directory.
func (s *Store) Mounts(name string) ([]oci.Mount, error) {
	if !validName(name) {
		return nil, fmt.Errorf("mount snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	dir := s.activeDir(name)
	lower, err := state.ReadFile(filepath.Join(dir, "lower"))
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", name, err)
	}
	options, err := state.ReadFile(filepath.Join(dir, "options"))
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", name, err)
	}
	if top := topOf(string(lower)); top != "" && s.isStale(top) {
		chain, _ := state.ReadFile(filepath.Join(s.dir, "l", top, "chain"))
		return nil, fmt.Errorf("mount snapshot %s: %w", name, &staleError{oci.Digest(chain)})
	}
	return s.mounts(dir, string(lower), string(options)), nil
}

// ViewMounts returns the read-only mounts of a committed layer.
func (s *Store) ViewMounts(chain oci.Digest) ([]oci.Mount, error) {
	if err := chain.Validate(); err != nil {
		return nil, fmt.Errorf("mount layer: %w", err)
	}
	lower, err := s.lower(chain)
	if err != nil {
		return nil, fmt.Errorf("mount layer %s: %w", chain, err)
	}
	dirs := s.lowerDirs(lower)
	if !strings.Contains(lower, ":") {
		return []oci.Mount{{Type: "bind", Source: dirs, Options: []string{"rbind", "ro"}}}, nil
	}
	return []oci.Mount{{Type: "overlay", Source: "overlay", Options: s.extra([]string{"lowerdir=" + dirs, "ro"})}}, nil
}

// Tree returns the merged tree of an active snapshot as a detached mount: a directory, opened, that no path leads to.
// Closing it unmounts it.
func (s *Store) Tree(name string) (*os.File, error) {
	m, err := s.Mounts(name)
	if err != nil {
		return nil, err
	}
	return detached(m[0])
}

// ViewTree is Tree of a committed layer, read-only.
func (s *Store) ViewTree(chain oci.Digest) (*os.File, error) {
	m, err := s.ViewMounts(chain)
	if err != nil {
		return nil, err
	}
	return detached(m[0])
}

// AttachView mounts a committed layer read-only on a directory, until somebody
// unmounts it.
func (s *Store) AttachView(chain oci.Digest, dir string) error {
	m, err := s.ViewMounts(chain)
	if err != nil {
		return err
	}
	fd, err := detachedMount(m[0])
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// A bind mount takes its attributes from where it comes.
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make mount read-only: %w", err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount to %s: %w", dir, err)
	}
	return nil
}

// Attach mounts an active snapshot on a directory, until somebody unmounts it.
// It may be mounted elsewhere as well: both mounts have one writable layer.
func (s *Store) Attach(name, dir string) error {
	m, err := s.Mounts(name)
	if err != nil {
		return err
	}
	fd, err := detachedMount(m[0])
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount to %s: %w", dir, err)
	}
	return nil
}

// detached mounts m without attaching it anywhere.
func detached(m oci.Mount) (*os.File, error) {
	fd, err := detachedMount(m)
	if err != nil {
		return nil, err
	}
	return reopen(fd)
}

// detachedMount is detached; its descriptor is the mount's own, by which it
// can be attached.
func detachedMount(m oci.Mount) (int, error) {
	fail := func(err error) (int, error) {
		return -1, fmt.Errorf("mount %s: %w", m.Type, err)
	}
	if m.Type == "bind" {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fail(err)
		}
		return fd, nil
	}
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fsfd)
	attr := 0
	for _, o := range m.Options {
		key, value, has := strings.Cut(o, "=")
		switch {
		case o == "ro":
			attr |= unix.MOUNT_ATTR_RDONLY
		case key == "lowerdir":
			err = setLower(fsfd, value)
		case has:
			err = unix.FsconfigSetString(fsfd, key, value)
		default:
			err = unix.FsconfigSetFlag(fsfd, key)
		}
		if err != nil {
			return fail(fmt.Errorf("option %s: %w", key, err))
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return fail(err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return fail(err)
	}
	return fd, nil
}

// setLower sets the layers one by one where the kernel takes them so.
func setLower(fsfd int, dirs string) error {
	for d := range strings.SplitSeq(dirs, ":") {
		if err := unix.FsconfigSetString(fsfd, "lowerdir+", d); err != nil {
			if err != unix.EINVAL {
				return err
			}
			return unix.FsconfigSetString(fsfd, "lowerdir", dirs)
		}
	}
	return nil
}

// reopen turns the O_PATH descriptor of a mount into one that lists.
func reopen(fd int) (*os.File, error) {
	defer unix.Close(fd)
	d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open mount: %w", err)
	}
	return os.NewFile(uintptr(d), "tree"), nil
}
