package engine

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hull/state"
)

// foreignTree is a copy, attached nowhere, of a mount in the mount namespace
// of another process: source is /proc/PID/root/PATH. Only a thread in that
// namespace can make one; it ends with that.
func foreignTree(source string) (*os.File, error) {
	proc, path, ok := strings.Cut(source, "/root/")
	if !ok {
		return nil, fmt.Errorf("take %s: not a path below /proc/PID/root", source)
	}
	type result struct {
		fd  int
		err error
	}
	var r result
	state.OnLostThread(func() {
		r = func() result {
			ns, err := unix.Open(proc+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return result{-1, os.NewSyscallError("open mount namespace", err)}
			}
			defer unix.Close(ns)
			// A thread that shares its working directory cannot leave.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return result{-1, os.NewSyscallError("unshare", err)}
			}
			if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
				return result{-1, os.NewSyscallError("setns", err)}
			}
			fd, err := unix.OpenTree(unix.AT_FDCWD, "/"+path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			return result{fd, os.NewSyscallError("open_tree", err)}
		}()
	})
	if r.err != nil {
		return nil, fmt.Errorf("take %s: %w", source, r.err)
	}
	return os.NewFile(uintptr(r.fd), source), nil
}
