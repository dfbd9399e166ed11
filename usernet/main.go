package usernet

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hull/network"
)

// Descriptors that whoever starts this program passes on.
const (
	fdLock  = 3
	fdReady = 4
)

// servedCommand is how the process without capabilities is started.
const servedCommand = "outside-served"

// idleRounds of idleEvery without a container end the process.
const (
	idleEvery  = 10 * time.Second
	idleRounds = 3
)

// Main is hull-net's main for network.OutsideCommand; args are those after the
// program's name. known is false when they are for somebody else.
func Main(args []string) (known bool, err error) {
	switch {
	case len(args) == 2 && args[0] == network.OutsideCommand:
		return true, prepare(args[1], "")
	case len(args) == 3 && args[0] == network.OutsideCommand:
		return true, prepare(args[1], args[2])
	case len(args) == 2 && args[0] == network.JobCommand:
		return true, runJob(args[1])
	case len(args) == 5 && args[0] == servedCommand:
		device, err := strconv.Atoi(args[2])
		watch, err2 := strconv.Atoi(args[3])
		if err := errors.Join(err, err2); err != nil {
			return true, err
		}
		return true, serve(args[1] == "packet", device, watch, args[4])
	}
	return false, nil
}

// prepare does what needs capabilities, and executes this program without. A
// record's path makes it one container's own; else it is a user's.
func prepare(netns, record string) error {
	ns, err := os.Open(netns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	device, err := network.OpenUserDevice(ns, record != "")
	if err != nil {
		return fmt.Errorf("make the user's network device: %w", err)
	}
	watch, err := network.WatchUser(ns)
	if err != nil {
		return err
	}
	kind := "tap"
	if device.Packet {
		kind = "packet"
	}
	unix.CloseOnExec(fdNetns) // where it was passed on: an own namespace ends with its container
	// What is executed next keeps the credentials of this thread.
	runtime.LockOSThread()
	if err := giveUp(); err != nil {
		return err
	}
	keep := []int{fdLock, fdReady, int(device.File.Fd()), int(watch.Fd())}
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	err = unix.Exec("/proc/self/exe", []string{os.Args[0], servedCommand, kind, strconv.Itoa(keep[2]), strconv.Itoa(keep[3]), record}, []string{"GOMAXPROCS=2"})
	return os.NewSyscallError("execve /proc/self/exe", err)
}

// Secure bits of linux/securebits.h, each with its lock.
const (
	noRoot         = 3 << 0
	noSetuidFixup  = 3 << 2
	keepCapsLocked = 2 << 4
	noAmbient      = 3 << 6
)

// giveUp makes the next execve lose all capabilities, and never get any: user
// id 0 of a namespace is no more than another.
func giveUp() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && err != unix.EINVAL {
		return os.NewSyscallError("prctl PR_CAP_AMBIENT", err)
	}
	last := 63
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil && len(b) > 1 {
		if n, err := strconv.Atoi(string(b[:len(b)-1])); err == nil {
			last = n
		}
	}
	// The inheritable set is left out of the next program's permitted one by
	// the bounding set being empty of it and NOROOT.
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|noSetuidFixup|keepCapsLocked|noAmbient, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_SECUREBITS", err)
	}
	for c := 0; c <= last; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL {
			return os.NewSyscallError("prctl PR_CAPBSET_DROP", err)
		}
	}
	return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// serve runs the stack until nobody needs it.
func serve(packet bool, device, watchFD int, record string) error {
	for _, fd := range []int{fdLock, fdReady, device, watchFD} {
		unix.CloseOnExec(fd)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	gone := make(chan error, 1)
	s, err := start(Options{Device: device, Packet: packet, Gone: gone})
	if err != nil {
		return err
	}
	defer s.Close()
	ready := os.NewFile(fdReady, "ready")
	if _, err := ready.Write([]byte{1}); err != nil {
		return err // whoever started this has left
	}
	ready.Close()
	unneeded, err := watchNeed(record, network.NewUserWatch(watchFD))
	if err != nil {
		return err
	}
	select {
	case err := <-gone:
		return err
	case err := <-unneeded:
		return err
	}
}
