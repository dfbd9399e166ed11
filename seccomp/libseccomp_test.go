package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// libseccomp builds the program that makes filters with Debian's libseccomp.
func libseccomp(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler and Debian's libseccomp-dev")
	}
	if out, err := exec.Command(cc, "-E", "-include", "seccomp.h", "-x", "c", "/dev/null").CombinedOutput(); err != nil {
		t.Skipf("needs Debian's libseccomp-dev: %s", bytes.TrimSpace(out))
	}
	program := filepath.Join(t.TempDir(), "libseccomp")
	if out, err := exec.Command(cc, "-O1", "-Wall", "-Werror", "-o", program, "testdata/libseccomp.c", "-lseccomp").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return program
}

// theirs is libseccomp's filter for s, and the calls that it does not know.
func theirs(t *testing.T, program string, s *specs.LinuxSeccomp) (filter []unix.SockFilter, unknown []string) {
	t.Helper()
	var in, out, stderr bytes.Buffer
	def, err := verdict(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&in, "default %d\n", def)
	for _, a := range s.Architectures {
		fmt.Fprintf(&in, "arch %s\n", strings.ToLower(strings.TrimPrefix(string(a), "SCMP_ARCH_")))
	}
	ops := []specs.LinuxSeccompOperator{"", specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	for _, r := range s.Syscalls {
		ret, err := verdict(r.Action, r.ErrnoRet)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range r.Names {
			for _, args := range alternatives(r.Args) {
				fmt.Fprintf(&in, "rule %d %s %d", ret, name, len(args))
				for _, a := range args {
					fmt.Fprintf(&in, " %d %d %d %d", a.Index, slices.Index(ops, a.Op), a.Value, a.ValueTwo)
				}
				in.WriteByte('\n')
			}
		}
	}
	cmd := exec.Command(program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("libseccomp: %v\n%s", err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		unknown = append(unknown, strings.TrimSpace(strings.TrimPrefix(line, "unknown ")))
	}
	filter = make([]unix.SockFilter, out.Len()/8)
	if err := binary.Read(&out, binary.NativeEndian, filter); err != nil {
		t.Fatal(err)
	}
	return filter, unknown
}

// alternatives are a rule's conditions as runc gives them to libseccomp.
func alternatives(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	var seen [6]bool
	for _, a := range args {
		if seen[a.Index] {
			var each [][]specs.LinuxSeccompArg
			for i := range args {
				each = append(each, args[i:i+1])
			}
			return each
		}
		seen[a.Index] = true
	}
	return [][]specs.LinuxSeccompArg{args}
}

// comparison counts what two filters decide.
type comparison struct {
	same, newer, unknown, combined, old int
}

// against runs every number of each ABI, with arguments at the edges of the rules', through
// both filters. What differs must be one of the differences that the package says it makes.
//
// Of the arguments of 32-bit programs libseccomp compares the low half, also with a number that
// has a high one, and also in x32, whose registers have 64 bits: there the arguments are small.
func against(t *testing.T, program, name string, s *specs.LinuxSeccomp) (n comparison) {
	t.Helper()
	p, err := Compile(s, "amd64")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	filter, unknown := theirs(t, program, s)
	def, _ := verdict(s.DefaultAction, s.DefaultErrnoRet)
	vals := probes(s)
	wide := slices.ContainsFunc(s.Syscalls, func(r specs.LinuxSyscall) bool {
		return slices.ContainsFunc(r.Args, func(a specs.LinuxSeccompArg) bool { return a.Value>>32 != 0 || a.ValueTwo>>32 != 0 })
	})
	for _, b := range abis()[:3] {
		if wide && b.name != specs.ArchX86_64 {
			continue
		}
		skip, conditional := map[uint32]bool{}, map[uint32]bool{}
		for _, r := range s.Syscalls {
			for _, name := range r.Names {
				if i, ok := callIndex(name); ok && len(r.Args) > 0 {
					for _, nr := range b.numbers(nil, i, name) {
						conditional[nr] = true
					}
				}
			}
		}
		for _, u := range unknown {
			if i, ok := callIndex(u); ok {
				for _, nr := range b.numbers(nil, i, u) {
					skip[nr] = true
				}
			}
		}
		for nr := range uint32(1024) {
			d := data{arch: b.audit, nr: nr | b.bit}
			if skip[d.nr] {
				n.unknown++
				continue
			}
			// socketcall(2) and ipc(2) of 32 bits: libseccomp spreads rules on the calls in them over their numbers.
			if b.narrow && (nr == 102 || nr == 117) {
				n.combined++
				continue
			}
			// amd64's numbers of calls of which x32 has its own: no kernel of today takes them, ours answers as for the own.
			if b.bit == x32Bit && nr < 512 && slices.ContainsFunc(x32Own[:], func(name string) bool {
				i, _ := callIndex(name)
				return b.calls[i] == int32(nr)
			}) {
				n.old++
				continue
			}
			try := vals
			if !conditional[d.nr] {
				try = vals[nr%uint32(len(vals)):][:1] // arguments play no part
			}
			for _, v := range try {
				for i := range d.args {
					d.args[i] = vals[(slices.Index(vals, v)+i*len(vals)/7+int(nr))%len(vals)]
					if i == int(nr)%6 || nr%7 == 0 {
						d.args[i] = v
					}
					if b.name != specs.ArchX86_64 {
						d.args[i] &= 0xffffffff
					}
				}
				n.add(t, name, b, d, p.Filter, filter, def)
			}
		}
	}
	return n
}

func (n *comparison) add(t *testing.T, name string, b abi, d data, ours, theirs []unix.SockFilter, def uint32) {
	t.Helper()
	got, _ := simulate(t, ours, d)
	want, _ := simulate(t, theirs, d)
	switch {
	case got == want:
		n.same++
	case got == retENOSYS && want == def && !permissive(def):
		n.newer++ // than all that the profile names
	default:
		t.Errorf("%s: %s call %d, arguments %#x: %s, libseccomp: %s", name, b.name, d.nr&^b.bit, d.args, verdictName(got), verdictName(want))
	}
}

// comparing is a profile whose rules compare arguments with values, one, two at once, and one or the other.
func comparing(def, act specs.LinuxSeccompAction, op specs.LinuxSeccompOperator, values []uint64) *specs.LinuxSeccomp {
	s := &specs.LinuxSeccomp{DefaultAction: def}
	for i, v := range values {
		name := []string{"read", "write", "openat", "mmap", "clone", "futex"}[i]
		s.Syscalls = append(s.Syscalls, rule(act, nil, name, arg(uint(i), op, v, v&0xf0000000f)))
	}
	a, b := values[0], values[1]
	s.Syscalls = append(s.Syscalls, rule(act, nil, "ioctl", arg(1, op, a, a), arg(2, op, b, b&1)), rule(act, nil, "prctl", arg(0, op, a, 1), arg(0, op, b, b&8)))
	return s
}

// The filters decide as those of libseccomp for every call number of the three ABIs of an amd64
// host: the default profile with several sets of capabilities, and profiles with every comparison.
func TestAgainstLibseccomp(t *testing.T) {
	program := libseccomp(t)
	all := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	profiles := map[string]*specs.LinuxSeccomp{}
	for _, caps := range [][]string{nil, defaultCaps, {"CAP_SYS_ADMIN"}, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON"}, {"CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"},
		{"CAP_SYS_TIME", "CAP_SYS_CHROOT", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYSLOG", "CAP_AUDIT_WRITE", "CAP_DAC_READ_SEARCH", "CAP_SYS_TTY_CONFIG", "CAP_SYS_PACCT"}} {
		profiles["default with "+strings.Join(caps, ",")] = Default(caps, "amd64")
	}
	for _, op := range []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual} {
		for name, values := range map[string][]uint64{"small": {0, 7, 0x80000000, 0x7e020000, 0xffffffff, 1}, "wide": {0x1_0000_0007, 0xf000_0000_0000_0000, 0x8000_0000_0000_0001}} {
			profiles[fmt.Sprintf("%s %s, allowed", op, name)] = comparing(specs.ActErrno, specs.ActAllow, op, values)
			profiles[fmt.Sprintf("%s %s, denied", op, name)] = comparing(specs.ActAllow, specs.ActErrno, op, values)
		}
	}
	for _, s := range profiles {
		s.Architectures = all
	}
	var sum comparison
	for name, s := range profiles {
		n := against(t, program, name, s)
		sum.same, sum.newer, sum.unknown, sum.combined, sum.old = sum.same+n.same, sum.newer+n.newer, sum.unknown+n.unknown, sum.combined+n.combined, sum.old+n.old
	}
	t.Logf("%d profiles: %d decisions are the same; %d are ENOSYS for calls newer than the profile; left out: %d of numbers that libseccomp does not know, %d of combined calls, %d of x32 with amd64's number",
		len(profiles), sum.same, sum.newer, sum.unknown, sum.combined, sum.old)
	if sum.same < 50000 {
		t.Errorf("only %d decisions were compared", sum.same)
	}
}
