package tracer

import "golang.org/x/sys/unix"

// ptrace is a request without memory of ours. Preconditions: the calling
// thread is the tracer's.
func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); e != 0 {
		return e
	}
	return nil
}
