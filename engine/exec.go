package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/monitor"
	"hull/oci"
	"hull/ociruntime"
	"hull/passwd"
	"hull/plan"
	"hull/state"
)

// Exec runs one more program in a running container. In the foreground it is
// this process's own child; detached, or where a session is to be attached to
// later, it gets a monitor.
func (e *Engine) Exec(ctx context.Context, name string, o ExecOptions) (RunResult, error) {
	go cgroup.LookUp() // what it says is kept for when it is asked
	r, s, err := e.open(ctx, name)
	if err != nil {
		return RunResult{}, err
	}
	if s.Status != StatusRunning {
		return RunResult{}, fmt.Errorf("exec in container %s: it is %s, not running: %w", r.Name, s.Status, ErrState)
	}
	x := &execution{e: e, r: r, s: s, o: o, id: newID()}
	defer x.close()
	result := RunResult{ID: x.id}
	if r.Runtime != "" {
		e.event(ctx, "container", "exec", r, map[string]string{"execID": x.id})
		result.Code, err = x.execForeign(ctx)
		return result, err
	}
	if err := x.prepare(); err != nil {
		return RunResult{}, err
	}
	if o.Detach {
		err := x.detach(ctx)
		return result, err
	}
	result.Code, result.Detached, err = x.run(ctx)
	return result, err
}

// An execution is one Exec under way.
type execution struct {
	e  *Engine
	r  *record
	s  *runState
	o  ExecOptions
	id string

	plan  *plan.Plan
	files []*os.File
	agent *ociruntime.Agent // of a filter that notifies
	start *os.File          // lets a plan go on that waits for its agent to be told
}

func (x *execution) close() {
	x.agent.Close()
	for _, f := range x.files {
		f.Close()
	}
}

// prepare compiles the plan that joins the container. The process to join is
// held by a descriptor, so that it is that process or none.
func (x *execution) prepare() error {
	fd, err := unix.PidfdOpen(x.s.Pid, 0)
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, os.NewSyscallError("pidfd_open", err))
	}
	pidfd := os.NewFile(uintptr(fd), "container")
	x.files = append(x.files, pidfd)
	if !x.s.process().Alive() {
		return fmt.Errorf("exec in container %s: it has ended: %w", x.r.Name, ErrState)
	}
	spec, o, err := x.spec()
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	if err := x.e.reachGroup(context.Background(), x.s); err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	if g := x.e.group(x.s); g != nil {
		o.CgroupProcs = g.ProcsOf(x.s.Pid)
	}
	for _, fd := range preserved(x.o.PreserveFDs, x.o.PreserveFD) {
		o.Preserve = append(o.Preserve, os.NewFile(uintptr(fd), "preserved"))
	}
	if err := x.connectAgent(spec, &o); err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	var warnings []string
	if x.plan, warnings, err = ociruntime.CompileJoin(spec, ociruntime.JoinOptions{CompileOptions: o, Pidfd: pidfd}); err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	for _, w := range warnings {
		x.e.warn("%s", w)
	}
	return nil
}

// spec is the container's own, for another program, and perhaps user.
func (x *execution) spec() (*oci.Spec, ociruntime.CompileOptions, error) {
	var co ociruntime.CompileOptions
	r := *x.r
	o := &r.Options
	o.Entrypoint, o.Command, o.Init = &[]string{}, x.o.Command, false
	o.Terminal = x.o.Terminal
	o.Privileged = o.Privileged || x.o.Privileged
	o.Devices, o.DeviceCgroupRules, o.Resources = nil, nil, Resources{}
	if x.o.WorkingDir != "" {
		if !strings.HasPrefix(x.o.WorkingDir, "/") {
			return nil, co, fmt.Errorf("working directory %q is not an absolute path", x.o.WorkingDir)
		}
		o.WorkingDir = x.o.WorkingDir
	}
	if x.o.User != "" {
		if err := x.lookUpUser(&r); err != nil {
			return nil, co, err
		}
	}
	o.Env = append(slices.Clone(o.Env), resolveEnv(CreateOptions{Env: x.o.Env})...)
	f := specFacts{Defaults: x.e.o.Defaults, Rootless: x.e.o.Rootless, RootPath: "/", CgroupV2: cgroupV2(), Terminal: os.Getenv("TERM"), Join: map[oci.LinuxNamespaceType]string{}}
	var err error
	if f.SecretEnv, err = x.e.secretEnv(&r); err != nil {
		return nil, co, err
	}
	f.Limits, f.Privileged = ownLimits()
	f.AppArmor = x.e.appArmorProfile(o)
	if err := x.e.needAppArmor(o, &f); err != nil {
		return nil, co, err
	}
	if x.e.selinux() {
		f.Labels = r.Labels
	}
	for kind := range r.joins() {
		f.Join[kind] = "joined"
	}
	if strings.HasPrefix(o.IpcNS, "container:") {
		f.Files = map[string]string{"/dev/shm": "/dev/shm"}
	}
	if id, ok := strings.CutPrefix(o.UtsNS, "container:"); ok {
		if other, err := x.e.loadRecord(id); err == nil {
			f.JoinedHostname = containerHostname(other, specFacts{})
		}
	}
	program, err := x.e.seccompProgram(&r, &f)
	if err != nil {
		return nil, co, err
	}
	spec, err := newSpec(&r, f)
	if err != nil {
		return nil, co, err
	}
	// What is mounted and limited is so already.
	spec.Mounts, spec.Hooks, spec.Linux.MountLabel = nil, nil, ""
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths, spec.Linux.Devices, spec.Linux.Resources, spec.Linux.Sysctl = nil, nil, nil, nil, nil
	for i := range spec.Linux.Namespaces {
		spec.Linux.Namespaces[i].Path = ""
	}
	facts, err := ociruntime.LookUp(spec)
	co.Facts, co.Seccomp = facts, program
	return spec, co, err
}

// lookUpUser resolves a user by the files that the container has now.
func (x *execution) lookUpUser(r *record) error {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", x.s.Pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	files, err := userFiles(root)
	if err != nil {
		return err
	}
	r.User, err = passwd.Lookup(x.o.User, nil, files)
	return unknownUser(err)
}

// run launches the program as a child and waits for it.
func (x *execution) run(ctx context.Context) (code int, detached bool, err error) {
	if x.o.Terminal {
		return x.runTerminal(ctx)
	}
	var c copies
	defer c.close()
	st := x.o.Streams
	l := plan.LaunchOptions{Files: x.plan.Files()}
	if x.o.Interactive && st.Stdin != nil {
		if l.Stdin, err = c.input(st.Stdin); err != nil {
			return 0, false, err
		}
	}
	if st.Stdout != nil {
		if l.Stdout, err = c.output(st.Stdout); err != nil {
			return 0, false, err
		}
	}
	switch {
	case st.Stderr == nil:
	case same(st.Stdout, st.Stderr):
		l.Stderr = l.Stdout // two copies would write to it at once
	default:
		if l.Stderr, err = c.output(st.Stderr); err != nil {
			return 0, false, err
		}
	}
	p, err := x.launch(l)
	c.started()
	if err != nil {
		return 0, false, x.launchError(err)
	}
	x.began(ctx)
	if st.SigProxy || ctx.Done() != nil {
		id, err := state.IdentifyProcess(p.Pid)
		if err == nil {
			signals := st.catchSignals()
			signals.PassTo(id)
			defer signals.stop()
		}
		if err == nil && ctx.Done() != nil {
			defer context.AfterFunc(ctx, func() { killTree(id) })()
		}
	}
	code = waitChild(p.Pid)
	c.wait()
	return code, false, nil
}

// began tells of the program while it runs: it has not to wait for that.
func (x *execution) began(ctx context.Context) {
	x.e.event(ctx, "container", "exec", x.r, map[string]string{"execID": x.id})
}

func (x *execution) launchError(err error) error {
	return explainStep("exec in container "+x.r.Name, err)
}

// waitChild returns a child's exit code, as the shell counts it.
func waitChild(pid int) int {
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// runTerminal is run with a terminal of the container's: its master comes back
// over a socket.
func (x *execution) runTerminal(ctx context.Context) (code int, detached bool, err error) {
	st := x.o.Streams
	keys, err := parseDetachKeys(st.DetachKeys)
	if err != nil {
		return 0, false, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, false, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console")
	defer ours.Close()
	p, err := x.launch(plan.LaunchOptions{Console: theirs, Files: x.plan.Files()})
	theirs.Close()
	if err != nil {
		return 0, false, x.launchError(err)
	}
	x.began(ctx)
	master, err := receiveFile(ours)
	if err != nil {
		unix.Kill(p.Pid, unix.SIGKILL)
		waitChild(p.Pid)
		return 0, false, fmt.Errorf("exec in container %s: receive terminal: %w", x.r.Name, err)
	}
	defer master.Close()
	stop, err := attachTerminal(st.Console, func(rows, cols uint16) {
		unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return 0, false, err
	}
	defer stop()
	left := make(chan struct{})
	if x.o.Interactive && st.Stdin != nil {
		go func() {
			if copyInput(master, st.Stdin, keys) == errDetached {
				close(left)
			}
		}()
	}
	ended := make(chan struct{})
	go func() {
		out := st.Stdout
		if out == nil {
			out = io.Discard
		}
		_, _ = io.Copy(out, master) // EIO: the last process has closed it
		close(ended)
	}()
	exit := make(chan int, 1)
	go func() { exit <- waitChild(p.Pid) }()
	select {
	case <-left:
		return 0, true, nil
	case code = <-exit:
	}
	// What was written last is still in the terminal; a child that keeps it
	// open does not hold us up.
	drain(ended)
	return code, false, nil
}

// receiveFile takes a descriptor from a socket.
func receiveFile(socket *os.File) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	var n int
	var err error
	for {
		_, n, _, _, err = unix.Recvmsg(int(socket.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("no terminal came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(err, errors.New("no terminal came"))
	}
	unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// detach starts the program below a monitor.
func (x *execution) detach(ctx context.Context) error {
	dir := filepath.Join(x.e.containerRun(x.r.ID), "exec", x.id[:16])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	image, err := x.plan.Memfd()
	if err != nil {
		return err
	}
	defer image.Close()
	session, err := monitor.Start(monitor.StartOptions{
		Binary: filepath.Join(x.e.o.LibexecDir, "hull-monitor"),
		Config: monitor.Config{ID: x.id, RunDir: dir, LogDriver: monitor.LogNone, Terminal: x.o.Terminal, OpenStdin: x.o.Interactive, StdinOnce: true, Wait: x.start != nil},
		Plan:   image, PlanFiles: x.plan.Files(),
	})
	if err != nil {
		os.RemoveAll(dir)
		return startError(x.plan, err)
	}
	x.began(ctx)
	return x.release(session.Pid)
}

// copies are the streams that a program gets by pipes: not the user's own
// files, which it could open anew with other rights, or push keys into.
type copies struct {
	theirs []*os.File
	ours   []*os.File
	group  sync.WaitGroup
}

// same says whether two writers are one; those that cannot be compared are two.
func same(a, b io.Writer) (is bool) {
	defer func() { _ = recover() }()
	return a == b
}

// direct says that a stream may be given to the program as it is: a pipe, a
// socket or /dev/null, which give no more than they are.
func direct(f *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFSOCK:
		return true
	case unix.S_IFCHR:
		return st.Rdev == unix.Mkdev(1, 3)
	}
	return false
}

func (c *copies) output(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok && direct(f) {
		return f, nil
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.theirs, c.ours = append(c.theirs, pw), append(c.ours, pr)
	c.group.Go(func() { _, _ = io.Copy(w, pr) })
	return pw, nil
}

func (c *copies) input(r io.Reader) (*os.File, error) {
	if f, ok := r.(*os.File); ok && direct(f) {
		return f, nil
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.theirs = append(c.theirs, pr)
	go func() {
		_, _ = io.Copy(pw, r)
		pw.Close()
	}()
	return pr, nil
}

// started closes the program's ends here.
func (c *copies) started() {
	for _, f := range c.theirs {
		f.Close()
	}
	c.theirs = nil
}

// wait waits for the outputs' end, but not long for a child of the program
// that keeps them open.
func (c *copies) wait() {
	if len(c.ours) == 0 {
		return
	}
	done := make(chan struct{})
	go func() { c.group.Wait(); close(done) }()
	drain(done)
}

func (c *copies) close() {
	c.started()
	for _, f := range c.ours {
		f.Close()
	}
}

// drainTime is how long what a program wrote last may take to arrive after its
// end (EXEC-04).
const drainTime = 2 * time.Second

func drain(done <-chan struct{}) {
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}
