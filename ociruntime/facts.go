package ociruntime

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/lsm"
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
	// KernelMounts are where the host has proc and sysfs mounted, the latest first,
	// for a root that is not pivoted.
	KernelMounts []string `json:"kernelMounts,omitempty"`
	// AppArmor and SELinux say that the module is active.
	AppArmor bool `json:"appArmor,omitempty"`
	SELinux  bool `json:"seLinux,omitempty"`
}

// A CgroupMount is one hierarchy.
type CgroupMount = cgroup.Mount

// LookUp reads from the host what compiling spec needs. It changes nothing.
func LookUp(spec *oci.Spec) (Facts, error) {
	var f Facts
	f.lookUpKernel()
	f.lookUpUser()
	if spec.Process != nil && len(spec.Process.Rlimits) > 0 {
		f.lookUpLimits(spec.Linux != nil && slices.ContainsFunc(spec.Linux.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == oci.UserNamespace }))
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
	if spec.Linux != nil && spec.Linux.MountLabel != "" || spec.Process != nil && spec.Process.SelinuxLabel != "" {
		f.SELinux = lsm.Enabled()
	}
	if p := spec.Process; p != nil {
		if p.ApparmorProfile != "" {
			b, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
			f.AppArmor = bytes.HasPrefix(b, []byte("Y"))
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

// lookUpLimits: in a user namespace the capability to raise them does not count.
func (f *Facts) lookUpLimits(inside bool) {
	if !inside && f.Capabilities&(1<<unix.CAP_SYS_RESOURCE) != 0 && !f.InUserNS {
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

// LookUpKernelMounts finds the host's proc and sysfs mounts, which a plan must
// unmount that does not leave the host's root by pivoting.
func (f *Facts) LookUpKernelMounts() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look up mounts: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		// 36 35 98:0 /root /point rw,noatime master:1 - proc source rw
		left, right, ok := strings.Cut(line, " - ")
		w := strings.Fields(left)
		fstype, _, _ := strings.Cut(right, " ")
		if !ok || len(w) < 6 || fstype != "proc" && fstype != "sysfs" {
			continue
		}
		f.KernelMounts = append(f.KernelMounts, unescapeMount.Replace(w[4]))
	}
	slices.Reverse(f.KernelMounts)
	return nil
}

// unescapeMount undoes what mountinfo does to names.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// lookUpCgroups are the hierarchies below /sys/fs/cgroup; none where they
// cannot be read.
func lookUpCgroups() []CgroupMount {
	host, err := cgroup.LookUp()
	if err != nil {
		return nil
	}
	return host.Mounts()
}
