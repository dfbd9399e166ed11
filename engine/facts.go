package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"hull/lsm"
	"hull/oci"
	"hull/seccomp"
	"hull/state"
	"hull/userns"
)

// dryFacts are facts of a start that is not to happen: nothing is made for it.
func (e *Engine) dryFacts(r *record) (specFacts, error) {
	f, err := e.baseFacts(r)
	if err != nil {
		return f, err
	}
	if f.Labels == nil && e.selinux() {
		// Of a container that is not made, to be shown: the pair is any.
		l, err := e.labelsOf(r, func(*record) (lsm.Pair, error) { return lsm.RandomPair(), nil })
		if err != nil {
			return f, err
		}
		f.Labels = &l
	}
	f.Join = map[oci.LinuxNamespaceType]string{}
	for kind, mode := range r.joins() {
		f.Join[kind] = "/proc/self/ns/" + string(kind)
		if kind == oci.IPCNamespace && strings.HasPrefix(mode, "container:") {
			f.Files = map[string]string{"/dev/shm": "/dev/shm"}
		}
	}
	if r.bare() {
		return f, nil
	}
	if _, err := e.seccompProgram(r, &f); err != nil {
		return f, err
	}
	return f, nil
}

// baseFacts are what both a start and a rehearsal look up.
func (e *Engine) baseFacts(r *record) (specFacts, error) {
	o := &r.Options
	f := specFacts{
		Defaults: e.o.Defaults, Rootless: e.o.Rootless,
		RootPath: e.mountTarget(), Cgroup: e.cgroupPath(r), Terminal: os.Getenv("TERM"),
	}
	if o.Rootfs != "" && !o.RootfsOverlay {
		f.RootPath = o.Rootfs
	}
	if o.NetworkMode == "host" || o.UtsNS == "host" {
		f.HostHostname, _ = os.Hostname()
	}
	f.CgroupV2, f.HostMqueue = cgroupV2(), fileExists("/dev/mqueue")
	f.Limits, f.Privileged = ownLimits()
	var err error
	if err = e.devices(r, &f); err != nil {
		return f, err
	}
	f.AppArmor = e.appArmorProfile(o)
	if e.selinux() {
		f.Labels = r.Labels
	}
	f.Hooks, err = e.hooks(r)
	return f, err
}

// mountTarget is the directory that a container's root is attached to, in its
// own mount namespace only.
func (e *Engine) mountTarget() string { return filepath.Join(e.o.RunRoot, "mnt") }

func cgroupV2() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// joins are the namespaces that are another container's, or have a path.
func (r *record) joins() map[oci.LinuxNamespaceType]string {
	o := &r.Options
	out := map[oci.LinuxNamespaceType]string{}
	for kind, mode := range map[oci.LinuxNamespaceType]string{
		oci.PIDNamespace: o.PidNS, oci.IPCNamespace: o.IpcNS, oci.UTSNamespace: o.UtsNS,
		oci.CgroupNamespace: o.CgroupNS, oci.UserNamespace: o.UserNS, oci.NetworkNamespace: o.NetworkMode,
	} {
		if strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:") {
			out[kind] = mode
		}
	}
	return out
}

// joinShm: who joins another's ipc namespace has his /dev/shm as well.
func (e *Engine) joinShm(r *record, f *specFacts) error {
	id, ok := strings.CutPrefix(r.Options.IpcNS, "container:")
	if !ok {
		return nil
	}
	other, err := e.loadRecord(id)
	if err != nil {
		return err
	}
	s, err := e.state(other)
	if err != nil {
		return err
	}
	f.Files["/dev/shm"] = fmt.Sprintf("/proc/%d/root/dev/shm", s.Pid)
	return nil
}

var rlimitNames = [...]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
	"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
	"RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// ownLimits are the engine's limits, and whether it may raise hard ones.
func ownLimits() (map[string]oci.POSIXRlimit, bool) {
	out := make(map[string]oci.POSIXRlimit, len(rlimitNames))
	for n, name := range rlimitNames {
		var l unix.Rlimit
		if unix.Prlimit(0, n, nil, &l) == nil {
			out[name] = oci.POSIXRlimit{Type: name, Soft: l.Cur, Hard: l.Max}
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return out, false
	}
	// Within a user namespace the capability does not reach so far.
	return out, data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 && userns.Initial()
}

// seccompProgram compiles the container's filter, or takes it from the store
// where it was kept. nil is no filter.
func (e *Engine) seccompProgram(r *record, f *specFacts) (*seccomp.Program, error) {
	profile := ""
	for _, opt := range r.Options.SecurityOpt {
		if key, value, _ := cutSecurityOpt(opt); key == "seccomp" || key == "seccomp-profile" {
			if value == "" {
				return nil, fmt.Errorf("security option %q names no profile", opt)
			}
			profile = value
		}
	}
	if profile == "" && r.Options.Privileged {
		return nil, nil
	}
	if profile == "" {
		profile = e.o.Defaults.SeccompPath
	}
	caps, err := capabilitySet(&r.Options, f.Defaults.Capabilities, nil)
	if err != nil {
		return nil, err
	}
	arch := runtime.GOARCH
	switch profile {
	case "unconfined":
		return nil, nil
	case "", "default", "builtin":
		return e.cachedProgram(seccomp.DefaultKey(caps, arch, kernelRelease()), func() (*oci.LinuxSeccomp, error) {
			s := seccomp.Default(caps, arch)
			if s == nil {
				return nil, fmt.Errorf("no seccomp profile for %s", arch)
			}
			return s, nil
		}, f)
	}
	p, err := seccomp.Load(profile)
	if err != nil {
		return nil, err
	}
	resolved, err := p.Resolve(seccomp.Target{Arch: arch, Caps: caps, Kernel: kernelRelease()})
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", profile, err)
	}
	key, err := seccomp.Key(resolved, arch)
	if err != nil {
		return nil, err
	}
	program, err := e.cachedProgram(key, func() (*oci.LinuxSeccomp, error) { return resolved, nil }, f)
	if err == nil {
		// What is not in the program.
		f.Seccomp.ListenerPath, f.Seccomp.ListenerMetadata = resolved.ListenerPath, resolved.ListenerMetadata
	}
	return program, err
}

func (e *Engine) cachedProgram(key string, make func() (*oci.LinuxSeccomp, error), f *specFacts) (*seccomp.Program, error) {
	if data, err := state.ReadFile(filepath.Join(e.o.Root, "cache", "seccomp", key)); err == nil {
		// What cannot be read is compiled again: a filter is never left out.
		if p, err := seccomp.Decode(data); err == nil {
			f.Seccomp = &oci.LinuxSeccomp{}
			return &p, nil
		}
	}
	s, err := make()
	if err != nil {
		return nil, err
	}
	p, err := seccomp.Compile(s, runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	for _, name := range p.Unknown {
		e.warn("seccomp profile: no system call is called %q", name)
	}
	if data, err := p.AppendBinary(nil); err == nil {
		e.keepBytes("seccomp", key, data)
	}
	f.Seccomp = s
	return &p, nil
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// processNamespace is the path of a namespace of a running container.
func processNamespace(pid int, kind oci.LinuxNamespaceType) string {
	name := string(kind)
	switch kind {
	case oci.NetworkNamespace:
		name = "net"
	case oci.MountNamespace:
		name = "mnt"
	}
	return fmt.Sprintf("/proc/%d/ns/%s", pid, name)
}

// appArmorEnabled says whether the kernel has the module.
func appArmorEnabled() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(b, []byte("Y"))
}
