package ociruntime

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
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
	return newUserNamespace(l.UIDMappings, l.GIDMappings)
}

// mountUserNamespaces makes or opens the namespaces whose maps idmapped mounts have that
// are not the new namespace of the container, by the mounts' places in the configuration.
func mountUserNamespaces(spec *oci.Spec) (map[int]*os.File, error) {
	files := make(map[int]*os.File)
	for i, m := range spec.Mounts {
		o, err := parseMount(m)
		if err != nil {
			return files, err
		}
		maps := len(m.UIDMappings)+len(m.GIDMappings) > 0
		if !maps && !o.idmap || maps && containersMaps(spec.Linux, m) {
			continue
		}
		var f *os.File
		if maps {
			f, err = newUserNamespace(m.UIDMappings, m.GIDMappings)
		} else if path := joinedUserNamespace(spec.Linux); path != "" {
			f, err = os.Open(path)
		}
		if err != nil {
			return files, fmt.Errorf("mount %s on %s: %w", m.Source, m.Destination, err)
		}
		if f != nil {
			files[i] = f
		}
	}
	return files, nil
}

// containersMaps reports that a mount's maps are those of a user namespace that is made
// for the container.
func containersMaps(l *oci.Linux, m oci.Mount) bool {
	return l != nil && joinedUserNamespace(l) == "" && slices.Equal(m.UIDMappings, l.UIDMappings) && slices.Equal(m.GIDMappings, l.GIDMappings)
}

func joinedUserNamespace(l *oci.Linux) string {
	if l == nil {
		return ""
	}
	for _, n := range l.Namespaces {
		if n.Type == oci.UserNamespace {
			return n.Path
		}
	}
	return ""
}

// newUserNamespace makes a user namespace with maps, in which nobody is.
func newUserNamespace(uids, gids []oci.LinuxIDMapping) (*os.File, error) {
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
	}{{"gid_map", "newgidmap", gids}, {"uid_map", "newuidmap", uids}} {
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
