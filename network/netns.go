package network

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// NewNamespace makes a network namespace with its loopback device up and
// returns a descriptor of it. Nothing else holds the namespace: it ends with
// the last descriptor and process in it.
//
// It is made by a thread that leaves for the new namespace and comes back; a
// process would cost a fork. The other threads are not affected.
func NewNamespace(ctx context.Context) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var made *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("create network namespace: %w", os.NewSyscallError("unshare", err))
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("create network namespace: %w", err)
		}
		if err := loopbackUp(); err != nil {
			f.Close()
			return fmt.Errorf("create network namespace: %w", err)
		}
		made = f
		return nil
	})
	return made, err
}

// loopbackUp sets lo up in the thread's namespace by ioctl: with it come
// 127.0.0.1 and ::1.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("set lo up", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr))
}

// inNamespace runs f on a thread inside the network namespace ns. A nil ns
// runs f where it is.
func inNamespace(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns.Name(), os.NewSyscallError("setns", err))
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which returns to its network
// namespace afterwards. If it cannot, the thread ends with the goroutine, since
// a thread in a wrong namespace must not serve anything else.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- &os.PathError{Op: "open", Path: "/proc/thread-self/ns/net", Err: err}
			return
		}
		defer unix.Close(home)
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// JoinAll moves every thread of this process into the network namespace at path.
func JoinAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("join network namespace: %w", err)
	}
	defer f.Close()
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETNS, f.Fd(), unix.CLONE_NEWNET, 0); errno != 0 {
		return fmt.Errorf("join network namespace %s: %w", path, os.NewSyscallError("setns", errno))
	}
	return nil
}
