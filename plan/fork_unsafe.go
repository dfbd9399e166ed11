package plan

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// An op is a step as the interpreters read it: the layout of Plan.layout.
type op struct {
	nr    uint32
	flags uint8
	keep  uint8
	skip  uint16
	a     [6]uint64
	ref   [6]uint8
	_     uint16
	ok    [4]uint16
}

// rawChild is all memory that the child of forkRaw uses.
type rawChild struct {
	ops    []op
	from   []int // descriptors that become 0, 1, 2…
	result [256]uintptr
	buf    [ScratchSize / 8]uintptr
}

// forkRaw runs the plan in a plain fork of this program.
func forkRaw(p *Plan, files []*os.File) (int, error) {
	// The steps are read where they lie, so their addresses are the heap's.
	image := make([]byte, 0, len(p.steps)*opSize+len(p.data)+8)
	image = p.layout(image, address(image[:1]))
	c := &rawChild{ops: unsafe.Slice((*op)(unsafe.Pointer(unsafe.SliceData(image))), len(p.steps))}
	for _, f := range files {
		c.from = append(c.from, int(f.Fd()))
	}
	c.result[slotReport] = uintptr(ReportFD)
	c.result[slotScratch] = uintptr(unsafe.Pointer(&c.buf))
	syscall.ForkLock.Lock()
	pid, errno := rawFork(c)
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(image)
	runtime.KeepAlive(c)
	runtime.KeepAlive(files)
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

// rawFork clones; the child interprets c's ops and never returns.
//
// Preconditions: syscall.ForkLock is held. The child shares nothing with the
// Go runtime: no allocation, no stack growth, no pointer writes (so no write
// barrier), no locks, no signals.
//
//go:noinline
//go:norace
//go:nocheckptr
func rawFork(c *rawChild) (pid uintptr, errno syscall.Errno) {
	var (
		a    [6]uintptr
		r    uintptr
		i, j int
		o    *op
	)
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	// First out of the way, then into place.
	for i = 0; i < len(c.from); i++ {
		r, _, errno = syscall.RawSyscall6(syscall.SYS_FCNTL, uintptr(c.from[i]), unix.F_DUPFD_CLOEXEC, uintptr(len(c.from)), 0, 0, 0)
		if errno != 0 {
			goto exit
		}
		c.from[i] = int(r)
	}
	for i = 0; i < len(c.from); i++ {
		_, _, errno = syscall.RawSyscall6(syscall.SYS_DUP3, uintptr(c.from[i]), uintptr(i), 0, 0, 0, 0)
		if errno != 0 {
			goto exit
		}
	}
	for i = 0; i < len(c.ops); i++ {
		o = &c.ops[i]
	again:
		for j = 0; j < 6; j++ {
			a[j] = uintptr(o.a[j])
			if o.ref[j] != 0 {
				a[j] = c.result[o.ref[j]]
			}
		}
		if o.nr == callCheck {
			r = c.buf[a[1]/8] & a[2] // a[0] is the scratch buffer
			if (r == a[3]) == (a[5] == 1) {
				continue
			}
			errno = syscall.Errno(a[4])
			goto report
		}
		if o.nr == callReap {
			goto reap
		}
		r, _, errno = syscall.RawSyscall6(uintptr(o.nr), a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == syscall.EINTR {
			goto again
		}
		if errno != 0 {
			if uint16(errno) != o.ok[0] && uint16(errno) != o.ok[1] && uint16(errno) != o.ok[2] && uint16(errno) != o.ok[3] {
				goto report
			}
			if o.flags&flagSkipErrno != 0 {
				i += int(o.skip)
			}
			continue
		}
		if o.keep != 0 {
			c.result[o.keep] = r
		}
		if o.flags&flagFork != 0 && r != 0 {
			c.buf[0] = r
			syscall.RawSyscall6(syscall.SYS_WRITE, c.result[slotReport], c.result[slotScratch], 8, 0, 0, 0)
			errno = 0
			goto exit
		}
		if o.flags&flagSkipSuccess != 0 || o.flags&flagSkipNonzero != 0 && r != 0 {
			i += int(o.skip)
		}
	}
reap:
	for {
		r, _, errno = syscall.RawSyscall6(syscall.SYS_RT_SIGTIMEDWAIT, a[1], 0, 0, 8, 0, 0)
		if errno != 0 {
			continue
		}
		if r != uintptr(syscall.SIGCHLD) {
			syscall.RawSyscall6(syscall.SYS_KILL, a[0], r, 0, 0, 0, 0)
			continue
		}
		for {
			r, _, errno = syscall.RawSyscall6(syscall.SYS_WAIT4, ^uintptr(0), c.result[slotScratch], syscall.WNOHANG, 0, 0, 0)
			if errno != 0 || r == 0 {
				break
			}
			if r == a[0] {
				r = c.buf[0] & 127
				if r != 0 {
					r += 128
				} else {
					r = c.buf[0] >> 8 & 255
				}
				for {
					syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, r, 0, 0, 0, 0, 0)
				}
			}
		}
	}
report:
	c.buf[0], c.buf[1] = uintptr(i)|failureBit, uintptr(errno)
	syscall.RawSyscall6(syscall.SYS_WRITE, c.result[slotReport], c.result[slotScratch], 16, 0, 0, 0)
exit:
	for {
		if errno == 0 {
			syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
		}
		syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 255, 0, 0, 0, 0, 0)
	}
}
