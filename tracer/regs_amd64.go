package tracer

import "golang.org/x/sys/unix"

// registers are the number, arguments and result of a call.
func registers(tid int) (nr int64, args [6]uint64, result int64, err error) {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return 0, args, 0, err
	}
	return int64(r.Orig_rax), [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}, int64(r.Rax), nil
}
