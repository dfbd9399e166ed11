package cgroup

import (
	"fmt"

	"hull/oci"
)

// refused2 tells what a configuration asks for that version 2 has no file for. It must come
// after normalize: what is 0 was not asked for.
func refused2(r *oci.LinuxResources) error {
	var err error
	ask := func(what string, is bool) {
		if is && err == nil {
			err = fmt.Errorf("set cgroup limits: %s: cgroups of version 2 do not have it", what)
		}
	}
	if m := r.Memory; m != nil {
		ask("memory swappiness", m.Swappiness != nil)
		ask("a limit of TCP buffers", m.KernelTCP != nil)
		ask("memory without the OOM killer", m.DisableOOMKiller != nil && *m.DisableOOMKiller)
	}
	if c := r.CPU; c != nil {
		ask("a period of realtime scheduling", c.RealtimePeriod != nil)
		ask("time of realtime scheduling", c.RealtimeRuntime != nil)
	}
	if b := r.BlockIO; b != nil {
		ask("a weight of block I/O for the leaf", b.LeafWeight != nil)
		for _, d := range b.WeightDevice {
			ask("a weight of a block device for the leaf", nonzero16(d.LeafWeight))
		}
	}
	if w := r.Network; w != nil {
		ask("a class of network packets", w.ClassID != nil && *w.ClassID != 0)
		ask("priorities of network interfaces", len(w.Priorities) > 0)
	}
	return err
}

func nonzero16(v *uint16) bool { return v != nil && *v != 0 }
