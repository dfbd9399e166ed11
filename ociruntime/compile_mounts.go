package ociruntime

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// inRoot is how every path below the container's root is resolved: the root is
// the root of every link, and the kernel's magic links lead nowhere.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// beneath is how what the kernel itself keeps in /proc is resolved.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS

const openPath = unix.O_PATH | unix.O_CLOEXEC

// mounts mounts what the configuration lists.
func (c *compiler) mounts() error {
	c.b.Phase("mounts")
	for i := range c.spec.Mounts {
		if err := c.mount(&c.spec.Mounts[i]); err != nil {
			return err
		}
	}
	if cwd := path.Clean("/" + c.process.Cwd); cwd != "/" {
		c.workingDirectory(cwd)
	}
	c.b.Subject("")
	return nil
}

// workingDirectory makes it, or, with KeepCwd, looks whether it is inside: one
// that is a magic link fails here, one that is missing when it is entered.
func (c *compiler) workingDirectory(cwd string) {
	if !c.o.KeepCwd {
		c.b.Subject("make the working directory " + cwd)
		c.b.Close(c.target(cwd, Directory, inRoot))
		return
	}
	c.b.Subject("look for the working directory " + cwd)
	dir, open := c.b.Openat2(c.root, cwd, openPath|unix.O_DIRECTORY, inRoot)
	open.Accept(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	c.b.Close(dir)
	open.SkipOnErrno()
}

// mount mounts one entry on its destination below the root.
func (c *compiler) mount(m *oci.Mount) error {
	o, err := parseMount(*m)
	if err != nil {
		return err
	}
	dst := path.Clean("/" + m.Destination)
	if dst == "/dev" && !(o.bind && m.Source == "/dev") {
		c.dev = true
	}
	c.b.Subject("mount " + describe(*m) + " on " + dst)
	switch {
	case (m.Type == "cgroup" || m.Type == "cgroup2") && !o.bind:
		return c.mountCgroup(dst, o)
	case o.bind:
		return c.bind(m, dst, o)
	}
	resolve := uint64(inRoot)
	if m.Type == "proc" || m.Type == "sysfs" {
		// An image whose /proc is a link would have what is masked elsewhere
		// (CVE-2019-19921).
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	target := c.target(dst, Directory, resolve)
	if m.Type != "proc" && m.Type != "sysfs" {
		c.notKernels(target, dst)
	}
	if dst == "/dev" && o.set&unix.MOUNT_ATTR_RDONLY != 0 {
		c.devRO = true // when the devices are in it
		o.set &^= unix.MOUNT_ATTR_RDONLY
	}
	if m.Type == "overlay" {
		return c.mountOverlay(target, o)
	}
	fs := c.fsopen(m.Type, m.Source, o.data)
	mnt := c.copyUp(m, fs, target, o)
	if m.Type == "mqueue" {
		c.labelQueue(mnt)
	}
	c.move(mnt, target, o)
	if kernels := c.kernels(dst); kernels != nil {
		*kernels = mnt
		if kernels == &c.procfs {
			c.settable = m.Type == "proc" && o.set&unix.MOUNT_ATTR_RDONLY == 0 && len(o.data) == 0
		}
		return nil
	}
	c.b.Close(mnt)
	return nil
}

// copyUp mounts a file system, and keeps a way to it and to what it covers when that
// is to be copied into it.
func (c *compiler) copyUp(m *oci.Mount, fs, target plan.FD, o mountOptions) plan.FD {
	i := len(c.copies)
	if !c.o.CopyUp || !slices.Contains(m.Options, "tmpcopyup") || m.Type != "tmpfs" || i == maxCopyUps {
		return c.b.Fsmount(fs, o.set)
	}
	number := plan.FD(copyUpFD(c.inherited, i))
	u := copyUp{from: number, to: number + 1, ro: o.set&unix.MOUNT_ATTR_RDONLY != 0}
	mnt := c.b.Fsmount(fs, o.set&^unix.MOUNT_ATTR_RDONLY)
	c.b.Dup3(target, u.from, true)
	c.b.Dup3(mnt, u.to, true)
	c.copies = append(c.copies, u)
	return mnt
}

// kernels is where the descriptor of what is mounted on /proc or /sys is kept,
// for the masks; nil for other places. What was mounted there before is let go.
func (c *compiler) kernels(dst string) *plan.FD {
	at := map[string]*plan.FD{"/proc": &c.procfs, "/sys": &c.sysfs}[dst]
	if at != nil && *at != 0 {
		c.b.Close(*at)
		*at = 0
	}
	return at
}

func describe(m oci.Mount) string {
	if isBind(m) {
		return m.Source
	}
	return m.Type
}

// bind mounts a directory or file of the host.
func (c *compiler) bind(m *oci.Mount, dst string, o mountOptions) error {
	kind := c.o.Facts.Paths[m.Source]
	if kind == Absent {
		return fmt.Errorf("mount %s on %s: %w", m.Source, dst, unix.ENOENT)
	}
	if kind == Unknown {
		kind = Directory
	}
	tree := c.tree(m, o)
	if o.set|o.clear != 0 {
		c.b.MountSetattr(tree, plan.MountAttr{Set: o.set, Clear: o.clear})
	}
	target := c.target(dst, kind, inRoot)
	c.notKernels(target, dst)
	c.kernels(dst)
	c.attach(tree, target, o)
	return nil
}

// tree is a detached copy of m's source.
func (c *compiler) tree(m *oci.Mount, o mountOptions) plan.FD {
	if early, ok := c.trees[m]; ok {
		return early
	}
	flags := uint(unix.OPEN_TREE_CLONE)
	if o.recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, _ := c.b.OpenTree(plan.CWD, m.Source, flags)
	return tree
}

// hostTrees makes the copies that must come from the host's mount namespace: an
// idmapped one needs rights over the file system, which the container's user
// namespace does not have, and a shared one in a root that is to be shared
// stays in its peer group only when it is copied before everything becomes a slave. With a user namespace of
// many ids the source may be out of the container's reach. One that lies where the
// root will be attached must not be looked up through the container's links.
func (c *compiler) hostTrees(given map[string]plan.FD) error {
	rootShared := c.linux.RootfsPropagation == "shared" || c.linux.RootfsPropagation == "rshared"
	all := make([]*oci.Mount, 0, len(c.spec.Mounts)+len(c.o.Rootfs))
	for i := range c.o.Rootfs {
		all = append(all, &c.o.Rootfs[i])
	}
	for i := range c.spec.Mounts {
		all = append(all, &c.spec.Mounts[i])
	}
	for _, m := range all {
		o, err := parseMount(*m)
		if err != nil {
			return err
		}
		if tree, ok := given[m.Source]; ok && o.bind {
			c.trees[m] = tree
			continue
		}
		maps := len(m.UIDMappings)+len(m.GIDMappings) > 0
		idmap, userns := o.idmap || maps, c.userFD
		if own, ok := c.maps[m]; ok {
			userns = own
		} else if maps && !containersMaps(c.linux, *m) {
			userns = 0
		}
		switch {
		case idmap && !o.bind:
			return fmt.Errorf("mount %s on %s: idmap is for bind mounts", m.Type, m.Destination)
		case idmap && userns == 0:
			return fmt.Errorf("mount %s on %s: idmap needs a user namespace that the caller has made with the maps", m.Source, m.Destination)
		case o.bind && !path.IsAbs(m.Source):
			return fmt.Errorf("mount %s on %s: the source is not an absolute path", m.Source, m.Destination)
		case !idmap && (!o.bind || c.o.UserNS == nil && !(rootShared && o.propagation&unix.MS_SHARED != 0) && !below(path.Clean(m.Source), c.rootTarget())):
			continue
		}
		c.b.Phase("mounts of the host")
		c.b.Subject("take " + m.Source)
		tree := c.tree(m, o)
		if idmap {
			c.b.MountSetattr(tree, plan.MountAttr{Set: unix.MOUNT_ATTR_IDMAP, UserNS: userns, Recursive: o.ridmap})
		}
		c.trees[m] = tree
		c.b.Subject("")
	}
	return nil
}

// attach puts a detached mount on target and closes both.
func (c *compiler) attach(mnt, target plan.FD, o mountOptions) {
	c.move(mnt, target, o)
	c.b.Close(mnt)
}

// move is attach that keeps the mount's descriptor.
func (c *compiler) move(mnt, target plan.FD, o mountOptions) {
	if o.recSet|o.recClear != 0 {
		c.b.MountSetattr(mnt, plan.MountAttr{Set: o.recSet, Clear: o.recClear, Recursive: true})
	}
	c.b.MoveMount(mnt, target)
	propagation := o.propagation
	if propagation == 0 && o.bind {
		propagation = unix.MS_PRIVATE | unix.MS_REC
	}
	if propagation != 0 {
		c.b.MountSetattr(mnt, plan.MountAttr{Propagation: propagation &^ unix.MS_REC, Recursive: propagation&unix.MS_REC != 0})
	}
	c.b.Close(target)
}

// notKernels fails the plan when a destination that is not said to lie in
// /proc or /sys leads there by a link.
func (c *compiler) notKernels(target plan.FD, dst string) {
	proc, sys := below(dst, "/proc"), below(dst, "/sys")
	if proc || sys {
		return
	}
	c.b.Fstatfs(target)
	c.b.Deny(0, 0xffffffff, unix.PROC_SUPER_MAGIC, unix.ELOOP)
	c.b.Deny(0, 0xffffffff, unix.SYSFS_MAGIC, unix.ELOOP)
}

func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// target opens a destination below the root, making what is missing of it.
func (c *compiler) target(dst string, kind Kind, resolve uint64) plan.FD {
	flags := uint64(openPath)
	if kind == Directory {
		flags |= unix.O_DIRECTORY
	}
	t, open := c.b.Openat2(c.root, dst, flags, resolve)
	open.Accept(unix.ENOENT)
	parts := strings.Split(strings.Trim(dst, "/"), "/")
	for i, name := range parts {
		// The part above exists by now; opened in the root it cannot lead out
		// of it, and a single name below it is not followed.
		above, _ := c.b.Openat2(c.root, "/"+path.Join(parts[:i]...), openPath|unix.O_DIRECTORY, resolve)
		if i == len(parts)-1 && kind != Directory {
			c.b.Mknodat(above, name, unix.S_IFREG|0o644, 0).Accept(unix.EEXIST)
		} else {
			c.b.Mkdirat(above, name, 0o755).Accept(unix.EEXIST)
		}
		c.b.Close(above)
	}
	again := c.b.Openat2Again(t, c.root, dst, flags, resolve)
	if kind != Directory && resolve&unix.RESOLVE_NO_SYMLINKS == 0 {
		// The image's link to a file that is not there: made inside the root.
		again.Accept(unix.ENOENT)
		c.b.Close(c.b.Openat2Create(c.root, dst, 0o644, resolve))
		c.b.Openat2Again(t, c.root, dst, flags, resolve)
		again.SkipOnSuccess()
	}
	open.SkipOnSuccess()
	return t
}

// mountCgroup shows the container its cgroups: version 2 as it is, version 1
// as a directory of its hierarchies.
func (c *compiler) mountCgroup(dst string, o mountOptions) error {
	own := c.newNS&unix.CLONE_NEWCGROUP != 0
	for _, n := range c.join {
		own = own || n.kind == oci.CgroupNamespace
	}
	hierarchies := c.o.Facts.Cgroups
	if len(hierarchies) == 1 && hierarchies[0].Dir == "" {
		target := c.target(dst, Directory, inRoot)
		c.attach(c.cgroupTree(hierarchies[0], own, o), target, o)
		return nil
	}
	if len(hierarchies) == 0 {
		return nil // the host has none
	}
	target := c.target(dst, Directory, inRoot)
	fs := c.fsopen("tmpfs", "cgroup", []string{"mode=755"})
	dir := c.b.Fsmount(fs, o.set&^unix.MOUNT_ATTR_RDONLY)
	c.b.MoveMount(dir, target)
	c.b.Close(target)
	for _, h := range hierarchies {
		if h.Dir == "" || strings.Contains(h.Dir, "/") || h.Dir == ".." {
			return fmt.Errorf("mount cgroups on %s: %q is not a hierarchy's directory", dst, h.Dir)
		}
		c.b.Subject("mount cgroup " + h.Dir + " on " + dst + "/" + h.Dir)
		c.b.Mkdirat(dir, h.Dir, 0o755)
		t, _ := c.b.Openat2(dir, h.Dir, openPath|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
		c.attach(c.cgroupTree(h, own, o), t, o)
		for _, alias := range h.Options {
			if strings.Contains(h.Dir, ",") && alias != h.Dir && !strings.ContainsAny(alias, "=/") {
				c.b.Symlinkat(h.Dir, dir, alias)
			}
		}
	}
	c.b.MountSetattr(dir, plan.MountAttr{Set: o.set & unix.MOUNT_ATTR_RDONLY})
	c.b.Close(dir)
	return nil
}

// cgroupTree is one hierarchy: a mount of its own in a cgroup namespace, else
// the container's directory of the host's mount.
func (c *compiler) cgroupTree(h CgroupMount, own bool, o mountOptions) plan.FD {
	if own {
		fstype := "cgroup2"
		if h.Options != nil {
			fstype = "cgroup"
		}
		var data []string
		for _, opt := range h.Options {
			if strings.HasPrefix(opt, "name=") {
				data = append(data, "none")
			}
			data = append(data, opt)
		}
		return c.b.Fsmount(c.fsopen(fstype, fstype, data), o.set)
	}
	dir := path.Join("/sys/fs/cgroup", h.Dir)
	group := path.Join(dir, h.Path)
	for _, p := range c.o.CgroupProcs {
		if below(p, dir) {
			group = path.Dir(p)
		}
	}
	tree, _ := c.b.OpenTree(plan.CWD, group, unix.OPEN_TREE_CLONE)
	c.b.MountSetattr(tree, plan.MountAttr{Set: o.set, Clear: o.clear})
	return tree
}
