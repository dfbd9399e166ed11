package usernet

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/network"
)

// watchNeed returns a channel on which comes that nobody needs this process any
// more: the record is gone or, when there is none, no container is left in a
// user's namespace, that of the watch or of descriptor fdNetns.
func watchNeed(record string, watch *network.UserWatch) (<-chan error, error) {
	over := make(chan error, 1)
	if record != "" {
		go func() { over <- network.UntilGone(record) }()
		return over, nil
	}
	if watch == nil {
		f, err := network.WatchUser(os.NewFile(fdNetns, "network namespace"))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
		watch = network.NewUserWatch(fd)
	}
	go func() { over <- untilUnused(watch) }()
	return over, nil
}

// untilUnused returns when a user's namespace has had no container for a
// while. The lock is free then.
func untilUnused(watch *network.UserWatch) error {
	for idle := 0; ; {
		time.Sleep(idleEvery)
		if watch.Used() {
			idle = 0
			continue
		}
		if idle++; idle < idleRounds {
			continue
		}
		// A container that comes now sees the lock free and starts a process
		// of its own, or has its veth already and is seen here.
		if err := unix.Flock(fdLock, unix.LOCK_UN); err != nil {
			return os.NewSyscallError("flock", err)
		}
		if !watch.Used() {
			return nil
		}
		if err := unix.Flock(fdLock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil
			}
			return os.NewSyscallError("flock", err)
		}
		idle = 0
	}
}

// childDies ties a child's life to the thread that starts it.
func childDies() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL} }

// startTied starts a child on a thread that stays as long as this process.
func startTied(c *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- c.Start()
		select {} // a thread that ends takes its children along
	}()
	return <-done
}
