package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/inroot"
	"hull/oci"
	"hull/plan"
	"hull/state"
)

// CreateOptions are what create and run are told.
type CreateOptions struct {
	// Bundle is the directory of config.json; it must be absolute.
	Bundle string
	// Spec is what LoadBundle read there; nil has it read.
	Spec *oci.Spec
	// ConsoleSocket is a Unix socket that gets the terminal's master.
	ConsoleSocket string
	// Console gets the terminal's master instead, when it is not nil: a socket of this program.
	Console *os.File
	// PidFile is written with the first process's number.
	PidFile string
	// Stdin, Stdout and Stderr are the program's, unless it has a terminal.
	Stdin, Stdout, Stderr *os.File
	// PreserveFDs is how many descriptors from 3 on are passed to the program.
	PreserveFDs           int
	NoPivot, NoNewKeyring bool
}

func (o *CreateOptions) load() (err error) {
	if o.Spec == nil {
		o.Spec, err = LoadBundle(o.Bundle)
	}
	return err
}

// A creation is one Create under way.
type creation struct {
	r     *Runtime
	c     *Container
	o     CreateOptions
	files []*os.File
	group *cgroup.Group
	plan  *plan.Plan
	proc  *plan.Process
	fifo  *os.File
	agent *Agent
}

// Create makes a container whose program waits for Start. After an error nothing of it is left.
func (r *Runtime) Create(ctx context.Context, id string, o CreateOptions) (*Container, error) {
	c, proc, err := r.create(ctx, id, o)
	if proc != nil {
		proc.Report.Close()
	}
	return c, err
}

func (r *Runtime) create(ctx context.Context, id string, o CreateOptions) (*Container, *plan.Process, error) {
	if err := validID(id); err != nil {
		return nil, nil, err
	}
	c, err := r.begin(id, &o)
	if err != nil {
		return nil, nil, err
	}
	t := &creation{r: r, c: c, o: o}
	err = t.run(ctx)
	t.agent.Close()
	t.group.Release()
	for _, f := range t.files {
		f.Close()
	}
	if err != nil {
		t.undo(ctx)
		return nil, nil, err
	}
	return c, t.proc, nil
}

// begin makes a container's state directory, which nothing is in yet.
func (r *Runtime) begin(id string, o *CreateOptions) (*Container, error) {
	if err := o.load(); err != nil {
		return nil, err
	}
	spec := o.Spec
	if err := Validate(spec); err != nil {
		return nil, err
	}
	if err := checkTerminal(spec.Process, o.ConsoleSocket != "" || o.Console != nil); err != nil {
		return nil, err
	}
	c := &Container{Version: spec.Version, ID: id, Bundle: o.Bundle, Rootfs: spec.Root.Path, Created: time.Now().UTC(),
		Owner: os.Geteuid(), Spec: spec, dir: filepath.Join(r.Root, id)}
	if err := os.MkdirAll(r.Root, 0o711); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if err := os.Mkdir(c.dir, 0o711); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, ErrExist
		}
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	return c, nil
}

// checkTerminal: a terminal and its receiver come together.
func checkTerminal(p *oci.Process, receiver bool) error {
	switch {
	case p == nil:
		return nil
	case p.Terminal && !receiver:
		return errors.New("cannot allocate tty if runc will detach without setting console socket")
	case !p.Terminal && receiver:
		return errors.New("cannot use console socket if runc will not detach or allocate tty")
	}
	return nil
}

func (t *creation) keep(f *os.File) *os.File {
	if f != nil {
		t.files = append(t.files, f)
	}
	return f
}

func (t *creation) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{t.limits, t.compile, t.launch, t.early, t.finish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *creation) compile(context.Context) error {
	spec := t.c.Spec
	passEnvironment(spec)
	facts, err := LookUp(spec)
	if err != nil {
		return err
	}
	if t.o.NoPivot {
		if err := facts.LookUpKernelMounts(); err != nil {
			return err
		}
	}
	// Without a program there is a container that cannot be started.
	o := CompileOptions{Infra: spec.Process == nil, Facts: facts, NoPivot: t.o.NoPivot, NoNewKeyring: t.o.NoNewKeyring, Wait: true, WaitHooks: waitsEarly(spec), CopyUp: true}
	fifo := filepath.Join(t.c.dir, startPipe)
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return fmt.Errorf("make start pipe: %w", err)
	}
	if t.fifo, err = os.OpenFile(fifo, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open start pipe: %w", err)
	}
	t.keep(t.fifo)
	o.Control = t.fifo
	if t.group != nil {
		if o.Cgroup, err = t.group.Dir(); err != nil {
			return err
		}
		t.keep(o.Cgroup)
		o.CgroupProcs = enter(t.group, o.Cgroup)
	}
	o.CgroupProcs, o.Rdt = append(o.CgroupProcs, t.c.Rdt.enter()...), t.c.Rdt != nil
	if o.UserNS, err = makeUserNamespace(spec.Linux); err != nil {
		return err
	}
	t.keep(o.UserNS)
	o.MountUserNS, err = mountUserNamespaces(spec)
	for _, f := range o.MountUserNS {
		t.keep(f)
	}
	if err != nil {
		return err
	}
	for fd := 3; fd < 3+t.o.PreserveFDs; fd++ {
		o.Preserve = append(o.Preserve, os.NewFile(uintptr(fd), "preserved"))
	}
	if spec.Linux != nil {
		s := t.c.State()
		s.Status = "creating"
		if t.agent, err = compileSeccomp(spec.Linux.Seccomp, &o, s); err != nil {
			return err
		}
	}
	var warnings []string
	t.plan, warnings, err = Compile(spec, o)
	for _, w := range warnings {
		t.r.warn("%s", w)
	}
	return err
}

// enter are the files that a process writes itself to besides being born into dir.
func enter(g *cgroup.Group, dir *os.File) []string {
	procs := g.Procs()
	if dir == nil {
		return procs
	}
	return slices.DeleteFunc(procs, func(p string) bool { return filepath.Dir(p) == dir.Name() })
}

// launch starts the plan and waits until it waits.
func (t *creation) launch(context.Context) (err error) {
	l := plan.LaunchOptions{Stdin: t.o.Stdin, Stdout: t.o.Stdout, Stderr: t.o.Stderr, Console: t.o.Console, UntilCreated: true}
	if t.o.ConsoleSocket != "" {
		if l.Console, err = dialUnix(t.o.ConsoleSocket); err != nil {
			return fmt.Errorf("connect to console socket: %w", err)
		}
		t.keep(l.Console)
	}
	if !ownMounts(t.c.Spec) {
		below, err := mountOn(t.c.Rootfs)
		if err != nil {
			return err
		}
		defer func() {
			// A plan that failed may have come so far, too.
			if now, err := mountOn(t.c.Rootfs); err == nil && now != below {
				t.c.RootMount = now
			}
		}()
	}
	t.proc, err = plan.Launch(t.plan, l)
	if err != nil {
		return startError(err)
	}
	if t.c.Init, err = state.IdentifyProcess(t.proc.Pid); err != nil {
		return err
	}
	return t.agent.Fill(t.proc.Pid, t.proc.Pid)
}

// startError tells why a plan failed, where engines and their users know it by other words.
func startError(err error) error {
	var step *plan.StepError
	if errors.As(err, &step) && step.Call == "openat2" && step.Errno == unix.ELOOP {
		for _, fstype := range []string{"proc", "sysfs"} {
			if strings.HasPrefix(step.Subject, "mount "+fstype+" ") {
				return fmt.Errorf("unable to start container process: filesystem %q must be mounted on ordinary directory: %w", fstype, err)
			}
		}
	}
	return fmt.Errorf("unable to start container process: %w", err)
}

// early runs the hooks between the mounts and the new root.
func (t *creation) early(ctx context.Context) error {
	if !waitsEarly(t.c.Spec) {
		return nil
	}
	if err := CopyUp(t.c.Spec, t.plan, t.c.Init.Pid); err != nil {
		return err
	}
	if movesDevices(t.c.Spec) {
		if err := moveDevices(t.c.Spec.Linux, t.c.Init.Pid); err != nil {
			return err
		}
	}
	h := t.c.Spec.Hooks
	if h == nil {
		h = &oci.Hooks{}
	}
	s := t.c.State()
	s.Status = "creating"
	//lint:ignore SA1019 prestart is deprecated and still used
	for _, list := range []struct {
		name  string
		hooks []oci.Hook
	}{{"prestart", h.Prestart}, {"createRuntime", h.CreateRuntime}} {
		if err := runHooks(ctx, list.name, list.hooks, s, 0, ""); err != nil {
			return err
		}
	}
	if err := runHooks(ctx, "createContainer", h.CreateContainer, s, t.c.Init.Pid, t.c.Rootfs); err != nil {
		return err
	}
	if _, err := t.fifo.Write([]byte{0}); err != nil {
		return fmt.Errorf("continue after hooks: %w", err)
	}
	waits, err := followReport(t.plan, t.proc)
	if err == nil && !waits {
		err = errors.New("the container's process ended")
	}
	return err
}

// followReport reads until the plan waits again, runs its program, or fails.
func followReport(p *plan.Plan, proc *plan.Process) (waits bool, err error) {
	buf := make([]byte, 256)
	n, rerr := proc.Report.Read(buf)
	if n == 0 {
		_ = rerr // its end: the program runs
		return false, nil
	}
	_, err = plan.DecodeReport(p, buf[:n])
	return err == nil, err
}

func (t *creation) finish(context.Context) error {
	if err := checkProgram(t.c); err != nil {
		return err
	}
	if err := t.c.save(); err != nil {
		return err
	}
	return writePidFile(t.o.PidFile, t.c.Init.Pid)
}

func writePidFile(file string, pid int) error {
	if file == "" {
		return nil
	}
	dir, name := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	return state.WriteFile(dir, name, strconv.AppendInt(nil, int64(pid), 10), 0o644, false)
}

// undo removes what a failed Create made.
func (t *creation) undo(ctx context.Context) {
	if t.proc != nil {
		unix.Kill(t.proc.Pid, unix.SIGKILL)
		reap(t.proc.Pid)
		t.proc.Report.Close()
	}
	if t.group != nil {
		t.group.Kill()
		if err := t.group.Remove(); err != nil {
			t.r.warn("%v", err)
		}
	}
	if err := t.c.Rdt.remove(); err != nil {
		t.r.warn("%v", err)
	}
	if err := t.c.unmount(); err != nil {
		t.r.warn("%v", err)
	}
	if t.proc != nil {
		t.r.poststop(context.WithoutCancel(ctx), t.c)
	}
	os.RemoveAll(t.c.dir)
}

func reap(pid int) unix.WaitStatus {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status
		}
	}
}

// checkProgram finds out before the start what only the start would: whether there is such a program.
func checkProgram(c *Container) error {
	p := c.Spec.Process
	if p == nil || len(p.Args) == 0 {
		return nil
	}
	root, err := rootOf(c.Init.Pid)
	if err != nil {
		return nil // not ours to look into: the start itself will tell
	}
	defer root.Close()
	return findProgram(root, p)
}

func findProgram(root *os.File, p *oci.Process) error {
	name := p.Args[0]
	if strings.Contains(name, "/") {
		full := name
		if !strings.HasPrefix(full, "/") {
			full = filepath.Join(p.Cwd, name)
		}
		if err := executable(root, full); err != nil {
			return fmt.Errorf("exec: %q: stat %s: %w", name, name, err)
		}
		return nil
	}
	dirs := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	var denied error
	for dir := range strings.SplitSeq(dirs, ":") {
		if !strings.HasPrefix(dir, "/") {
			dir = filepath.Join(p.Cwd, dir)
		}
		err := executable(root, filepath.Join(dir, name))
		if err == nil {
			return nil
		}
		if errors.Is(err, fs.ErrPermission) {
			denied = err
		}
	}
	if denied != nil {
		return fmt.Errorf("exec: %q: %w", name, denied)
	}
	return fmt.Errorf("exec: %q: executable file not found in $PATH: %w", name, fs.ErrNotExist)
}

func executable(root *os.File, path string) error {
	f, err := inroot.Open(root, path, unix.O_PATH, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("no such file or directory: %w", fs.ErrNotExist)
		}
		return nil // the start itself will tell
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (st.IsDir() || st.Mode()&0o111 == 0) {
		return fs.ErrPermission
	}
	return nil
}

// dialUnix connects to a Unix socket.
func dialUnix(path string) (*os.File, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.File()
}

// passEnvironment hands socket activation and readiness on to the program.
func passEnvironment(spec *oci.Spec) {
	if spec.Process == nil {
		return
	}
	if fds, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && fds > 0 {
		spec.Process.Env = append(spec.Process.Env, "LISTEN_FDS="+strconv.Itoa(fds), "LISTEN_PID=1")
		if names := os.Getenv("LISTEN_FDNAMES"); names != "" {
			spec.Process.Env = append(spec.Process.Env, "LISTEN_FDNAMES="+names)
		}
	}
	if socket := os.Getenv("NOTIFY_SOCKET"); filepath.IsAbs(socket) {
		const inside = "/run/notify/notify.sock"
		spec.Process.Env = append(spec.Process.Env, "NOTIFY_SOCKET="+inside)
		spec.Mounts = append(spec.Mounts, oci.Mount{Destination: inside, Source: socket, Type: "bind", Options: []string{"bind", "nosuid", "noexec", "nodev"}})
	}
}
