package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"hull/cgroup"
	"hull/oci"
)

// Stats are the counters of a container that runs, and how many of its processes
// the kernel killed at the memory limit.
func (r *Runtime) Stats(id string) (cgroup.Stats, uint64, error) {
	c, err := r.Load(id)
	if err != nil {
		return cgroup.Stats{}, 0, err
	}
	if c.Status() == "stopped" {
		return cgroup.Stats{}, 0, ErrNotRunning
	}
	g, err := c.needGroup()
	if err != nil {
		return cgroup.Stats{}, 0, err
	}
	s, err := g.Stats()
	if err != nil {
		return s, 0, err
	}
	kills, err := g.OOMKills()
	return s, kills, err
}

// WriteSpec writes a configuration to begin with; one that is there is not replaced.
func WriteSpec(bundle string, rootless bool) error {
	data, err := json.MarshalIndent(ExampleSpec(rootless), "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(bundle, "config.json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("File config.json exists. Remove it first") //nolint:staticcheck // runc's words
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// ExampleSpec is the configuration of a shell with a terminal in ./rootfs.
func ExampleSpec(rootless bool) *oci.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	s := &oci.Spec{
		Version: oci.SpecVersion, Root: &oci.Root{Path: "rootfs", Readonly: true}, Hostname: "hull",
		Process: &oci.Process{
			Terminal: true, Args: []string{"sh"}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			Capabilities: &oci.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
			Rlimits:      []oci.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		},
		Mounts: []oci.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &oci.Linux{
			Namespaces: []oci.LinuxNamespace{{Type: oci.PIDNamespace}, {Type: oci.NetworkNamespace}, {Type: oci.IPCNamespace},
				{Type: oci.UTSNamespace}, {Type: oci.MountNamespace}},
			Resources: &oci.LinuxResources{Devices: []oci.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if host, err := cgroup.LookUp(); err == nil && host.V2() {
		s.Linux.Namespaces = append(s.Linux.Namespaces, oci.LinuxNamespace{Type: oci.CgroupNamespace})
	}
	if rootless {
		forUser(s)
	}
	return s
}

// forUser makes a configuration work without privileges: the user is root inside, the network is the
// host's, whose sysfs cannot be mounted then, and nothing is limited.
func forUser(s *oci.Spec) {
	l := s.Linux
	l.Namespaces = slices.DeleteFunc(l.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == oci.NetworkNamespace })
	l.Namespaces = append(l.Namespaces, oci.LinuxNamespace{Type: oci.UserNamespace})
	l.UIDMappings = []oci.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}}
	l.GIDMappings = []oci.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}}
	l.Resources = nil
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m oci.Mount) bool { return m.Destination == "/sys/fs/cgroup" })
	for i := range s.Mounts {
		m := &s.Mounts[i]
		m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "gid=") })
		if m.Destination == "/sys" {
			m.Type, m.Source, m.Options = "bind", "/sys", []string{"rbind", "nosuid", "noexec", "nodev", "ro"}
		}
	}
}

// Features is what this runtime can do. See runtime-spec features.md.
func Features() *features.Features {
	yes := true
	f := &features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: oci.SpecVersion,
		Hooks:        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions: mountOptionNames(),
		Linux: &features.Linux{
			Capabilities:    bitNames(1<<len(capabilityNames) - 1),
			Cgroup:          &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
			Seccomp:         seccompFeatures(),
			Apparmor:        &features.Apparmor{Enabled: &yes},
			Selinux:         &features.Selinux{Enabled: &yes},
			IntelRdt:        &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
			MemoryPolicy:    &features.MemoryPolicy{Modes: memoryModes.words(), Flags: memoryFlags.words()},
			NetDevices:      &features.NetDevices{Enabled: &yes},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		},
		Annotations: map[string]string{"org.opencontainers.runc.checkpoint.enabled": "false"},
	}
	for _, n := range namespaceFlags {
		f.Linux.Namespaces = append(f.Linux.Namespaces, string(n.kind))
	}
	slices.Sort(f.Linux.Namespaces)
	return f
}

func seccompFeatures() *features.Seccomp {
	yes := true
	arches := []string{"SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_X86_64"}
	if runtime.GOARCH == "arm64" {
		arches = []string{"SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"}
	}
	flags := []string{"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}
	return &features.Seccomp{
		Enabled: &yes, Archs: arches, KnownFlags: flags, SupportedFlags: flags,
		Actions: []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
			"SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"},
		Operators: []string{"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"},
	}
}

func mountOptionNames() []string {
	var names []string
	for _, a := range attrOptions {
		names = append(names, a.name, "r"+a.name)
	}
	for _, p := range propagationOptions {
		names = append(names, p.name)
	}
	names = append(names, "bind", "rbind", "idmap", "ridmap", "defaults", "tmpcopyup")
	slices.Sort(names)
	return slices.Compact(names)
}
