package plan

import "golang.org/x/sys/unix"

// hints are cures by call and errno; the first match counts.
var hints = []struct {
	call  string
	errno unix.Errno
	text  string
}{
	{"clone", unix.ENOSPC, "the limit of namespaces is reached: see sysctl user.max_*_namespaces"},
	{"clone", unix.EPERM, "new namespaces need root or a user namespace: see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces"},
	{"clone", unix.EAGAIN, "the limit of processes is reached (ulimit -u, pids.max of the cgroup)"},
	{"clone3", unix.ENOSPC, "the limit of namespaces is reached: see sysctl user.max_*_namespaces"},
	{"clone3", unix.EPERM, "new namespaces need root or a user namespace: see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces"},
	{"clone3", unix.EAGAIN, "the limit of processes is reached (ulimit -u, pids.max of the cgroup)"},
	{"clone3", unix.EBUSY, "the cgroup has groups below it and cannot hold processes itself"},
	{"unshare", unix.ENOSPC, "the limit of namespaces is reached: see sysctl user.max_*_namespaces"},
	{"unshare", unix.EPERM, "new namespaces need root or a user namespace: see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces"},
	{"chdir", unix.ENOENT, "the working directory does not exist in the container"},
	{"chdir", unix.EACCES, "the working directory may not be entered by the container's user"},
	{"check", unix.EACCES, "the working directory may not be entered by the container's user"},
	{"check", unix.ELOOP, "the destination leads into /proc or /sys by a link of the image"},
	{"check", unix.ENOENT, "the working directory lies outside the container"},
	{"check", unix.ENOTTY, "/dev/pts of the container is no devpts file system: a terminal needs one mounted there"},
	{"setns", unix.EPERM, "the namespace belongs to another user namespace, or its owner's privileges are needed"},
	{"setns", unix.ESRCH, "the process whose namespaces are to be joined is gone"},
	{"fsopen", unix.ENODEV, "this kernel does not have the file system"},
	{"fsopen", unix.EPERM, "this file system may not be mounted in a user namespace"},
	{"fsopen", unix.ENOSYS, "a kernel of version 5.14 or newer is needed"},
	{"fsconfig", unix.EPERM, "in a user namespace this file system needs /proc or /sys to be fully visible, or its own namespace (network for sysfs, pid for proc)"},
	{"fsconfig", unix.EINVAL, "an option is unknown to this file system: see dmesg"},
	{"fsmount", unix.EPERM, "in a user namespace proc and sysfs can be mounted only where nothing of the host's covers them"},
	{"move_mount", unix.ELOOP, "the destination leads through a symbolic link to a place that must not be mounted on"},
	{"move_mount", unix.EINVAL, "source and destination must both be directories or both be files"},
	{"move_mount", unix.ENOSPC, "the limit of mounts is reached: see sysctl fs.mount-max"},
	{"mount", unix.EPERM, "mounting needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace"},
	{"mount_setattr", unix.EINVAL, "the file system or this kernel cannot do idmapped mounts"},
	{"mount_setattr", unix.EPERM, "an option of the host's mount is locked and may not be taken away in a user namespace"},
	{"mknodat", unix.EPERM, "device nodes cannot be made in a user namespace"},
	{"mknodat", unix.EROFS, "the mount point does not exist and cannot be made on a read-only file system"},
	{"mkdirat", unix.EROFS, "the mount point does not exist and cannot be made on a read-only file system"},
	{"open_tree", unix.ENOENT, "the source of the mount does not exist"},
	{"open_tree", unix.EACCES, "the source of the mount cannot be reached with the container's ids"},
	{"openat2", unix.ELOOP, "the path leads through a link that must not be followed"},
	{"openat2", unix.ENOSYS, "a kernel of version 5.14 or newer is needed"},
	{"execve", unix.ENOENT, "the program, or the interpreter that it names, is not in the container"},
	{"execve", unix.EACCES, "the file is not executable, or its file system is mounted noexec"},
	{"execve", unix.ENOEXEC, "the program is for another architecture, or a script without #! line"},
	{"execve", unix.E2BIG, "arguments and environment are too long"},
	{"prlimit64", unix.EPERM, "a hard limit cannot be raised above this process's own without CAP_SYS_RESOURCE"},
	{"setresuid", unix.EINVAL, "the user is not mapped in this user namespace: more subordinate ids are needed (usermod --add-subuids)"},
	{"setresgid", unix.EINVAL, "the group is not mapped in this user namespace: more subordinate ids are needed (usermod --add-subgids)"},
	{"setgroups", unix.EPERM, "supplementary groups cannot be set in this user namespace (setgroups is denied)"},
	{"seccomp", unix.EACCES, "installing a filter needs CAP_SYS_ADMIN or no_new_privs"},
	{"capset", unix.EPERM, "a capability is asked for that this process does not have"},
}

func hint(e *StepError) string {
	for _, h := range hints {
		if h.call == e.Call && h.errno == e.Errno {
			return h.text
		}
	}
	return ""
}
