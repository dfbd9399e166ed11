package cgroup

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Stats of a group. A value the host does not count is 0.
type Stats struct {
	Time                             time.Time
	CPU, CPUUser, CPUSystem          time.Duration
	CPUPeriods, CPUThrottled         uint64
	CPUThrottledTime                 time.Duration
	Memory, MemoryLimit, MemoryCache uint64 // bytes; a limit of 0 is none
	MemoryPeak, Swap                 uint64
	Pids, PidsLimit                  uint64
	BlockRead, BlockWrite            uint64 // bytes
	BlockReads, BlockWrites          uint64
	PerCPU                           []time.Duration
}

// Stats reads the group's counters.
func (g *Group) Stats() (Stats, error) {
	if len(g.dirs) == 0 {
		return Stats{}, fmt.Errorf("read statistics of cgroup %s: it has no hierarchy", g.path)
	}
	s := Stats{Time: time.Now()}
	if dir, ok := g.dirs[""]; ok {
		s.read2(dir)
		return s, nil
	}
	s.read1(g.dirs)
	return s, nil
}

func (s *Stats) read2(dir string) {
	cpu := keyed(dir, "cpu.stat")
	us := func(key string) time.Duration { return time.Duration(cpu[key]) * time.Microsecond }
	s.CPU, s.CPUUser, s.CPUSystem = us("usage_usec"), us("user_usec"), us("system_usec")
	s.CPUPeriods, s.CPUThrottled, s.CPUThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], us("throttled_usec")
	memory := keyed(dir, "memory.stat")
	s.Memory, s.MemoryLimit, s.MemoryPeak = number(dir, "memory.current"), number(dir, "memory.max"), number(dir, "memory.peak")
	s.MemoryCache, s.Swap = memory["file"], number(dir, "memory.swap.current")
	if idle := memory["inactive_file"]; idle < s.Memory {
		s.Memory -= idle // as the peers count it: without what can be dropped at once
	}
	s.Pids, s.PidsLimit = number(dir, "pids.current"), number(dir, "pids.max")
	io, _ := read(dir, "io.stat")
	for line := range strings.Lines(io) {
		for _, w := range strings.Fields(line) {
			k, v, _ := strings.Cut(w, "=")
			n, _ := strconv.ParseUint(v, 10, 64)
			switch k {
			case "rbytes":
				s.BlockRead += n
			case "wbytes":
				s.BlockWrite += n
			case "rios":
				s.BlockReads += n
			case "wios":
				s.BlockWrites += n
			}
		}
	}
}

// unlimited is what version 1 says for no limit: a number near 2^63.
const unlimited = 1 << 60

// userHz is the unit of cpuacct.stat.
const userHz = 10 * time.Millisecond

func (s *Stats) read1(dirs map[string]string) {
	if dir, ok := dirs["cpuacct"]; ok {
		s.CPU = time.Duration(number(dir, "cpuacct.usage"))
		used := keyed(dir, "cpuacct.stat")
		s.CPUUser, s.CPUSystem = time.Duration(used["user"])*userHz, time.Duration(used["system"])*userHz
		each, _ := read(dir, "cpuacct.usage_percpu")
		for _, w := range strings.Fields(each) {
			n, _ := strconv.ParseInt(w, 10, 64)
			s.PerCPU = append(s.PerCPU, time.Duration(n))
		}
	}
	if dir, ok := dirs["cpu"]; ok {
		cpu := keyed(dir, "cpu.stat")
		s.CPUPeriods, s.CPUThrottled, s.CPUThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], time.Duration(cpu["throttled_time"])
	}
	if dir, ok := dirs["memory"]; ok {
		memory := keyed(dir, "memory.stat")
		s.Memory, s.MemoryPeak = number(dir, "memory.usage_in_bytes"), number(dir, "memory.max_usage_in_bytes")
		if s.MemoryLimit = number(dir, "memory.limit_in_bytes"); s.MemoryLimit > unlimited {
			s.MemoryLimit = 0
		}
		s.MemoryCache, s.Swap = memory["cache"], memory["swap"]
		if idle := memory["total_inactive_file"]; idle < s.Memory {
			s.Memory -= idle
		}
	}
	if dir, ok := dirs["pids"]; ok {
		s.Pids, s.PidsLimit = number(dir, "pids.current"), number(dir, "pids.max")
	}
	if dir, ok := dirs["blkio"]; ok {
		s.BlockRead, s.BlockWrite = blkio(dir, "blkio.throttle.io_service_bytes")
		s.BlockReads, s.BlockWrites = blkio(dir, "blkio.throttle.io_serviced")
	}
}

// blkio adds lines of MAJOR:MINOR OPERATION NUMBER up.
func blkio(dir, file string) (reads, writes uint64) {
	text, _ := read(dir, file)
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 3 {
			continue
		}
		n, _ := strconv.ParseUint(w[2], 10, 64)
		switch w[1] {
		case "Read":
			reads += n
		case "Write":
			writes += n
		}
	}
	return reads, writes
}

// OOMKills is how many processes the kernel killed at the memory limit.
func (g *Group) OOMKills() (uint64, error) {
	if dir, ok := g.dirs[""]; ok {
		return keyed(dir, "memory.events")["oom_kill"], nil
	}
	dir, ok := g.dirs["memory"]
	if !ok {
		return 0, nil
	}
	return keyed(dir, "memory.oom_control")["oom_kill"], nil
}
