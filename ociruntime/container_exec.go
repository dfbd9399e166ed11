package ociruntime

import (
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
	p, files, err := r.compileExec(c, o)
	defer closeAll(&files)
	if err != nil {
		return 0, err
	}
	l := plan.LaunchOptions{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Console: o.Console}
	if o.ConsoleSocket != "" {
		if l.Console, err = dialUnix(o.ConsoleSocket); err != nil {
			return 0, fmt.Errorf("connect to console socket: %w", err)
		}
		files = append(files, l.Console)
	}
	if !o.Detach {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	proc, err := plan.Launch(p, l)
	if err != nil {
		return 0, startError(err)
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

func closeAll(files *[]*os.File) {
	for _, f := range *files {
		f.Close()
	}
}

func (r *Runtime) compileExec(c *Container, o ExecOptions) (p *plan.Plan, files []*os.File, err error) {
	root, err := rootOf(c.Init.Pid)
	if err == nil {
		err = findProgram(root, o.Process)
		root.Close()
		if err != nil {
			return nil, nil, err
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
	pidfd, err := unix.PidfdOpen(c.Init.Pid, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open the container's process: %w", err)
	}
	j := JoinOptions{Pidfd: os.NewFile(uintptr(pidfd), "container")}
	files = append(files, j.Pidfd)
	if !ownMounts(&spec) {
		if j.Root, err = rootOf(c.Init.Pid); err != nil {
			return nil, files, fmt.Errorf("open the container's root: %w", err)
		}
		files = append(files, j.Root)
	}
	if !c.Init.Alive() {
		return nil, files, errors.New("cannot exec in a stopped container")
	}
	if j.Facts, err = LookUp(&spec); err != nil {
		return nil, files, err
	}
	j.NoNewKeyring = o.NoNewKeyring
	g, err := c.group()
	if err != nil {
		return nil, files, err
	}
	if g != nil {
		if j.CgroupProcs, err = subgroups(g.Procs(), o.Cgroups); err != nil {
			return nil, files, err
		}
	}
	for fd := 3; fd < 3+o.PreserveFDs; fd++ {
		j.Preserve = append(j.Preserve, os.NewFile(uintptr(fd), "preserved"))
	}
	p, warnings, err := CompileJoin(&spec, j)
	for _, w := range warnings {
		r.warn("%s", w)
	}
	return p, files, err
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
				return nil, fmt.Errorf("enter cgroup %s: %w", sub, err)
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
