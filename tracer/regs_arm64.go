package tracer

import "golang.org/x/sys/unix"

// registers are the number, arguments and result of a call. The first
// argument's register is also the result's, so it is right only before a call.
func registers(tid int) (nr int64, args [6]uint64, result int64, err error) {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return 0, args, 0, err
	}
	copy(args[:], r.Regs[:6])
	return int64(r.Regs[8]), args, int64(r.Regs[0]), nil
}
