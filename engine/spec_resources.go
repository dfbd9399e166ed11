package engine

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const defaultPidsLimit = 2048

// resources are the cgroup's limits.
func (b *specBuilder) resources() (err error) {
	b.s.Linux.CgroupsPath = b.f.Cgroup
	b.s.Linux.Resources, err = resources(b.o, &b.f)
	return err
}

func resources(o *CreateOptions, f *specFacts) (*specs.LinuxResources, error) {
	res, err := linuxResources(&o.Resources, f.Defaults.PidsLimit)
	if err != nil {
		return nil, err
	}
	res.Devices = deviceRules(o, f)
	return res, nil
}

// linuxResources turns what the user says into what the runtime is told.
// Block devices were checked before: their numbers come with spec facts, see
// throttle.
func linuxResources(r *Resources, defaultPids *int64) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{Unified: r.Unified}
	pids := int64(defaultPidsLimit)
	if defaultPids != nil {
		pids = *defaultPids
	}
	if r.PidsLimit != nil {
		pids = *r.PidsLimit
	}
	if pids <= 0 {
		pids = -1
	}
	out.Pids = &specs.LinuxPids{Limit: &pids}
	var err error
	if out.Memory, err = memoryResources(r); err != nil {
		return nil, err
	}
	if out.CPU, err = cpuResources(r); err != nil {
		return nil, err
	}
	if out.BlockIO, err = blockResources(r); err != nil {
		return nil, err
	}
	return out, nil
}

const minMemory = 6 << 20 // below it a runtime cannot start anything; docker's limit

func memoryResources(r *Resources) (*specs.LinuxMemory, error) {
	if r.Memory == 0 && r.MemoryReservation == 0 && r.MemorySwap == 0 && r.MemorySwappiness == nil && !r.OOMKillDisable {
		return nil, nil
	}
	m := &specs.LinuxMemory{}
	if r.Memory != 0 {
		if r.Memory > 0 && r.Memory < minMemory {
			return nil, fmt.Errorf("memory limit of %d bytes: the smallest is 6 MiB", r.Memory)
		}
		m.Limit = &r.Memory
	}
	switch {
	case r.MemorySwap != 0 && r.MemorySwap != -1 && r.Memory == 0:
		return nil, fmt.Errorf("memory and swap limit: set a memory limit as well")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return nil, fmt.Errorf("memory and swap limit %d is below the memory limit %d", r.MemorySwap, r.Memory)
	case r.MemorySwap != 0:
		m.Swap = &r.MemorySwap
	case r.Memory > 0 && r.Memory < math.MaxInt64/2:
		both := 2 * r.Memory
		m.Swap = &both
	}
	if r.MemoryReservation != 0 {
		if r.Memory > 0 && r.MemoryReservation > r.Memory {
			return nil, fmt.Errorf("memory reservation %d is above the memory limit %d", r.MemoryReservation, r.Memory)
		}
		m.Reservation = &r.MemoryReservation
	}
	if s := r.MemorySwappiness; s != nil && *s >= 0 {
		if *s > 100 {
			return nil, fmt.Errorf("memory swappiness %d is not from 0 to 100", *s)
		}
		n := uint64(*s)
		m.Swappiness = &n
	}
	if r.OOMKillDisable {
		m.DisableOOMKiller = &r.OOMKillDisable
	}
	return m, nil
}

func cpuResources(r *Resources) (*specs.LinuxCPU, error) {
	c := &specs.LinuxCPU{Cpus: r.CPUSetCPUs, Mems: r.CPUSetMems}
	if r.CPUs != 0 {
		if r.CPUPeriod != 0 || r.CPUQuota != 0 {
			return nil, fmt.Errorf("--cpus cannot be combined with a CPU period or quota")
		}
		if r.CPUs < 0 || r.CPUs > 1<<20 {
			return nil, fmt.Errorf("--cpus %g is not a number of CPUs", r.CPUs)
		}
		period, quota := uint64(100000), int64(r.CPUs*100000)
		if quota < 1000 {
			return nil, fmt.Errorf("--cpus %g: the smallest is 0.01", r.CPUs)
		}
		c.Period, c.Quota = &period, &quota
	}
	if r.CPUPeriod != 0 {
		c.Period = &r.CPUPeriod
	}
	if r.CPUQuota != 0 {
		c.Quota = &r.CPUQuota
	}
	if r.CPUShares != 0 {
		c.Shares = &r.CPUShares
	}
	if r.CPURTPeriod != 0 {
		c.RealtimePeriod = &r.CPURTPeriod
	}
	if r.CPURTRuntime != 0 {
		c.RealtimeRuntime = &r.CPURTRuntime
	}
	if *c == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return c, nil
}

func blockResources(r *Resources) (*specs.LinuxBlockIO, error) {
	io := &specs.LinuxBlockIO{}
	any := false
	if r.BlkioWeight != 0 {
		if r.BlkioWeight < 10 || r.BlkioWeight > 1000 {
			return nil, fmt.Errorf("blkio weight %d is not from 10 to 1000", r.BlkioWeight)
		}
		io.Weight, any = &r.BlkioWeight, true
	}
	for _, w := range r.BlkioWeightDevice {
		major, minor, err := blockNumber(w.Path)
		if err != nil {
			return nil, err
		}
		d := specs.LinuxWeightDevice{Weight: &w.Weight}
		d.Major, d.Minor = major, minor
		io.WeightDevice, any = append(io.WeightDevice, d), true
	}
	for _, t := range []struct {
		rates []Rate
		to    *[]specs.LinuxThrottleDevice
	}{
		{r.DeviceReadBps, &io.ThrottleReadBpsDevice}, {r.DeviceWriteBps, &io.ThrottleWriteBpsDevice},
		{r.DeviceReadIOps, &io.ThrottleReadIOPSDevice}, {r.DeviceWriteIOps, &io.ThrottleWriteIOPSDevice},
	} {
		for _, rate := range t.rates {
			major, minor, err := blockNumber(rate.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: rate.Rate}
			d.Major, d.Minor = major, minor
			*t.to, any = append(*t.to, d), true
		}
	}
	if !any {
		return nil, nil
	}
	return io, nil
}

// deviceRules: nothing but the devices that every container has, and the
// user's. mknod alone is allowed for all: it is harmless where opening is not.
func deviceRules(o *CreateOptions, f *specFacts) []specs.LinuxDeviceCgroup {
	if o.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range []struct{ major, minor int64 }{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}} {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d.major, Access: "rwm"}
		if d.minor >= 0 {
			r.Minor = &d.minor
		}
		rules = append(rules, r)
	}
	rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "m"}, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "m"})
	return append(rules, f.DeviceRules...)
}

func (b *specBuilder) devices() error {
	b.s.Linux.Devices = b.f.Devices
	return nil
}

// rlimits: the user's, else few open files by the soft limit and many by the
// hard one; all within what the engine itself may give.
func (b *specBuilder) rlimits() error {
	seen := map[string]bool{}
	// In a user namespace of its own a process may not raise them either.
	raises := b.f.Privileged && b.r.owners().none()
	add := func(u Ulimit, said bool) error {
		if u.Name == "host" {
			for name, l := range b.f.Limits {
				if !seen[name] {
					seen[name] = true
					b.s.Process.Rlimits = append(b.s.Process.Rlimits, l)
				}
			}
			return nil
		}
		if _, ok := rlimits[u.Name]; !ok {
			return fmt.Errorf("ulimit %q is not known", u.Name)
		}
		name := "RLIMIT_" + strings.ToUpper(u.Name)
		if seen[name] {
			return nil
		}
		seen[name] = true
		l := specs.POSIXRlimit{Type: name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)}
		if host, ok := b.f.Limits[name]; ok && !raises && l.Hard > host.Hard {
			l.Hard = host.Hard
			l.Soft = min(l.Soft, l.Hard)
		}
		b.s.Process.Rlimits = append(b.s.Process.Rlimits, l)
		return nil
	}
	for i, list := range [][]Ulimit{b.o.Ulimits, b.f.Defaults.Ulimits, {{Name: "nofile", Soft: 1024, Hard: 1048576}}} {
		for _, u := range list {
			if err := add(u, i == 0); err != nil {
				return err
			}
		}
	}
	sortRlimits(b.s.Process.Rlimits)
	return nil
}

func sortRlimits(l []specs.POSIXRlimit) {
	order := func(t string) int { return rlimits[strings.ToLower(strings.TrimPrefix(t, "RLIMIT_"))] }
	for i := 1; i < len(l); i++ {
		for j := i; j > 0 && order(l[j].Type) < order(l[j-1].Type); j-- {
			l[j], l[j-1] = l[j-1], l[j]
		}
	}
}

// parseCgroupRule parses --device-cgroup-rule: "c 1:3 rwm", * for any number.
func parseCgroupRule(s string) (specs.LinuxDeviceCgroup, error) {
	bad := fmt.Errorf("device cgroup rule %q: want TYPE MAJOR:MINOR ACCESS", s)
	f := strings.Fields(s)
	if len(f) != 3 || f[0] != "a" && f[0] != "b" && f[0] != "c" || f[2] == "" || strings.Trim(f[2], "rwm") != "" {
		return specs.LinuxDeviceCgroup{}, bad
	}
	major, minor, ok := strings.Cut(f[1], ":")
	r := specs.LinuxDeviceCgroup{Allow: true, Type: f[0], Access: f[2]}
	for _, n := range []struct {
		text string
		to   **int64
	}{{major, &r.Major}, {minor, &r.Minor}} {
		if n.text == "*" {
			continue
		}
		v, err := strconv.ParseInt(n.text, 10, 32)
		if err != nil || v < 0 || !ok {
			return specs.LinuxDeviceCgroup{}, bad
		}
		*n.to = &v
	}
	return r, nil
}
