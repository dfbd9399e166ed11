package stepper

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hull/seccomp"
)

// LaunchWord is the first argument by which a program that uses this package
// knows that it is to call Launch with the rest.
const LaunchWord = "stepper-launch"

// Launch puts on the filter that stops the calls of a set, its first argument,
// and becomes the command. It returns when it could not.
func Launch(argv []string) error {
	set, err := strconv.Atoi(argv[0])
	if err != nil {
		return err
	}
	argv = argv[1:]
	prog, err := filter(Set(set))
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// Of root no promise is asked to gain no privileges; the filter is the
	// calling thread's, and with it the command's.
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return fmt.Errorf("put on the filter: %w", errno)
	}
	return fmt.Errorf("execute %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}

// filter stops the calls of a set, and lets everything else pass at the cost of
// a search in a table: RET_TRACE for the calls below.
func filter(set Set) ([]unix.SockFilter, error) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64}}
	add := func(args []specs.LinuxSeccompArg, names ...string) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActTrace, ErrnoRet: new(uint), Args: args})
	}
	masked := func(index uint, mask, is uint64) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: index, Value: mask, ValueTwo: is, Op: specs.OpMaskedEqual}}
	}
	for name, c := range set.calls() {
		switch {
		case c.flags != 0 && set == Reads:
			add(masked(c.flags, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_RDWR, 0), name)
		case name == "openat" || name == "open":
			for _, bit := range []uint64{unix.O_CREAT, unix.O_TRUNC, unix.O_WRONLY, unix.O_RDWR} {
				add(masked(c.flags, bit, bit), name)
			}
		case name == "clone":
			add(masked(0, unix.CLONE_THREAD, 0), name)
		case name == "ioctl":
			add([]specs.LinuxSeccompArg{{Index: 1, Value: unix.FICLONE, Op: specs.OpEqualTo}}, name)
		default:
			add(nil, name)
		}
	}
	p, err := seccomp.Compile(s, runtime.GOARCH)
	if err == nil && len(p.Unknown) > 0 {
		err = fmt.Errorf("the table has no %v", p.Unknown)
	}
	return p.Filter, err
}

// peek reads len(b) bytes at an address of a stopped thread.
func peek(tid int, addr uint64, b []byte) error {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
	if err == nil && n < len(b) {
		err = unix.EFAULT
	}
	return err
}
