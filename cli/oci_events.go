package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"hull/cgroup"
	"hull/command"
	"hull/ociruntime"
)

func (o *ociSession) events() *command.Command {
	var stats bool
	var interval time.Duration
	return &command.Command{
		Usage: "[options] ID", Args: oneID,
		Flags: func(f *command.Flags) {
			f.BoolVar(&stats, "stats", false, "Print the statistics once")
			f.DurationVar(&interval, "interval", 5*time.Second, "Time between two")
		},
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			if interval <= 0 {
				return errors.New("duration interval must be greater than 0")
			}
			var kills uint64
			for first := true; ; first = false {
				s, n, err := r.Stats(args[0])
				if errors.Is(err, ociruntime.ErrNotRunning) && !first {
					return nil
				}
				if err != nil {
					return err
				}
				if !first && n > kills {
					if err := o.event("oom", args[0], nil); err != nil {
						return err
					}
				}
				kills = n
				if err := o.event("stats", args[0], statistics(s)); err != nil || stats {
					return err
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(interval):
				}
			}
		}),
	}
}

func (o *ociSession) event(kind, id string, data any) error {
	return json.NewEncoder(o.stdout).Encode(struct {
		Type string `json:"type"`
		ID   string `json:"id"`
		Data any    `json:"data,omitempty"`
	}{kind, id, data})
}

// object is JSON in the form of runc's events.
type object map[string]any

func statistics(s cgroup.Stats) object {
	per := make([]uint64, len(s.PerCPU))
	for i, d := range s.PerCPU {
		per[i] = uint64(d)
	}
	memory := func(usage, limit, peak uint64) object {
		return object{"usage": usage, "limit": limit, "max": peak, "failcnt": 0}
	}
	return object{
		"cpu": object{
			"usage":      object{"total": uint64(s.CPU), "percpu": per, "kernel": uint64(s.CPUSystem), "user": uint64(s.CPUUser)},
			"throttling": object{"periods": s.CPUPeriods, "throttledPeriods": s.CPUThrottled, "throttledTime": uint64(s.CPUThrottledTime)},
		},
		"memory": object{
			"cache": s.MemoryCache, "usage": memory(s.Memory, s.MemoryLimit, s.MemoryPeak), "swap": memory(s.Memory+s.Swap, 0, 0),
			"kernel": memory(0, 0, 0), "kernelTCP": memory(0, 0, 0),
		},
		"pids": object{"current": s.Pids, "limit": s.PidsLimit},
		"blkio": object{"ioServiceBytesRecursive": []object{
			{"op": "Read", "value": s.BlockRead}, {"op": "Write", "value": s.BlockWrite},
		}, "ioServicedRecursive": []object{
			{"op": "Read", "value": s.BlockReads}, {"op": "Write", "value": s.BlockWrites},
		}},
		"hugetlb": object{}, "intel_rdt": object{}, "network_interfaces": nil,
	}
}

func (o *ociSession) spec() *command.Command {
	var bundle string
	var rootless bool
	return &command.Command{
		Usage: "[options]", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVarP(&bundle, "bundle", "b", "", "Directory to write it in (default: the current directory)")
			f.BoolVar(&rootless, "rootless", false, "For a user without privileges")
		},
		Run: o.do(func(context.Context, *ociruntime.Runtime, []string) error {
			return ociruntime.WriteSpec(bundle, rootless)
		}),
	}
}

func (o *ociSession) features() *command.Command {
	return &command.Command{
		Args: command.NoArgs,
		Run: o.do(func(context.Context, *ociruntime.Runtime, []string) error {
			data, err := json.MarshalIndent(ociruntime.Features(), "", "  ")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(o.stdout, "%s\n", data)
			return err
		}),
	}
}
