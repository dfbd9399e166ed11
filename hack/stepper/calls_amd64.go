package stepper

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A call is one that changes something outside its process.
type call struct {
	nr uint64
	// flags is the argument that has open's.
	flags uint
	// fd says that the first argument must be what isFile or isNetlink is true for.
	fd func(tgid int, fd int) bool
	// errnos are what the call may be made to fail with; none: it is not.
	errnos []unix.Errno
}

var (
	disk    = []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS}
	opens   = []unix.Errno{unix.ENOSPC, unix.EMFILE, unix.EROFS, unix.EDQUOT, unix.EIO, unix.ENOMEM}
	written = []unix.Errno{unix.ENOSPC, unix.EIO, unix.EDQUOT}
	synced  = []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}
	// A copy-on-write file system needs room to remove, and who gets a file may
	// have no quota left for it.
	removed = []unix.Errno{unix.EROFS, unix.EIO, unix.ENOMEM, unix.ENOSPC}
	altered = []unix.Errno{unix.EROFS, unix.EIO, unix.ENOMEM, unix.EDQUOT}
	memory  = []unix.Errno{unix.ENOMEM}
	// Of mounts: some open a descriptor, some talk to a file system, and the
	// number of mounts is limited.
	mounts   = []unix.Errno{unix.ENOMEM, unix.ENOSPC, unix.EIO, unix.EROFS}
	attached = []unix.Errno{unix.ENOMEM, unix.ENOSPC}
	trees    = []unix.Errno{unix.ENOMEM, unix.ENOSPC, unix.EMFILE}
	clones   = []unix.Errno{unix.ENOMEM, unix.EAGAIN, unix.EMFILE}
)

// writes are the calls that stop, by name.
var writes = map[string]call{
	"open": {nr: unix.SYS_OPEN, flags: 1, errnos: opens}, "openat": {nr: unix.SYS_OPENAT, flags: 2, errnos: opens},
	"openat2": {nr: unix.SYS_OPENAT2, errnos: opens}, "creat": {nr: unix.SYS_CREAT, errnos: opens},
	"write": {nr: unix.SYS_WRITE, fd: isFile, errnos: written}, "pwrite64": {nr: unix.SYS_PWRITE64, fd: isFile, errnos: written},
	"writev": {nr: unix.SYS_WRITEV, fd: isFile, errnos: written}, "copy_file_range": {nr: unix.SYS_COPY_FILE_RANGE, errnos: written},
	"sendfile": {nr: unix.SYS_SENDFILE, fd: isFile, errnos: written}, "ioctl": {nr: unix.SYS_IOCTL, errnos: written},
	"ftruncate": {nr: unix.SYS_FTRUNCATE, errnos: written}, "truncate": {nr: unix.SYS_TRUNCATE, errnos: written},
	"fallocate": {nr: unix.SYS_FALLOCATE, errnos: written},
	"fsync":     {nr: unix.SYS_FSYNC, errnos: synced}, "fdatasync": {nr: unix.SYS_FDATASYNC, errnos: synced}, "syncfs": {nr: unix.SYS_SYNCFS, errnos: synced},
	"rename": {nr: unix.SYS_RENAME, errnos: disk}, "renameat": {nr: unix.SYS_RENAMEAT, errnos: disk}, "renameat2": {nr: unix.SYS_RENAMEAT2, errnos: disk},
	"link": {nr: unix.SYS_LINK, errnos: disk}, "linkat": {nr: unix.SYS_LINKAT, errnos: disk},
	"symlink": {nr: unix.SYS_SYMLINK, errnos: disk}, "symlinkat": {nr: unix.SYS_SYMLINKAT, errnos: disk},
	"unlink": {nr: unix.SYS_UNLINK, errnos: removed}, "unlinkat": {nr: unix.SYS_UNLINKAT, errnos: removed}, "rmdir": {nr: unix.SYS_RMDIR, errnos: removed},
	"mkdir": {nr: unix.SYS_MKDIR, errnos: disk}, "mkdirat": {nr: unix.SYS_MKDIRAT, errnos: disk},
	"mknod": {nr: unix.SYS_MKNOD, errnos: disk}, "mknodat": {nr: unix.SYS_MKNODAT, errnos: disk}, "bind": {nr: unix.SYS_BIND, errnos: memory},
	"chmod": {nr: unix.SYS_CHMOD, errnos: altered}, "fchmod": {nr: unix.SYS_FCHMOD, errnos: altered}, "fchmodat": {nr: unix.SYS_FCHMODAT, errnos: altered},
	"fchmodat2": {nr: unix.SYS_FCHMODAT2, errnos: altered},
	"chown":     {nr: unix.SYS_CHOWN, errnos: altered}, "fchown": {nr: unix.SYS_FCHOWN, errnos: altered}, "lchown": {nr: unix.SYS_LCHOWN, errnos: altered},
	"fchownat": {nr: unix.SYS_FCHOWNAT, errnos: altered}, "utimensat": {nr: unix.SYS_UTIMENSAT, errnos: altered},
	"setxattr": {nr: unix.SYS_SETXATTR, errnos: disk}, "lsetxattr": {nr: unix.SYS_LSETXATTR, errnos: disk}, "fsetxattr": {nr: unix.SYS_FSETXATTR, errnos: disk},
	"mount": {nr: unix.SYS_MOUNT, errnos: mounts}, "umount2": {nr: unix.SYS_UMOUNT2, errnos: memory}, "pivot_root": {nr: unix.SYS_PIVOT_ROOT, errnos: memory},
	"fsopen": {nr: unix.SYS_FSOPEN, errnos: trees}, "fsconfig": {nr: unix.SYS_FSCONFIG, errnos: mounts}, "fsmount": {nr: unix.SYS_FSMOUNT, errnos: trees},
	"move_mount": {nr: unix.SYS_MOVE_MOUNT, errnos: attached}, "open_tree": {nr: unix.SYS_OPEN_TREE, errnos: trees},
	"mount_setattr": {nr: unix.SYS_MOUNT_SETATTR, errnos: attached},
	"clone":         {nr: unix.SYS_CLONE, errnos: clones}, "clone3": {nr: unix.SYS_CLONE3, errnos: clones}, "fork": {nr: unix.SYS_FORK, errnos: clones},
	"vfork": {nr: unix.SYS_VFORK, errnos: clones}, "unshare": {nr: unix.SYS_UNSHARE, errnos: memory}, "setns": {nr: unix.SYS_SETNS, errnos: memory},
	"sendto": {nr: unix.SYS_SENDTO, fd: isNetlink, errnos: memory}, "sendmsg": {nr: unix.SYS_SENDMSG, fd: isNetlink, errnos: memory},
	"flock": {nr: unix.SYS_FLOCK, errnos: []unix.Errno{unix.ENOMEM, unix.EIO}},
	"kill":  {nr: unix.SYS_KILL}, "pidfd_send_signal": {nr: unix.SYS_PIDFD_SEND_SIGNAL},
}

func callNames(calls map[string]call) map[uint64]string {
	names := make(map[uint64]string, len(calls))
	for name, c := range calls {
		names[c.nr] = name
	}
	return names
}

// isFile reports that a descriptor is a regular file's, of a disk or of the
// kernel's own file systems: not a pipe's, a socket's or a terminal's.
func isFile(tgid, fd int) bool {
	name := fmt.Sprintf("/proc/%d/fd/%d", tgid, fd)
	to, err := os.Readlink(name)
	if err != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "/memfd:") {
		return false
	}
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// isNetlink reports that a descriptor is a socket to the kernel's networks.
func isNetlink(tgid, fd int) bool {
	p, err := unix.PidfdOpen(tgid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(p)
	s, err := unix.PidfdGetfd(p, fd, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	domain, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_NETLINK
}

// point says what the call at which a thread stands is; ok is false when it
// changes nothing outside the process after all.
func (t *tracer) point(tid int, r *unix.PtraceRegs) (p Point, ok bool) {
	name := t.names[r.Orig_rax]
	c := t.calls[name]
	p = Point{Call: name, Pid: t.tgid(tid), errnos: c.errnos}
	switch name {
	case "openat2":
		var how [8]byte
		if peek(tid, r.Rdx, how[:]) != nil {
			return p, false
		}
		f := binary.LittleEndian.Uint64(how[:])
		if forWriting := f&(unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_RDWR) != 0 && f&unix.O_PATH == 0; forWriting != (t.o.Set == Writes) {
			return p, false
		}
	case "clone3":
		var flags [8]byte
		if peek(tid, r.Rdi, flags[:]) != nil || binary.LittleEndian.Uint64(flags[:])&unix.CLONE_THREAD != 0 {
			return p, false
		}
	}
	if is := c.fd; is != nil && !is(p.Pid, int(int32(r.Rdi))) {
		return p, false
	}
	if t.o.Skip != nil && c.fd != nil {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.Pid, int32(r.Rdi)))
		if t.o.Skip(to) {
			return p, false
		}
	}
	p.subject = func() string { return subject(tid, p.Pid, name, r) }
	return p, true
}

// subject is the path or file that a call is about, as far as one look tells.
func subject(tid, tgid int, name string, r *unix.PtraceRegs) string {
	text := func(addr uint64) string {
		b := make([]byte, 256)
		for peek(tid, addr, b) != nil && len(b) > 1 {
			b = b[:len(b)/2] // the end of a page
		}
		s, _, _ := strings.Cut(string(b), "\x00")
		return s
	}
	file := func(fd uint64) string {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tgid, int32(fd)))
		return to
	}
	switch name {
	case "openat", "openat2", "unlinkat", "mkdirat", "mknodat", "fchmodat", "fchownat", "open_tree", "utimensat", "newfstatat", "readlinkat", "statx":
		return text(r.Rsi)
	case "renameat", "renameat2", "linkat":
		return text(r.Rsi) + " " + text(r.R10)
	case "rename", "link":
		return text(r.Rdi) + " " + text(r.Rsi)
	case "symlinkat":
		return text(r.Rdx)
	case "symlink", "mount":
		return text(r.Rsi)
	case "open", "creat", "unlink", "rmdir", "mkdir", "mknod", "chmod", "chown", "lchown", "setxattr", "lsetxattr", "umount2", "truncate", "fsopen", "stat", "lstat", "readlink", "execve", "memfd_create", "lgetxattr", "llistxattr", "statfs":
		return text(r.Rdi)
	case "write", "pwrite64", "writev", "fsync", "fdatasync", "syncfs", "ftruncate", "fallocate", "fchmod", "fchown", "fsetxattr", "flock", "sendfile", "read", "pread64", "getdents64", "recvfrom", "recvmsg", "fgetxattr":
		return file(r.Rdi)
	case "move_mount":
		return text(r.R10)
	case "kill":
		return fmt.Sprintf("%d with %d", int32(r.Rdi), r.Rsi)
	}
	return ""
}
