package userns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/plan"
	"hull/state"
	"hull/systemd"
)

// holderFile is the record of the holder in the run directory.
const holderFile = "holder.json"

// FindHolder returns the holder of the user's namespaces, or an error for
// which errors.Is(err, fs.ErrNotExist) holds when none is alive.
func FindHolder(runDir string) (state.ProcessID, error) {
	data, err := state.ReadFile(filepath.Join(runDir, holderFile))
	if err != nil {
		return state.ProcessID{}, err
	}
	var h state.ProcessID
	if err := json.Unmarshal(data, &h); err != nil || !h.Alive() {
		return state.ProcessID{}, fmt.Errorf("find holder of the user namespace: %w", state.ErrNotExist)
	}
	return h, nil
}

// holder returns a living holder; of several commands that find none, one
// makes it.
func holder(ctx context.Context, runDir string) (state.ProcessID, error) {
	if h, err := FindHolder(runDir); err == nil {
		return h, nil
	}
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return state.ProcessID{}, fmt.Errorf("make the run directory: %w", err)
	}
	l, err := state.Acquire(ctx, filepath.Join(runDir, holderFile+".lock"))
	if err != nil {
		return state.ProcessID{}, err
	}
	defer l.Release()
	if h, err := FindHolder(runDir); err == nil {
		return h, nil
	}
	h, err := startHolder()
	if err != nil {
		return state.ProcessID{}, err
	}
	data, err := json.Marshal(h)
	if err == nil {
		err = state.WriteFile(runDir, holderFile, data, 0o600, false)
	}
	if err != nil {
		unix.Kill(h.Pid, unix.SIGKILL)
		return state.ProcessID{}, fmt.Errorf("record the holder: %w", err)
	}
	return h, nil
}

// holderPlan clones into the namespaces and sleeps in them. control is read
// once the maps are written.
func holderPlan(control *os.File) (*plan.Plan, error) {
	b := plan.NewBuilder()
	c := b.Inherit("control", control)
	b.Phase("user namespace")
	b.Cloexec(plan.ReportFD)
	b.Fork(unix.CLONE_NEWUSER)
	b.Phase("wait for the id maps")
	b.Created()
	b.Read(c, 1)
	b.Phase("root of the namespace")
	b.Setresgid(0)
	b.Setresuid(0)
	b.Setsid()
	b.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET)
	b.Chdir("/")
	b.SetName("hull-holder")
	b.Sigprocmask(unix.SIG_BLOCK, ^uint64(0))
	b.CloseRange(3, ^uint32(0))
	b.Phase("hold")
	b.Sigwait(1 << (unix.SIGTERM - 1))
	b.Exit(0)
	return b.Plan()
}

// startHolder makes the namespaces.
func startHolder() (state.ProcessID, error) {
	var none state.ProcessID
	uids, gids, err := maps(os.Geteuid(), os.Getegid())
	if err != nil {
		return none, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return none, fmt.Errorf("make user namespace: %w", err)
	}
	defer r.Close()
	defer w.Close()
	p, err := holderPlan(r)
	if err != nil {
		return none, err
	}
	proc, err := plan.Launch(p, plan.LaunchOptions{UntilCreated: true})
	if err != nil {
		return none, explain(err)
	}
	defer proc.Report.Close()
	fail := func(err error) (state.ProcessID, error) {
		unix.Kill(proc.Pid, unix.SIGKILL)
		var status unix.WaitStatus
		unix.Wait4(proc.Pid, &status, 0, nil)
		return none, err
	}
	if err := writeMap("newuidmap", proc.Pid, uids); err != nil {
		return fail(err)
	}
	if err := writeMap("newgidmap", proc.Pid, gids); err != nil {
		return fail(err)
	}
	if _, err := w.Write([]byte{1}); err != nil {
		return fail(fmt.Errorf("make user namespace: %w", err))
	}
	// The report ends when the holder has closed it, which is its last step,
	// or has failed.
	report := make([]byte, 64)
	n, _ := proc.Report.Read(report)
	if _, err := plan.DecodeReport(p, report[:n]); err != nil {
		return fail(explain(err))
	}
	id, err := state.IdentifyProcess(proc.Pid)
	if err != nil {
		return fail(err)
	}
	leaveService(proc.Pid)
	return id, nil
}

// leaveService moves the holder into a scope of its own, where the user has a
// service manager: at the end of the service or the session that happened to
// make it, containers of others would lose their namespaces' owner. Without
// one there is nobody who would end it.
func leaveService(pid int) {
	conn, err := systemd.Dial(systemd.Socket(true, os.Getenv("XDG_RUNTIME_DIR"), os.Geteuid()))
	if err != nil {
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = conn.Start(ctx, systemd.Unit{Name: fmt.Sprintf("hull-holder-%d.scope", pid), Description: "namespaces of hull containers", Slice: "user.slice", Pids: []uint32{uint32(pid)},
		Properties: systemd.Lasting(time.Second)})
}

// writeMap runs one of the two set-uid programs, found where the system has
// them and not where the caller's PATH says.
func writeMap(program string, pid int, words []string) error {
	path := ""
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			path = filepath.Join(dir, program)
			break
		}
	}
	if path == "" {
		return &Error{fmt.Errorf("make user namespace: %s is not installed", program),
			"install the package uidmap (Debian) or shadow-utils (Fedora)"}
	}
	cmd := exec.Command(path, append([]string{strconv.Itoa(pid)}, words...)...)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	return &Error{fmt.Errorf("make user namespace: %s: %w: %s", program, err, strings.TrimSpace(string(out))),
		"the ranges in /etc/subuid and /etc/subgid must be the user's own and not overlap; " + program + " must be set-uid root or have its file capability"}
}

// explain says why a kernel or a host refuses user namespaces.
func explain(err error) error {
	err = fmt.Errorf("make user namespace: %w", err)
	read := func(name string) string {
		b, _ := state.ReadFile("/proc/sys/" + name)
		return strings.TrimSpace(string(b))
	}
	switch {
	case errors.Is(err, unix.ENOSPC) || read("user/max_user_namespaces") == "0":
		return &Error{err, "allow more of them: sysctl user.max_user_namespaces=15000"}
	case read("kernel/unprivileged_userns_clone") == "0":
		return &Error{err, "allow them to users: sysctl kernel.unprivileged_userns_clone=1"}
	case read("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return &Error{err, "AppArmor keeps programs without a profile from making them: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or load a profile for hull"}
	}
	return err
}
