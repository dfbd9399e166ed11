package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data as the kernel shows it to a filter.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

// simulate runs a filter as the kernel would and gives its verdict and the number of instructions executed.
func simulate(t testing.TB, p []unix.SockFilter, d data) (uint32, int) {
	t.Helper()
	var m [64]byte
	binary.LittleEndian.PutUint32(m[0:], d.nr)
	binary.LittleEndian.PutUint32(m[4:], d.arch)
	for i, v := range d.args {
		binary.LittleEndian.PutUint64(m[16+8*i:], v)
	}
	var acc uint32
	for pc, n := 0, 1; ; pc, n = pc+1, n+1 {
		i := p[pc]
		jump := func(c bool) {
			if c {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(m[i.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
		case unix.BPF_RET | unix.BPF_K:
			return i.K, n
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= i.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(acc > i.K)
		default:
			t.Fatalf("instruction %d has code %#x", pc, i.Code)
		}
	}
}
