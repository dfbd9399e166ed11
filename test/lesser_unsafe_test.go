package test

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"hull/state"
)

// withoutFilter calls f on a thread, and with it all that it starts, for which
// the kernel has no nf_tables: sockets of its protocol are not made.
func withoutFilter(t testing.TB, f func()) {
	t.Helper()
	const (
		load, jump, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		number, family  = 0, 16 // offsets in struct seccomp_data
		protocol        = 32
		allow, fail     = 0x7fff0000, 0x00050000 | uint32(unix.EPROTONOSUPPORT)
	)
	program := []unix.SockFilter{
		{Code: load, K: number}, {Code: jump, K: unix.SYS_SOCKET, Jf: 5},
		{Code: load, K: family}, {Code: jump, K: unix.AF_NETLINK, Jf: 3},
		{Code: load, K: protocol}, {Code: jump, K: unix.NETLINK_NETFILTER, Jf: 1},
		{Code: ret, K: fail}, {Code: ret, K: allow},
	}
	state.OnLostThread(func() {
		p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
		if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p))); e != 0 {
			t.Errorf("seccomp: %v", e)
			return
		}
		f()
	})
}
