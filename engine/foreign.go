package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/oci"
	"hull/plan"
	"hull/seccomp"
	"hull/state"
)

// A foreign runtime is another program than this that makes the processes:
// runc, crun, runsc, or what else has runc's command line. The monitor stays
// what it is: its plan's one step becomes ForeignStart, and what the runtime
// leaves behind is reparented to it.

// ownRuntime is the name of the one that needs no other program.
const ownRuntime = "hull"

// findRuntime resolves the name or path of a runtime; "" is our own.
func (e *Engine) findRuntime(name string) (path string, err error) {
	if name == "" || name == ownRuntime || name == "hull-runtime" {
		return "", nil
	}
	if strings.Contains(name, "/") {
		if path, err = filepath.Abs(name); err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("find OCI runtime: %w", err)
		}
		return path, nil
	}
	for _, p := range e.o.Runtimes[name] {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin") {
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && filepath.IsAbs(p) {
			return p, nil
		}
	}
	return "", hint(fmt.Errorf("find OCI runtime %s: %w", name, fs.ErrNotExist), "install it, or name its path in [engine.runtimes] of containers.conf")
}

func runtimeName(r *record) string {
	if r.Runtime == "" {
		return ownRuntime
	}
	return filepath.Base(r.Runtime)
}

// foreignArgv is the beginning of each command line of the container's runtime.
func (e *Engine) foreignArgv(r *record) []string {
	argv := []string{r.Runtime, "--root", filepath.Join(e.o.RunRoot, "runtimes", filepath.Base(r.Runtime))}
	for _, f := range r.RuntimeFlags {
		argv = append(argv, "--"+strings.TrimLeft(f, "-"))
	}
	if _, _, ok := cgroup.SplitUnit(e.cgroupPath(r)); ok {
		argv = append(argv, "--systemd-cgroup")
	}
	return argv
}

// foreign runs a short command of the container's runtime.
func (e *Engine) foreign(ctx context.Context, r *record, args ...string) error {
	argv := append(e.foreignArgv(r), args...)
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return foreignError(argv[0], args[0], err, out)
	}
	return nil
}

func foreignError(path, verb string, err error, said []byte) error {
	text := strings.TrimSpace(string(said))
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	if text == "" {
		return fmt.Errorf("%s %s: %w", filepath.Base(path), verb, err)
	}
	return fmt.Errorf("%s %s: %s", filepath.Base(path), verb, text)
}

// A foreignJob is what ForeignStart is told, in BUNDLE/job.json.
type foreignJob struct {
	ID       string
	Argv     []string
	Terminal bool
	// Netns says that the network namespace is the file foreignNetns.
	Netns bool
}

const (
	foreignReport        = plan.FD(8) // where the plan puts its report pipe
	foreignNetns         = plan.FirstFile
	foreignConsole       = 4
	foreignJobFile       = "job.json"
	foreignErrFile       = "error"
	foreignConsoleSocket = "console"
	foreignVersion       = "1.0.2"
)

func (e *Engine) foreignBundle(id string) string {
	return filepath.Join(e.containerRun(id), "bundle")
}

// compileForeign writes the bundle, and the plan that becomes ForeignStart.
func (t *starting) compileForeign(ctx context.Context) error {
	bundle := t.e.foreignBundle(t.r.ID)
	switch {
	case t.o.wait:
		return fmt.Errorf("initialize container %s: %s cannot leave a program waiting", t.r.Name, t.r.Runtime)
	case t.userns != nil:
		return fmt.Errorf("start container %s: a user namespace of its own is only for hull's own runtime", t.r.Name)
	}
	rootfs := filepath.Join(bundle, "rootfs")
	if err := os.MkdirAll(rootfs, 0o700); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	if t.root != nil {
		if err := t.e.attachContainer(t.r, rootfs); err != nil {
			return fmt.Errorf("make bundle: %w", err)
		}
		t.spec.Root.Path = rootfs
	}
	if t.spec.Linux.Seccomp != nil && len(t.spec.Linux.Seccomp.Syscalls) == 0 {
		caps, err := capabilitySet(&t.r.Options, t.facts.Defaults.Capabilities, nil)
		if err != nil {
			return err
		}
		t.spec.Linux.Seccomp = seccomp.Default(caps, runtime.GOARCH)
	}
	t.spec.Version = foreignVersion // nothing newer is in it, and some refuse what they do not know
	if t.e.o.Rootless && !t.facts.CgroupV2 {
		// Version 1 is not delegated to users: a runtime that is told a path
		// insists on it.
		t.facts.Cgroup, t.spec.Linux.Resources = "", nil
	}
	t.spec.Linux.CgroupsPath = t.facts.Cgroup
	t.s.Cgroup = t.facts.Cgroup
	job := foreignJob{ID: t.r.ID, Argv: t.e.foreignArgv(t.r), Terminal: t.r.Options.Terminal, Netns: t.netns != nil}
	for name, v := range map[string]any{"config.json": t.spec, foreignJobFile: job} {
		data, err := json.Marshal(v)
		if err == nil {
			err = state.WriteFile(bundle, name, data, 0o600, false)
		}
		if err != nil {
			return fmt.Errorf("make bundle: %w", err)
		}
	}
	if err := os.MkdirAll(job.Argv[2], 0o700); err != nil {
		return fmt.Errorf("make directory of %s: %w", job.Argv[0], err)
	}
	b := plan.NewBuilder()
	b.Phase("runtime")
	b.Subject("hand over to " + t.r.Runtime)
	if t.netns != nil {
		b.Inherit("netns", t.netns)
	}
	b.Dup3(plan.ReportFD, foreignReport, false)
	argv := append(append([]string{t.e.o.Executable}, t.e.o.GlobalArgs...), "internal-runtime", bundle)
	b.Execve(argv[0], argv, os.Environ())
	b.Exit(125)
	var err error
	t.plan, err = b.Plan()
	return err
}

// ForeignStart is the program between a monitor and another runtime: it has
// the container's streams, creates and starts it, and reports as a plan does.
func ForeignStart(ctx context.Context, bundle string) error {
	report := os.NewFile(uintptr(foreignReport), "report")
	defer report.Close()
	pid, err := foreignStart(ctx, bundle)
	if err != nil {
		return errors.Join(err, state.WriteFile(bundle, foreignErrFile, []byte(err.Error()), 0o600, false))
	}
	_, err = report.Write(plan.ReportPid(pid))
	return err
}

func foreignStart(ctx context.Context, bundle string) (pid int, err error) {
	var job foreignJob
	data, err := state.ReadFile(filepath.Join(bundle, foreignJobFile))
	if err == nil {
		err = json.Unmarshal(data, &job)
	}
	if err == nil && job.Netns {
		err = setNetns(bundle, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), foreignNetns))
	}
	if err != nil {
		return 0, fmt.Errorf("read bundle: %w", err)
	}
	unix.CloseOnExec(int(foreignReport))
	log, pidFile := filepath.Join(bundle, "runtime.log"), filepath.Join(bundle, "pid")
	argv := append(job.Argv, "--log", log, "create", "--bundle", bundle, "--pid-file", pidFile)
	var received <-chan error
	if job.Terminal {
		if received, err = passConsole(bundle); err != nil {
			return 0, err
		}
		argv = append(argv, "--console-socket", filepath.Join(bundle, foreignConsoleSocket))
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], job.ID)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if job.Terminal {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, nil, nil
	}
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log)
		return 0, foreignError(argv[0], "create", err, lastMessage(said))
	}
	if job.Terminal { // a create that failed may have sent none
		if err := <-received; err != nil {
			return 0, err
		}
	}
	text, err := os.ReadFile(pidFile)
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if err != nil {
		return 0, fmt.Errorf("%s create: read its pid file: %w", filepath.Base(argv[0]), err)
	}
	start := append(job.Argv[1:], "start", job.ID)
	if out, err := exec.CommandContext(ctx, job.Argv[0], start...).CombinedOutput(); err != nil {
		return 0, foreignError(argv[0], "start", err, out)
	}
	return pid, nil
}

// lastMessage is the text of the last line of a runtime's log, which is
// text or JSON with a field msg.
func lastMessage(log []byte) []byte {
	log = bytes.TrimSpace(log)
	if i := bytes.LastIndexByte(log, '\n'); i >= 0 {
		log = log[i+1:]
	}
	if _, rest, ok := bytes.Cut(log, []byte(`msg="`)); ok {
		return bytes.TrimSuffix(rest, []byte(`"`))
	}
	return log
}

func setNetns(bundle, path string) error {
	file := filepath.Join(bundle, "config.json")
	data, err := state.ReadFile(file)
	if err != nil {
		return err
	}
	var spec oci.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == oci.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = path
		}
	}
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return state.WriteFile(bundle, "config.json", data, 0o600, false)
}

// passConsole listens for the terminal that a runtime makes, and passes it on
// to the monitor.
func passConsole(dir string) (<-chan error, error) {
	f, err := bindSocket(dir, foreignConsoleSocket, unix.SOCK_STREAM, 0o600)
	if err == nil {
		err = unix.Listen(int(f.Fd()), 1)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the terminal: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		defer f.Close()
		c, _, err := unix.Accept4(int(f.Fd()), unix.SOCK_CLOEXEC)
		if err != nil {
			done <- fmt.Errorf("receive terminal: %w", err)
			return
		}
		conn := os.NewFile(uintptr(c), "console")
		defer conn.Close()
		master, err := receiveFile(conn)
		if err == nil {
			err = unix.Sendmsg(foreignConsole, []byte("terminal"), unix.UnixRights(int(master.Fd())), nil, 0)
			master.Close()
		}
		if err != nil {
			err = fmt.Errorf("receive terminal: %w", err)
		}
		done <- err
	}()
	return done, nil
}

// foreignReason replaces a monitor's complaint that no report came by what
// ForeignStart or RestoreStart wrote.
func (e *Engine) foreignReason(r *record, x *restoring, err error) error {
	dir := e.foreignBundle(r.ID)
	if x != nil {
		dir = e.restoreDir(r.ID)
	}
	text, rerr := os.ReadFile(filepath.Join(dir, foreignErrFile))
	if x != nil && rerr == nil && len(text) > 0 {
		return hint(errors.New(string(text)), "criu's log is %s; \"criu check\" says whether it works on this kernel", filepath.Join(dir, "restore.log"))
	}
	if r.Runtime == "" || rerr != nil || len(text) == 0 {
		return err
	}
	return &foreignFailure{string(text)}
}

// A foreignFailure is what another runtime said: there are only its words.
type foreignFailure struct{ text string }

func (f *foreignFailure) Error() string { return "start container: " + f.text }

// foreignCode is the exit code of what another runtime could not start, by the
// words that runc, crun and runsc use.
func foreignCode(err error) int {
	var f *foreignFailure
	if !errors.As(err, &f) {
		return codeEngine
	}
	return foreignWords(f.text, codeEngine)
}

// foreignWords is the code of a program that was not found or cannot be executed, or otherwise.
func foreignWords(text string, otherwise int) int {
	program := strings.Contains(text, "exec") || strings.Contains(text, "creating process")
	text = strings.ToLower(text)
	switch {
	case strings.Contains(text, "not found in $path"), program && strings.Contains(text, "no such file or directory"):
		return codeMissing
	case program && strings.Contains(text, "permission denied"):
		return codeCannot
	}
	return otherwise
}

// foreignGone has the runtime forget a container, and takes its bundle away.
func (e *Engine) foreignGone(ctx context.Context, r *record) error {
	if r.Runtime == "" {
		return nil
	}
	bundle := e.foreignBundle(r.ID)
	if _, err := os.Stat(bundle); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := e.foreign(ctx, r, "delete", "--force", r.ID)
	if uerr := unix.Unmount(filepath.Join(bundle, "rootfs"), unix.MNT_DETACH); uerr != nil && uerr != unix.EINVAL && uerr != unix.ENOENT {
		return fmt.Errorf("unmount the root of container %s: %w", r.ID, uerr)
	}
	if rerr := os.RemoveAll(bundle); rerr != nil {
		return fmt.Errorf("remove bundle: %w", rerr)
	}
	if err != nil && !strings.Contains(err.Error(), "does not exist") {
		e.warn("%v", err) // what is left of it, the cgroup and the mounts, we remove
	}
	return nil
}

// resetRuntimes removes what other runtimes keep when no container is left. gVisor's has a
// network namespace mounted there.
func (e *Engine) resetRuntimes() {
	dir := filepath.Join(e.o.RunRoot, "runtimes")
	kept, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, p := range kept {
		unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	os.RemoveAll(dir)
}

// execForeign is Exec through the container's runtime, which has the streams.
func (x *execution) execForeign(ctx context.Context) (code int, err error) {
	spec, _, err := x.spec()
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	dir := filepath.Join(x.e.foreignBundle(x.r.ID), "exec-"+x.id[:16])
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	defer os.RemoveAll(dir)
	data, err := json.Marshal(spec.Process)
	if err == nil {
		err = state.WriteFile(dir, "process.json", data, 0o600, false)
	}
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", x.r.Name, err)
	}
	log := filepath.Join(dir, "log")
	argv := append(x.e.foreignArgv(x.r), "--log", log, "exec", "--process", filepath.Join(dir, "process.json"))
	if x.o.Detach {
		argv = append(argv, "--detach", "--pid-file", filepath.Join(dir, "pid"))
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], x.r.ID)...)
	if !x.o.Detach {
		if x.o.Interactive {
			cmd.Stdin = x.o.Streams.Stdin
		}
		cmd.Stdout, cmd.Stderr = x.o.Streams.Stdout, x.o.Streams.Stderr
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		said, _ := os.ReadFile(log) // nothing when the program ran
		return foreignWords(string(lastMessage(said)), exit.ExitCode()), nil
	}
	return 0, err
}
