package stepper

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// unsynced are the files that were written and not synced since, by their
// inode. They are held by O_PATH: that keeps nobody from executing one.
type unsynced map[[2]uint64]int

// note follows a call that writes or syncs.
func (u *unsynced) note(p Point, r *unix.PtraceRegs) {
	fd := int32(r.Rdi)
	switch p.Call {
	case "copy_file_range":
		fd = int32(r.Rdx)
	case "write", "pwrite64", "writev", "sendfile", "ftruncate", "ioctl", "fsync", "fdatasync":
	case "syncfs":
		u.close()
		return
	default:
		return
	}
	var st unix.Stat_t
	f, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", p.Pid, fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	if unix.Fstat(f, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(f)
		return
	}
	key := [2]uint64{st.Dev, st.Ino}
	if had, ok := (*u)[key]; ok {
		unix.Close(had)
		delete(*u, key)
	}
	if p.Call == "fsync" || p.Call == "fdatasync" {
		unix.Close(f)
		return
	}
	if *u == nil {
		*u = unsynced{}
	}
	(*u)[key] = f
}

// lose zeroes what a sync that fails was to save: one file, or all that were
// written and not synced. What a directory had is not taken back.
func (u *unsynced) lose(p Point, r *unix.PtraceRegs) {
	switch p.Call {
	case "fsync", "fdatasync":
		zero(fmt.Sprintf("/proc/%d/fd/%d", p.Pid, int32(r.Rdi)))
	case "syncfs":
		for _, f := range *u {
			zero(fmt.Sprintf("/proc/self/fd/%d", f))
		}
	}
}

// zero makes all bytes of a regular file zeroes.
func zero(path string) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteAt(make([]byte, st.Size()), 0)
}

func (u *unsynced) close() {
	for _, f := range *u {
		unix.Close(f)
	}
	*u = nil
}
