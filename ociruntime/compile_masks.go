package ociruntime

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// maskDir is where the file system of the masks is attached for a moment: a
// directory of the host that nothing needs any more, in this mount namespace.
const maskDir = "/sys"

// maskPaths hides and write-protects paths. A mask is an empty file or an empty
// directory of a read-only file system of ours: never the container's
// /dev/null, which it could have replaced (CVE-2025-31133).
func (c *compiler) maskPaths() error {
	masked, readonly := c.present(c.linux.MaskedPaths), c.present(c.linux.ReadonlyPaths)
	if len(readonly) > 0 {
		c.b.Phase("read-only paths")
	}
	for _, p := range readonly {
		c.b.Subject("write-protect " + p)
		t, open := c.openKernels(p)
		tree, _ := c.b.OpenTree(t, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE)
		c.b.MountSetattr(tree, plan.MountAttr{Set: unix.MOUNT_ATTR_RDONLY, Recursive: true})
		c.b.MoveMount(tree, t)
		c.b.Close(tree)
		c.b.Close(t)
		open.SkipOnErrno()
	}
	if len(masked) > 0 {
		c.maskAll(masked)
	}
	c.b.Subject("")
	c.kernels("/proc")
	c.kernels("/sys")
	return nil
}

func (c *compiler) maskAll(masked []string) {
	c.b.Phase("masked paths")
	c.b.Subject("make the masks")
	fs := c.fsopen("tmpfs", "tmpfs", []string{"mode=755", "nr_inodes=4"})
	masks := c.b.Fsmount(fs, 0)
	c.b.MoveMount(masks, c.maskAt)
	c.b.Close(c.maskAt)
	// Readable, since programs take an empty file for granted where peers mount /dev/null.
	c.b.Mknodat(masks, "file", unix.S_IFREG|0o444, 0)
	c.b.Mkdirat(masks, "dir", 0o555)
	c.b.MountSetattr(masks, plan.MountAttr{Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC})
	for _, p := range masked {
		c.b.Subject("mask " + p)
		t, open := c.openKernels(p)
		c.mask(masks, t, c.o.Facts.Paths[p])
		c.b.Close(t)
		open.SkipOnErrno()
	}
	c.b.Close(masks)
}

// openKernels opens a path that is to be masked. What lies in the /proc and /sys
// that were mounted is looked up from there: who shares the root with the
// container could have moved the directory below them meanwhile, and a path
// that is not there is no error (CVE-2023-27561).
func (c *compiler) openKernels(p string) (plan.FD, plan.Call) {
	dir, name, resolve := c.root, p, uint64(inRoot)
	for at, fd := range map[string]plan.FD{"/proc/": c.procfs, "/sys/": c.sysfs} {
		if rest, ok := strings.CutPrefix(p, at); ok && fd != 0 {
			dir, name, resolve = fd, rest, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS
		}
	}
	t, open := c.b.Openat2(dir, name, openPath, resolve)
	open.Accept(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	return t, open
}

// mask mounts the fitting mask on t; of an unknown kind the file is tried first.
func (c *compiler) mask(masks, t plan.FD, kind Kind) {
	name := "file"
	if kind == Directory {
		name = "dir"
	}
	m, _ := c.b.OpenTree(masks, name, unix.OPEN_TREE_CLONE)
	move := c.b.MoveMount(m, t)
	if kind == Unknown {
		move.Accept(unix.EINVAL) // of a file on a directory
		c.mask(masks, t, Directory)
		move.SkipOnSuccess()
	}
	c.b.Close(m)
}

// present leaves out what the host's /proc and /sys do not have, and what
// lies below another path of the list.
func (c *compiler) present(paths []string) []string {
	var out []string
	for _, p := range paths {
		p = path.Clean("/" + p)
		if kind, known := c.o.Facts.Paths[p]; known && kind == Absent && (strings.HasPrefix(p, "/proc/") || strings.HasPrefix(p, "/sys/")) {
			continue
		}
		out = append(out, p)
	}
	return out
}
