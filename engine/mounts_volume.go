package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/layer"
	"hull/oci"
	"hull/snapshot"
	"hull/state"
)

func (e *Engine) volumeDir(name string) string { return filepath.Join(e.o.Root, "volumes", name) }

// volumeRun has a file for each who uses the volume now: a container's ID, or
// "mount" of volume mount.
func (e *Engine) volumeRun(name string) string { return filepath.Join(e.o.RunRoot, "volumes", name) }

// volumeHolds lists who uses the volume now.
func (e *Engine) volumeHolds(name string) []string {
	entries, err := os.ReadDir(e.volumeRun(name))
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range entries {
		out = append(out, d.Name())
	}
	return out
}

// recoverVolume brings a volume, whose lock is held, to a state that a whole
// command would have left: without a record it was not made, or not removed to
// the end.
func (e *Engine) recoverVolume(ctx context.Context, name string) error {
	dir := e.volumeDir(name)
	if !validVolume(name) || !fileExists(dir) {
		return nil
	}
	if !fileExists(filepath.Join(dir, "volume.json")) {
		return e.dropUnfinished(ctx, name)
	}
	if err := state.CleanTemp(dir); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, copyDir))
}

// ensureVolume makes the volume of a mount unless it exists, and returns its name.
func (e *Engine) ensureVolume(ctx context.Context, m Mount, r *record) (string, error) {
	l, err := e.lock(ctx, "volume", m.Source)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if fileExists(filepath.Join(e.volumeDir(m.Source), "volume.json")) {
		return m.Source, nil
	}
	if m.has("nocreate") {
		return "", fmt.Errorf("volume %s: %w", m.Source, ErrNotFound)
	}
	o := VolumeCreateOptions{Name: m.Source, Driver: m.VolumeDriver, Labels: m.VolumeLabels, Options: m.VolumeOptions}
	return m.Source, e.makeVolume(ctx, o, m.Anonymous, l)
}

// mountVolume returns the directory of a volume, or of the part that is asked
// for, ready for the container r: what its driver mounts is mounted, and the
// first time the volume is filled with what the image has at its place.
func (e *Engine) mountVolume(ctx context.Context, name string, m *Mount, r *record) (string, error) {
	l, err := e.lock(ctx, "volume", name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	v, err := e.loadVolume(name)
	if err != nil {
		return "", err
	}
	if err := e.holdVolume(ctx, v, r.ID); err != nil {
		return "", err
	}
	if v.NeedsCopyUp || v.NeedsChown {
		if err := e.firstUse(ctx, v, m, r); err != nil {
			return "", fmt.Errorf("fill volume %s: %w", name, err)
		}
	}
	if m.SubPath == "" {
		return v.Mountpoint, nil
	}
	root, err := os.Open(v.Mountpoint)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	defer root.Close()
	f, err := inroot.Open(root, m.SubPath, unix.O_PATH, 0)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		f.Close()
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	r.parts = append(r.parts, f)
	return path, nil
}

// holdVolume notes that who uses the volume, whose lock is held, and mounts
// what its driver mounts.
func (e *Engine) holdVolume(ctx context.Context, v *Volume, who string) error {
	dir := e.volumeRun(v.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("use volume %s: %w", v.Name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, who), nil, 0o600); err != nil {
		return fmt.Errorf("use volume %s: %w", v.Name, err)
	}
	if !v.mounts() || mounted(v.Mountpoint) {
		return nil
	}
	if err := e.attachVolume(ctx, v); err != nil {
		os.Remove(filepath.Join(dir, who))
		return fmt.Errorf("mount volume %s: %w", v.Name, err)
	}
	if v.Driver != "local" || v.Options["type"] != "tmpfs" {
		return nil // what lies there has labels already, or can have none
	}
	return e.labelShared(v.Mountpoint)
}

// unmountVolume ends a container's use of a volume.
func (e *Engine) unmountVolume(ctx context.Context, name string, r *record) error {
	l, err := e.lock(ctx, "volume", name)
	if err != nil {
		return err
	}
	defer l.Release()
	return e.dropHold(name, r.ID)
}

// dropHold ends a use of a volume whose lock is held; the last one unmounts
// what the driver had mounted.
func (e *Engine) dropHold(name, who string) error {
	os.Remove(filepath.Join(e.volumeRun(name), who))
	if len(e.volumeHolds(name)) > 0 {
		return nil
	}
	os.Remove(e.volumeRun(name))
	return e.detachVolume(name)
}

func (e *Engine) detachVolume(name string) error {
	data := filepath.Join(e.volumeDir(name), "_data")
	was := false
	for mounted(data) {
		if err := unix.Unmount(data, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount volume %s: %w", name, err)
		}
		was = true
	}
	if was {
		return e.unpin(context.Background(), volumePin(name))
	}
	return nil
}

// firstUse gives a new volume the content, owner and mode of the directory
// that the image has at its place (VOL-03). What is not empty stays as it is.
func (e *Engine) firstUse(ctx context.Context, v *Volume, m *Mount, r *record) error {
	chown := v.NeedsChown
	copyUp := v.NeedsCopyUp && !m.has("nocopy") && m.SubPath == "" && v.Driver == "local"
	entries, err := os.ReadDir(v.Mountpoint)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		copyUp = false
	}
	src, err := e.imageDir(r, m.Destination)
	if err != nil {
		return err
	}
	uid, gid := hostID(r.UIDMap, r.User.UID), hostID(r.GIDMap, r.User.GID)
	var st unix.Stat_t
	if src != nil {
		defer src.Close()
		if err := unix.Fstat(int(src.Fd()), &st); err != nil {
			return err
		}
		uid, gid = hostID(r.UIDMap, st.Uid), hostID(r.GIDMap, st.Gid)
		if copyUp {
			if err := e.copyUp(ctx, v, src, r); err != nil {
				return err
			}
		}
	}
	if chown && v.Driver == "local" && v.Options["device"] == "" {
		if err := os.Chown(v.Mountpoint, uid, gid); err != nil {
			return err
		}
		if src != nil {
			if err := unix.Chmod(v.Mountpoint, st.Mode&0o7777); err != nil {
				return err
			}
		}
	}
	v.NeedsChown = false
	if v.Options["type"] != "tmpfs" { // that one is empty again after its last use
		v.NeedsCopyUp = v.NeedsCopyUp && m.has("nocopy")
	}
	return e.saveVolume(v)
}

// imageDir opens a directory of the container's image; nil when the image has
// none there.
func (e *Engine) imageDir(r *record, dir string) (*os.File, error) {
	return e.imagePath(r, dir, unix.O_RDONLY|unix.O_DIRECTORY)
}

// imagePath is imageDir for a path of any kind, opened with flags.
func (e *Engine) imagePath(r *record, path string, flags int) (*os.File, error) {
	var tree *os.File
	var err error
	switch {
	case r.Options.Rootfs != "":
		tree, err = os.Open(r.Options.Rootfs)
	case r.Chain == "":
		return nil, nil
	default:
		snaps, serr := e.Snapshots()
		if serr != nil {
			return nil, serr
		}
		tree, err = snaps.ViewTree(r.Chain)
	}
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	f, err := inroot.Open(tree, path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return f, err
}

// copyDir is where a volume's first content is put together.
const copyDir = "_copy"

// copyUp copies the directory src into the empty volume v. The copy is made
// beside it and takes its place whole, so that a kill leaves an empty volume
// or a full one; a file system that is mounted on the volume is filled in place.
func (e *Engine) copyUp(ctx context.Context, v *Volume, src *os.File, r *record) error {
	dst := v.Mountpoint
	if !mounted(dst) {
		dst = filepath.Join(e.volumeDir(v.Name), copyDir)
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
		if err := os.Mkdir(dst, 0o755); err != nil {
			return err
		}
		// What is made in it gets the same label.
		if err := e.labelShared(dst); err != nil {
			return err
		}
	}
	root, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(layer.WriteTree(ctx, pw, src)) }()
	err = layer.Apply(ctx, root, pr, layer.ApplyOptions{Plain: true})
	pr.CloseWithError(err)
	if err != nil {
		return err
	}
	if len(r.UIDMap) > 0 {
		if err := shiftOwners(root, r.UIDMap, r.GIDMap); err != nil {
			return err
		}
	}
	if dst == v.Mountpoint {
		return nil
	}
	if err := unix.Syncfs(int(root.Fd())); err != nil && !v.Anonymous {
		return err
	}
	// os.Rename refuses a directory as target; the kernel replaces an empty one.
	return unix.Rename(dst, v.Mountpoint)
}

// shiftOwners gives every file below root the ids that its owner has outside.
func shiftOwners(root *os.File, uids, gids []oci.LinuxIDMapping) error {
	dir, err := os.OpenRoot(root.Name())
	if err != nil {
		return err
	}
	defer dir.Close()
	return fs.WalkDir(dir.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := dir.Lstat(name)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		mode := fi.Mode()
		if err := dir.Lchown(name, hostID(uids, st.Uid), hostID(gids, st.Gid)); err != nil {
			return err
		}
		// A change of owner takes these away.
		if mode.IsRegular() && mode&(os.ModeSetuid|os.ModeSetgid) != 0 {
			return dir.Chmod(name, mode)
		}
		return nil
	})
}

// dropVolume removes what there is of a volume that has no record any more.
func (e *Engine) dropVolume(ctx context.Context, name string) error {
	unix.Unmount(filepath.Join(e.volumeDir(name), "_data"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if fileExists(filepath.Join(e.imageRoot(), "snapshots")) {
		if err := e.unpin(ctx, volumePin(name)); err != nil {
			return err
		}
	}
	return e.removeAnonymous(ctx, name, "")
}

// removeAnonymous removes a volume that was made for the container alone; one
// that was not made yet has no name.
func (e *Engine) removeAnonymous(ctx context.Context, name, container string) error {
	if name == "" {
		return nil
	}
	root, err := os.Open(filepath.Join(e.o.Root, "volumes"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	defer root.Close()
	os.RemoveAll(e.volumeRun(name))
	if err := e.detachVolume(name); err != nil {
		return err
	}
	project := snapshot.ProjectOf(e.volumeDir(name))
	// The mark of an unfinished removal goes last.
	if err := inroot.RemoveAll(root, name+"/_data"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	if err := inroot.RemoveAll(root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	_ = snapshot.Unlimit(root.Name(), project) // a limit that stays is on nothing
	return nil
}
