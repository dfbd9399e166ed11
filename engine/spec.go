package engine

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"hull/lsm"
	"hull/oci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// specFacts is what the spec of a container depends on besides its record:
// looked up before, so that newSpec is a function.
type specFacts struct {
	Defaults Defaults
	// HostHostname is the engine's.
	HostHostname string
	// HostMqueue says that the host has /dev/mqueue.
	HostMqueue bool
	// JoinedHostname is that of the uts namespace of another container.
	JoinedHostname string
	// RunDir has the container's hosts, hostname and so on; Files are which of
	// them exist: destination → file.
	Files map[string]string
	// Mounts are the user's, settled to what the runtime mounts.
	Mounts []specs.Mount
	// SecretEnv are the variables of --secret type=env. They are in no record.
	SecretEnv []string
	// Devices of --device, and all of the host's for --privileged.
	Devices []specs.LinuxDevice
	// DeviceMounts are devices of the host at another path.
	DeviceMounts []specs.Mount
	DeviceRules  []specs.LinuxDeviceCgroup
	// Namespaces to join: kind → path.
	Join map[specs.LinuxNamespaceType]string
	// Cgroup is the container's path in each hierarchy, "" for none.
	Cgroup      string
	CgroupV2    bool
	Limits      map[string]specs.POSIXRlimit // the engine's own, by RLIMIT_ name
	Privileged  bool                         // may raise hard limits
	Rootless    bool
	Seccomp     *specs.LinuxSeccomp
	AppArmor    string      // profile, "" none
	Labels      *lsm.Labels // SELinux's, nil where it is off
	Terminal    string      // TERM of the engine
	ConsoleSize *specs.Box  // of the terminal that watches; nil is not known
	Hooks       *specs.Hooks
	// Activation is what the service manager gave for the container.
	Activation activation
	// RootPath and RootReadonly: what the runtime-spec calls root.
	RootPath string
}

// newSpec is the second form of a container: what the runtime is told.
func newSpec(r *record, f specFacts) (*specs.Spec, error) {
	o := &r.Options
	s := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: f.RootPath, Readonly: o.ReadOnly},
		Hostname:    containerHostname(r, f),
		Domainname:  o.Domainname,
		Annotations: o.Annotations,
		Linux:       &specs.Linux{},
		Hooks:       f.Hooks,
	}
	b := &specBuilder{r: r, o: o, f: f, s: s}
	// The order is that of dependence: namespaces decide on mounts and
	// sysctls, capabilities on seccomp.
	for _, step := range []func() error{
		b.namespaces, b.process, b.capabilities, b.mounts, b.devices,
		b.resources, b.rlimits, b.sysctls, b.paths, b.security,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

type specBuilder struct {
	r *record
	o *CreateOptions
	f specFacts
	s *specs.Spec
}

// containerHostname is what is asked for, the host's in its uts namespace, or
// the first 12 digits of the ID.
func containerHostname(r *record, f specFacts) string {
	o := &r.Options
	switch {
	case o.UtsNS == "host" || strings.HasPrefix(o.UtsNS, "container:") || strings.HasPrefix(o.UtsNS, "ns:"):
		return ""
	case o.Hostname != "":
		return o.Hostname
	case o.NetworkMode == "host":
		return f.HostHostname
	}
	return r.ID[:12]
}

// namespaces: each kind is new, joined, or left out (the host's).
func (b *specBuilder) namespaces() error {
	add := func(kind specs.LinuxNamespaceType, mode string) error {
		path := b.f.Join[kind]
		switch word, _, _ := strings.Cut(mode, ":"); word {
		case "host":
			return nil
		case "container", "ns":
			if path == "" {
				return fmt.Errorf("bug: no path of the %s namespace for %q", kind, mode)
			}
		case "", "private", "none", "shareable", "bridge", "pasta", "slirp4netns", "auto", "keep-id", "nomap":
		default:
			return fmt.Errorf("%s namespace: mode %q is not known", kind, mode)
		}
		b.s.Linux.Namespaces = append(b.s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
		return nil
	}
	user := b.o.UserNS
	if len(b.r.UIDMap) == 0 && !strings.HasPrefix(user, "container:") && !strings.HasPrefix(user, "ns:") {
		user = "host"
	}
	net := b.o.NetworkMode
	cg := b.o.CgroupNS
	if cg == "" && !b.f.CgroupV2 {
		cg = "host" // as every engine has it on v1, where programs expect it
	}
	for _, n := range []struct {
		kind specs.LinuxNamespaceType
		mode string
	}{
		{specs.UserNamespace, user}, {specs.PIDNamespace, b.o.PidNS}, {specs.NetworkNamespace, net},
		{specs.IPCNamespace, b.o.IpcNS}, {specs.UTSNamespace, b.o.UtsNS}, {specs.MountNamespace, ""},
		{specs.CgroupNamespace, cg},
	} {
		if err := add(n.kind, n.mode); err != nil {
			return err
		}
	}
	b.s.Linux.UIDMappings, b.s.Linux.GIDMappings = b.r.UIDMap, b.r.GIDMap
	return nil
}

func (b *specBuilder) hasNamespace(kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(b.s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// newNamespace: it is made for this container, not joined.
func (b *specBuilder) newNamespace(kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(b.s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == kind && (n.Path == "" || kind == specs.NetworkNamespace && strings.HasPrefix(n.Path, "/proc/self/fd/"))
	})
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (b *specBuilder) process() error {
	args, err := commandLine(b.r)
	if err != nil {
		return err
	}
	if _, own := b.f.Files[initPath]; own {
		args = append([]string{initPath, "--"}, args...)
	}
	umask := uint32(0o022)
	if text := firstOf(b.o.Umask, b.f.Defaults.Umask); text != "" {
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o777 {
			return fmt.Errorf("umask %q is not an octal number up to 0777", text)
		}
		umask = uint32(n)
	}
	u := b.r.User
	p := &specs.Process{
		Terminal:    b.o.Terminal,
		ConsoleSize: b.f.ConsoleSize,
		User:        specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.Groups, Umask: &umask},
		Args:        args,
		Env:         environment(b.r, b.f, firstOf(b.s.Hostname, b.f.JoinedHostname)),
		Cwd:         workingDir(b.r),
		OOMScoreAdj: b.o.OOMScoreAdj,
	}
	b.s.Process = p
	if d := b.o.Personality; d != "" {
		domain := specs.LinuxPersonalityDomain(strings.ToUpper(d))
		if domain != specs.PerLinux && domain != specs.PerLinux32 {
			return fmt.Errorf("personality %q is neither LINUX nor LINUX32", d)
		}
		b.s.Linux.Personality = &specs.LinuxPersonality{Domain: domain}
	}
	return nil
}

// commandLine is entrypoint and command of the user's and the image's.
func commandLine(r *record) ([]string, error) {
	entry, cmd := r.Image.Entrypoint, r.Image.Cmd
	if r.Options.Entrypoint != nil {
		entry, cmd = *r.Options.Entrypoint, nil
	}
	if len(r.Options.Command) > 0 {
		cmd = r.Options.Command
	}
	args := append(slices.Clone(entry), cmd...)
	if r.bare() {
		args = []string{"hull-infra"} // what its process is called
	}
	if len(args) == 0 {
		return nil, hint(fmt.Errorf("no command: neither the image nor the command line has one"), "name the program after the image")
	}
	return args, nil
}

func workingDir(r *record) string {
	dir := firstOf(r.Options.WorkingDir, r.Image.WorkingDir, "/")
	return path.Join("/", dir)
}

// environment: the image's over the defaults, the user's over both.
func environment(r *record, f specFacts, hostname string) []string {
	o := &r.Options
	var env envList
	env.set(defaultPath)
	if o.Terminal {
		env.set("TERM=" + firstOf(f.Terminal, "xterm"))
	}
	env.set("container=hull")
	for _, kv := range f.Defaults.Env {
		env.set(kv)
	}
	for _, kv := range r.Image.Env {
		env.set(kv)
	}
	for _, kv := range o.EnvMerge {
		k, v, _ := strings.Cut(kv, "=")
		env.set(k + "=" + env.expand(v))
	}
	if o.UnsetEnvAll {
		env = nil
	}
	for _, k := range o.UnsetEnv {
		env.unset(k)
	}
	if o.Timezone != "" && o.Timezone != "local" {
		env.set("TZ=" + o.Timezone)
	}
	if f.Files[notifyPath] != "" {
		env.set("NOTIFY_SOCKET=" + notifyPath)
		if f.Activation.Watchdog != "" {
			env.set("WATCHDOG_USEC=" + f.Activation.Watchdog)
		}
	}
	if n := f.Activation.Listen; n > 0 {
		env.set("LISTEN_FDS=" + strconv.Itoa(n))
		if f.Activation.Names != "" {
			env.set("LISTEN_FDNAMES=" + f.Activation.Names)
		}
	}
	for _, kv := range o.Env {
		env.set(kv)
	}
	for _, kv := range f.SecretEnv {
		env.set(kv)
	}
	if o.UnsetEnvAll {
		return env
	}
	if !slices.Contains(o.UnsetEnv, "HOME") {
		env.setDefault("HOME=" + firstOf(r.User.Home, "/"))
	}
	if hostname != "" && !slices.Contains(o.UnsetEnv, "HOSTNAME") {
		env.setDefault("HOSTNAME=" + hostname)
	}
	return env
}

// An envList is an environment in the order in which it was said.
type envList []string

func (e *envList) set(kv string) {
	k, _, ok := strings.Cut(kv, "=")
	if !ok || k == "" {
		return
	}
	for i, old := range *e {
		if len(old) > len(k) && old[len(k)] == '=' && old[:len(k)] == k {
			(*e)[i] = kv
			return
		}
	}
	*e = append(*e, kv)
}

func (e *envList) setDefault(kv string) {
	k, _, _ := strings.Cut(kv, "=")
	if _, ok := e.get(k); !ok {
		e.set(kv)
	}
}

func (e *envList) get(k string) (string, bool) {
	for _, kv := range *e {
		if v, ok := strings.CutPrefix(kv, k+"="); ok {
			return v, true
		}
	}
	return "", false
}

func (e *envList) unset(k string) {
	*e = slices.DeleteFunc(*e, func(kv string) bool { return strings.HasPrefix(kv, k+"=") })
}

// expand replaces $NAME and ${NAME}.
func (e *envList) expand(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' {
			b.WriteByte(text[i])
			continue
		}
		rest := text[i+1:]
		name := ""
		if body, ok := strings.CutPrefix(rest, "{"); ok {
			if end := strings.IndexByte(body, '}'); end > 0 {
				name, i = body[:end], i+end+2
			}
		} else {
			n := 0
			for n < len(rest) && (rest[n] == '_' || rest[n] >= 'A' && rest[n] <= 'Z' || rest[n] >= 'a' && rest[n] <= 'z' || n > 0 && rest[n] >= '0' && rest[n] <= '9') {
				n++
			}
			name, i = rest[:n], i+n
		}
		if name == "" {
			b.WriteByte('$')
			continue
		}
		v, _ := e.get(name)
		b.WriteString(v)
	}
	return b.String()
}

func firstOf(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

var _ *oci.Spec = (*specs.Spec)(nil) // the same type by another name
