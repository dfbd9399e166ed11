package ociruntime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
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
			// A device such as /dev/null is everybody's, whoever passes it.
			pipe := c.b.PipeSize(fd).Accept(unix.EBADF)
			c.b.Fchown(fd, p.User.UID, ^uint32(0)).Accept(unix.EPERM, unix.EINVAL, unix.EROFS)
			pipe.SkipOnErrno()
		}
	}
	if p.NoNewPrivileges {
		c.b.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	caps, err := c.capabilitySets()
	if err != nil {
		return err
	}
	c.enterDirectory()
	c.identity(caps)
	umask := uint32(0o022)
	if u := p.User.Umask; u != nil {
		umask = *u
	}
	c.b.Umask(umask)
	if p.NoNewPrivileges || c.linux.Seccomp == nil && c.o.Seccomp == nil {
		c.setCapabilities(caps)
		c.changeDirectory()
		return c.seccomp()
	}
	// Without no_new_privs the filter needs a capability, which goes after it:
	// two calls more that the filter must allow.
	more := caps
	if have := c.o.Facts.Capabilities; c.userNS || have == 0 || have>>unix.CAP_SYS_ADMIN&1 == 1 {
		more.effective |= 1 << unix.CAP_SYS_ADMIN
		more.permitted |= 1 << unix.CAP_SYS_ADMIN
	}
	c.b.Capset(more.effective, more.permitted, more.inheritable)
	c.changeDirectory()
	if err := c.seccomp(); err != nil {
		return err
	}
	c.setCapabilities(caps)
	return nil
}

// enterDirectory goes to the working directory with all capabilities, since a
// program without them may be meant to begin in one that its user cannot reach.
func (c *compiler) enterDirectory() {
	if cwd := c.process.Cwd; cwd != "" && cwd != "/" {
		c.b.Subject("change to the working directory " + cwd)
		c.b.Chdir(cwd).Accept(unix.EACCES, unix.EPERM)
		c.b.Subject("")
	}
}

// changeDirectory is done as the program's user, who may be the only one to
// have access, as on a file system of the network. It must succeed once. A
// directory outside the root would be a descriptor of the host's, found by
// way of /proc/self/fd (CVE-2024-21626).
func (c *compiler) changeDirectory() {
	if cwd := c.process.Cwd; cwd != "" && cwd != "/" {
		c.b.Subject("change to the working directory " + cwd)
		again := c.b.Chdir(cwd).Accept(unix.EACCES, unix.EPERM)
		c.b.Getcwd()
		c.b.Deny(0, 0xffff, '/', unix.EACCES) // still where the plan left it
		again.SkipOnSuccess()
		c.b.Getcwd()
		c.b.Require(0, 0xff, '/', unix.ENOENT)
		c.b.Subject("")
	}
}

// capabilitySets are bit masks.
type capabilitySets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

func (c *compiler) capabilitySets() (s capabilitySets, err error) {
	all := uint64(1)<<(c.o.Facts.LastCapability+1) - 1
	if caps := c.process.Capabilities; caps != nil {
		for _, x := range []struct {
			set   *uint64
			names []string
		}{{&s.bounding, caps.Bounding}, {&s.effective, caps.Effective}, {&s.permitted, caps.Permitted}, {&s.inheritable, caps.Inheritable}, {&s.ambient, caps.Ambient}} {
			bits, err := capabilityBits(x.names)
			if err != nil {
				return s, err
			}
			for _, n := range bitNames(bits &^ all) {
				c.warn("capability %s is not known to this kernel", n)
			}
			*x.set = bits & all
		}
	}
	if have := c.o.Facts.Capabilities; have != 0 && !c.userNS {
		for _, lost := range bitNames(s.permitted &^ have) {
			c.warn("capability %s is not this process's to give", lost)
		}
		s.effective, s.permitted, s.inheritable, s.ambient = s.effective&have, s.permitted&have, s.inheritable&have, s.ambient&have
	}
	s.effective &= s.permitted
	s.ambient &= s.permitted & s.inheritable
	return s, nil
}

// identity sets bounding set, groups and user: the bounding set first, while
// CAP_SETPCAP is still there. The permitted set stays, for setCapabilities.
func (c *compiler) identity(s capabilitySets) {
	user := c.process.User
	for n := range c.o.Facts.LastCapability + 1 {
		if s.bounding>>n&1 == 0 {
			c.b.Prctl(unix.PR_CAPBSET_DROP, uintptr(n))
		}
	}
	switch {
	case !c.o.Facts.SetgroupsDenied && !c.ownMaps:
		c.b.Setgroups(user.AdditionalGids)
	case len(user.AdditionalGids) > 0:
		c.warn("supplementary groups cannot be set in this user namespace")
	}
	c.b.Setresgid(user.GID)
	c.b.Prctl(unix.PR_SET_KEEPCAPS, 1)
	c.b.Setresuid(user.UID)
	c.b.Prctl(unix.PR_SET_KEEPCAPS, 0)
	c.b.Prctl(unix.PR_SET_DUMPABLE, 0)
}

// setCapabilities sets all but the bounding set.
func (c *compiler) setCapabilities(s capabilitySets) {
	c.b.Phase("capabilities")
	c.b.Capset(s.effective, s.permitted, s.inheritable)
	c.b.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for n := range c.o.Facts.LastCapability + 1 {
		if s.ambient>>n&1 == 1 {
			c.b.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
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
	c.b.MapFile(c.state, c.o.SeccompStateSize)
	l, _ := c.b.SeccompListener(prog.Flags, filter)
	c.b.Dup3(l, c.high(3), true)
	c.b.SendFDMapped(c.notify, c.high(3), c.o.SeccompStateSize)
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
	// The terminal's signals reach the program once: they would come from the
	// terminal, and again from the process above that passes them on.
	switch {
	case !c.process.Terminal:
		c.b.Setsid()
	case c.newNS&unix.CLONE_NEWPID != 0:
		c.b.Setpgid()
		c.b.IoctlData(0, unix.TIOCSPGRP, binary.NativeEndian.AppendUint32(nil, 2)) // its number in the new namespace
	}
	c.b.Sigprocmask(unix.SIG_SETMASK, 0)
	if err := c.exec(); err != nil {
		return err
	}
	branch.SkipOnNonzero()
	c.b.SetName("hull-init")
	c.b.CloseRange(0, ^uint32(0))
	c.b.Reap(child)
	return nil
}

// defaultPath is searched when the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// exec executes the program, which is searched as execvp does, in the
// container's own PATH: twice, since a step cannot remember that one of the
// tries before it was refused. The second round ends at the first refusal, which
// engines answer with 126, or with nothing found, 127.
func (c *compiler) exec() error {
	args, env := c.process.Args, c.environment()
	if args[0] == "" {
		return errors.New("execute program: its name is empty")
	}
	c.b.Subject("execute " + args[0])
	if file := c.o.Executable; file != "" {
		c.b.Execve(file, args, env)
		return nil
	}
	if strings.Contains(args[0], "/") {
		c.b.Execve(args[0], args, env)
		return nil
	}
	search := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	var files []string
	for d := range strings.SplitSeq(search, ":") {
		if path.IsAbs(d) && !slices.Contains(files, path.Join(d, args[0])) { // a relative one is an invitation
			files = append(files, path.Join(d, args[0]))
		}
	}
	if len(files) > 100 {
		return fmt.Errorf("execute %s: PATH has %d directories", args[0], len(files))
	}
	if len(files) == 0 {
		files = []string{"/" + args[0] + "/is/not/in/PATH"}
	}
	last := len(files) - 1
	for _, f := range files[:last] {
		c.b.Execve(f, args, env).Accept(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
	if last == 0 {
		c.b.Execve(files[0], args, env)
		return nil
	}
	c.b.Execve(files[last], args, env).Accept(unix.ENOENT, unix.ENOTDIR)
	for _, f := range files[:last] {
		c.b.Execve(f, args, env).Accept(unix.ENOENT, unix.ENOTDIR)
	}
	c.b.Execve(files[last], args, env)
	return nil
}

// environment is the process's, with the LISTEN_PID that sd_listen_fds(3)
// compares: the number of the program in a pid namespace that begins with it.
func (c *compiler) environment() []string {
	env := c.process.Env
	listens := slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "LISTEN_FDS=") })
	if !listens || c.newNS&unix.CLONE_NEWPID == 0 {
		return env
	}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "LISTEN_PID=") })
	if c.o.Init {
		return append(env, "LISTEN_PID=2")
	}
	return append(env, "LISTEN_PID=1")
}
