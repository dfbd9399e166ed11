package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// usernsTarget is where the root of a container with a user namespace of many
// ids is attached: its root may not search the engine's own directories.
const usernsTarget = "/tmp"

// idmappedRoot mounts the container's root, attached nowhere, so that what is
// 0 in its layers is the container's 0: each is an idmapped copy. The upper
// directory is not, since overlay writes to it as the host's root, whom the
// ids do not have: what the container makes is on the disk by its ids there.
//
// A user has no idmapped mounts: his layers have the ids already (baseLayer).
func (e *Engine) idmappedRoot(r *record, mounts []oci.Mount, user *os.File) (*os.File, error) {
	if e.copiesIDs(r) {
		user = nil
	}
	if len(mounts) == 0 {
		return take(r.Options.Rootfs, user)
	}
	m := mounts[0]
	if m.Type == "bind" {
		return take(m.Source, user)
	}
	root, err := r.idmappedOverlay(m, user, "")
	if errors.Is(err, unix.EINVAL) {
		// Before Linux 6.15 overlay takes no layer that is attached nowhere.
		state.OnLostThread(func() {
			if err = alone(attachPlace); err == nil {
				root, err = r.idmappedOverlay(m, user, attachPlace)
			}
		})
	}
	return root, err
}

// attachPlace is a directory of every host in which no store is.
const attachPlace = "/sys"

// alone gives this thread mounts that nobody else sees, with an empty
// directory at place.
func alone(place string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", place, "tmpfs", 0, "mode=700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

// attach hangs a tree into this thread's mounts, below a place that alone made.
func attach(tree *os.File, place string) error {
	dir := filepath.Join(place, strconv.Itoa(int(tree.Fd())))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("attach %s: %w", tree.Name(), err)
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach %s: %w", tree.Name(), os.NewSyscallError("move_mount", err))
	}
	return nil
}

// idmappedOverlay mounts an overlay of layers with ids, attached nowhere. The
// layers are that too, unless there is a place for them.
func (r *record) idmappedOverlay(m oci.Mount, user *os.File, place string) (*os.File, error) {
	fsfd, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", m.Type, os.NewSyscallError("fsopen", err))
	}
	defer unix.Close(fsfd)
	if err := unix.FsconfigSetString(fsfd, "source", m.Type); err != nil {
		return nil, fmt.Errorf("mount %s: %w", m.Type, os.NewSyscallError("fsconfig", err))
	}
	var trees []*os.File
	defer func() {
		for _, t := range trees {
			t.Close()
		}
	}()
	lower := func(dirs string) error {
		var names []string
		for dir := range strings.SplitSeq(dirs, ":") {
			tree, err := take(dir, user)
			if err != nil {
				return err
			}
			trees = append(trees, tree)
			if place != "" {
				if err := attach(tree, place); err != nil {
					return err
				}
			}
			names = append(names, fmt.Sprintf("/proc/self/fd/%d", tree.Fd()))
		}
		for i, n := range names {
			err := unix.FsconfigSetString(fsfd, "lowerdir+", n)
			if err == unix.EINVAL && i == 0 { // before Linux 6.5
				return unix.FsconfigSetString(fsfd, "lowerdir", strings.Join(names, ":"))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, o := range m.Options {
		key, value, has := strings.Cut(o, "=")
		var err error
		switch {
		case key == "lowerdir":
			err = lower(value)
		case key == "upperdir":
			// Its root's owner is the merged root's.
			if user != nil {
				err = r.owners().adopt(value)
			}
			if err == nil {
				err = unix.FsconfigSetString(fsfd, key, value)
			}
		case key == "workdir" && place != "":
			// The mark that the attempt before left, which forbids another.
			os.RemoveAll(filepath.Join(value, "work", "incompat", "volatile"))
			err = unix.FsconfigSetString(fsfd, key, value)
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

// adopt gives a directory that still has the ids of a layer those outside.
func (o owners) adopt(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	if inside(o.uids, int(st.Uid)) != overflowID {
		return nil
	}
	return os.Chown(dir, outside(o.uids, int(st.Uid)), outside(o.gids, int(st.Gid)))
}

// take is a copy of a directory's mount, attached nowhere, with the ids of a
// user namespace, when there is one.
func take(dir string, user *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, os.NewSyscallError("open_tree", err))
	}
	if user == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return nil, hint(fmt.Errorf("idmap %s: %w", dir, os.NewSyscallError("mount_setattr", err)), "the file system has no idmapped mounts; run without --userns and --uidmap")
	}
	return os.NewFile(uintptr(fd), dir), nil
}
