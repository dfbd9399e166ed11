package ociruntime

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// A copyUp is a new file system that is to have the files of the directory it covers.
// A plan cannot copy: it waits as it does for hooks, and whoever launched it copies from
// the one descriptor to the other.
type copyUp struct {
	from, to plan.FD
	ro       bool
}

// maxCopyUps is how many one container may have.
const maxCopyUps = 32

// copyUpFD is the number of the first descriptor of copy i, in a plan with that many files.
func copyUpFD(files, i int) int { return max(200, int(plan.FirstFile)+files+100) + 10 + 2*i }

// copiesUp lists the mounts that are to be filled, by their places.
func copiesUp(spec *oci.Spec) (out []int) {
	for i, m := range spec.Mounts {
		if m.Type == "tmpfs" && !isBind(m) && slices.Contains(m.Options, "tmpcopyup") && len(out) < maxCopyUps {
			out = append(out, i)
		}
	}
	return out
}

// CopiesUp reports whether there is something for CopyUp to do.
func CopiesUp(spec *oci.Spec) bool { return len(copiesUp(spec)) > 0 }

// CopyUp copies what new file systems cover in the container of process pid, whose plan
// was compiled with CompileOptions.CopyUp and waits for hooks.
func CopyUp(spec *oci.Spec, p *plan.Plan, pid int) error {
	if !CopiesUp(spec) {
		return nil
	}
	uid, err := rootID(pid, "uid_map")
	if err != nil {
		return err
	}
	gid, err := rootID(pid, "gid_map")
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		if uid != 0 || gid != 0 {
			runtime.LockOSThread() // and never unlocked: the thread ends with what was done to it
			if err := becomeOwner(uid, gid); err != nil {
				done <- err
				return
			}
		}
		done <- copyAll(spec, len(p.Files()), pid)
	}()
	return <-done
}

// rootID is the id that the container's root has here.
func rootID(pid int, file string) (int, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0, fmt.Errorf("copy up: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if w := strings.Fields(line); len(w) == 3 && w[0] == "0" {
			return strconv.Atoi(w[1])
		}
	}
	return 0, fmt.Errorf("copy up: nobody is root in the user namespace of process %d", pid)
}

// becomeOwner lets this thread make files where only the ids of a user namespace exist. It
// keeps its capabilities, which the change of the id takes away.
func becomeOwner(uid, gid int) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	err := unix.Capget(&hdr, &caps[0])
	if err == nil {
		unix.Setfsgid(gid)
		unix.Setfsuid(uid)
		err = unix.Capset(&hdr, &caps[0])
	}
	if err != nil {
		return fmt.Errorf("copy up as user %d: %w", uid, err)
	}
	return nil
}

func copyAll(spec *oci.Spec, files, pid int) error {
	for i, m := range copiesUp(spec) {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
		fd := copyUpFD(files, i)
		if err := copyTree(dir+strconv.Itoa(fd), dir+strconv.Itoa(fd+1), spec.Mounts[m].Options); err != nil {
			return fmt.Errorf("copy what lies below %s: %w", spec.Mounts[m].Destination, err)
		}
	}
	return nil
}

// copyTree copies directories, files and links. What lies in the container's root may be
// anything, so nothing is opened that leads out of the two directories. What was mounted
// on the new file system since is neither copied to nor entered.
func copyTree(from, to string, options []string) error {
	src, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	top, err := dst.Stat(".")
	if err != nil {
		return err
	}
	ownMode := slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "mode=") })
	return fs.WalkDir(src.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := src.Lstat(name)
		if err != nil {
			return err
		}
		if name == "." {
			if ownMode {
				return nil
			}
			return dst.Chmod(name, info.Mode())
		}
		if there, err := dst.Lstat(name); err == nil && (!there.IsDir() || !info.IsDir() || device(there) != device(top)) {
			if info.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return copyOne(src, dst, name, info)
	})
}

func device(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}

func copyOne(src, dst *os.Root, name string, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s has no owner", name)
	}
	switch {
	case info.IsDir():
		if err := dst.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err // one that is there is the way to another mount's place
		}
	case info.Mode().IsRegular():
		if err := copyFile(src, dst, name); err != nil {
			return err
		}
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := src.Readlink(name)
		if err != nil {
			return err
		}
		if err := dst.Symlink(link, name); err != nil {
			return err
		}
		return dst.Lchown(name, int(owner.Uid), int(owner.Gid))
	default:
		return nil // devices, pipes and sockets are made anew by whoever wants them
	}
	if err := dst.Lchown(name, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	if err := dst.Chmod(name, info.Mode()); err != nil {
		return err
	}
	if info.IsDir() {
		return nil // its time changes with what is copied into it
	}
	return dst.Chtimes(name, info.ModTime(), info.ModTime())
}

func copyFile(src, dst *os.Root, name string) error {
	in, err := src.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}
