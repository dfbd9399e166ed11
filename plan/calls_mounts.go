package plan

import (
	"golang.org/x/sys/unix"
)

// Fsopen begins a new file system of the given type.
func (b *Builder) Fsopen(fstype string) FD {
	return b.call(unix.SYS_FSOPEN, b.str(fstype), num(unix.FSOPEN_CLOEXEC)).result()
}

// FsconfigString sets an option of a file system being made. The kernel takes at most 255 bytes.
func (b *Builder) FsconfigString(fs FD, key, value string) Call {
	return b.call(unix.SYS_FSCONFIG, fs.word(), num(unix.FSCONFIG_SET_STRING), b.str(key), b.str(value), num(0))
}

// FsconfigFlag sets an option without value.
func (b *Builder) FsconfigFlag(fs FD, key string) Call {
	return b.call(unix.SYS_FSCONFIG, fs.word(), num(unix.FSCONFIG_SET_FLAG), b.str(key), word{}, num(0))
}

// FsconfigFD sets an option to a descriptor.
func (b *Builder) FsconfigFD(fs FD, key string, value FD) Call {
	return b.call(unix.SYS_FSCONFIG, fs.word(), num(unix.FSCONFIG_SET_FD), b.str(key), word{}, value.word())
}

// FsconfigCreate makes the file system.
func (b *Builder) FsconfigCreate(fs FD) Call {
	return b.call(unix.SYS_FSCONFIG, fs.word(), num(unix.FSCONFIG_CMD_CREATE), word{}, word{}, num(0))
}

// Fsmount makes a detached mount of fs with MOUNT_ATTR_… attributes, and closes fs.
func (b *Builder) Fsmount(fs FD, attr uint64) FD {
	m := b.call(unix.SYS_FSMOUNT, fs.word(), num(unix.FSMOUNT_CLOEXEC), num(attr)).result()
	b.Close(fs)
	return m
}

// OpenTree opens path with OPEN_TREE_… and AT_… flags; OPEN_TREE_CLONE makes a detached bind mount.
func (b *Builder) OpenTree(dir FD, path string, flags uint) (FD, Call) {
	c := b.call(unix.SYS_OPEN_TREE, dir.word(), b.str(path), num(uint64(flags|unix.OPEN_TREE_CLOEXEC)))
	return c.result(), c
}

// MoveMount attaches the mount m to what target is open on.
func (b *Builder) MoveMount(m, target FD) Call {
	return b.call(unix.SYS_MOVE_MOUNT, m.word(), b.str(""), target.word(), b.str(""),
		num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// MoveMountPath attaches the mount m to a path. Only for paths of the host, before the container's root is attached.
func (b *Builder) MoveMountPath(m FD, path string) Call {
	return b.call(unix.SYS_MOVE_MOUNT, m.word(), b.str(""), CWD.word(), b.str(path), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// A MountAttr is what mount_setattr changes.
type MountAttr struct {
	Set, Clear  uint64 // MOUNT_ATTR_…
	Propagation uint64 // MS_PRIVATE…; 0 leaves it
	UserNS      FD     // with MOUNT_ATTR_IDMAP: a known descriptor number
	Recursive   bool
}

// MountSetattr changes the attributes of the mount that m is open on.
func (b *Builder) MountSetattr(m FD, a MountAttr) Call {
	flags := unix.AT_EMPTY_PATH
	if a.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	if a.UserNS.isResult() {
		panic("bug: the user namespace of an idmapped mount must have a known number")
	}
	return b.call(unix.SYS_MOUNT_SETATTR, m.word(), b.str(""), num(flags),
		b.constant(a.Set, a.Clear, a.Propagation, uint64(a.UserNS)), num(unix.MOUNT_ATTR_SIZE_VER0))
}

// Mount is mount(2); source, target, fstype and data may be empty.
func (b *Builder) Mount(source, target, fstype string, flags uintptr, data string) Call {
	opt := func(s string) word {
		if s == "" {
			return word{}
		}
		return b.str(s)
	}
	return b.call(unix.SYS_MOUNT, opt(source), b.str(target), opt(fstype), num(flags), opt(data))
}

// PivotRoot changes the root; both paths are "." in the usual case.
func (b *Builder) PivotRoot(newRoot, putOld string) Call {
	return b.call(unix.SYS_PIVOT_ROOT, b.str(newRoot), b.str(putOld))
}

// Umount2 unmounts path.
func (b *Builder) Umount2(path string, flags int) Call {
	return b.call(unix.SYS_UMOUNT2, b.str(path), num(flags))
}

// Chroot changes the root directory without changing mounts.
func (b *Builder) Chroot(path string) Call { return b.call(unix.SYS_CHROOT, b.str(path)) }
