package ociruntime

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// terminal opens a pseudo-terminal of the container's own devpts, makes it the
// process's, and sends its master to whoever asked for it.
func (c *compiler) terminal() error {
	if !c.process.Terminal {
		return nil
	}
	c.b.Phase("terminal")
	// Of two conditions that an image could break, links and another file
	// system, the second shows that the first did no harm.
	master, _ := c.b.Openat2(c.root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, inRoot)
	c.b.Fstatfs(master)
	c.b.Require(0, 0xffffffff, unix.DEVPTS_SUPER_MAGIC, unix.ENOTTY)
	c.b.IoctlData(master, unix.TIOCSPTLCK, make([]byte, 4))
	slave, _ := c.b.IoctlFD(master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if s := c.process.ConsoleSize; s != nil {
		var size []byte
		for _, v := range []uint{s.Height, s.Width, 0, 0} {
			size = binary.NativeEndian.AppendUint16(size, uint16(v))
		}
		c.b.IoctlData(slave, unix.TIOCSWINSZ, size)
	}
	if uid := c.process.User.UID; uid != 0 {
		c.b.Fchown(slave, uid, ^uint32(0))
	}
	if c.dev {
		t := c.target("/dev/console", File, inRoot)
		tree, _ := c.b.OpenTree(slave, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE)
		c.b.MoveMount(tree, t)
		c.b.Close(tree)
		c.b.Close(t)
	}
	known := c.high(0)
	c.b.Dup3(master, known, true)
	c.b.Close(master)
	c.b.SendFD(plan.ConsoleFD, known, "/dev/ptmx")
	c.b.Close(known)
	for fd := plan.FD(0); fd <= 2; fd++ {
		c.b.Dup3(slave, fd, false)
	}
	c.b.Close(slave)
	c.b.Setsid().Accept(unix.EPERM)
	c.b.Ioctl(0, unix.TIOCSCTTY, 0)
	return nil
}
