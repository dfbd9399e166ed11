package ociruntime

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// makeUserNamespace makes one with the configuration's maps, for a container that asks
// for a new one. nil: it asks for none, or its process can map its one id itself.
func makeUserNamespace(l *oci.Linux) (*os.File, error) {
	if l == nil || ownMaps(l) && os.Geteuid() != 0 {
		return nil, nil
	}
	wanted := false
	for _, n := range l.Namespaces {
		wanted = wanted || n.Type == oci.UserNamespace && n.Path == ""
	}
	if !wanted {
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
		reap(process.Pid)
		process.Report.Close()
	}()
	for _, m := range []struct {
		file, tool string
		list       []oci.LinuxIDMapping
	}{{"gid_map", "newgidmap", l.GIDMappings}, {"uid_map", "newuidmap", l.UIDMappings}} {
		if err := writeMap(process.Pid, m.file, m.tool, m.list); err != nil {
			return nil, fmt.Errorf("make user namespace: %w", err)
		}
	}
	f, err := os.Open("/proc/" + strconv.Itoa(process.Pid) + "/ns/user")
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	return f, nil
}

// writeMap writes ids, where this process may not by the tool that may.
func writeMap(pid int, file, tool string, list []oci.LinuxIDMapping) error {
	var text strings.Builder
	args := []string{strconv.Itoa(pid)}
	for _, g := range list {
		for _, n := range []uint32{g.ContainerID, g.HostID, g.Size} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
		fmt.Fprintf(&text, "%d %d %d\n", g.ContainerID, g.HostID, g.Size)
	}
	err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/"+file, []byte(text.String()), 0)
	if err == nil || os.Geteuid() == 0 {
		return err
	}
	if out, terr := exec.Command(tool, args...).CombinedOutput(); terr != nil {
		return fmt.Errorf("%w; %s: %s", err, tool, strings.TrimSpace(string(out)))
	}
	return nil
}
