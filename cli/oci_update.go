package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"hull/command"
	"hull/oci"
	"hull/ociruntime"
)

// update changes limits, given one by one or as a JSON file.
func (o *ociSession) update() *command.Command {
	var file, cpus, mems string
	var rdt oci.LinuxIntelRdt
	values := map[string]string{}
	return &command.Command{
		Usage: "[options] ID", Args: oneID,
		Flags: func(f *command.Flags) {
			f.StringVarP(&file, "resources", "r", "", "File with the resources' JSON, - is standard input")
			f.StringVar(&cpus, "cpuset-cpus", "", "CPUs to use")
			f.StringVar(&mems, "cpuset-mems", "", "Memory nodes to use")
			f.StringVar(&rdt.L3CacheSchema, "l3-cache-schema", "", "Share of the cache of level 3, of a container with linux.intelRdt")
			f.StringVar(&rdt.MemBwSchema, "mem-bw-schema", "", "Share of memory bandwidth, of a container with linux.intelRdt")
			for _, n := range updateNumbers {
				f.Func(n.flag, "", "number", n.usage, func(v string) error { values[n.flag] = v; return nil })
			}
		},
		Run: o.do(func(_ context.Context, r *ociruntime.Runtime, args []string) error {
			res := new(oci.LinuxResources)
			if file != "" {
				if err := readResources(file, o.stdin, res); err != nil {
					return err
				}
			} else {
				for _, n := range updateNumbers {
					if v, ok := values[n.flag]; ok {
						if err := n.set(res, v); err != nil {
							return fmt.Errorf("invalid value for %s: %w", n.flag, err)
						}
					}
				}
				if cpus != "" || mems != "" {
					ensureCPU(res).Cpus, ensureCPU(res).Mems = cpus, mems
				}
			}
			if err := r.UpdateRdt(args[0], &rdt); err != nil {
				return err
			}
			return r.Update(args[0], res)
		}),
	}
}

func readResources(file string, stdin io.Reader, res *oci.LinuxResources) error {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if err := json.NewDecoder(in).Decode(res); err != nil {
		return fmt.Errorf("read resources: %w", err)
	}
	return nil
}

func ensureCPU(r *oci.LinuxResources) *oci.LinuxCPU {
	if r.CPU == nil {
		r.CPU = new(oci.LinuxCPU)
	}
	return r.CPU
}

func ensureMemory(r *oci.LinuxResources) *oci.LinuxMemory {
	if r.Memory == nil {
		r.Memory = new(oci.LinuxMemory)
	}
	return r.Memory
}

// updateNumbers are the flags that take one number.
var updateNumbers = []struct {
	flag, usage string
	set         func(r *oci.LinuxResources, v string) error
}{
	{"blkio-weight", "Weight of block I/O, 10 to 1000", func(r *oci.LinuxResources, v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		w := uint16(n)
		r.BlockIO = &oci.LinuxBlockIO{Weight: &w}
		return err
	}},
	{"cpu-period", "Period of the CPU quota in microseconds", func(r *oci.LinuxResources, v string) error { return unsigned(&ensureCPU(r).Period, v) }},
	{"cpu-quota", "CPU time in a period in microseconds", func(r *oci.LinuxResources, v string) error { return signed(&ensureCPU(r).Quota, v) }},
	{"cpu-burst", "CPU time saved up in microseconds", func(r *oci.LinuxResources, v string) error { return unsigned(&ensureCPU(r).Burst, v) }},
	{"cpu-share", "Weight of CPU time", func(r *oci.LinuxResources, v string) error { return unsigned(&ensureCPU(r).Shares, v) }},
	{"cpu-rt-period", "Period of realtime scheduling in microseconds", func(r *oci.LinuxResources, v string) error { return unsigned(&ensureCPU(r).RealtimePeriod, v) }},
	{"cpu-rt-runtime", "Time of realtime scheduling in microseconds", func(r *oci.LinuxResources, v string) error { return signed(&ensureCPU(r).RealtimeRuntime, v) }},
	{"cpu-idle", "1 for SCHED_IDLE, 0 for the default", func(r *oci.LinuxResources, v string) error { return signed(&ensureCPU(r).Idle, v) }},
	{"memory", "Memory limit", func(r *oci.LinuxResources, v string) error { return sized(&ensureMemory(r).Limit, v) }},
	{"memory-reservation", "Memory to be kept", func(r *oci.LinuxResources, v string) error { return sized(&ensureMemory(r).Reservation, v) }},
	{"memory-swap", "Limit of memory and swap together, -1 is none", func(r *oci.LinuxResources, v string) error { return sized(&ensureMemory(r).Swap, v) }},
	{"kernel-memory", "Ignored", func(*oci.LinuxResources, string) error { return nil }},
	{"kernel-memory-tcp", "Limit of TCP buffers", func(r *oci.LinuxResources, v string) error { return sized(&ensureMemory(r).KernelTCP, v) }},
	{"pids-limit", "Limit of processes, -1 is none", func(r *oci.LinuxResources, v string) error {
		r.Pids = new(oci.LinuxPids)
		return signed(&r.Pids.Limit, v)
	}},
}

func signed(p **int64, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	*p = &n
	return err
}

func unsigned(p **uint64, v string) error {
	n, err := strconv.ParseUint(v, 10, 64)
	*p = &n
	return err
}

func sized(p **int64, v string) error {
	if v == "-1" {
		return signed(p, v)
	}
	n, err := command.ParseBytes(v)
	*p = &n
	return err
}
