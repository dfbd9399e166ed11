package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/state"
)

// Stats reads the counters of containers: of those named, or of all that run.
// before, when not nil, is an earlier reading by ID, from which CPU is computed.
func (e *Engine) Stats(ctx context.Context, names []string, before map[string]ContainerStats) ([]ContainerStats, error) {
	var records []*record
	if len(names) == 0 {
		all, err := e.records()
		if err != nil {
			return nil, err
		}
		records = all
	}
	for _, n := range names {
		r, _, err := e.open(ctx, n)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	var out []ContainerStats
	for _, r := range records {
		s, err := e.state(r)
		if err != nil || !s.running() {
			if len(names) > 0 {
				out = append(out, ContainerStats{ContainerID: r.ID, Name: r.Name})
			}
			continue
		}
		c := ContainerStats{ContainerID: r.ID, Name: r.Name, UpTime: time.Since(s.StartedAt)}
		if g := e.group(s); g != nil {
			if err := c.read(g); err != nil {
				return nil, fmt.Errorf("read statistics of %s: %w", r.Name, err)
			}
		}
		c.NetInput, c.NetOutput = networkBytes(s.Pid)
		c.rates(before[r.ID])
		out = append(out, c)
	}
	return out, nil
}

func (c *ContainerStats) read(g *cgroup.Group) error {
	s, err := g.Stats()
	if err != nil {
		return err
	}
	c.CPUNano, c.SystemNano = uint64(s.CPU), uint64(s.Time.UnixNano())
	c.MemUsage, c.MemLimit, c.PIDs = s.Memory, s.MemoryLimit, s.Pids
	c.BlockInput, c.BlockOutput = s.BlockRead, s.BlockWrite
	return nil
}

// rates are percentages: of CPU since the reading before, and since the start.
func (c *ContainerStats) rates(before ContainerStats) {
	if c.MemLimit == 0 {
		var info unix.Sysinfo_t
		if unix.Sysinfo(&info) == nil {
			c.MemLimit = info.Totalram * uint64(info.Unit)
		}
	}
	if c.MemLimit > 0 {
		c.MemPerc = 100 * float64(c.MemUsage) / float64(c.MemLimit)
	}
	if c.UpTime > 0 {
		c.AvgCPU = 100 * float64(c.CPUNano) / float64(c.UpTime)
	}
	c.CPU = c.AvgCPU
	if before.SystemNano != 0 && c.SystemNano > before.SystemNano && c.CPUNano >= before.CPUNano {
		c.CPU = 100 * float64(c.CPUNano-before.CPUNano) / float64(c.SystemNano-before.SystemNano)
	}
}

// networkBytes adds up the interfaces of a process's network namespace, but
// loopback.
func networkBytes(pid int) (in, out uint64) {
	b, err := state.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		w := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(w) < 16 {
			continue
		}
		rx, _ := strconv.ParseUint(w[0], 10, 64)
		tx, _ := strconv.ParseUint(w[8], 10, 64)
		in, out = in+rx, out+tx
	}
	return in, out
}

// Update changes limits and policies of a container: at once when it runs, and
// for every later start.
func (e *Engine) Update(ctx context.Context, name string, o UpdateOptions) (string, error) {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if o.Restart != nil {
		if _, _, err := parseRestart(*o.Restart); err != nil {
			return "", err
		}
		r.Options.Restart = *o.Restart
	}
	var env envList = r.Options.Env
	for _, kv := range o.Env {
		env.set(kv)
	}
	for _, k := range o.UnsetEnv {
		env.unset(k)
	}
	r.Options.Env = env
	if len(o.Ulimits) > 0 {
		r.Options.Ulimits = o.Ulimits
	}
	if o.Health != nil {
		r.Options.Health = mergeHealth(r.Options.Health, o.Health)
	}
	if o.Resources != nil {
		mergeResources(&r.Options.Resources, o.Resources)
		res, err := linuxResources(&r.Options.Resources, e.o.Defaults.PidsLimit)
		if err != nil {
			return "", err
		}
		if g := e.group(s); s.running() && g != nil {
			res.Devices = nil
			if err := g.Set(res); err != nil {
				return "", fmt.Errorf("update container %s: %w", r.Name, err)
			}
		}
	}
	if err := e.saveRecord(r); err != nil {
		return "", err
	}
	e.event(ctx, "container", "update", r, nil)
	return r.ID, nil
}

// mergeResources takes over what is set.
func mergeResources(to, from *Resources) {
	if from.Memory != 0 {
		to.Memory = from.Memory
		if from.MemorySwap == 0 && to.MemorySwap > 0 && to.MemorySwap < to.Memory {
			to.MemorySwap = 0
		}
	}
	set(&to.MemoryReservation, from.MemoryReservation)
	set(&to.MemorySwap, from.MemorySwap)
	set(&to.MemorySwappiness, from.MemorySwappiness)
	if from.CPUs != 0 {
		to.CPUs, to.CPUPeriod, to.CPUQuota = from.CPUs, 0, 0
	}
	if from.CPUPeriod != 0 || from.CPUQuota != 0 {
		to.CPUs = 0
	}
	set(&to.CPUShares, from.CPUShares)
	set(&to.CPUPeriod, from.CPUPeriod)
	set(&to.CPUQuota, from.CPUQuota)
	set(&to.CPURTPeriod, from.CPURTPeriod)
	set(&to.CPURTRuntime, from.CPURTRuntime)
	set(&to.CPUSetCPUs, from.CPUSetCPUs)
	set(&to.CPUSetMems, from.CPUSetMems)
	set(&to.PidsLimit, from.PidsLimit)
	set(&to.BlkioWeight, from.BlkioWeight)
	for _, l := range []struct {
		to   *[]Rate
		from []Rate
	}{{&to.DeviceReadBps, from.DeviceReadBps}, {&to.DeviceWriteBps, from.DeviceWriteBps}, {&to.DeviceReadIOps, from.DeviceReadIOps}, {&to.DeviceWriteIOps, from.DeviceWriteIOps}} {
		if len(l.from) > 0 {
			*l.to = l.from
		}
	}
	if len(from.BlkioWeightDevice) > 0 {
		to.BlkioWeightDevice = from.BlkioWeightDevice
	}
}

func set[T comparable](to *T, from T) {
	var zero T
	if from != zero {
		*to = from
	}
}

// Prune removes the containers that do not run and that the filters hold for.
func (e *Engine) Prune(ctx context.Context, f Filters) ([]Removed, error) {
	match, err := e.containerFilter(ctx, f)
	if err != nil {
		return nil, err
	}
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	var out []Removed
	for _, r := range all {
		s, err := e.state(r)
		if err != nil || s.running() || r.Infra || !match(r, s) {
			continue
		}
		var size uint64
		if z := e.size(ctx, r.ID); z != nil {
			size = uint64(z.RwSize)
		}
		switch _, err := e.Remove(ctx, r.ID, RemoveOptions{Volumes: true}); {
		case errors.Is(err, ErrNotFound): // another was quicker
			continue
		case errors.Is(err, ErrInUse) || errors.Is(err, ErrState): // it is needed, or runs again
			e.warn("%v", err)
			continue
		case err != nil:
			out = append(out, Removed{ID: r.ID, Err: err})
			continue
		}
		out = append(out, Removed{ID: r.ID, Size: size})
	}
	return out, nil
}

// mergeHealth takes over what is set; a check that is turned off is off whole.
func mergeHealth(old, now *Health) *Health {
	if old == nil || now.Disable || old.Disable {
		return now
	}
	h := *old
	if len(now.Test) > 0 {
		h.Test = now.Test
	}
	if len(now.StartupTest) > 0 {
		h.StartupTest = now.StartupTest
	}
	set(&h.Interval, now.Interval)
	set(&h.Timeout, now.Timeout)
	set(&h.StartPeriod, now.StartPeriod)
	set(&h.StartInterval, now.StartInterval)
	set(&h.Retries, now.Retries)
	set(&h.OnFailure, now.OnFailure)
	set(&h.StartupInterval, now.StartupInterval)
	set(&h.StartupTimeout, now.StartupTimeout)
	set(&h.StartupRetries, now.StartupRetries)
	set(&h.StartupSuccess, now.StartupSuccess)
	set(&h.LogDestination, now.LogDestination)
	set(&h.MaxLogCount, now.MaxLogCount)
	set(&h.MaxLogSize, now.MaxLogSize)
	return &h
}
