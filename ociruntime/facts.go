package ociruntime

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// A Kind is what a path leads to.
type Kind uint8

// Kinds of paths. Unknown is a path that was not looked at.
const (
	Unknown Kind = iota
	Absent
	Directory
	File
)

// Facts are what a plan depends on and only the host knows. They can be
// written in a test, which makes Compile's result the same everywhere.
type Facts struct {
	// OverlayAppend says that overlay has the option lowerdir+ (Linux 6.8).
	OverlayAppend bool `json:"overlayAppend,omitempty"`
	// InUserNS says that this process is not in the initial user namespace.
	InUserNS bool `json:"inUserNS,omitempty"`
	// SetgroupsDenied says that supplementary groups cannot be set.
	SetgroupsDenied bool `json:"setgroupsDenied,omitempty"`
	// Capabilities are this process's permitted ones, a bit each; 0 means all.
	Capabilities uint64 `json:"capabilities,omitempty"`
	// LastCapability is the highest number the kernel knows; 0 means 40.
	LastCapability int `json:"lastCapability,omitempty"`
	// HardLimits are this process's hard limits by RLIMIT number, for those that it
	// cannot raise. nil when it can.
	HardLimits map[int]uint64 `json:"hardLimits,omitempty"`
	// Paths are what masked paths in /proc and /sys, and the sources of bind mounts, are.
	Paths map[string]Kind `json:"paths,omitempty"`
	// Cgroups are the host's cgroup hierarchies, as mounted below /sys/fs/cgroup.
	Cgroups []CgroupMount `json:"cgroups,omitempty"`
	// AppArmor and SELinux say that the module is active.
	AppArmor bool `json:"appArmor,omitempty"`
	SELinux  bool `json:"seLinux,omitempty"`
}

// A CgroupMount is one hierarchy.
type CgroupMount struct {
	// Dir is its directory below /sys/fs/cgroup, empty when it is mounted there itself.
	Dir string `json:"dir,omitempty"`
	// Options are those that mount it again; nil for version 2.
	Options []string `json:"options,omitempty"`
	// Path is this process's cgroup in it.
	Path string `json:"path,omitempty"`
}

// LookUp reads from the host what compiling spec needs. It changes nothing.
func LookUp(spec *oci.Spec) (Facts, error) {
	var f Facts
	f.lookUpKernel()
	f.lookUpUser()
	if spec.Process != nil && len(spec.Process.Rlimits) > 0 {
		f.lookUpLimits()
	}
	f.Paths = make(map[string]Kind)
	for _, m := range spec.Mounts {
		if isBind(m) {
			f.Paths[m.Source] = kindOf(m.Source)
		}
		if (m.Type == "cgroup" || m.Type == "cgroup2") && f.Cgroups == nil {
			f.Cgroups = lookUpCgroups()
		}
	}
	if spec.Linux != nil {
		for _, p := range spec.Linux.MaskedPaths {
			if strings.HasPrefix(p, "/proc/") || strings.HasPrefix(p, "/sys/") {
				f.Paths[p] = kindOf(p)
			}
		}
	}
	if p := spec.Process; p != nil {
		if p.ApparmorProfile != "" {
			b, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
			f.AppArmor = bytes.HasPrefix(b, []byte("Y"))
		}
		if p.SelinuxLabel != "" {
			f.SELinux = kindOf("/sys/fs/selinux/enforce") == File
		}
	}
	return f, nil
}

func kindOf(p string) Kind {
	var st unix.Stat_t
	if unix.Stat(p, &st) != nil {
		return Absent
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return Directory
	}
	return File
}

func (f *Facts) lookUpKernel() {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
		a, _ := strconv.Atoi(major)
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		b, _ := strconv.Atoi(rest[:n])
		f.OverlayAppend = a > 6 || a == 6 && b >= 8
	}
	f.LastCapability = 40
	for {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(f.LastCapability+1), 0, 0, 0); err != nil {
			break
		}
		f.LastCapability++
	}
}

func (f *Facts) lookUpUser() {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil {
		f.Capabilities = uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
	}
	if b, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		w := strings.Fields(string(b))
		f.InUserNS = !(len(w) == 3 && w[0] == "0" && w[1] == "0" && w[2] == "4294967295")
	}
	if f.InUserNS {
		b, _ := os.ReadFile("/proc/self/setgroups")
		f.SetgroupsDenied = bytes.HasPrefix(b, []byte("deny"))
	}
}

func (f *Facts) lookUpLimits() {
	if f.Capabilities&(1<<unix.CAP_SYS_RESOURCE) != 0 && !f.InUserNS {
		return
	}
	f.HardLimits = make(map[int]uint64)
	for n := range 16 {
		var l unix.Rlimit
		if unix.Prlimit(0, n, nil, &l) == nil {
			f.HardLimits[n] = l.Max
		}
	}
}

// lookUpCgroups reads the hierarchies below /sys/fs/cgroup.
func lookUpCgroups() []CgroupMount {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []CgroupMount{{Path: ownCgroups()[""]}}
	}
	own := ownCgroups()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []CgroupMount
	seen := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		w, x := strings.Fields(before), strings.Fields(after)
		if !ok || len(w) < 5 || len(x) < 3 || path.Dir(w[4]) != "/sys/fs/cgroup" || seen[w[4]] {
			continue
		}
		seen[w[4]] = true
		m := CgroupMount{Dir: path.Base(w[4])}
		switch x[0] {
		case "cgroup2":
			m.Path = own[""]
		case "cgroup":
			m.Options = cgroupOptions(x[2])
			for _, o := range m.Options {
				if p, ok := own[o]; ok {
					m.Path = p
				}
			}
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}

// cgroupOptions keeps the options that choose a hierarchy.
func cgroupOptions(super string) []string {
	var out []string
	for o := range strings.SplitSeq(super, ",") {
		switch {
		case o == "rw", o == "ro", o == "xattr", o == "clone_children", strings.HasPrefix(o, "release_agent"), strings.HasPrefix(o, "cpuset_"), o == "noprefix":
		default:
			out = append(out, o)
		}
	}
	return out
}

// ownCgroups returns this process's cgroup by controller or "name=…"; version 2 is "".
func ownCgroups() map[string]string {
	out := make(map[string]string)
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		w := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(w) == 3 {
			for c := range strings.SplitSeq(w[1], ",") {
				out[c] = w[2]
			}
		}
	}
	return out
}
