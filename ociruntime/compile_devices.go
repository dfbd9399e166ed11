package ociruntime

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// defaultDevices every container has. See runtime-spec config-linux.md#default-devices.
var defaultDevices = []struct {
	name         string
	major, minor int64
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// devLinks are the links that programs expect.
var devLinks = []struct{ name, to string }{
	{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

// devices fills /dev, when it is the container's own.
func (c *compiler) devices() error {
	c.b.Phase("devices")
	if c.dev {
		dev, _ := c.b.Openat2(c.root, "/dev", openPath|unix.O_DIRECTORY, inRoot)
		for _, d := range defaultDevices {
			mode, id := uint32(0o666), uint32(0)
			spec := oci.LinuxDevice{Path: "/dev/" + d.name, Type: "c", Major: d.major, Minor: d.minor}
			for _, own := range c.linux.Devices {
				if path.Clean(own.Path) == spec.Path {
					mode = 0 // the configuration's comes below
				}
			}
			if mode != 0 {
				c.device(dev, d.name, spec, mode, id, id)
			}
		}
		for _, l := range devLinks {
			c.b.Subject("link /dev/" + l.name)
			c.b.Symlinkat(l.to, dev, l.name).Accept(unix.EEXIST)
		}
		c.b.Close(dev)
	}
	for _, d := range c.linux.Devices {
		p := path.Clean("/" + d.Path)
		if !c.dev && below(p, "/dev") && len(c.spec.Mounts) > 0 && c.bindsDev() {
			continue // the host's /dev has it
		}
		dir := c.target(path.Dir(p), Directory, inRoot)
		mode, uid, gid := uint32(0o666), uint32(0), uint32(0)
		if d.FileMode != nil {
			mode = uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			uid = *d.UID
		}
		if d.GID != nil {
			gid = *d.GID
		}
		if err := c.device(dir, path.Base(p), d, mode, uid, gid); err != nil {
			return err
		}
		c.b.Close(dir)
	}
	c.b.Subject("")
	return nil
}

// sealDev makes /dev read-only when it was asked for.
func (c *compiler) sealDev() error {
	if !c.devRO {
		return nil
	}
	c.b.Phase("read-only /dev")
	dev, _ := c.b.Openat2(c.root, "/dev", openPath|unix.O_DIRECTORY, inRoot)
	c.b.MountSetattr(dev, plan.MountAttr{Set: unix.MOUNT_ATTR_RDONLY})
	c.b.Close(dev)
	return nil
}

func (c *compiler) bindsDev() bool {
	for _, m := range c.spec.Mounts {
		if path.Clean(m.Destination) == "/dev" && isBind(m) {
			return true
		}
	}
	return false
}

// device makes one node: the kernel lets only the host's root do so, in a
// user namespace the host's own node is mounted.
func (c *compiler) device(dir plan.FD, name string, d oci.LinuxDevice, mode, uid, gid uint32) error {
	kinds := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	kind, ok := kinds[d.Type]
	if !ok {
		return fmt.Errorf("device %s: type %q is not known", d.Path, d.Type)
	}
	c.b.Subject("make device " + d.Path)
	if kind == unix.S_IFIFO || !c.userNS && !c.o.Facts.InUserNS {
		c.b.Mknodat(dir, name, kind|mode, unix.Mkdev(uint32(d.Major), uint32(d.Minor))).Accept(unix.EEXIST)
		if uid != 0 || gid != 0 {
			c.b.Fchownat(dir, name, uid, gid)
		}
		return nil
	}
	if host := path.Clean(d.Path); !path.IsAbs(host) || below(host, c.rootTarget()) {
		return fmt.Errorf("device %s: not a path of the host", d.Path)
	}
	tree, _ := c.b.OpenTree(plan.CWD, d.Path, unix.OPEN_TREE_CLONE)
	c.b.Mknodat(dir, name, unix.S_IFREG, 0).Accept(unix.EEXIST)
	t, _ := c.b.Openat2(dir, name, openPath, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_BENEATH)
	c.b.MoveMount(tree, t)
	c.b.Close(t)
	c.b.Close(tree)
	return nil
}
