package tracer

// calls are the kinds of a call's arguments, a letter each: s a string, d a
// number, f a descriptor, o an octal mode, x flags or an address, b a buffer
// that the call reads and whose length is the next argument, r one that it
// fills and whose length is the result, v a list of strings. Calls that are
// not here are printed as six hexadecimal numbers without the last zeros.
var calls = map[string]string{
	"read": "frd", "write": "fbd", "open": "sxo", "close": "f", "stat": "sx", "fstat": "fx", "lstat": "sx", "poll": "xdd", "lseek": "fdd",
	"mmap": "xdxxfx", "mprotect": "xdx", "munmap": "xd", "brk": "x", "rt_sigaction": "dxxd", "rt_sigprocmask": "dxxd", "ioctl": "fxx",
	"pread64": "frdd", "pwrite64": "fbdd", "readv": "fxd", "writev": "fxd", "access": "so", "pipe": "x", "select": "dxxxx", "dup": "f",
	"dup2": "ff", "dup3": "ffx", "nanosleep": "xx", "getpid": "", "gettid": "", "getppid": "", "socket": "ddd", "connect": "fxd", "accept": "fxx",
	"accept4": "fxxx", "bind": "fxd", "listen": "fd", "sendto": "fbdxxd", "recvfrom": "frdxxx", "sendmsg": "fxx", "recvmsg": "fxx",
	"shutdown": "fd", "setsockopt": "fddxd", "getsockopt": "fddxx", "clone": "xxxxx", "clone3": "xd", "fork": "", "vfork": "", "execve": "svx",
	"execveat": "fsvxx", "exit": "d", "exit_group": "d", "wait4": "dxxx", "kill": "dd", "tgkill": "ddd", "uname": "x", "fcntl": "fdx", "flock": "fd",
	"fsync": "f", "fdatasync": "f", "truncate": "sd", "ftruncate": "fd", "getdents64": "fxd", "getcwd": "rd", "chdir": "s", "fchdir": "f",
	"rename": "ss", "mkdir": "so", "rmdir": "s", "creat": "so", "link": "ss", "unlink": "s", "symlink": "ss", "readlink": "srd", "chmod": "so",
	"fchmod": "fo", "chown": "sdd", "fchown": "fdd", "lchown": "sdd", "umask": "o", "getuid": "", "getgid": "", "geteuid": "", "getegid": "",
	"setuid": "d", "setgid": "d", "setresuid": "ddd", "setresgid": "ddd", "setpgid": "dd", "setsid": "", "prctl": "dxxxx", "arch_prctl": "xx",
	"mount": "sssxx", "umount2": "sx", "chroot": "s", "sethostname": "bd", "futex": "xdxxxx", "set_tid_address": "x", "exitgroup": "d",
	"openat": "fsxo", "openat2": "fsxd", "mkdirat": "fso", "mknodat": "fsox", "fchownat": "fsddx", "newfstatat": "fsxx", "statx": "fsxxx",
	"unlinkat": "fsx", "renameat": "fsfs", "renameat2": "fsfsx", "linkat": "fsfsx", "symlinkat": "sfs", "readlinkat": "fsrd", "fchmodat": "fso",
	"faccessat": "fso", "faccessat2": "fsox", "epoll_wait": "fxdd", "epoll_pwait": "fxddxd", "epoll_ctl": "fdfx", "epoll_create1": "x",
	"pipe2": "xx", "eventfd2": "dx", "prlimit64": "ddxx", "getrandom": "xdx", "memfd_create": "sx", "set_robust_list": "xd", "rseq": "xdxx",
	"clock_nanosleep": "dxxx", "clock_gettime": "dx", "sched_yield": "", "setns": "fx", "unshare": "x", "pidfd_open": "dx", "statfs": "sx",
	"utimensat": "fsxx", "sendfile": "ffxd", "copy_file_range": "fxfxdx", "inotify_add_watch": "fsx", "setxattr": "ssbdx", "getxattr": "ssrd",
	"ppoll": "xdxxd", "pselect6": "dxxxxx", "sigaltstack": "xx", "madvise": "xdd", "close_range": "ffx", "sysinfo": "x", "times": "x",
}
