package monitor

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultSignal gives a signal its default effect, also one that whoever
// started us had us ignore (nohup, a shell's background job): package signal
// would put that back, and a container would begin deaf.
func defaultSignal(sig syscall.Signal) {
	var action struct{ handler, flags, restorer, mask uintptr } // of the kernel's; all zero is the default
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(action.mask), 0, 0)
}
