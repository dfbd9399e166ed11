package monitor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the way that output takes, which do not sleep: around others the
// runtime hands its one processor over and takes it back, and a thread of its own
// watches that, for a seventh of the monitor's time while a container writes
// much. Nothing else waits for the processor here: there is one goroutine.

func rawRead(fd int, p []byte) (int, error) {
	return rawCall(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

func rawWrite(fd int, p []byte) (int, error) {
	return rawCall(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

// rawWrite2 writes two pieces by one call.
func rawWrite2(fd int, a, b []byte) (int, error) {
	iov := [2]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	iov[0].SetLen(len(a))
	iov[1].SetLen(len(b))
	return rawCall(unix.SYS_WRITEV, fd, unsafe.Pointer(&iov[0]), len(iov))
}

func rawCall(call uintptr, fd int, p unsafe.Pointer, n int) (int, error) {
	r, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(p), uintptr(n))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
