package engine

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// userNamespace makes the user namespace of a container with maps of its own:
// a process of a few steps is in it for as long as it takes to write the maps
// and open it. nil: the container makes or joins none.
func (e *Engine) userNamespace(r *record) (*os.File, error) {
	mode := r.Options.UserNS
	if len(r.UIDMap) == 0 || strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:") {
		return nil, nil
	}
	b := plan.NewBuilder()
	b.Phase("user namespace")
	b.Cloexec(plan.ReportFD)
	b.Fork(unix.CLONE_NEWUSER)
	b.Created()
	b.Sigwait(1 << (unix.SIGTERM - 1))
	b.Exit(0)
	p, err := b.Plan()
	if err != nil {
		return nil, err
	}
	process, err := plan.Launch(p, plan.LaunchOptions{UntilCreated: true})
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		unix.Kill(process.Pid, unix.SIGKILL)
		waitChild(process.Pid)
		process.Report.Close()
	}()
	proc := fmt.Sprintf("/proc/%d/", process.Pid)
	for file, m := range map[string][]oci.LinuxIDMapping{"uid_map": r.UIDMap, "gid_map": r.GIDMap} {
		var text strings.Builder
		for _, g := range m {
			fmt.Fprintf(&text, "%d %d %d\n", g.ContainerID, g.HostID, g.Size)
		}
		if err := os.WriteFile(proc+file, []byte(text.String()), 0); err != nil {
			return nil, hint(fmt.Errorf("make user namespace: write its ids: %w", err), "the ids on the host must be the user's own: see /etc/subuid and /etc/subgid")
		}
	}
	f, err := os.Open(proc + "ns/user")
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	return f, nil
}
