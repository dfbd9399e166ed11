package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hull/cgroup"
	"hull/monitor"
	"hull/network"
	"hull/oci"
	"hull/ociruntime"
	"hull/plan"
	"hull/seccomp"
	"hull/state"
)

// startOptions say who watches a start.
type startOptions struct {
	attach bool
	flags  monitor.Flags
	// stdio are the program's own streams, for the log driver passthrough.
	stdio [3]*os.File
	// signals are caught from when the program may run on; nil is none.
	signals *SignalProxy
	// console is the size of the terminal that watches; nil is not known.
	console *oci.Box
	// lock is the container's: a monitor that was told to start holds it until
	// it has, so that nobody takes a start that goes on for one that was cut off.
	lock *lock
	// needed says that the container is started because another needs it.
	needed bool
	// restore is the checkpoint whose processes are started; nil starts new ones.
	restore *restoring
	// wait leaves the program waiting for releaseInit.
	wait bool
	// spare is a monitor that was started for this before; nil starts one.
	spare *monitor.Spare
	// netns is the network namespace of its own; nil makes one where it is needed.
	netns *ahead
}

// A starting is one start under way: what it made, so that it can be given
// back, and what later steps need of earlier ones.
type starting struct {
	e *Engine
	r *record
	s *runState
	o startOptions

	facts   specFacts
	seccomp *seccomp.Program
	userns  *os.File
	netns   *os.File
	names   [2]*os.File // the sockets of the name server
	net     network.Status
	joining beside // the making of net
	spec    *oci.Spec
	group   *cgroup.Group
	limited beside // the making of group
	// unlimited are the warnings of that.
	unlimited []string
	root      []oci.Mount
	tree      *ahead // root, mounted
	plan      *plan.Plan
	control   *os.File
	agent     *ociruntime.Agent // of a filter that notifies
	notify    *os.File          // the container's socket to the service manager
	spare     *monitor.Spare    // one of our own, perhaps not used
	files     []*os.File        // closed at the end
}

// start starts the container of r, whose lock is held, and records it in s.
// After an error nothing of it is left.
func (e *Engine) start(ctx context.Context, r *record, s *runState, o startOptions) (*monitor.Session, error) {
	t := &starting{e: e, r: r, s: s, o: o}
	defer t.close()
	session, err := t.run(ctx)
	if err != nil {
		if gerr := e.giveBack(context.WithoutCancel(ctx), r, s); gerr != nil {
			e.leave("container", r.ID)
			e.warn("undo the start of container %s: %v", r.ID, gerr)
		}
		return nil, err
	}
	return session, nil
}

func (t *starting) close() {
	t.net.Close()
	t.agent.Close()
	t.group.Release()
	t.spare.Close()
	t.tree.Close()
	for _, f := range t.files {
		f.Close()
	}
	for _, f := range t.r.parts {
		f.Close()
	}
	t.r.parts = nil
}

func (t *starting) keep(f *os.File) *os.File {
	if f != nil {
		t.files = append(t.files, f)
	}
	return f
}

// run is the start, in order. Up to launch, nothing runs that is not ours.
func (t *starting) run(ctx context.Context) (*monitor.Session, error) {
	defer t.settled(ctx)
	for _, step := range []func(context.Context) error{
		t.directory, t.lookUp, t.limitsAhead, t.network, t.describe, t.limits, t.compile, t.connected,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	session, err := t.launch()
	if err != nil {
		return nil, err
	}
	if t.o.restore == nil { // what is restored has its mounts, and what was copied into them
		err = t.earlyHooks(ctx, session.Pid)
	}
	if err == nil {
		err = t.record(ctx, session)
	}
	if err != nil {
		session.Conn.Close()
		t.e.killLeft(ctx, t.r.ID)
		return nil, err
	}
	if t.spec.Hooks != nil && !t.o.wait {
		t.e.lateHooks(ctx, t.r, t.spec.Hooks.Poststart, "poststart", oci.ContainerState("running"), session.Pid)
	}
	return session, nil
}

// directory makes the run directory; what an earlier run left in it goes.
func (t *starting) directory(ctx context.Context) error {
	dir := t.e.containerRun(t.r.ID)
	if t.r.transient {
		if t.s.Started {
			os.Remove(filepath.Join(dir, monitor.ExitFile))
			os.Remove(filepath.Join(dir, monitor.OOMFile))
		}
		return nil
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		t.e.newBoot(filepath.Dir(dir))
		err = os.MkdirAll(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		for _, name := range []string{monitor.ExitFile, monitor.OOMFile, "state.json"} {
			os.Remove(filepath.Join(dir, name))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	return nil
}

func (t *starting) lookUp(ctx context.Context) (err error) {
	if t.r.Pod != "" && !t.r.Infra && t.r.Options.InitCtr == "" {
		if err := t.e.ensurePod(ctx, t.r.Pod); err != nil {
			return err
		}
	}
	for _, id := range t.r.Depends {
		if err := t.e.ensureRunning(ctx, id); err != nil {
			return err
		}
	}
	if t.r.Labels == nil && t.e.selinux() { // it was made where SELinux was off
		if err := t.e.settleLabels(t.r); err != nil {
			return err
		}
		if err := t.e.saveRecord(t.r); err != nil {
			return err
		}
	}
	if t.facts, err = t.e.baseFacts(t.r); err != nil {
		return err
	}
	if err = t.e.needAppArmor(&t.r.Options, &t.facts); err != nil {
		return err
	}
	if !t.o.needed && !t.r.bare() {
		t.facts.Activation = activated(&t.r.Options)
		if t.facts.Activation.Notify != "" {
			if t.notify, err = listenNotify(t.e.containerRun(t.r.ID)); err != nil {
				return err
			}
			t.keep(t.notify)
		}
	}
	t.facts.Join = map[oci.LinuxNamespaceType]string{}
	for kind, mode := range t.r.joins() {
		if t.facts.Join[kind], err = t.e.joinPath(kind, mode); err != nil {
			return err
		}
	}
	if t.r.bare() {
		return nil
	}
	t.seccomp, err = t.e.seccompProgram(t.r, &t.facts)
	return err
}

// ensureRunning starts a container that another needs.
func (e *Engine) ensureRunning(ctx context.Context, id string) error {
	r, err := e.loadRecord(id)
	if err != nil {
		return fmt.Errorf("container %s is needed: %w", id, err)
	}
	s, err := e.state(r)
	if err != nil {
		return err
	}
	if s.running() {
		return nil
	}
	if err := e.startNeeded(ctx, id); err != nil {
		return fmt.Errorf("start container %s, which is needed: %w", r.Name, err)
	}
	return nil
}

// joinPath is the namespace that a mode names.
func (e *Engine) joinPath(kind oci.LinuxNamespaceType, mode string) (string, error) {
	if path, ok := strings.CutPrefix(mode, "ns:"); ok {
		return path, nil
	}
	id := strings.TrimPrefix(mode, "container:")
	r, err := e.loadRecord(id)
	if err != nil {
		return "", fmt.Errorf("join %s: %w", mode, err)
	}
	s, err := e.state(r)
	if err != nil {
		return "", fmt.Errorf("join %s: %w", mode, err)
	}
	if !s.running() {
		return "", fmt.Errorf("join the %s namespace of container %s: it is %s: %w", kind, r.Name, s.Status, ErrState)
	}
	return processNamespace(s.Pid, kind), nil
}

// describe writes the container's files and makes its spec.
func (t *starting) describe(ctx context.Context) error {
	if err := t.e.writeFiles(t.r, &t.facts); err != nil {
		return err
	}
	var err error
	if err := t.e.joinShm(t.r, &t.facts); err != nil {
		return err
	}
	if t.facts.Mounts, err = t.e.runtimeMounts(ctx, t.r); err != nil {
		return err
	}
	if err := t.rootAhead(); err != nil {
		return err
	}
	more, err := t.e.secretMounts(ctx, t.r)
	if err != nil {
		return err
	}
	t.facts.Mounts = append(t.facts.Mounts, more...)
	if t.facts.SecretEnv, err = t.e.secretEnv(t.r); err != nil {
		return err
	}
	if t.r.step != nil {
		t.facts.SecretEnv = append(t.facts.SecretEnv, t.r.step.SecretEnv...)
		mounts, err := t.e.labelStep(t.r, t.r.step.Mounts)
		if err != nil {
			return err
		}
		t.facts.Mounts = append(t.facts.Mounts, mounts...)
	}
	t.facts.ConsoleSize = t.o.console
	t.spec, err = newSpec(t.r, t.facts)
	return err
}

func (t *starting) compile(ctx context.Context) error {
	switch {
	case t.o.restore != nil:
		return t.compileRestore(ctx)
	case t.r.Runtime != "":
		return t.compileForeign(ctx)
	}
	hostFacts, err := ociruntime.LookUp(t.spec)
	if err != nil {
		return err
	}
	o := ociruntime.CompileOptions{
		Facts: hostFacts, Seccomp: t.seccomp, Init: t.r.ownInit(t.e), Infra: t.r.bare(),
		ChownStdio: !t.r.Options.Terminal && !strings.HasPrefix(t.r.Options.LogDriver, "passthrough"),
		Wait:       t.o.wait, WaitHooks: ociruntime.WaitsEarly(t.spec), CopyUp: true,
	}
	// An image's directory is made, the user's own word must be one that is there.
	o.KeepCwd = t.r.Options.WorkingDir != "" && t.r.step == nil
	if t.root != nil {
		o.RootfsTarget = t.e.mountTarget()
		if o.RootTree = t.keep(t.tree.take()); o.RootTree == nil {
			o.Rootfs = t.root
		}
		if err := os.Mkdir(o.RootfsTarget, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make mount target: %w", err)
		}
	}
	if t.netns != nil {
		o.Namespaces = append(o.Namespaces, ociruntime.NamespaceFile{Type: oci.NetworkNamespace, File: t.netns})
	}
	if t.group != nil {
		if o.Cgroup, err = t.group.Dir(); err != nil {
			return err
		}
		t.keep(o.Cgroup)
		o.CgroupProcs = t.group.Procs()
	}
	if err := t.connectAgent(&o); err != nil {
		return err
	}
	if o.Wait || o.WaitHooks {
		if t.control, err = t.e.makeControl(t.r.ID); err != nil {
			return err
		}
		o.Control = t.keep(t.control)
	}
	if t.userns != nil {
		o.UserNS, o.RootfsTarget = t.userns, usernsTarget
		if !t.r.bare() {
			o.Rootfs = nil
			if o.RootTree, err = t.e.idmappedRoot(t.r, t.root, t.userns); err != nil {
				return err
			}
			t.keep(o.RootTree)
		}
		if t.facts.Join[oci.UserNamespace] != "" {
			o.Namespaces = append(o.Namespaces, ociruntime.NamespaceFile{Type: oci.UserNamespace, File: t.userns})
		}
	}
	if t.r.step != nil {
		if err := t.takeTrees(&o, t.r.step.Open); err != nil {
			return err
		}
	}
	parts := map[string]*os.File{}
	for _, f := range t.r.parts {
		parts[descriptorPath(f)] = f
	}
	if err := t.takeTrees(&o, parts); err != nil {
		return err
	}
	if src := t.facts.Files["/dev/shm"]; src != "" {
		tree, err := foreignTree(src)
		if err != nil {
			return err
		}
		o.Trees = append(o.Trees, ociruntime.Tree{Source: src, File: t.keep(tree)})
	}
	for _, fd := range preserved(max(t.r.Options.PreserveFDs, t.facts.Activation.Listen), t.r.Options.PreserveFD) {
		o.Preserve = append(o.Preserve, os.NewFile(uintptr(fd), "preserved"))
	}
	var warnings []string
	if t.plan, warnings, err = ociruntime.Compile(t.spec, o); err != nil {
		return err
	}
	for _, w := range warnings {
		t.e.warn("%s", w)
	}
	return nil
}

// record writes down that the container runs.
func (t *starting) record(ctx context.Context, session *monitor.Session) error {
	s := t.s
	id, err := state.IdentifyProcess(session.Pid)
	if err != nil {
		// It has ended already: the exit record says how.
		id = state.ProcessID{Pid: session.Pid}
	}
	restarts := s.Restarts
	*s = runState{
		Status: StatusRunning, Pid: id.Pid, PidStart: id.Start, StartedAt: time.Now(),
		Cgroup: s.Cgroup, Restarts: restarts, Started: true,
	}
	if t.o.wait {
		s.Status = StatusInitialized
	}
	if t.o.restore != nil {
		s.RestoredAt = s.StartedAt
	}
	if m, err := state.IdentifyProcess(session.Monitor.Pid); err == nil {
		s.Monitor, s.MonitorStart = m.Pid, m.Start
	}
	s.Networks, s.Ports, s.Named = t.net.Networks, t.net.Ports, t.names[0] != nil
	if _, ok := t.r.health(); ok {
		s.Health, s.Streak, s.StartupPassed = HealthStarting, 0, 0
	}
	if err := errors.Join(t.e.saveState(t.r, s), t.e.noteStart(t.r, s)); err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		pid  int
		when bool
	}{{t.r.Options.PidFile, s.Pid, true}, {t.r.Options.ConmonPidFile, s.Monitor, true}, {t.e.servicePIDFile(t.r), s.Monitor, inService()}} {
		if f.path == "" || !f.when {
			continue
		}
		if err := os.WriteFile(f.path, []byte(strconv.Itoa(f.pid)), 0o644); err != nil {
			return fmt.Errorf("write pid file: %w", err)
		}
	}
	if !t.o.wait {
		t.e.event(ctx, "container", "start", t.r, nil)
		// A monitor that passes the container's words on has said it first.
		if !t.o.needed && !t.r.bare() && t.facts.Activation.Notify == "" {
			notifyStarted(&t.r.Options, s.Monitor)
		}
	}
	if s.Health != "" {
		if err := t.e.watchHealth(t.r); err != nil {
			t.e.warn("%v", err)
		}
	}
	return nil
}

// networkMode is the mode with the configured default filled in.
func (r *record) networkMode(e *Engine) string {
	return firstOf(r.Options.NetworkMode, e.o.Defaults.Network)
}

// ownInit says whether the plan is to be the container's first process.
func (r *record) ownInit(e *Engine) bool {
	return r.Options.Init && firstOf(r.Options.InitPath, e.o.Defaults.InitPath) == ""
}
