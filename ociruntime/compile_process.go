package ociruntime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"hull/plan"
	"hull/seccomp"
)

// high is a descriptor number above all that the plan opens by itself.
func (c *compiler) high(i int) plan.FD {
	return plan.FD(max(200, int(plan.FirstFile)+c.inherited+100) + i)
}

// descriptors puts the preserved files where the program expects them and lets
// everything else end with execve.
func (c *compiler) descriptors() error {
	c.b.Phase("descriptors")
	c.b.MoveReport(c.high(1))
	if c.notify != 0 {
		c.b.Dup3(c.notify, c.high(2), true)
		c.notify = c.high(2)
	}
	if c.cgroup != 0 {
		// The only open directory of the host.
		c.b.Close(c.cgroup)
	}
	for i, f := range c.keep {
		c.b.Dup3(f, plan.FD(3+i), false)
	}
	c.b.CloexecRange(uint32(3+len(c.keep)), ^uint32(0))
	return nil
}

// credentials gives up what the program must not have.
func (c *compiler) credentials() error {
	c.b.Phase("credentials")
	p := c.process
	for _, l := range c.labels {
		c.b.Write(l.file, l.text)
		c.b.Close(l.file)
	}
	if c.o.ChownStdio && p.User.UID != 0 {
		for fd := plan.FD(0); fd <= 2; fd++ {
			c.b.Fchown(fd, p.User.UID, ^uint32(0)).Accept(unix.EPERM, unix.EINVAL, unix.EROFS)
		}
	}
	if p.NoNewPrivileges {
		c.b.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1)
	} else if err := c.seccomp(); err != nil {
		// Without no_new_privs a filter needs a capability that goes next.
		return err
	}
	if err := c.capabilities(); err != nil {
		return err
	}
	if c.linux.Seccomp != nil && p.NoNewPrivileges {
		c.changeDirectory()
		return c.seccomp()
	}
	c.changeDirectory()
	return nil
}

// changeDirectory is done as the program's user, who may not be allowed.
func (c *compiler) changeDirectory() {
	umask := uint32(0o022)
	if u := c.process.User.Umask; u != nil {
		umask = *u
	}
	c.b.Umask(umask)
	if cwd := c.process.Cwd; cwd != "" && cwd != "/" {
		c.b.Subject("change to the working directory " + cwd)
		c.b.Chdir(cwd)
		c.b.Subject("")
	}
}

// capabilities sets user, groups and the five sets: bounding first, while
// CAP_SETPCAP is still there.
func (c *compiler) capabilities() error {
	p := c.process
	all := uint64(1)<<(c.o.Facts.LastCapability+1) - 1
	bounding, effective, permitted, inheritable, ambient := all, all, all, uint64(0), uint64(0)
	if caps := p.Capabilities; caps != nil {
		for _, s := range []struct {
			set   *uint64
			names []string
		}{{&bounding, caps.Bounding}, {&effective, caps.Effective}, {&permitted, caps.Permitted}, {&inheritable, caps.Inheritable}, {&ambient, caps.Ambient}} {
			bits, err := capabilityBits(s.names)
			if err != nil {
				return err
			}
			*s.set = bits & all
		}
	}
	if have := c.o.Facts.Capabilities; have != 0 && !c.userNS {
		for _, lost := range bitNames(permitted &^ have) {
			c.warn("capability %s is not this process's to give", lost)
		}
		effective, permitted, inheritable, ambient = effective&have, permitted&have, inheritable&have, ambient&have
	}
	for n := range c.o.Facts.LastCapability + 1 {
		if bounding>>n&1 == 0 {
			c.b.Prctl(unix.PR_CAPBSET_DROP, uintptr(n))
		}
	}
	switch {
	case !c.o.Facts.SetgroupsDenied && !(c.newNS&unix.CLONE_NEWUSER != 0 && ownMaps(c.linux)):
		c.b.Setgroups(p.User.AdditionalGids)
	case len(p.User.AdditionalGids) > 0:
		c.warn("supplementary groups cannot be set in this user namespace")
	}
	c.b.Setresgid(p.User.GID)
	c.b.Prctl(unix.PR_SET_KEEPCAPS, 1)
	c.b.Setresuid(p.User.UID)
	c.b.Prctl(unix.PR_SET_KEEPCAPS, 0)
	c.b.Capset(effective, permitted, inheritable)
	c.b.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for n := range c.o.Facts.LastCapability + 1 {
		if ambient>>n&1 == 1 && permitted>>n&1 == 1 && inheritable>>n&1 == 1 {
			c.b.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
	return nil
}

// seccomp installs the filter.
func (c *compiler) seccomp() error {
	if c.linux.Seccomp == nil && c.o.Seccomp == nil {
		return nil
	}
	prog := c.o.Seccomp
	if prog == nil {
		p, err := seccomp.Compile(c.linux.Seccomp, runtime.GOARCH)
		if err != nil {
			return err
		}
		prog = &p
	}
	filter := make([]byte, 0, 8*len(prog.Filter))
	for _, f := range prog.Filter {
		filter = binary.NativeEndian.AppendUint16(filter, f.Code)
		filter = append(filter, f.Jt, f.Jf)
		filter = binary.NativeEndian.AppendUint32(filter, f.K)
	}
	c.b.Phase("seccomp")
	if !prog.Notify {
		c.b.Seccomp(prog.Flags, filter)
		return nil
	}
	if c.notify == 0 {
		return errors.New("install seccomp filter: it notifies, and nobody listens (linux.seccomp.listenerPath)")
	}
	l, _ := c.b.SeccompListener(prog.Flags, filter)
	c.b.Dup3(l, c.high(3), true)
	c.b.SendFD(c.notify, c.high(3), c.linux.Seccomp.ListenerMetadata+" ")
	return nil
}

// execute is the last phase: the program, an init above it, or none.
func (c *compiler) execute() error {
	c.b.Phase("program")
	if c.o.Infra {
		c.b.SetName("hull-infra")
		c.b.Sigprocmask(unix.SIG_BLOCK, ^uint64(0))
		c.b.IgnoreSignal(unix.SIGCHLD)
		c.b.CloseRange(0, ^uint32(0))
		c.b.Sigwait(1<<(unix.SIGTERM-1) | 1<<(unix.SIGINT-1))
		c.b.Exit(0)
		return nil
	}
	if len(c.process.Args) == 0 {
		return errors.New("compile container: process.args is empty")
	}
	if !c.o.Init {
		return c.exec()
	}
	c.b.Sigprocmask(unix.SIG_BLOCK, ^uint64(0))
	child, branch := c.b.Branch()
	c.b.Sigprocmask(unix.SIG_SETMASK, 0)
	// A session of its own, or the terminal's signals reach it twice.
	if !c.process.Terminal {
		c.b.Setsid()
	}
	if err := c.exec(); err != nil {
		return err
	}
	branch.SkipOnNonzero()
	c.b.SetName("hull-init")
	c.b.CloseRange(0, ^uint32(0))
	c.b.Reap(child)
	return nil
}

// exec executes the program, which is searched in PATH as execvp does, but
// with the container's own PATH and one question before each try: a file that
// is there and cannot be executed is an error, not a reason to go on.
func (c *compiler) exec() error {
	args, env := c.process.Args, c.process.Env
	if strings.IndexByte(args[0], 0) >= 0 || args[0] == "" {
		return fmt.Errorf("program %q: not a name", args[0])
	}
	c.b.Subject("execute " + args[0])
	if strings.Contains(args[0], "/") {
		c.b.Execve(args[0], args, env)
		return nil
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	var dirs []string
	for d := range strings.SplitSeq(search, ":") {
		if path.IsAbs(d) { // a relative one is an invitation
			dirs = append(dirs, d)
		}
	}
	if len(dirs) > 100 {
		return fmt.Errorf("program %s: PATH has %d directories", args[0], len(dirs))
	}
	for _, d := range dirs {
		file := path.Join(d, args[0])
		there := c.b.Faccessat(plan.CWD, file, unix.F_OK).Accept(unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP)
		c.b.Execve(file, args, env)
		there.SkipOnErrno()
	}
	// Nothing was found: this says so.
	c.b.Execve("/"+args[0]+"/is/not/in/PATH", args, env)
	return nil
}
