package ociruntime

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// flagWords are words of the specification and the kernel's numbers for them.
type flagWords []struct {
	word  string
	value uint64
}

func (w flagWords) lookup(what, word string) (uint64, error) {
	for _, f := range w {
		if f.word == word {
			return f.value, nil
		}
	}
	return 0, fmt.Errorf("%s %q is not known", what, word)
}

// words are all that are known.
func (w flagWords) words() []string {
	var out []string
	for _, f := range w {
		out = append(out, f.word)
	}
	return out
}

var (
	ioClasses = flagWords{{"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}}

	schedPolicies = flagWords{{"SCHED_OTHER", 0}, {"SCHED_FIFO", 1}, {"SCHED_RR", 2}, {"SCHED_BATCH", 3}, {"SCHED_ISO", 4},
		{"SCHED_IDLE", 5}, {"SCHED_DEADLINE", 6}}
	schedFlags = flagWords{{"SCHED_FLAG_RESET_ON_FORK", 1}, {"SCHED_FLAG_RECLAIM", 2}, {"SCHED_FLAG_DL_OVERRUN", 4},
		{"SCHED_FLAG_KEEP_POLICY", 8}, {"SCHED_FLAG_KEEP_PARAMS", 0x10}, {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20}, {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}}

	memoryModes = flagWords{{"MPOL_DEFAULT", 0}, {"MPOL_PREFERRED", 1}, {"MPOL_BIND", 2}, {"MPOL_INTERLEAVE", 3}, {"MPOL_LOCAL", 4},
		{"MPOL_PREFERRED_MANY", 5}, {"MPOL_WEIGHTED_INTERLEAVE", 6}}
	memoryFlags = flagWords{{"MPOL_F_STATIC_NODES", 1 << 15}, {"MPOL_F_RELATIVE_NODES", 1 << 14}, {"MPOL_F_NUMA_BALANCING", 1 << 13}}
)

func (c *compiler) ioPriority() error {
	io := c.process.IOPriority
	if io == nil {
		return nil
	}
	class, err := ioClasses.lookup("I/O priority class", string(io.Class))
	if err != nil {
		return err
	}
	if io.Priority < 0 || io.Priority > 7 {
		return fmt.Errorf("I/O priority %d is not from 0 to 7", io.Priority)
	}
	c.b.IoprioSet(int(class)<<13 | io.Priority)
	return nil
}

// scheduler sets policy and priority by struct sched_attr.
func (c *compiler) scheduler() error {
	s := c.process.Scheduler
	if s == nil {
		return nil
	}
	policy, err := schedPolicies.lookup("scheduling policy", string(s.Policy))
	if err != nil {
		return err
	}
	var flags uint64
	for _, f := range s.Flags {
		bit, err := schedFlags.lookup("scheduling flag", string(f))
		if err != nil {
			return err
		}
		flags |= bit
	}
	var attr []byte
	attr = binary.NativeEndian.AppendUint32(attr, 48)
	attr = binary.NativeEndian.AppendUint32(attr, uint32(policy))
	attr = binary.NativeEndian.AppendUint64(attr, flags)
	attr = binary.NativeEndian.AppendUint32(attr, uint32(s.Nice))
	attr = binary.NativeEndian.AppendUint32(attr, uint32(s.Priority))
	for _, v := range []uint64{s.Runtime, s.Deadline, s.Period} {
		attr = binary.NativeEndian.AppendUint64(attr, v)
	}
	c.b.SchedSetattr(attr)
	return nil
}

func (c *compiler) memoryPolicy() error {
	m := c.linux.MemoryPolicy
	if m == nil {
		return nil
	}
	mode, err := memoryModes.lookup("memory policy", string(m.Mode))
	if err != nil {
		return err
	}
	for _, f := range m.Flags {
		bit, err := memoryFlags.lookup("memory policy flag", string(f))
		if err != nil {
			return err
		}
		mode |= bit
	}
	mask, err := parseList(m.Nodes, 1024)
	if err != nil {
		return fmt.Errorf("memory policy nodes: %w", err)
	}
	bits := 0
	if len(mask) > 0 {
		bits = 8*len(mask) + 1
	}
	c.b.SetMempolicy(int(mode), mask, bits)
	return nil
}

// parseList reads "0-3,7" to a bit mask in whole words; empty is nil.
func parseList(s string, most int) ([]byte, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	mask := make([]byte, most/8)
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(first)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(last)
		}
		if err != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("%q is not a list of numbers below %d", s, most)
		}
		for ; a <= b; a++ {
			mask[a/8] |= 1 << (a % 8)
		}
	}
	return mask, nil
}

// affinity sets the CPUs of an exec'd process.
func (c *compiler) affinity(list string) error {
	mask, err := parseList(list, 1024)
	if err != nil {
		return fmt.Errorf("CPU affinity: %w", err)
	}
	if mask != nil {
		c.b.SchedSetaffinity(mask)
	}
	return nil
}
