package engine

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// userNamespace makes the user namespace of a container with maps of its own,
// and a network namespace that it owns: a process of a few steps is in them for
// as long as it takes to write the maps and open both. join is another
// container's user namespace, where only the second is new; nil makes both.
func (e *Engine) userNamespace(r *record, join *os.File) (user, net *os.File, err error) {
	b := plan.NewBuilder()
	b.Phase("user namespace")
	b.Cloexec(plan.ReportFD)
	if join != nil {
		b.Setns(b.Inherit("user namespace", join), unix.CLONE_NEWUSER)
		b.Fork(unix.CLONE_NEWNET)
	} else {
		b.Fork(unix.CLONE_NEWUSER | unix.CLONE_NEWNET)
	}
	b.Created()
	b.Sigwait(1 << (unix.SIGTERM - 1))
	b.Exit(0)
	p, err := b.Plan()
	if err != nil {
		return nil, nil, err
	}
	process, err := plan.Launch(p, plan.LaunchOptions{UntilCreated: true})
	if err != nil {
		return nil, nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		unix.Kill(process.Pid, unix.SIGKILL)
		waitChild(process.Pid)
		process.Report.Close()
	}()
	proc := fmt.Sprintf("/proc/%d/", process.Pid)
	maps := map[string][]oci.LinuxIDMapping{"uid_map": r.UIDMap, "gid_map": r.GIDMap}
	if join != nil {
		maps = nil // they are written
	}
	for file, m := range maps {
		var text strings.Builder
		for _, g := range m {
			fmt.Fprintf(&text, "%d %d %d\n", g.ContainerID, g.HostID, g.Size)
		}
		if err := os.WriteFile(proc+file, []byte(text.String()), 0); err != nil {
			return nil, nil, hint(fmt.Errorf("make user namespace: write its ids: %w", err), "the ids on the host must be the user's own: see /etc/subuid and /etc/subgid")
		}
	}
	if user, err = os.Open(proc + "ns/user"); err == nil {
		if net, err = os.Open(proc + "ns/net"); err != nil {
			user.Close()
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make user namespace: %w", err)
	}
	return user, net, nil
}
