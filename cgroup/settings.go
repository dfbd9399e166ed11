package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// A setting is one file of one controller.
type setting struct {
	controller, file, value string
	// optional settings are those that a kernel may be built without.
	optional bool
}

func n[T ~int64 | ~uint64 | ~uint32 | ~uint16 | ~int](v T) string { return fmt.Sprint(v) }

// settings1 are the files of version 1, in the order in which the kernel takes them.
func settings1(r *oci.LinuxResources) []setting {
	r = normalize(r)
	var s []setting
	add := func(controller, file, value string) {
		s = append(s, setting{controller: controller, file: controller + "." + file, value: value})
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			add("memory", "limit_in_bytes", n(*m.Limit))
		}
		if m.Swap != nil {
			s = append(s, setting{"memory", "memory.memsw.limit_in_bytes", n(*m.Swap), true})
		}
		if m.Reservation != nil {
			add("memory", "soft_limit_in_bytes", n(*m.Reservation))
		}
		if m.Kernel != nil { //nolint:staticcheck // in the specification still
			s = append(s, setting{"memory", "memory.kmem.limit_in_bytes", n(*m.Kernel), true})
		}
		if m.KernelTCP != nil {
			s = append(s, setting{"memory", "memory.kmem.tcp.limit_in_bytes", n(*m.KernelTCP), true})
		}
		if m.Swappiness != nil {
			add("memory", "swappiness", n(*m.Swappiness))
		}
		if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
			add("memory", "oom_control", "1")
		}
	}
	if c := r.CPU; c != nil {
		if c.Shares != nil {
			add("cpu", "shares", n(*c.Shares))
		}
		if c.Period != nil {
			add("cpu", "cfs_period_us", n(*c.Period))
		}
		if c.Quota != nil {
			add("cpu", "cfs_quota_us", n(*c.Quota))
		}
		if c.Burst != nil {
			s = append(s, setting{"cpu", "cpu.cfs_burst_us", n(*c.Burst), true})
		}
		if c.RealtimePeriod != nil {
			add("cpu", "rt_period_us", n(*c.RealtimePeriod))
		}
		if c.RealtimeRuntime != nil {
			add("cpu", "rt_runtime_us", n(*c.RealtimeRuntime))
		}
		if c.Idle != nil {
			s = append(s, setting{"cpu", "cpu.idle", n(*c.Idle), true})
		}
		if c.Cpus != "" {
			add("cpuset", "cpus", c.Cpus)
		}
		if c.Mems != "" {
			add("cpuset", "mems", c.Mems)
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		add("pids", "max", limit(*p.Limit))
	}
	if b := r.BlockIO; b != nil {
		if b.Weight != nil {
			s = append(s, setting{"blkio", "blkio.bfq.weight", n(*b.Weight), true})
		}
		if b.LeafWeight != nil {
			add("blkio", "leaf_weight", n(*b.LeafWeight))
		}
		for _, d := range b.WeightDevice {
			if d.Weight != nil {
				s = append(s, setting{"blkio", "blkio.bfq.weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight), true})
			}
			if nonzero16(d.LeafWeight) {
				add("blkio", "leaf_weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.LeafWeight))
			}
		}
		for _, t := range throttles(b) {
			for _, d := range t.devices {
				add("blkio", t.file1, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
			}
		}
	}
	for _, l := range r.HugepageLimits {
		add("hugetlb", l.Pagesize+".limit_in_bytes", n(l.Limit))
	}
	if w := r.Network; w != nil {
		if w.ClassID != nil {
			add("net_cls", "classid", n(*w.ClassID))
		}
		for _, p := range w.Priorities {
			add("net_prio", "ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority))
		}
	}
	return append(s, rdma(r)...)
}

func rdma(r *oci.LinuxResources) []setting {
	var s []setting
	for dev, l := range r.Rdma {
		var words []string
		if l.HcaHandles != nil {
			words = append(words, "hca_handle="+n(*l.HcaHandles))
		}
		if l.HcaObjects != nil {
			words = append(words, "hca_object="+n(*l.HcaObjects))
		}
		s = append(s, setting{controller: "rdma", file: "rdma.max", value: dev + " " + strings.Join(words, " ")})
	}
	return s
}

// limit writes a number of which one below 1 means none.
func limit(v int64) string {
	if v <= 0 {
		return "max"
	}
	return n(v)
}

type throttle struct {
	file1, key2 string
	devices     []oci.LinuxThrottleDevice
}

func throttles(b *oci.LinuxBlockIO) []throttle {
	return []throttle{
		{"throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice}, {"throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{"throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice}, {"throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	}
}

// settings2 are the files of version 2. See runtime-spec config-linux.md and
// the kernel's cgroup-v2.rst.
func settings2(r *oci.LinuxResources) ([]setting, error) {
	r = normalize(r)
	if err := refused2(r); err != nil {
		return nil, err
	}
	var s []setting
	add := func(controller, file, value string) {
		s = append(s, setting{controller: controller, file: controller + "." + file, value: value})
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			add("memory", "max", limit(*m.Limit))
		}
		if m.Swap != nil {
			swap, err := swapOnly(m)
			if err != nil {
				return nil, err
			}
			s = append(s, setting{"memory", "memory.swap.max", swap, true})
		}
		if m.Reservation != nil {
			add("memory", "low", limit(*m.Reservation))
		}
	}
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares != 0 {
			add("cpu", "weight", n(weight(*c.Shares)))
		}
		if c.Quota != nil || c.Period != nil {
			quota, period := "max", uint64(100000)
			if c.Quota != nil && *c.Quota > 0 {
				quota = n(*c.Quota)
			}
			if c.Period != nil && *c.Period != 0 {
				period = *c.Period
			}
			add("cpu", "max", quota+" "+n(period))
		}
		if c.Burst != nil {
			s = append(s, setting{"cpu", "cpu.max.burst", n(*c.Burst), true})
		}
		if c.Idle != nil {
			s = append(s, setting{"cpu", "cpu.idle", n(*c.Idle), true})
		}
		if c.Cpus != "" {
			add("cpuset", "cpus", c.Cpus)
		}
		if c.Mems != "" {
			add("cpuset", "mems", c.Mems)
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		add("pids", "max", limit(*p.Limit))
	}
	if b := r.BlockIO; b != nil {
		if b.Weight != nil {
			s = append(s, setting{"io", "io.bfq.weight", n(*b.Weight), true})
			s = append(s, setting{"io", "io.weight", "default " + n(ioWeight(*b.Weight)), true})
		}
		for _, d := range b.WeightDevice {
			if d.Weight != nil {
				s = append(s, setting{"io", "io.bfq.weight", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight), true})
			}
		}
		for _, t := range throttles(b) {
			for _, d := range t.devices {
				add("io", "max", fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, t.key2, d.Rate))
			}
		}
	}
	for _, l := range r.HugepageLimits {
		add("hugetlb", l.Pagesize+".max", n(l.Limit))
		s = append(s, setting{"hugetlb", "hugetlb." + l.Pagesize + ".rsvd.max", n(l.Limit), true})
	}
	s = append(s, rdma(r)...)
	for file, value := range r.Unified {
		controller, _, ok := strings.Cut(file, ".")
		if !ok || strings.ContainsAny(file, "/\x00") {
			return nil, fmt.Errorf("set cgroup file %q: not a file of a controller", file)
		}
		s = append(s, setting{controller: controller, file: file, value: value})
	}
	return s, nil
}

// swapOnly: the specification counts memory and swap together, version 2 swap alone.
func swapOnly(m *oci.LinuxMemory) (string, error) {
	switch {
	case *m.Swap <= 0:
		return limit(*m.Swap), nil
	case m.Limit == nil || *m.Limit <= 0:
		return "", errors.New("set memory.swap.max: a swap limit needs a memory limit")
	case *m.Swap < *m.Limit:
		return "", fmt.Errorf("set memory.swap.max: %d is below the memory limit %d", *m.Swap, *m.Limit)
	}
	return n(*m.Swap - *m.Limit), nil
}

// weight maps shares, 2 to 262144, to 1 to 10000, linearly as every runtime does.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// ioWeight maps 10 to 1000 to 1 to 10000.
func ioWeight(w uint16) uint64 { return 1 + (uint64(min(max(w, 10), 1000))-10)*9999/990 }

// apply writes settings to the group. A file that this kernel has not is
// passed over where the setting says so.
func (g *Group) apply(list []setting, o Options) error {
	var late []setting
	for i, s := range list {
		err := g.applyOne(s)
		if err == nil {
			continue
		}
		if errors.Is(err, unix.EINVAL) && slices.ContainsFunc(list[i+1:], s.wantsBefore) {
			late = append(late, s)
			continue
		}
		missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, fs.ErrPermission)
		switch {
		case s.optional && missing:
		case o.Lenient && !o.Rootless && missing:
			o.warn("limit " + s.file + " is not set: the group above has processes")
		case o.Rootless && missing:
			o.warn("limit " + s.file + " is not set: no cgroup is delegated to this user")
		default:
			return err
		}
	}
	for _, s := range late {
		if err := g.applyOne(s); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) applyOne(s setting) error {
	dir, ok := g.dirs[s.controller]
	if g.h.V2() {
		dir, ok = g.dirs[""]
	}
	if !ok {
		return fmt.Errorf("set %s: the controller %s is not there: %w", s.file, s.controller, fs.ErrNotExist)
	}
	return write(dir, s.file, s.value)
}

// wantsBefore: two limits of which the kernel refuses one as long as the other is the old
// one. With a shorter period the old quota may be more than the group above has, and
// memory may not be above memory and swap together.
func (s setting) wantsBefore(other setting) bool {
	return s.file == "cpu.cfs_period_us" && other.file == "cpu.cfs_quota_us" ||
		s.file == "memory.limit_in_bytes" && other.file == "memory.memsw.limit_in_bytes"
}

func (o Options) warn(text string) {
	if o.Warn != nil {
		o.Warn(text)
	}
}

// checkMemory refuses a limit below what is in use, when it is asked to: version 1 would
// refuse it itself, version 2 would kill processes.
func (g *Group) checkMemory(m *oci.LinuxMemory) error {
	if m == nil || m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate || m.Limit == nil || *m.Limit <= 0 {
		return nil
	}
	used := uint64(0)
	if dir, ok := g.dirs[""]; ok {
		used = number(dir, "memory.current")
	} else if dir, ok := g.dirs["memory"]; ok {
		used = number(dir, "memory.usage_in_bytes")
	}
	if uint64(*m.Limit) < used {
		return fmt.Errorf("unable to set memory limit to %d (current usage: %d)", *m.Limit, used)
	}
	return nil
}

// Set changes limits; fields that are nil stay.
func (g *Group) Set(r *oci.LinuxResources) error {
	if err := g.checkMemory(r.Memory); err != nil {
		return err
	}
	if !g.h.V2() {
		list := settings1(r)
		err := g.enter(list)
		if err == nil {
			err = g.apply(list, Options{})
		}
		if err == nil && r.Devices != nil {
			err = g.devices1(r.Devices, Options{})
		}
		return err
	}
	list, err := settings2(r)
	if err != nil {
		return err
	}
	if g.unit != "" {
		if err := g.setUnit(list); err != nil {
			return err
		}
	}
	if err := g.apply(list, Options{}); err != nil {
		return err
	}
	if r.Devices != nil {
		return g.devices2(r.Devices)
	}
	return nil
}
