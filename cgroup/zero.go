package cgroup

import "hull/oci"

// normalize returns r without the numbers that are 0 where 0 cannot be a limit:
// dockerd and older callers write it for "not set". Memory without a limit has none
// together with swap either, which the kernel would not allow to be the lower.
func normalize(r *oci.LinuxResources) *oci.LinuxResources {
	out := *r
	if r.Memory != nil {
		m := *r.Memory
		m.Limit, m.Swap, m.Reservation = nonzero(m.Limit), nonzero(m.Swap), nonzero(m.Reservation)
		m.KernelTCP = nonzero(m.KernelTCP)
		if m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
			m.Swap = m.Limit
		}
		m.Kernel = nil //nolint:staticcheck // ignored, as the specification allows: kernels do not have it any more
		out.Memory = &m
	}
	if r.CPU != nil {
		c := *r.CPU
		c.Shares, c.Period, c.Quota = nonzero(c.Shares), nonzero(c.Period), nonzero(c.Quota)
		c.RealtimePeriod, c.RealtimeRuntime = nonzero(c.RealtimePeriod), nonzero(c.RealtimeRuntime)
		out.CPU = &c
	}
	if r.BlockIO != nil {
		b := *r.BlockIO
		b.Weight, b.LeafWeight = nonzero(b.Weight), nonzero(b.LeafWeight)
		out.BlockIO = &b
	}
	return &out
}

func nonzero[T int64 | uint64 | uint16](v *T) *T {
	if v == nil || *v == 0 {
		return nil
	}
	return v
}
