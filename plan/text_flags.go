package plan

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

type flagName struct {
	value uint64
	name  string
}

// flagText prints a set of flags; names of several bits come first in a table.
func flagText(names []flagName, v uint64) string {
	var w []string
	for _, f := range names {
		if f.value != 0 && v&f.value == f.value {
			w = append(w, f.name)
			v &^= f.value
		}
	}
	if v != 0 || len(w) == 0 {
		w = append(w, "0x"+strconv.FormatUint(v, 16))
	}
	return strings.Join(w, "|")
}

var (
	openFlags = []flagName{
		{unix.O_PATH, "O_PATH"}, {unix.O_RDWR, "O_RDWR"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_CREAT, "O_CREAT"},
		{unix.O_EXCL, "O_EXCL"}, {unix.O_NOCTTY, "O_NOCTTY"}, {unix.O_NOFOLLOW, "O_NOFOLLOW"},
		{unix.O_DIRECTORY, "O_DIRECTORY"}, {unix.O_CLOEXEC, "O_CLOEXEC"}, {unix.O_NONBLOCK, "O_NONBLOCK"},
	}
	resolveFlags = []flagName{
		{unix.RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"}, {unix.RESOLVE_BENEATH, "RESOLVE_BENEATH"},
		{unix.RESOLVE_NO_XDEV, "RESOLVE_NO_XDEV"}, {unix.RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"},
		{unix.RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"},
	}
	cloneFlags = []flagName{
		{unix.CLONE_PARENT, "CLONE_PARENT"}, {unix.CLONE_NEWUSER, "CLONE_NEWUSER"}, {unix.CLONE_NEWNS, "CLONE_NEWNS"},
		{unix.CLONE_NEWPID, "CLONE_NEWPID"}, {unix.CLONE_NEWUTS, "CLONE_NEWUTS"}, {unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
		{unix.CLONE_NEWNET, "CLONE_NEWNET"}, {unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"}, {unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
		{unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"},
		{uint64(unix.SIGCHLD), "SIGCHLD"},
	}
	msFlags = []flagName{
		{unix.MS_MOVE, "MS_MOVE"},
		{unix.MS_RDONLY, "MS_RDONLY"}, {unix.MS_NOSUID, "MS_NOSUID"}, {unix.MS_NODEV, "MS_NODEV"}, {unix.MS_NOEXEC, "MS_NOEXEC"},
		{unix.MS_BIND, "MS_BIND"}, {unix.MS_REC, "MS_REC"}, {unix.MS_PRIVATE, "MS_PRIVATE"}, {unix.MS_SLAVE, "MS_SLAVE"},
		{unix.MS_SHARED, "MS_SHARED"}, {unix.MS_UNBINDABLE, "MS_UNBINDABLE"}, {unix.MS_NOATIME, "MS_NOATIME"},
		{unix.MS_RELATIME, "MS_RELATIME"}, {unix.MS_STRICTATIME, "MS_STRICTATIME"}, {unix.MS_REMOUNT, "MS_REMOUNT"},
	}
	umountFlags = []flagName{{unix.MNT_DETACH, "MNT_DETACH"}, {unix.UMOUNT_NOFOLLOW, "UMOUNT_NOFOLLOW"}}
	attrFlags   = []flagName{
		{unix.MOUNT_ATTR__ATIME, "MOUNT_ATTR__ATIME"}, {unix.MOUNT_ATTR_RDONLY, "RDONLY"}, {unix.MOUNT_ATTR_NOSUID, "NOSUID"},
		{unix.MOUNT_ATTR_NODEV, "NODEV"}, {unix.MOUNT_ATTR_NOEXEC, "NOEXEC"}, {unix.MOUNT_ATTR_NOATIME, "NOATIME"},
		{unix.MOUNT_ATTR_STRICTATIME, "STRICTATIME"}, {unix.MOUNT_ATTR_NODIRATIME, "NODIRATIME"},
		{unix.MOUNT_ATTR_IDMAP, "IDMAP"}, {unix.MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"},
	}
	treeFlags = []flagName{
		{unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"}, {unix.OPEN_TREE_CLOEXEC, "OPEN_TREE_CLOEXEC"}, {unix.AT_RECURSIVE, "AT_RECURSIVE"},
		{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}, {unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"},
	}
	moveFlags = []flagName{
		{unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"}, {unix.MOVE_MOUNT_T_EMPTY_PATH, "T_EMPTY_PATH"},
	}
	magicNames = []flagName{
		{unix.PROC_SUPER_MAGIC, "PROC_SUPER_MAGIC"}, {unix.SYSFS_MAGIC, "SYSFS_MAGIC"}, {unix.DEVPTS_SUPER_MAGIC, "DEVPTS_SUPER_MAGIC"},
	}
	capabilityFlags = []flagName{
		{1 << unix.CAP_CHOWN, "CAP_CHOWN"}, {1 << unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {1 << unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"}, {1 << unix.CAP_FOWNER, "CAP_FOWNER"},
		{1 << unix.CAP_FSETID, "CAP_FSETID"}, {1 << unix.CAP_KILL, "CAP_KILL"}, {1 << unix.CAP_SETGID, "CAP_SETGID"}, {1 << unix.CAP_SETUID, "CAP_SETUID"},
		{1 << unix.CAP_SETPCAP, "CAP_SETPCAP"}, {1 << unix.CAP_LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE"}, {1 << unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"}, {1 << unix.CAP_NET_BROADCAST, "CAP_NET_BROADCAST"},
		{1 << unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {1 << unix.CAP_NET_RAW, "CAP_NET_RAW"}, {1 << unix.CAP_IPC_LOCK, "CAP_IPC_LOCK"}, {1 << unix.CAP_IPC_OWNER, "CAP_IPC_OWNER"},
		{1 << unix.CAP_SYS_MODULE, "CAP_SYS_MODULE"}, {1 << unix.CAP_SYS_RAWIO, "CAP_SYS_RAWIO"}, {1 << unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {1 << unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
		{1 << unix.CAP_SYS_PACCT, "CAP_SYS_PACCT"}, {1 << unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {1 << unix.CAP_SYS_BOOT, "CAP_SYS_BOOT"}, {1 << unix.CAP_SYS_NICE, "CAP_SYS_NICE"},
		{1 << unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE"}, {1 << unix.CAP_SYS_TIME, "CAP_SYS_TIME"}, {1 << unix.CAP_SYS_TTY_CONFIG, "CAP_SYS_TTY_CONFIG"}, {1 << unix.CAP_MKNOD, "CAP_MKNOD"},
		{1 << unix.CAP_LEASE, "CAP_LEASE"}, {1 << unix.CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE"}, {1 << unix.CAP_AUDIT_CONTROL, "CAP_AUDIT_CONTROL"}, {1 << unix.CAP_SETFCAP, "CAP_SETFCAP"},
		{1 << unix.CAP_MAC_OVERRIDE, "CAP_MAC_OVERRIDE"}, {1 << unix.CAP_MAC_ADMIN, "CAP_MAC_ADMIN"}, {1 << unix.CAP_SYSLOG, "CAP_SYSLOG"}, {1 << unix.CAP_WAKE_ALARM, "CAP_WAKE_ALARM"},
		{1 << unix.CAP_BLOCK_SUSPEND, "CAP_BLOCK_SUSPEND"}, {1 << unix.CAP_AUDIT_READ, "CAP_AUDIT_READ"}, {1 << unix.CAP_PERFMON, "CAP_PERFMON"}, {1 << unix.CAP_BPF, "CAP_BPF"},
		{1 << unix.CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE"},
	}
	configNames = []flagName{
		{unix.FSCONFIG_SET_FLAG, "SET_FLAG"}, {unix.FSCONFIG_SET_STRING, "SET_STRING"}, {unix.FSCONFIG_SET_FD, "SET_FD"},
		{unix.FSCONFIG_CMD_CREATE, "CMD_CREATE"},
	}
	limitNames = []flagName{
		{unix.RLIMIT_AS, "RLIMIT_AS"}, {unix.RLIMIT_CORE, "RLIMIT_CORE"}, {unix.RLIMIT_CPU, "RLIMIT_CPU"}, {unix.RLIMIT_DATA, "RLIMIT_DATA"},
		{unix.RLIMIT_FSIZE, "RLIMIT_FSIZE"}, {unix.RLIMIT_LOCKS, "RLIMIT_LOCKS"}, {unix.RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"},
		{unix.RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"}, {unix.RLIMIT_NICE, "RLIMIT_NICE"}, {unix.RLIMIT_NOFILE, "RLIMIT_NOFILE"},
		{unix.RLIMIT_NPROC, "RLIMIT_NPROC"}, {unix.RLIMIT_RSS, "RLIMIT_RSS"}, {unix.RLIMIT_RTPRIO, "RLIMIT_RTPRIO"},
		{unix.RLIMIT_RTTIME, "RLIMIT_RTTIME"}, {unix.RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"}, {unix.RLIMIT_STACK, "RLIMIT_STACK"},
	}
	ioctlNames = []flagName{
		{unix.TIOCGPTPEER, "TIOCGPTPEER"}, {unix.TIOCSPTLCK, "TIOCSPTLCK"}, {unix.TIOCSCTTY, "TIOCSCTTY"},
		{unix.TIOCSWINSZ, "TIOCSWINSZ"}, {unix.TIOCSPGRP, "TIOCSPGRP"}, {unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"},
	}
	prctlNames = []flagName{
		{unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"}, {unix.PR_SET_NAME, "PR_SET_NAME"}, {unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"},
		{unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"}, {unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"}, {unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"},
		{unix.PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"},
	}
)
