package ociruntime

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// ownMounts reports whether a container has a mount namespace that is not the
// runtime's own. What is mounted for one that shares the runtime's must be undone.
func ownMounts(spec *oci.Spec) bool {
	if spec.Linux == nil {
		return false
	}
	for _, n := range spec.Linux.Namespaces {
		if n.Type == oci.MountNamespace {
			return true
		}
	}
	return false
}

// mountOn is the number of the mount that a path leads to.
func mountOn(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("find the mount of %s: %w", path, err)
	}
	return st.Mnt_id, nil
}

// unmount takes a root that was mounted in the runtime's namespace away, with all
// that is mounted on it. One that is not on top any more is somebody else's concern.
func (c *Container) unmount() error {
	if c.RootMount == 0 {
		return nil
	}
	now, err := mountOn(c.Rootfs)
	if err != nil || now != c.RootMount {
		return nil
	}
	if err := unix.Unmount(c.Rootfs, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount the root %s: %w", c.Rootfs, err)
	}
	return nil
}

// rootOf opens the root directory of a process.
func rootOf(pid int) (*os.File, error) {
	return os.OpenFile("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
}
