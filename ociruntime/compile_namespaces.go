package ociruntime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// namespaceFlags in the order in which they are joined: pid before the fork,
// mnt last, since it changes what paths mean.
var namespaceFlags = []struct {
	kind oci.LinuxNamespaceType
	flag int
}{
	{oci.UserNamespace, unix.CLONE_NEWUSER}, {oci.IPCNamespace, unix.CLONE_NEWIPC}, {oci.UTSNamespace, unix.CLONE_NEWUTS},
	{oci.NetworkNamespace, unix.CLONE_NEWNET}, {oci.PIDNamespace, unix.CLONE_NEWPID}, {oci.CgroupNamespace, unix.CLONE_NEWCGROUP},
	{oci.TimeNamespace, unix.CLONE_NEWTIME}, {oci.MountNamespace, unix.CLONE_NEWNS},
}

// namespaces sorts what the configuration asks for into new and joined ones.
func (c *compiler) namespaces() error {
	files := make(map[oci.LinuxNamespaceType]plan.FD)
	for _, n := range c.o.Namespaces {
		files[n.Type] = c.inherit("namespace "+string(n.Type), n.File)
	}
	for _, f := range namespaceFlags {
		for _, n := range c.linux.Namespaces {
			if n.Type != f.kind {
				continue
			}
			fd, have := files[f.kind]
			switch {
			case have:
				c.join = append(c.join, namespaceToken{kind: f.kind, flag: f.flag, fd: fd})
			case n.Path != "":
				c.join = append(c.join, namespaceToken{kind: f.kind, flag: f.flag, path: n.Path})
			case f.kind == oci.UserNamespace && c.o.UserNS != nil:
				c.join = append(c.join, namespaceToken{kind: f.kind, flag: f.flag, fd: c.userFD})
			default:
				c.newNS |= f.flag
			}
			c.userNS = c.userNS || f.kind == oci.UserNamespace
			c.ownNS = c.ownNS || f.kind == oci.MountNamespace
		}
	}
	c.ownMaps = c.newNS&unix.CLONE_NEWUSER != 0
	if c.ownMaps && !ownMaps(c.linux) {
		return errors.New("make user namespace: the process itself can map only one id; several need a namespace that the caller has made")
	}
	return nil
}

// ownMaps reports whether the maps are such that a process may write them for
// itself: one id each.
func ownMaps(l *oci.Linux) bool {
	one := func(m []oci.LinuxIDMapping) bool { return len(m) == 1 && m[0].Size == 1 }
	return one(l.UIDMappings) && one(l.GIDMappings)
}

// joinNamespaces enters namespaces that exist. Without privileges on the host
// they are to be had only through the user namespace that owns them.
func (c *compiler) joinNamespaces() {
	if len(c.join) == 0 {
		return
	}
	c.b.Phase("join namespaces")
	// All are opened before any is joined: a path may mean something else in another.
	for i, n := range c.join {
		if n.path != "" {
			c.b.Subject("open " + string(n.kind) + " namespace " + n.path)
			c.join[i].fd, _ = c.b.Openat(plan.CWD, n.path, unix.O_RDONLY|unix.O_CLOEXEC)
		}
	}
	order := c.join
	if privileged := c.o.Facts.Capabilities == 0 || c.o.Facts.Capabilities&(1<<unix.CAP_SYS_ADMIN) != 0; privileged && order[0].kind == oci.UserNamespace {
		// The caller's rights reach over the user namespace; after it is
		// joined only its own are left. The mount namespace stays last.
		last := len(order)
		if order[last-1].kind == oci.MountNamespace {
			last--
		}
		order = append(append(append([]namespaceToken{}, order[1:last]...), order[0]), order[last:]...)
	}
	for _, n := range order {
		c.b.Subject("join " + string(n.kind) + " namespace")
		c.b.Setns(n.fd, n.flag)
		if n.path != "" {
			c.b.Close(n.fd)
		}
	}
	c.b.Subject("")
}

// timeOffsets makes the time namespace, whose offsets can be set only before
// a process is in it: the fork is the first.
func (c *compiler) timeOffsets() error {
	if c.newNS&unix.CLONE_NEWTIME == 0 {
		return nil
	}
	c.newNS &^= unix.CLONE_NEWTIME
	c.b.Phase("time namespace")
	if c.newNS&unix.CLONE_NEWUSER != 0 {
		// It must be the new user namespace's, which does not exist yet.
		c.newNS &^= unix.CLONE_NEWUSER
		c.b.Unshare(unix.CLONE_NEWUSER)
		c.writeMaps()
	}
	c.b.Unshare(unix.CLONE_NEWTIME)
	for _, clock := range []string{"monotonic", "boottime"} {
		if off, ok := c.linux.TimeOffsets[clock]; ok {
			c.b.Subject("set the clock " + clock)
			c.b.Write(c.offsets, fmt.Sprintf("%s %d %d", clock, off.Secs, off.Nanosecs))
		}
	}
	if c.offsets != 0 {
		c.b.Close(c.offsets)
	}
	c.b.Subject("")
	return nil
}

// fork makes the container's first process.
func (c *compiler) fork() error {
	c.b.Phase("namespaces")
	flags := c.newNS &^ unix.CLONE_NEWCGROUP
	if c.cgroup != 0 {
		c.b.ForkIntoCgroup(flags, c.cgroup)
	} else {
		c.b.Fork(flags)
	}
	if c.newNS&unix.CLONE_NEWUSER != 0 {
		c.writeMaps()
	}
	if c.userNS {
		c.b.Phase("root of the user namespace")
		c.b.Setresgid(0)
		if !c.o.Facts.SetgroupsDenied && !c.ownMaps {
			c.b.Setgroups(nil)
		}
		c.b.Setresuid(0)
	}
	if c.newNS&unix.CLONE_NEWCGROUP != 0 {
		// Its root is the cgroup that the process is in by now.
		c.b.Unshare(unix.CLONE_NEWCGROUP)
	}
	c.b.Setsid().Accept(unix.EPERM)
	return nil
}

// writeMaps maps the one id of a namespace that its own process sets up.
func (c *compiler) writeMaps() {
	c.b.Phase("id maps")
	// The kernel's price for a map that nobody with rights outside has written.
	c.b.WriteFile(plan.CWD, "/proc/self/setgroups", "deny")
	c.b.WriteFile(plan.CWD, "/proc/self/uid_map", mapText(c.linux.UIDMappings))
	c.b.WriteFile(plan.CWD, "/proc/self/gid_map", mapText(c.linux.GIDMappings))
}

func mapText(m []oci.LinuxIDMapping) string {
	var b strings.Builder
	for _, r := range m {
		b.WriteString(strconv.FormatUint(uint64(r.ContainerID), 10) + " " + strconv.FormatUint(uint64(r.HostID), 10) + " " + strconv.FormatUint(uint64(r.Size), 10) + "\n")
	}
	return b.String()
}
