package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// Compile turns a container's configuration into the plan of its start.
// warnings say what is done with less than was asked.
func Compile(spec *oci.Spec, o CompileOptions) (p *plan.Plan, warnings []string, err error) {
	if err := Validate(spec); err != nil {
		return nil, nil, err
	}
	c := newCompiler(spec, o)
	for _, phase := range []func() error{
		c.begin,         // cgroups and namespaces of others, files of the host: while this process is still the host's
		c.fork,          // into the new namespaces; the parent's half ends here
		c.hide,          // from the new pid namespace's owner, before anything of the container is touched
		c.prepareMounts, // no mount of what follows may reach the host
		c.mountRoot,     // attached at once: only an attached mount takes others on it
		c.mounts,        // in the configuration's order, each may lie in the one before
		c.devices,       // into the /dev that was just mounted
		c.openSysctls,   // before they are write-protected
		c.maskPaths,     // over what was mounted
		c.hooks,         // the parent's hooks see the mounts, from outside, and make or move network interfaces
		c.names,         // host name, sysctls, which may be an interface's
		c.openLabels,    // files of the host's /proc that are written much later
		c.pivot,         // the host's files are gone after this
		c.terminal,      // of the container's own devpts
		c.sealDev,       // a /dev that is read-only: everything is in it by now
		c.created,       // everything is there but the program: wait to be started
		c.descriptors,   // so that nothing of the host can be a working directory (CVE-2024-21626)
		c.limits,        // what raising wants a capability for; a low limit on open files must not be in the way of the line above
		c.credentials,   // the last privileges go
		c.execute,
	} {
		if err := phase(); err != nil {
			return nil, nil, err
		}
	}
	p, err = c.b.Plan()
	return p, c.warnings, err
}

// A compiler is one Compile under way.
type compiler struct {
	b        *plan.Builder
	spec     *oci.Spec
	o        CompileOptions
	warnings []string

	process *oci.Process
	linux   *oci.Linux
	newNS   int              // CLONE_NEW… to be made
	join    []namespaceToken // to be joined
	userNS  bool             // the container has one of its own or joins one
	ownMaps bool             // of a user namespace that the process makes for itself
	ownNS   bool             // the container has a mount namespace of its own or joins one
	root    plan.FD          // the container's root
	dev     bool             // /dev is a mount of the container's own
	devRO   bool             // and is to be read-only
	control plan.FD
	userFD  plan.FD // CompileOptions.UserNS
	// rootTree is CompileOptions.RootTree.
	rootTree plan.FD
	cgroup   plan.FD // CompileOptions.Cgroup
	notify   plan.FD // CompileOptions.SeccompListener
	state    plan.FD // CompileOptions.SeccompState
	keep     []plan.FD
	labels   []label
	proc     plan.FD // the host's /proc, where it cannot be named any more
	offsets  plan.FD // the file of the time namespace's offsets
	procfs   plan.FD // what was mounted on /proc, 0 for nothing of the kernel's
	settable bool    // and its sysctls can be written
	sysctls  plan.FD // the container's /proc/sys, 0 for the host's
	sysfs    plan.FD // the same on /sys
	maskAt   plan.FD // where the masks are attached
	trees    map[*oci.Mount]plan.FD
	maps     map[*oci.Mount]plan.FD // CompileOptions.MountUserNS
	copies   []copyUp
	// inherited counts the files that the plan is started with.
	inherited int
}

// A namespaceToken is a namespace to join.
type namespaceToken struct {
	kind oci.LinuxNamespaceType
	flag int
	path string  // of the host, or
	fd   plan.FD // an inherited descriptor
}

// A label is an opened attribute file and what is written to it.
type label struct {
	file plan.FD
	text string
}

func newCompiler(spec *oci.Spec, o CompileOptions) *compiler {
	c := &compiler{b: plan.NewBuilder(), spec: spec, o: o, process: spec.Process, linux: spec.Linux,
		trees: make(map[*oci.Mount]plan.FD), maps: make(map[*oci.Mount]plan.FD)}
	if c.process == nil {
		c.process = &oci.Process{}
	}
	if c.linux == nil {
		c.linux = &oci.Linux{}
	}
	if o.Facts.LastCapability == 0 {
		c.o.Facts.LastCapability = 40
	}
	return c
}

func (c *compiler) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// inherit declares a file that whoever launches the plan passes on.
func (c *compiler) inherit(name string, f *os.File) plan.FD {
	c.inherited++
	return c.b.Inherit(name, f)
}

func (c *compiler) inheritListener() {
	if c.o.SeccompListener != nil && c.o.SeccompState != nil {
		c.notify = c.inherit("seccomp listener", c.o.SeccompListener)
		c.state = c.inherit("state for the seccomp listener", c.o.SeccompState)
	}
}

// wait stops until the parent writes a byte.
func (c *compiler) wait() {
	c.b.Created()
	c.b.Read(c.control, 1)
}

// begin is what must happen before the process is in a namespace of its own.
func (c *compiler) begin() error {
	if c.linux.IntelRdt != nil && !c.o.Rdt {
		return errors.New("linux.intelRdt: whoever starts this container does not set cache allocation")
	}
	c.b.Phase("begin")
	c.b.Cloexec(plan.ReportFD)
	if c.o.Wait || c.o.WaitHooks {
		c.control = c.inherit("control", c.o.Control)
	}
	if procs := c.byProcs(); procs != "" {
		if !slices.Contains(c.o.CgroupProcs, procs) {
			c.o.CgroupProcs = append(slices.Clone(c.o.CgroupProcs), procs)
		}
		c.o.Cgroup = nil
	}
	if c.o.Cgroup != nil {
		c.cgroup = c.inherit("cgroup", c.o.Cgroup)
	}
	if c.o.UserNS != nil {
		c.userFD = c.inherit("user namespace", c.o.UserNS)
	}
	for i := range c.spec.Mounts {
		if f := c.o.MountUserNS[i]; f != nil {
			c.maps[&c.spec.Mounts[i]] = c.inherit("maps of "+c.spec.Mounts[i].Destination, f)
		}
	}
	if c.o.RootTree != nil {
		c.rootTree = c.inherit("root file system", c.o.RootTree)
	}
	c.inheritListener()
	if err := c.namespaces(); err != nil {
		return err
	}
	given := map[string]plan.FD{}
	for _, t := range c.o.Trees {
		given[t.Source] = c.inherit("mount "+t.Source, t.File)
	}
	for i, f := range c.o.Preserve {
		c.keep = append(c.keep, c.inherit(fmt.Sprintf("preserved %d", i), f))
	}
	c.joinCgroups()
	c.oomScore()
	if c.newNS&unix.CLONE_NEWTIME != 0 && len(c.linux.TimeOffsets) > 0 {
		c.offsets, _ = c.b.Openat(plan.CWD, "/proc/self/timens_offsets", unix.O_WRONLY|unix.O_CLOEXEC)
	}
	if err := c.hostTrees(given); err != nil {
		return err
	}
	if !c.ownMaps {
		c.b.Phase("hide")
		c.b.Prctl(unix.PR_SET_DUMPABLE, 0)
	}
	c.joinNamespaces()
	return c.timeOffsets()
}

// byProcs is the file by which the group is entered when the process joins
// another's cgroup namespace: from in there it could not be born into a group,
// since the one that it comes from is not to be seen.
func (c *compiler) byProcs() string {
	if c.o.Cgroup == nil || !slices.ContainsFunc(c.linux.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == oci.CgroupNamespace && n.Path != "" }) {
		return ""
	}
	return c.o.Cgroup.Name() + "/cgroup.procs"
}

// joinCgroups makes the process, and so its child, a member. It is done from
// the host's side of the cgroup namespace.
func (c *compiler) joinCgroups() {
	if len(c.o.CgroupProcs) == 0 {
		return
	}
	c.b.Phase("cgroups")
	for _, p := range c.o.CgroupProcs {
		p = path.Clean("/" + p)
		c.b.Subject("enter " + p)
		c.b.WriteFile(plan.CWD, p, "0")
	}
	c.b.Subject("")
}

// hide keeps the processes of the container from looking into this one. A
// change of the user ends it, and one's own id maps can be written only before.
func (c *compiler) hide() error {
	c.b.Phase("hide")
	c.b.Prctl(unix.PR_SET_DUMPABLE, 0)
	c.b.Umask(0)
	if label := c.linux.MountLabel; label != "" && !c.o.Facts.SELinux {
		return fmt.Errorf("set mount label %s: SELinux is not active on this host", label)
	}
	// The caller's session keyring may hold its secrets.
	c.keyring("_ses." + c.spec.Hostname)
	return nil
}

// keyring begins a session keyring, with the label of the process that is to use it.
func (c *compiler) keyring(name string) {
	if c.o.NoNewKeyring {
		return
	}
	label := c.process.SelinuxLabel
	if label == "" || !c.o.Facts.SELinux {
		c.b.JoinSessionKeyring(name).Accept(unix.ENOSYS, unix.EDQUOT, unix.EPERM, unix.EACCES)
		return
	}
	// The kernel gives a new keyring the label that is written here.
	f := c.attribute("self/attr/keycreate")
	c.b.Write(f, label)
	c.b.JoinSessionKeyring(name).Accept(unix.ENOSYS, unix.EDQUOT, unix.EPERM, unix.EACCES)
	c.b.Write(f, "\n")
	c.b.Close(f)
}

func (c *compiler) hooks() error {
	if movesDevices(c.spec) && !c.o.WaitHooks {
		return errors.New("linux.netDevices: whoever starts this container does not move network devices")
	}
	if c.o.WaitHooks {
		c.b.Phase("wait for hooks")
		c.wait()
	}
	for _, u := range c.copies {
		if u.ro {
			c.b.MountSetattr(u.to, plan.MountAttr{Set: unix.MOUNT_ATTR_RDONLY})
		}
		c.b.Close(u.from)
		c.b.Close(u.to)
	}
	return nil
}

func (c *compiler) created() error {
	if c.o.Wait {
		c.b.Phase("created: wait for start")
		c.wait()
	}
	return nil
}
