package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Program is a compiled filter and how to load it: seccomp(SECCOMP_SET_MODE_FILTER, Flags, Filter).
type Program struct {
	Filter  []unix.SockFilter
	Flags   uint     // SECCOMP_FILTER_FLAG_*
	Notify  bool     // a rule notifies: loading returns a descriptor that goes to ListenerPath
	Unknown []string // names in the profile no table has; not kept in the encoded form
}

// compilerVersion is part of every key: raise it when Compile writes another program for the same input.
const compilerVersion = 1

// magic starts an encoded program.
const magic = "hull-bpf"

// Key names the program Compile makes of s on arch, for a cache of encoded programs: 64 hexadecimal digits.
func Key(s *specs.LinuxSeccomp, arch string) (string, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode seccomp profile: %w", err)
	}
	return sum("spec", arch, b), nil
}

// DefaultKey is the key of Compile(Default(caps, arch), arch). It needs neither of the two: a start whose program is cached
// skips reading the profile. kernel is the release, since rules may depend on it.
func DefaultKey(caps []string, arch, kernel string) string {
	c := slices.Clone(caps)
	slices.Sort(c)
	h := sha256.New()
	for _, s := range slices.Compact(c) {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	h.Write([]byte{0})
	h.Write([]byte(kernel))
	h.Write([]byte{0})
	h.Write(defaultProfile)
	return sum("default", arch, h.Sum(nil))
}

func sum(kind, arch string, b []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %s\n", kind, compilerVersion, len(callNames), arch)
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// AppendBinary appends p's encoded form to b: magic, flags, notify, count, then eight bytes an instruction, little endian.
func (p Program) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Flags))
	notify := uint32(0)
	if p.Notify {
		notify = 1
	}
	b = binary.LittleEndian.AppendUint32(b, notify)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Filter)))
	for _, f := range p.Filter {
		b = binary.LittleEndian.AppendUint16(b, f.Code)
		b = append(b, f.Jt, f.Jf)
		b = binary.LittleEndian.AppendUint32(b, f.K)
	}
	return b, nil
}

// Decode reads what AppendBinary wrote. A program that is cut short, jumps outside itself or uses an instruction Compile does not
// write is an error; the caller compiles again.
func Decode(b []byte) (Program, error) {
	const head = len(magic) + 12
	if len(b) < head || string(b[:len(magic)]) != magic {
		return Program{}, errors.New("decode seccomp program: not one")
	}
	u := binary.LittleEndian
	p := Program{Flags: uint(u.Uint32(b[len(magic):])), Notify: u.Uint32(b[len(magic)+4:]) == 1}
	n := u.Uint32(b[len(magic)+8:])
	b = b[head:]
	if n == 0 || n > unix.BPF_MAXINSNS || len(b) != int(n)*8 {
		return Program{}, fmt.Errorf("decode seccomp program: %d instructions in %d bytes", n, len(b))
	}
	p.Filter = make([]unix.SockFilter, n)
	for i := range p.Filter {
		f := b[8*i:]
		p.Filter[i] = unix.SockFilter{Code: u.Uint16(f), Jt: f[2], Jf: f[3], K: u.Uint32(f[4:])}
	}
	if err := checkFilter(p.Filter); err != nil {
		return Program{}, fmt.Errorf("decode seccomp program: %w", err)
	}
	return p, nil
}

// checkFilter proves that every path of a filter ends in a return.
func checkFilter(p []unix.SockFilter) error {
	for i, f := range p {
		left := uint64(len(p) - i - 1) // instructions after this one
		switch f.Code {
		case unix.BPF_RET | unix.BPF_K:
			continue
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if f.K >= 64 || f.K%4 != 0 {
				return fmt.Errorf("instruction %d loads offset %d", i, f.K)
			}
			if left < 1 {
				return fmt.Errorf("instruction %d falls off the end", i)
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			if left < 1 {
				return fmt.Errorf("instruction %d falls off the end", i)
			}
		case unix.BPF_JMP | unix.BPF_JA:
			if uint64(f.K) >= left {
				return fmt.Errorf("instruction %d jumps outside", i)
			}
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			if uint64(f.Jt) >= left || uint64(f.Jf) >= left {
				return fmt.Errorf("instruction %d jumps outside", i)
			}
		default:
			return fmt.Errorf("instruction %d has code %#x", i, f.Code)
		}
	}
	return nil
}
