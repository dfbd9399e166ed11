package engine

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"hull/lsm"
	"hull/ociruntime"
)

// defaultCapabilities are podman's: docker's without MKNOD, NET_RAW and
// AUDIT_WRITE. Ping works without NET_RAW by the sysctl ping_group_range.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// allCapabilities in the order of their numbers.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capabilitySet is the bounding set of a container.
func capabilitySet(o *CreateOptions, defaults []string, bounding []string) ([]string, error) {
	set := map[string]bool{}
	if defaults == nil {
		defaults = defaultCapabilities
	}
	if o.Privileged {
		defaults = allCapabilities
	}
	for _, c := range defaults {
		set[c] = true
	}
	apply := func(names []string, to bool) error {
		for _, n := range names {
			if c := strings.ToUpper(n); c == "ALL" || c == "CAP_ALL" {
				for _, c := range allCapabilities {
					set[c] = to
				}
				continue
			}
			c, err := ParseCapability(n)
			if err != nil {
				return err
			}
			set[c] = to
		}
		return nil
	}
	// "all" first: --cap-drop all --cap-add chown keeps chown, and
	// --cap-add all --cap-drop chown all but that.
	isAll := func(n string) bool { u := strings.ToUpper(n); return u == "ALL" || u == "CAP_ALL" }
	split := func(names []string) (all, some []string) {
		for _, n := range names {
			if isAll(n) {
				all = append(all, n)
			} else {
				some = append(some, n)
			}
		}
		return all, some
	}
	dropAll, dropSome := split(o.CapDrop)
	addAll, addSome := split(o.CapAdd)
	for _, n := range addSome {
		if slices.ContainsFunc(dropSome, func(d string) bool { return sameCap(d, n) }) {
			return nil, fmt.Errorf("capability %q cannot be both added and dropped", n)
		}
	}
	for _, s := range []struct {
		names []string
		to    bool
	}{{dropAll, false}, {addAll, true}, {addSome, true}, {dropSome, false}} {
		if err := apply(s.names, s.to); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, c := range allCapabilities {
		if set[c] && (bounding == nil || slices.Contains(bounding, c)) {
			out = append(out, c)
		}
	}
	return out, nil
}

func sameCap(a, b string) bool {
	return strings.TrimPrefix(strings.ToUpper(a), "CAP_") == strings.TrimPrefix(strings.ToUpper(b), "CAP_")
}

// capabilities: inheritable stays empty always (CVE-2022-24769). A user who is
// not root gets only what was added by name, and keeps it by the ambient set.
func (b *specBuilder) capabilities() error {
	if b.r.bare() {
		b.s.Process.Capabilities, b.s.Process.NoNewPrivileges = &specs.LinuxCapabilities{}, true // it only waits
		return nil
	}
	bounding, err := capabilitySet(b.o, b.f.Defaults.Capabilities, b.f.bounding())
	if err != nil {
		return err
	}
	caps := &specs.LinuxCapabilities{Bounding: bounding}
	if b.r.User.UID == 0 {
		caps.Effective, caps.Permitted = bounding, bounding
	} else if !b.o.Privileged {
		var own []string
		for _, c := range bounding {
			if slices.ContainsFunc(b.o.CapAdd, func(a string) bool { return sameCap(a, c) }) {
				own = append(own, c)
			}
		}
		// Ambient needs inheritable, in the kernel's rules.
		caps.Effective, caps.Permitted, caps.Inheritable, caps.Ambient = own, own, own, own
	}
	b.s.Process.Capabilities = caps
	return nil
}

func (f specFacts) bounding() []string { return nil }

// maskedPaths: what the peers mask, and what tells of the kernel or changes it.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/proc/kpagecount",
	"/proc/kpageflags", "/proc/kpagecgroup", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/mtrr",
	"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux", "/sys/fs/bpf", "/sys/fs/pstore",
	"/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

func (b *specBuilder) paths() error {
	if b.o.Privileged || b.r.bare() {
		return nil
	}
	masked, readonly := slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
	for _, opt := range b.o.SecurityOpt {
		key, value, _ := cutSecurityOpt(opt)
		switch key {
		case "mask":
			masked = append(masked, strings.Split(value, ":")...)
		case "unmask":
			if strings.EqualFold(value, "ALL") {
				masked, readonly = nil, nil
				continue
			}
			for p := range strings.SplitSeq(value, ":") {
				match := func(have string) bool { return unmaskMatches(p, have) }
				masked, readonly = slices.DeleteFunc(masked, match), slices.DeleteFunc(readonly, match)
			}
		case "systempaths":
			if value == "unconfined" {
				masked, readonly = nil, nil
			}
		}
	}
	if b.nested() {
		masked = slices.DeleteFunc(masked, func(p string) bool { return p == selinuxPath })
	}
	b.s.Linux.MaskedPaths, b.s.Linux.ReadonlyPaths = masked, readonly
	return nil
}

// unmasks says whether the user wants a path as the kernel has it.
func (b *specBuilder) unmasks(path string) bool {
	for _, opt := range b.o.SecurityOpt {
		if key, value, _ := cutSecurityOpt(opt); key == "unmask" &&
			(strings.EqualFold(value, "ALL") || slices.ContainsFunc(strings.Split(value, ":"), func(p string) bool { return unmaskMatches(p, path) })) {
			return true
		}
	}
	return false
}

// unmaskMatches: a path, or a path with * for what stands below.
func unmaskMatches(pattern, have string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(have, prefix)
	}
	return pattern == have
}

// cutSecurityOpt cuts KEY=VALUE or docker's old KEY:VALUE.
func cutSecurityOpt(opt string) (key, value string, ok bool) {
	if i := strings.IndexAny(opt, "=:"); i >= 0 {
		return opt[:i], opt[i+1:], true
	}
	return opt, "", false
}

// security: no_new_privs, seccomp, AppArmor, SELinux. What is not understood
// is an error.
func (b *specBuilder) security() error {
	for _, opt := range b.o.SecurityOpt {
		key, value, ok := cutSecurityOpt(opt)
		switch key {
		case "no-new-privileges":
			switch {
			case !ok || value == "true":
				b.s.Process.NoNewPrivileges = true
			case value != "false":
				return fmt.Errorf("security option %q: want true or false", opt)
			}
		case "seccomp", "apparmor", "mask", "unmask", "systempaths", "proc-opts", "seccomp-profile", "label":
		default:
			return fmt.Errorf("security option %q is not known", opt)
		}
	}
	b.s.Linux.Seccomp = b.f.Seccomp
	b.s.Process.ApparmorProfile = b.f.AppArmor
	// The words are checked where there is no SELinux, too, and change nothing there, as with the peers.
	if _, err := lsm.ParseOptions(b.o.labelWords()); err != nil {
		return err
	}
	if l := b.f.Labels; l != nil {
		b.s.Process.SelinuxLabel, b.s.Linux.MountLabel = l.Process, l.Mount
	}
	return nil
}

// nested says that the container is to see the host's SELinux.
func (b *specBuilder) nested() bool {
	o, err := lsm.ParseOptions(b.o.labelWords())
	return err == nil && o.Nested && b.f.Labels != nil
}

// sysctls: those the user says, checked to be of a namespace that is the
// container's own, and two that make capabilities needless.
func (b *specBuilder) sysctls() error {
	set := map[string]string{}
	ownNet := b.newNamespace(specs.NetworkNamespace)
	if ownNet {
		// Who may send echo requests: all, as far as all have ids here.
		set["net.ipv4.ping_group_range"] = "0 2147483647"
		if len(b.r.GIDMap) > 0 || b.f.Rootless {
			set["net.ipv4.ping_group_range"] = "0 0"
		}
		set["net.ipv4.ip_unprivileged_port_start"] = "0"
	}
	for i, list := range [][]string{b.f.Defaults.Sysctls, b.o.Sysctls} {
		for _, kv := range list {
			k, v, ok := strings.Cut(kv, "=")
			if !ok {
				return fmt.Errorf("sysctl %q: want NAME=VALUE", kv)
			}
			need, err := ociruntime.SysctlNamespace(k)
			switch {
			case err != nil:
				return err
			case b.hasNamespace(need):
			case i == 0:
				continue // a default is for those whom it fits
			default:
				return fmt.Errorf("sysctl %q: the container has no %s namespace of its own: it would change the host", k, need)
			}
			set[k] = v
		}
	}
	if len(set) > 0 {
		b.s.Linux.Sysctl = set
	}
	return nil
}
