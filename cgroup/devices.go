package cgroup

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// deviceProgram makes the eBPF program that decides on a device: its context
// is {access<<16 | type, major, minor}. Rules are tried from the last to the
// first, since the last that matches wins; what none matches is denied.
func deviceProgram(rules []oci.LinuxDeviceCgroup) ([]byte, error) {
	var p []byte
	emit := func(op byte, regs byte, off int16, imm int32) {
		p = append(p, op, regs)
		p = binary.NativeEndian.AppendUint16(p, uint16(off))
		p = binary.NativeEndian.AppendUint32(p, uint32(imm))
	}
	const (
		load32 = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
		mov32  = unix.BPF_ALU | 0xb0 // BPF_MOV
		and32  = unix.BPF_ALU | unix.BPF_AND
		rsh32  = unix.BPF_ALU | unix.BPF_RSH
		jne    = unix.BPF_JMP | 0x50 // BPF_JNE
		exit   = unix.BPF_JMP | 0x90 // BPF_EXIT
	)
	// r2 type, r3 access, r4 major, r5 minor
	emit(load32, 0x12, 0, 0)
	emit(and32|unix.BPF_K, 0x2, 0, 0xffff)
	emit(load32, 0x13, 0, 0)
	emit(rsh32|unix.BPF_K, 0x3, 0, 16)
	emit(load32, 0x14, 4, 0)
	emit(load32, 0x15, 8, 0)
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		conditions, all, err := deviceConditions(r)
		if err != nil {
			return nil, err
		}
		// Each condition that fails jumps over what is left of the rule.
		left := 0
		for _, c := range conditions {
			left += c.size()
		}
		left += 2
		for _, c := range conditions {
			left -= c.size()
			if c.mask {
				// r1 = access; r1 &= ^allowed: anything left was asked for too much
				emit(mov32|unix.BPF_X, 0x31, 0, 0)
				emit(and32|unix.BPF_K, 0x1, 0, c.value)
				emit(jne|unix.BPF_K, 0x1, int16(left), 0)
				continue
			}
			emit(jne|unix.BPF_K, c.reg, int16(left), c.value)
		}
		verdict := int32(0)
		if r.Allow {
			verdict = 1
		}
		emit(mov32|unix.BPF_K, 0x0, 0, verdict)
		emit(exit, 0, 0, 0)
		if all {
			return p, nil // nothing before it can win
		}
	}
	emit(mov32|unix.BPF_K, 0x0, 0, 0)
	emit(exit, 0, 0, 0)
	return p, nil
}

// A deviceCondition compares a register with a value, or asks that access has
// no bit outside a mask.
type deviceCondition struct {
	reg   byte
	value int32
	mask  bool
}

func (c deviceCondition) size() int {
	if c.mask {
		return 3
	}
	return 1
}

// deviceAccess leaves out an "a" beside other letters: it is none of the
// specification's, and other runtimes pass over it.
func deviceAccess(access string) string {
	if access == "a" {
		return access
	}
	return strings.ReplaceAll(access, "a", "")
}

// deviceConditions are those of one rule; all says that it matches everything.
func deviceConditions(r oci.LinuxDeviceCgroup) (list []deviceCondition, all bool, err error) {
	switch r.Type {
	case "b":
		list = append(list, deviceCondition{reg: 2, value: 1})
	case "c":
		list = append(list, deviceCondition{reg: 2, value: 2})
	case "", "a":
	default:
		return nil, false, fmt.Errorf("device rule: type %q is not known", r.Type)
	}
	var access int32
	for _, a := range deviceAccess(r.Access) {
		i := strings.IndexRune("mrw", a)
		if i < 0 {
			return nil, false, fmt.Errorf("device rule: access %q is not known", r.Access)
		}
		access |= 1 << i
	}
	if access != 7 && access != 0 {
		list = append(list, deviceCondition{value: ^access & 7, mask: true})
	}
	for _, number := range []struct {
		reg byte
		n   *int64
	}{{4, r.Major}, {5, r.Minor}} {
		if number.n != nil && *number.n >= 0 {
			list = append(list, deviceCondition{reg: number.reg, value: int32(*number.n)})
		}
	}
	return list, len(list) == 0, nil
}
