package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"hull/snapshot"
)

// A ContainerMount is a container whose root file system is mounted for the
// host's user to look at.
type ContainerMount struct {
	ID, Name, Path string
}

// containerMounts is where containers are mounted, each at its ID.
func (e *Engine) containerMounts() string { return filepath.Join(e.o.RunRoot, "container-mounts") }

// MountContainer mounts the container's root file system, its writable layer
// over the image; volumes are not in it. One that is mounted stays where it is.
func (e *Engine) MountContainer(ctx context.Context, name string) (ContainerMount, error) {
	r, _, l, err := e.openLocked(ctx, name)
	if err != nil {
		return ContainerMount{}, err
	}
	defer l.Release()
	m := ContainerMount{r.ID, r.Name, filepath.Join(e.containerMounts(), r.ID)}
	if r.Options.Rootfs != "" && !r.Options.RootfsOverlay {
		m.Path = r.Options.Rootfs
		return m, nil
	}
	if mounted(m.Path) {
		return m, nil
	}
	if err := os.Remove(m.Path); errors.Is(err, unix.ENOTEMPTY) {
		e.keepFound(r.ID, m.Path)
	}
	if err := os.MkdirAll(m.Path, 0o700); err != nil {
		return m, fmt.Errorf("mount container %s: %w", r.Name, err)
	}
	if err := e.attachContainer(r, m.Path); err != nil {
		os.Remove(m.Path)
		return m, fmt.Errorf("mount container %s: %w", r.Name, err)
	}
	return m, nil
}

func (e *Engine) attachContainer(r *record, dir string) error {
	if r.Options.Rootfs != "" {
		mounts, err := e.rootMounts(r)
		if err != nil {
			return err
		}
		return unix.Mount(mounts[0].Source, dir, mounts[0].Type, 0, snapshot.MountData(mounts[0].Options))
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	return snaps.Attach(r.ID, dir, e.contextOption(r)...)
}

// MountedContainers lists the containers that are mounted.
func (e *Engine) MountedContainers(ctx context.Context) ([]ContainerMount, error) {
	entries, err := os.ReadDir(e.containerMounts())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list mounted containers: %w", err)
	}
	var out []ContainerMount
	for _, d := range entries {
		path := filepath.Join(e.containerMounts(), d.Name())
		r, err := e.loadRecord(d.Name())
		if err == nil && mounted(path) {
			out = append(out, ContainerMount{r.ID, r.Name, path})
		}
	}
	return out, nil
}

// UnmountContainer unmounts what MountContainer mounted and returns the ID.
// With force one that is busy goes as soon as it is not; one that is not
// mounted is an error unless force is given.
func (e *Engine) UnmountContainer(ctx context.Context, name string, force bool) (string, error) {
	id, err := e.Lookup(ctx, name)
	if err != nil {
		return "", err
	}
	l, err := e.lock(ctx, "container", id)
	if err != nil {
		return "", err
	}
	defer l.Release()
	was, err := e.dropMount(id, force)
	if err == nil && !was && !force {
		err = fmt.Errorf("container %s is not mounted: %w", name, ErrState)
	}
	return id, err
}

func (e *Engine) dropMount(id string, force bool) (was bool, err error) {
	path := filepath.Join(e.containerMounts(), id)
	flags := unix.UMOUNT_NOFOLLOW
	if force {
		flags |= unix.MNT_DETACH
	}
	for mounted(path) {
		was = true
		if err := unix.Unmount(path, flags); err != nil {
			return true, fmt.Errorf("unmount container %s: %w", id, err)
		}
	}
	if err := os.Remove(path); errors.Is(err, unix.ENOTEMPTY) {
		e.keepFound(id, path)
	}
	return was, nil
}

// keepFound puts aside what somebody wrote below a mount point while nothing
// was mounted there: it is not the container's, and it is not ours to remove.
func (e *Engine) keepFound(id, path string) {
	dir := filepath.Join(e.o.RunRoot, "lost+found")
	for n := range 100 {
		to := filepath.Join(dir, id+"."+strconv.Itoa(n))
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Rename(path, to)); err != nil {
			e.warn("files below the mount point %s: %v", path, err)
			return
		}
		e.warn("files that were written below the mount point of container %s while it was not mounted are in %s now", id, to)
		return
	}
}
