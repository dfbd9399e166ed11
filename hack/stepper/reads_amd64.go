package stepper

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Set is which calls stop.
type Set int

const (
	Writes Set = iota // what changes something outside its process
	// Reads are what looks: opens for reading, reads, lists, looks at names, new
	// sockets and pipes. They only fail; to kill there is to kill at the next write.
	Reads
)

func (s Set) calls() map[string]call {
	if s == Reads {
		return reads
	}
	return writes
}

var (
	opened = []unix.Errno{unix.EMFILE, unix.EIO, unix.ENOMEM}
	number = []unix.Errno{unix.EMFILE, unix.ENOMEM}
	device = []unix.Errno{unix.EIO}
	looked = []unix.Errno{unix.EIO, unix.ENOMEM}
)

// reads are the calls of the other set. Those of which Go's runtime makes an end
// of the program, whatever its caller would do, are not among them: mmap of
// memory, threads, and the descriptors of its own poller.
var reads = map[string]call{
	"open": {nr: unix.SYS_OPEN, flags: 1, errnos: opened}, "openat": {nr: unix.SYS_OPENAT, flags: 2, errnos: opened},
	"openat2": {nr: unix.SYS_OPENAT2, errnos: opened},
	"read":    {nr: unix.SYS_READ, fd: isStored, errnos: device}, "pread64": {nr: unix.SYS_PREAD64, fd: isStored, errnos: device},
	"getdents64": {nr: unix.SYS_GETDENTS64, fd: isStored, errnos: device}, "readlinkat": {nr: unix.SYS_READLINKAT, errnos: looked}, "readlink": {nr: unix.SYS_READLINK, errnos: looked},
	"stat": {nr: unix.SYS_STAT, errnos: looked}, "lstat": {nr: unix.SYS_LSTAT, errnos: looked}, "newfstatat": {nr: unix.SYS_NEWFSTATAT, errnos: looked},
	"statx": {nr: unix.SYS_STATX, errnos: looked}, "statfs": {nr: unix.SYS_STATFS, errnos: looked},
	"lgetxattr": {nr: unix.SYS_LGETXATTR, errnos: looked}, "fgetxattr": {nr: unix.SYS_FGETXATTR, errnos: looked}, "llistxattr": {nr: unix.SYS_LLISTXATTR, errnos: looked},
	"socket": {nr: unix.SYS_SOCKET, errnos: number}, "socketpair": {nr: unix.SYS_SOCKETPAIR, errnos: number}, "accept4": {nr: unix.SYS_ACCEPT4, errnos: number},
	"pipe2": {nr: unix.SYS_PIPE2, errnos: number}, "memfd_create": {nr: unix.SYS_MEMFD_CREATE, errnos: number}, "pidfd_open": {nr: unix.SYS_PIDFD_OPEN, errnos: number},
	"dup": {nr: unix.SYS_DUP, errnos: number}, "inotify_init1": {nr: unix.SYS_INOTIFY_INIT1, errnos: number},
	"recvfrom": {nr: unix.SYS_RECVFROM, fd: isNetlink, errnos: memory}, "recvmsg": {nr: unix.SYS_RECVMSG, fd: isNetlink, errnos: memory},
	"execve": {nr: unix.SYS_EXECVE, errnos: []unix.Errno{unix.ENOMEM, unix.EIO}}, "execveat": {nr: unix.SYS_EXECVEAT, errnos: []unix.Errno{unix.ENOMEM, unix.EIO}},
}

// isStored reports that a descriptor is of a file or a directory on a disk, or
// of what stands for one.
func isStored(tgid, fd int) bool {
	name := fmt.Sprintf("/proc/%d/fd/%d", tgid, fd)
	to, err := os.Readlink(name)
	if err != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "/memfd:") || strings.HasPrefix(to, "/proc/") || strings.HasPrefix(to, "/sys/") {
		return false
	}
	st, err := os.Stat(name)
	return err == nil && (st.Mode().IsRegular() || st.IsDir())
}
