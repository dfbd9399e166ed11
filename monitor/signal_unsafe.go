package monitor

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A signalAction is the kernel's struct sigaction; all zero is the default.
type signalAction struct{ handler, flags, restorer, mask uintptr }

const ignored = 1 // SIG_IGN

// listenToSignals gives back their default effect to the signals that whoever started
// us had us ignore (nohup, a shell's background job), else the container would
// begin deaf. Package signal would put back what was found.
func listenToSignals() {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		var now, none signalAction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(now.mask), 0, 0)
		if errno == 0 && now.handler == ignored {
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&none)), 0, unsafe.Sizeof(now.mask), 0, 0)
		}
	}
}
