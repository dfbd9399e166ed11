package ociruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// ExecOptions are what Exec is told.
type ExecOptions struct {
	Process               *oci.Process
	ConsoleSocket         string
	Console               *os.File
	PidFile               string
	Stdin, Stdout, Stderr *os.File
	PreserveFDs           int
	NoNewKeyring          bool
	// IgnorePaused starts the process in a paused container, where it waits for resume.
	IgnorePaused bool
	// Cgroups are groups below the container's own to run in: PATH, or CONTROLLERS:PATH in version 1.
	Cgroups []string
	// Detach returns when the program runs.
	Detach bool
	// Started is called with the process's number when it runs.
	Started func(pid int)
}

// Exec runs one more process in a container and returns its exit code.
func (r *Runtime) Exec(ctx context.Context, id string, o ExecOptions) (code int, err error) {
	c, err := r.Load(id)
	if err != nil {
		return 0, err
	}
	switch c.Status() {
	case "stopped":
		return 0, errors.New("cannot exec in a stopped container")
	case "paused":
		if !o.IgnorePaused {
			return 0, errors.New("cannot exec in a paused container (use --ignore-paused to override)")
		}
	}
	if err := checkTerminal(o.Process, o.ConsoleSocket != "" || o.Console != nil); err != nil {
		return 0, err
	}
	if len(o.Process.Args) == 0 {
		return 0, errors.New("process args cannot be empty")
	}
	x := &execution{r: r, c: c, o: o}
	defer x.close()
	proc, err := x.launch()
	if err != nil {
		return 0, err
	}
	if err := writePidFile(o.PidFile, proc.Pid); err != nil {
		unix.Kill(proc.Pid, unix.SIGKILL)
		reap(proc.Pid)
		return 0, err
	}
	if o.Started != nil {
		o.Started(proc.Pid)
	}
	if o.Detach {
		return 0, nil
	}
	return exitCode(reap(proc.Pid)), nil
}

// An execution is one more process under way.
type execution struct {
	r     *Runtime
	c     *Container
	o     ExecOptions
	files []*os.File
	plan  *plan.Plan
	agent *Agent
	start *os.File // lets a plan go on that waits
	// executable is the program's file, where it is not args[0].
	executable string
}

func (x *execution) close() {
	for _, f := range x.files {
		f.Close() // nil as well
	}
	x.agent.Close()
}

func (x *execution) keep(f *os.File) *os.File {
	x.files = append(x.files, f)
	return f
}

// launch starts the process; its program runs when it returns.
func (x *execution) launch() (*plan.Process, error) {
	if err := x.compile(); err != nil {
		return nil, err
	}
	l := plan.LaunchOptions{Stdin: x.o.Stdin, Stdout: x.o.Stdout, Stderr: x.o.Stderr, Console: x.o.Console, UntilCreated: x.start != nil}
	if x.o.ConsoleSocket != "" {
		console, err := dialUnix(x.o.ConsoleSocket)
		if err != nil {
			return nil, fmt.Errorf("connect to console socket: %w", err)
		}
		l.Console = x.keep(console)
	}
	if !x.o.Detach {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	proc, err := plan.Launch(x.plan, l)
	if err != nil {
		return nil, startError(err)
	}
	if x.start == nil {
		return proc, nil
	}
	defer proc.Report.Close()
	err = x.agent.Fill(proc.Pid, x.c.Init.Pid)
	if err == nil {
		_, err = x.start.Write([]byte{0})
	}
	if err == nil {
		_, err = followReport(x.plan, proc)
	}
	if err != nil {
		unix.Kill(proc.Pid, unix.SIGKILL)
		reap(proc.Pid)
		return nil, startError(err)
	}
	return proc, nil
}

func (x *execution) compile() error {
	c, o := x.c, x.o
	if root, err := rootOf(c.Init.Pid); err == nil && x.executable == "" {
		err = findProgram(root, o.Process)
		root.Close()
		if err != nil {
			return err
		}
	}
	spec := *c.Spec
	spec.Process, spec.Hooks = o.Process, nil
	linux := oci.Linux{}
	if spec.Linux != nil {
		linux = *spec.Linux
	}
	linux.Namespaces = slices.Clone(linux.Namespaces)
	linux.TimeOffsets = nil
	spec.Linux = &linux
	j, err := x.joinOptions(&spec)
	if err != nil {
		return err
	}
	var warnings []string
	x.plan, warnings, err = CompileJoin(&spec, j)
	for _, w := range warnings {
		x.r.warn("%s", w)
	}
	return err
}

func (x *execution) joinOptions(spec *oci.Spec) (j JoinOptions, err error) {
	c, o := x.c, x.o
	pidfd, err := unix.PidfdOpen(c.Init.Pid, 0)
	if err != nil {
		return j, fmt.Errorf("open the container's process: %w", err)
	}
	j.Pidfd = x.keep(os.NewFile(uintptr(pidfd), "container"))
	if !ownMounts(spec) {
		if j.Root, err = rootOf(c.Init.Pid); err != nil {
			return j, fmt.Errorf("open the container's root: %w", err)
		}
		x.keep(j.Root)
	}
	if !c.Init.Alive() {
		return j, errors.New("cannot exec in a stopped container")
	}
	if j.Facts, err = LookUp(spec); err != nil {
		return j, err
	}
	// Its user namespace may deny what this one allows.
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/setgroups", c.Init.Pid)); err == nil {
		j.Facts.SetgroupsDenied = j.Facts.SetgroupsDenied || bytes.HasPrefix(b, []byte("deny"))
	}
	j.NoNewKeyring, j.Executable = o.NoNewKeyring, x.executable
	g, err := c.group()
	if err != nil {
		return j, err
	}
	if c.Unit != "" {
		if err := reachUnits(context.Background(), g.Host(), "exec"); err != nil {
			return j, err
		}
	}
	if g != nil {
		// In version 2 it is entered before the cgroup namespace is joined, in which its way is hidden.
		if !g.Host().V2() {
			if j.Cgroup, err = g.Dir(); err != nil {
				return j, err
			}
		}
		if j.Cgroup != nil && len(o.Cgroups) > 0 {
			j.Cgroup.Close()
			j.Cgroup = nil // the user says where
		}
		x.keep(j.Cgroup)
		procs := enter(g, j.Cgroup)
		if j.Cgroup == nil && len(o.Cgroups) == 0 {
			procs = g.ProcsOf(c.Init.Pid)
		}
		if j.CgroupProcs, err = subgroups(procs, o.Cgroups); err != nil {
			return j, err
		}
	}
	j.CgroupProcs = append(j.CgroupProcs, c.Rdt.enter()...)
	for fd := 3; fd < 3+o.PreserveFDs; fd++ {
		j.Preserve = append(j.Preserve, os.NewFile(uintptr(fd), "preserved"))
	}
	if x.agent, err = compileSeccomp(spec.Linux.Seccomp, &j.CompileOptions, c.State()); err != nil || x.agent == nil {
		return j, err
	}
	// The agent is told the process's number, which must be known first.
	j.Wait = true
	if j.Control, x.start, err = os.Pipe(); err != nil {
		return j, fmt.Errorf("make start pipe: %w", err)
	}
	x.keep(j.Control)
	x.keep(x.start)
	return j, nil
}

// subgroups replaces the container's own groups by those below them that the user named.
func subgroups(procs, wanted []string) ([]string, error) {
	for _, w := range wanted {
		controllers, sub, some := strings.Cut(w, ":")
		if !some {
			controllers, sub = "", w
		}
		if sub == "" || strings.Contains("/"+sub+"/", "/../") {
			return nil, fmt.Errorf("%s is not a sub cgroup path", sub)
		}
		found := 0
		for i, f := range procs {
			// /sys/fs/cgroup/CONTROLLERS/… in version 1
			parts := strings.SplitN(f, "/", 6)
			if some && (len(parts) < 6 || !slices.ContainsFunc(strings.Split(parts[4], ","), func(c string) bool {
				return slices.Contains(strings.Split(controllers, ","), c)
			})) {
				continue
			}
			dir := filepath.Join(filepath.Dir(f), sub)
			if _, err := os.Stat(dir); err != nil {
				return nil, fmt.Errorf("error adding pid to cgroup %s: open %s: %w", sub, filepath.Join(dir, "cgroup.procs"), unix.ENOENT)
			}
			procs[i] = filepath.Join(dir, filepath.Base(f))
			found++
		}
		if some && found == 0 {
			return nil, fmt.Errorf("unknown controller %s in --cgroup %s", controllers, w)
		}
	}
	return procs, nil
}
