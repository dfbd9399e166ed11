package engine

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	defaultShmSize = 65536000
	// initPath is where --init's program lies in the container.
	initPath = "/run/hull-init"
	// selinuxPath is where the host has SELinux's file system.
	selinuxPath = "/sys/fs/selinux"
)

// mounts: the kernel's file systems, the engine's files, then the user's, each
// after what it lies in. What the user mounts replaces what would be there.
func (b *specBuilder) mounts() error {
	var all []specs.Mount
	if b.r.bare() {
		all, err := b.shmMount()
		b.s.Mounts = all
		return err
	}
	all = append(all, b.kernelMounts()...)
	shm, err := b.shmMount()
	if err != nil {
		return err
	}
	all = append(all, shm...)
	all = append(all, b.tmpfsMounts()...)
	all = append(all, b.fileMounts()...)
	for _, m := range b.f.Mounts {
		all = slices.DeleteFunc(all, func(old specs.Mount) bool { return old.Destination == m.Destination })
	}
	all = append(all, b.f.DeviceMounts...)
	all = append(all, b.f.Mounts...)
	sortMounts(all)
	b.s.Mounts = all
	if slices.ContainsFunc(all, func(m specs.Mount) bool {
		return slices.Contains(m.Options, "shared") || slices.Contains(m.Options, "rshared")
	}) {
		// A mount stays in the host's peer group only in a root that is shared.
		b.s.Linux.RootfsPropagation = "shared"
	}
	return nil
}

// sortMounts puts each mount after those it lies in; the order of others stays.
func sortMounts(m []specs.Mount) {
	slices.SortStableFunc(m, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
}

func depth(p string) int {
	p = path.Clean(p)
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}

func (b *specBuilder) kernelMounts() []specs.Mount {
	ro := "ro"
	if b.o.Privileged {
		ro = "rw"
	}
	proc := specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}
	for _, opt := range b.o.SecurityOpt {
		if key, value, _ := cutSecurityOpt(opt); key == "proc-opts" {
			proc.Options = append(proc.Options, splitOptions(value)...)
		}
	}
	sys := specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}}
	if !b.owns(specs.NetworkNamespace, b.o.NetworkMode) {
		// A user namespace may mount sysfs only with a network namespace that
		// it owns.
		sys = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev", ro}}
	}
	if !b.owns(specs.PIDNamespace, b.o.PidNS) {
		proc = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	pts := specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}}
	if b.gidMapped(5) {
		pts.Options = append(pts.Options, "gid=5")
	}
	dev := specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}}
	out := []specs.Mount{proc, dev, sys, pts}
	if b.owns(specs.IPCNamespace, b.o.IpcNS) {
		out = append(out, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	} else if b.f.HostMqueue {
		out = append(out, specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"bind", "nosuid", "noexec", "nodev"}})
	}
	if b.nested() {
		out = append(out, specs.Mount{Destination: selinuxPath, Type: "bind", Source: selinuxPath, Options: []string{"bind", "rprivate", "nosuid", "noexec"}})
	}
	if b.o.Cgroups != "disabled" {
		cgro := ro
		if systemdMode(b.r) || b.f.CgroupV2 && b.unmasks("/sys/fs/cgroup") {
			cgro = "rw"
		}
		out = append(out, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"rprivate", "nosuid", "noexec", "nodev", "relatime", cgro}})
	}
	return out
}

// owns says whether the container's user namespace has the rights over its
// namespace of a kind: only then can it mount what shows that.
func (b *specBuilder) owns(kind specs.LinuxNamespaceType, mode string) bool {
	own := b.hasNamespace(specs.UserNamespace)
	switch {
	case b.newNamespace(kind):
		return true
	case strings.HasPrefix(mode, "container:"):
		return !own || b.o.UserNS == mode
	}
	return !own && !b.f.Rootless
}

func (b *specBuilder) gidMapped(gid uint32) bool {
	if len(b.r.GIDMap) == 0 {
		return true
	}
	return slices.ContainsFunc(b.r.GIDMap, func(m specs.LinuxIDMapping) bool {
		return gid >= m.ContainerID && gid-m.ContainerID < m.Size
	})
}

// shmMount: a container's own, the host's, another's, or none, as its ipc
// namespace is.
func (b *specBuilder) shmMount() ([]specs.Mount, error) {
	bind := func(src string) []specs.Mount {
		return []specs.Mount{{Destination: "/dev/shm", Type: "bind", Source: src, Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev"}}}
	}
	switch word, _, _ := strings.Cut(b.o.IpcNS, ":"); word {
	case "none":
		return nil, nil
	case "host":
		return bind("/dev/shm"), nil
	case "container":
		src := b.f.Files["/dev/shm"]
		if src == "" {
			return nil, fmt.Errorf("bug: no /dev/shm of %s", b.o.IpcNS)
		}
		return bind(src), nil
	}
	size := b.o.ShmSize
	if size == 0 {
		size = b.f.Defaults.ShmSize
	}
	if size == 0 {
		size = defaultShmSize
	}
	opts := []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)}
	if b.o.ReadOnly && b.o.ReadOnlyTmpfs != nil && !*b.o.ReadOnlyTmpfs {
		opts = append(opts, "ro")
	}
	return []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: opts}}, nil
}

// tmpfsMounts are those of a read-only container and of systemd.
func (b *specBuilder) tmpfsMounts() []specs.Mount {
	tmpfs := func(dst string, opts ...string) specs.Mount {
		return specs.Mount{Destination: dst, Type: "tmpfs", Source: "tmpfs", Options: append([]string{"rprivate", "nosuid", "nodev"}, opts...)}
	}
	if systemdMode(b.r) {
		return []specs.Mount{tmpfs("/run", "mode=755", "tmpcopyup"), tmpfs("/run/lock", "size=5242880"),
			tmpfs("/tmp", "mode=1777"), tmpfs("/var/log/journal")}
	}
	if b.o.ReadOnly && (b.o.ReadOnlyTmpfs == nil || *b.o.ReadOnlyTmpfs) {
		return []specs.Mount{tmpfs("/run", "mode=755", "tmpcopyup"), tmpfs("/tmp", "mode=1777", "tmpcopyup"), tmpfs("/var/tmp", "mode=1777", "tmpcopyup")}
	}
	return nil
}

// systemdMode says whether the container is prepared for systemd as pid 1.
func systemdMode(r *record) bool {
	switch r.Options.Systemd {
	case "always":
		return true
	case "false":
		return false
	}
	args, err := commandLine(r)
	if err != nil {
		return false
	}
	switch args[0] {
	case "/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init", "systemd", "/usr/bin/systemd", "/lib/systemd/systemd", "/usr/lib/systemd/systemd":
		return true
	}
	return false
}

// stopSignal is what asks the program to end: systemd takes another for that.
func (r *record) stopSignal() string {
	kind := "SIGTERM"
	if systemdMode(r) {
		kind = "SIGRTMIN+3"
	}
	return firstOf(r.Options.StopSignal, r.Image.StopSignal, kind)
}

// fileMounts are hosts, resolv.conf, hostname and what else the engine wrote.
func (b *specBuilder) fileMounts() []specs.Mount {
	var out []specs.Mount
	for dst, src := range b.f.Files {
		if dst == "/dev/shm" {
			continue
		}
		opts := []string{"bind", "rprivate"}
		switch dst {
		case initPath:
			opts = append(opts, "ro", "nosuid", "nodev")
		default:
			opts = append(opts, "nosuid", "nodev", "noexec")
		}
		out = append(out, specs.Mount{Destination: dst, Type: "bind", Source: src, Options: opts})
	}
	slices.SortFunc(out, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return out
}
