package ociruntime

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// JoinOptions are what CompileJoin is told.
type JoinOptions struct {
	CompileOptions
	// Pidfd is open on a process of the container, whose namespaces are joined.
	Pidfd *os.File
	// Root is the container's root directory, for one that shares the host's
	// mount namespace, which leads nowhere.
	Root *os.File
}

// CompileJoin makes the plan of one more process, spec.Process, in a container
// that runs: it joins the namespaces that spec lists by a pidfd, so that
// nothing of them is looked up by name.
func CompileJoin(spec *oci.Spec, o JoinOptions) (p *plan.Plan, warnings []string, err error) {
	if err := Validate(spec); err != nil {
		return nil, nil, err
	}
	if o.Pidfd == nil {
		return nil, nil, errors.New("join container: no process to join")
	}
	c := newCompiler(spec, o.CompileOptions)
	j := joiner{compiler: c, o: o}
	for _, phase := range []func() error{
		j.begin,       // cgroups, while this process is still the host's
		j.join,        // hidden from the container before its namespaces are entered
		c.terminal,    // of the container's own devpts
		c.created,     // wait, if the caller wants to know the process first
		c.descriptors, // nothing of the host stays open
		c.limits,      // what raising wants a capability for; a low limit on open files must not be in the way of the line above
		c.credentials,
		c.execute,
	} {
		if err := phase(); err != nil {
			return nil, nil, err
		}
	}
	p, err = c.b.Plan()
	return p, c.warnings, err
}

type joiner struct {
	*compiler
	o     JoinOptions
	pidfd plan.FD
}

func (j *joiner) begin() error {
	c := j.compiler
	c.b.Phase("begin")
	c.b.Cloexec(plan.ReportFD)
	if c.o.Wait {
		c.control = c.inherit("control", c.o.Control)
	}
	if c.o.Cgroup != nil {
		c.cgroup = c.inherit("cgroup", c.o.Cgroup)
	}
	j.pidfd = c.inherit("container", j.o.Pidfd)
	if j.o.Root != nil {
		c.root = c.inherit("root", j.o.Root)
	}
	c.inheritListener()
	for _, f := range c.o.Preserve {
		c.keep = append(c.keep, c.inherit("preserved", f))
	}
	c.joinCgroups()
	c.oomScore()
	if a := c.process.ExecCPUAffinity; a != nil {
		if err := c.affinity(a.Initial); err != nil {
			return err
		}
	}
	if c.process.ApparmorProfile != "" || c.process.SelinuxLabel != "" {
		c.proc, _ = c.b.Openat(plan.CWD, "/proc", openPath|unix.O_DIRECTORY)
	}
	return nil
}

func (j *joiner) join() error {
	c := j.compiler
	flags := 0
	for _, n := range c.linux.Namespaces {
		for _, f := range namespaceFlags {
			if f.kind == n.Type {
				flags |= f.flag
			}
		}
		c.userNS = c.userNS || n.Type == oci.UserNamespace
	}
	if flags&unix.CLONE_NEWNS == 0 && j.o.Root == nil {
		return errors.New("join container: it has no mount namespace of its own, and its root is not known")
	}
	c.b.Phase("hide")
	c.b.Prctl(unix.PR_SET_DUMPABLE, 0)
	c.b.Phase("join namespaces")
	if flags != 0 {
		c.b.Setns(j.pidfd, flags)
	}
	c.b.Close(j.pidfd)
	if j.o.Root != nil {
		c.b.Fchdir(c.root)
		c.b.Chroot(".")
		c.b.Chdir("/")
	}
	c.b.Phase("process")
	if c.cgroup != 0 {
		c.b.ForkIntoCgroup(0, c.cgroup)
	} else {
		c.b.Fork(0)
	}
	c.b.Umask(0)
	if c.userNS {
		c.b.Setresgid(0)
		c.b.Setresuid(0)
		// Changing the user makes a process dumpable again.
		c.b.Prctl(unix.PR_SET_DUMPABLE, 0)
	}
	c.b.Setsid().Accept(unix.EPERM)
	c.keyring("_ses")
	if c.process.Terminal && c.root == 0 {
		c.root, _ = c.b.Openat(plan.CWD, "/", openPath|unix.O_DIRECTORY)
	}
	if err := c.openLabels(); err != nil {
		return err
	}
	if a := c.process.ExecCPUAffinity; a != nil {
		return c.affinity(a.Final)
	}
	return nil
}
