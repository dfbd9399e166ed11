package engine

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// usernsTarget is where the root of a container with a user namespace of many
// ids is attached: its root may not search the engine's own directories.
const usernsTarget = "/tmp"

// idmappedRoot mounts the container's root, attached nowhere, so that what is
// 0 in its layers is the container's 0: each is an idmapped copy. The upper
// directory is not, since overlay writes to it as the host's root, whom the
// ids do not have: what the container makes is on the disk by its ids there.
func idmappedRoot(r *record, mounts []oci.Mount, user *os.File) (*os.File, error) {
	if len(mounts) == 0 {
		tree, err := idmapped(r.Options.Rootfs, user)
		if err != nil {
			return nil, err
		}
		return tree, nil
	}
	m := mounts[0]
	if m.Type == "bind" {
		return idmapped(m.Source, user)
	}
	fsfd, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", m.Type, os.NewSyscallError("fsopen", err))
	}
	defer unix.Close(fsfd)
	var trees []*os.File
	defer func() {
		for _, t := range trees {
			t.Close()
		}
	}()
	lower := func(dir string) error {
		tree, err := idmapped(dir, user)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
		return unix.FsconfigSetString(fsfd, "lowerdir+", fmt.Sprintf("/proc/self/fd/%d", tree.Fd()))
	}
	for _, o := range m.Options {
		key, value, has := strings.Cut(o, "=")
		var err error
		switch {
		case key == "lowerdir":
			for dir := range strings.SplitSeq(value, ":") {
				if err = lower(dir); err != nil {
					break
				}
			}
		case key == "upperdir":
			// Its root's owner is the merged root's.
			if err = os.Chown(value, hostID(r.UIDMap, 0), hostID(r.GIDMap, 0)); err == nil {
				err = unix.FsconfigSetString(fsfd, key, value)
			}
		case has:
			err = unix.FsconfigSetString(fsfd, key, value)
		default:
			err = unix.FsconfigSetFlag(fsfd, key)
		}
		if err != nil {
			return nil, fmt.Errorf("mount %s with ids: option %s: %w", m.Type, key, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, hint(fmt.Errorf("mount %s with ids: %w", m.Type, os.NewSyscallError("fsconfig", err)), "layers with ids of their own need Linux 5.19, and a file system below that has idmapped mounts")
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount %s with ids: %w", m.Type, os.NewSyscallError("fsmount", err))
	}
	return os.NewFile(uintptr(fd), "root"), nil
}

// idmapped is a copy of a directory's mount, attached nowhere, with the ids of
// a user namespace.
func idmapped(dir string, user *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("idmap %s: %w", dir, os.NewSyscallError("open_tree", err))
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return nil, hint(fmt.Errorf("idmap %s: %w", dir, os.NewSyscallError("mount_setattr", err)), "the file system has no idmapped mounts; run without --userns and --uidmap")
	}
	return os.NewFile(uintptr(fd), dir), nil
}
