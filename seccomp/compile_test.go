package seccomp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	allow = uint32(unix.SECCOMP_RET_ALLOW)
	kill  = uint32(unix.SECCOMP_RET_KILL_PROCESS)
)

func errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

func verdictName(v uint32) string {
	switch {
	case v == allow:
		return "allow"
	case v == kill:
		return "kill"
	case v&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ERRNO:
		return unix.ErrnoName(unix.Errno(v & 0xffff))
	}
	return fmt.Sprintf("%#x", v)
}

// expect is the meaning of a profile written down a second time, by exhaustion: the oracle of the compiler.
func expect(t testing.TB, s *specs.LinuxSeccomp, goarch string, d data) uint32 {
	t.Helper()
	native, err := nativeABI(goarch)
	if err != nil {
		t.Fatal(err)
	}
	use, err := selectABIs(s.Architectures, native)
	if err != nil {
		t.Fatal(err)
	}
	def, err := verdict(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	var b *abi
	for i := range use {
		isX32 := use[i].audit == unix.AUDIT_ARCH_X86_64 && d.nr >= x32Bit
		if use[i].audit == d.arch && (use[i].bit == x32Bit) == isX32 {
			b = &use[i]
		}
	}
	if b == nil {
		if d.arch == unix.AUDIT_ARCH_X86_64 && d.nr >= x32Bit && use[0].audit == d.arch {
			return retENOSYS
		}
		return kill
	}
	best, found, newest := def, false, uint32(0)
	for _, r := range s.Syscalls {
		ret, err := verdict(r.Action, r.ErrnoRet)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range r.Names {
			i, ok := callIndex(n)
			if !ok {
				continue
			}
			for _, nr := range b.numbers(nil, i, n) {
				if nr&^b.bit < 0xf0000 {
					newest = max(newest, nr)
				}
				if nr != d.nr || !matches(r.Args, d.args, b.narrow) {
					continue
				}
				if !found || rank(ret) < rank(best) {
					best, found = ret, true
				}
			}
		}
	}
	if !found && newest > 0 && d.nr > newest && !permissive(def) {
		for _, n := range callNames { // a number a rule names but does not match stays with the default action
			i, _ := callIndex(n)
			if slices.Contains(b.numbers(nil, i, n), d.nr) && named(s, n) {
				return def
			}
		}
		return retENOSYS
	}
	return best
}

func named(s *specs.LinuxSeccomp, name string) bool {
	return slices.ContainsFunc(s.Syscalls, func(r specs.LinuxSyscall) bool { return slices.Contains(r.Names, name) })
}

func matches(args []specs.LinuxSeccompArg, vals [6]uint64, narrow bool) bool {
	count := map[uint]int{}
	either := false
	for _, a := range args {
		count[a.Index]++
		either = either || count[a.Index] > 1
	}
	for _, a := range args {
		v, w, x := a.Value, a.ValueTwo, vals[a.Index]
		if narrow {
			v, w = unextend(v), unextend(w)
		}
		var ok bool
		switch a.Op {
		case specs.OpEqualTo:
			ok = x == v
		case specs.OpNotEqual:
			ok = x != v
		case specs.OpMaskedEqual:
			ok = x&v == w&v
		case specs.OpGreaterThan:
			ok = x > v
		case specs.OpGreaterEqual:
			ok = x >= v
		case specs.OpLessThan:
			ok = x < v
		case specs.OpLessEqual:
			ok = x <= v
		}
		if ok == either {
			return either
		}
	}
	return !either
}

func uintp(u uint) *uint { return &u }

func rule(a specs.LinuxSeccompAction, e *uint, name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: a, ErrnoRet: e, Args: args}
}

func arg(i uint, op specs.LinuxSeccompOperator, v uint64, w ...uint64) specs.LinuxSeccompArg {
	a := specs.LinuxSeccompArg{Index: i, Op: op, Value: v}
	if len(w) > 0 {
		a.ValueTwo = w[0]
	}
	return a
}

func TestVerdicts(t *testing.T) {
	deny := func(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: rules}
	}
	const x64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	all := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	tests := []struct {
		name string
		s    *specs.LinuxSeccomp
		d    data
		want uint32
	}{
		{"allowed", deny(rule(specs.ActAllow, nil, "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, allow},
		{"default errno is EPERM", deny(rule(specs.ActAllow, nil, "getpid")), data{nr: unix.SYS_READ, arch: x64}, errno(unix.EPERM)},
		{"newer than the profile", deny(rule(specs.ActAllow, nil, "getpid")), data{nr: 460, arch: x64}, errno(unix.ENOSYS)},
		{"newer, default allow", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule(specs.ActErrno, nil, "getpid")}}, data{nr: 460, arch: x64}, allow},
		{"foreign", deny(rule(specs.ActAllow, nil, "getpid")), data{nr: 20, arch: i386}, kill},
		{"x32 unlisted", deny(rule(specs.ActAllow, nil, "getpid")), data{nr: unix.SYS_GETPID | x32Bit, arch: x64}, errno(unix.ENOSYS)},
		{"x32 listed", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{rule(specs.ActAllow, nil, "ioctl")}}, data{nr: 514 | x32Bit, arch: x64}, allow},
		{"x32 by amd64's number", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: all, Syscalls: []specs.LinuxSyscall{rule(specs.ActErrno, nil, "ptrace")}}, data{nr: unix.SYS_PTRACE | x32Bit, arch: x64}, errno(unix.EPERM)},
		{"i386 listed", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{rule(specs.ActAllow, nil, "getpid")}}, data{nr: 20, arch: i386}, allow},
		// CVE-2026-123876: an allow that overlaps a deny must not win.
		{"deny wins", deny(rule(specs.ActAllow, nil, "socket"), rule(specs.ActErrno, uintp(97), "socket", arg(0, specs.OpEqualTo, 40))), data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{40}}, errno(97)},
		{"deny wins only where it matches", deny(rule(specs.ActAllow, nil, "socket"), rule(specs.ActErrno, uintp(97), "socket", arg(0, specs.OpEqualTo, 40))), data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{2}}, allow},
		// moby/profiles#21: a deny equal to the default action must not be dropped.
		{"deny like the default wins", deny(rule(specs.ActAllow, nil, "socket"), rule(specs.ActErrno, uintp(1), "socket", arg(0, specs.OpEqualTo, 40))), data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{40}}, errno(unix.EPERM)},
		{"conditions of one argument are alternatives", deny(rule(specs.ActAllow, nil, "socket", arg(0, specs.OpEqualTo, 1), arg(0, specs.OpEqualTo, 2))), data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{2}}, allow},
		{"conditions of two arguments all hold", deny(rule(specs.ActAllow, nil, "socket", arg(0, specs.OpEqualTo, 1), arg(1, specs.OpEqualTo, 2))), data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{1, 3}}, errno(unix.EPERM)},
		{"high half counts", deny(rule(specs.ActAllow, nil, "socket", arg(0, specs.OpEqualTo, 1))), data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{1 | 1<<32}}, errno(unix.EPERM)},
		{"minus one on i386", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{rule(specs.ActAllow, nil, "personality", arg(0, specs.OpEqualTo, ^uint64(0)))}}, data{nr: 136, arch: i386, args: [6]uint64{0xffffffff}}, allow},
		{"trap", deny(rule(specs.ActTrap, nil, "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, unix.SECCOMP_RET_TRAP},
		{"kill thread", deny(rule(specs.ActKill, nil, "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, unix.SECCOMP_RET_KILL_THREAD},
		{"kill process", deny(rule(specs.ActKillProcess, nil, "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, kill},
		{"log", deny(rule(specs.ActLog, nil, "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, unix.SECCOMP_RET_LOG},
		{"trace", deny(rule(specs.ActTrace, uintp(7), "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, unix.SECCOMP_RET_TRACE | 7},
		{"notify", deny(rule(specs.ActNotify, nil, "getpid")), data{nr: unix.SYS_GETPID, arch: x64}, unix.SECCOMP_RET_USER_NOTIF},
	}
	for _, tt := range tests {
		p, err := Compile(tt.s, "amd64")
		if err != nil {
			t.Errorf("%s: Compile = %v, want nil", tt.name, err)
			continue
		}
		if err := checkFilter(p.Filter); err != nil {
			t.Errorf("%s: checkFilter = %v, want nil", tt.name, err)
		}
		if got, _ := simulate(t, p.Filter, tt.d); got != tt.want {
			t.Errorf("%s: verdict = %s, want %s", tt.name, verdictName(got), verdictName(tt.want))
		}
		if got := expect(t, tt.s, "amd64", tt.d); got != tt.want {
			t.Errorf("%s: oracle = %s, want %s", tt.name, verdictName(got), verdictName(tt.want))
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	tests := map[string]*specs.LinuxSeccomp{
		"no profile":             nil,
		"no default":             {},
		"unknown action":         {DefaultAction: "SCMP_ACT_PERHAPS"},
		"unknown architecture":   {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_PDP11"}},
		"unknown flag":           {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_FAST"}},
		"unknown operator":       {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule(specs.ActErrno, nil, "read", arg(0, "SCMP_CMP_ABOUT", 1))}},
		"argument 6":             {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule(specs.ActErrno, nil, "read", arg(6, specs.OpEqualTo, 1))}},
		"no names":               {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Action: specs.ActErrno}}},
		"errno with allow":       {DefaultAction: specs.ActAllow, DefaultErrnoRet: uintp(1)},
		"errno too large":        {DefaultAction: specs.ActErrno, DefaultErrnoRet: uintp(4096)},
		"notify by default":      {DefaultAction: specs.ActNotify},
		"notify on write":        {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule(specs.ActNotify, nil, "write")}},
		"notify on sendmsg":      {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule(specs.ActNotify, nil, "sendmsg")}},
		"wait flag, no listener": {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}},
	}
	for name, s := range tests {
		if _, err := Compile(s, "amd64"); err == nil {
			t.Errorf("%s: Compile = nil, want an error", name)
		}
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, "vax"); err == nil {
		t.Error("Compile for vax = nil, want an error")
	}
}

// probes are argument values at the edges a profile can draw.
func probes(s *specs.LinuxSeccomp) []uint64 {
	v := []uint64{0, 1, ^uint64(0), 1 << 32, 0xffffffff, 0x7e020000}
	for _, r := range s.Syscalls {
		for _, a := range r.Args {
			v = append(v, a.Value, a.Value-1, a.Value+1, a.ValueTwo, a.Value|1<<32, ^a.Value)
		}
	}
	slices.Sort(v)
	return slices.Compact(v)
}

// compare runs the program of s against the oracle on n random calls of every ABI.
func compare(t testing.TB, s *specs.LinuxSeccomp, goarch string, n int, rnd *rand.Rand) {
	t.Helper()
	p, err := Compile(s, goarch)
	if err != nil {
		t.Fatalf("Compile = %v", err)
	}
	if err := checkFilter(p.Filter); err != nil {
		t.Fatalf("checkFilter = %v", err)
	}
	vals := probes(s)
	all := abis()
	for range n {
		b := all[rnd.IntN(len(all))]
		if b.big {
			continue // the simulator is little endian
		}
		d := data{arch: b.audit, nr: rnd.Uint32N(600) | b.bit}
		if rnd.IntN(2) == 0 { // a call with conditions
			if len(s.Syscalls) == 0 {
				continue
			}
			names := s.Syscalls[rnd.IntN(len(s.Syscalls))].Names
			if i, ok := callIndex(names[rnd.IntN(len(names))]); ok && b.calls[i] >= 0 {
				d.nr = uint32(b.calls[i]) | b.bit
			}
		}
		for i := range d.args {
			d.args[i] = vals[rnd.IntN(len(vals))]
			if b.narrow {
				d.args[i] &= 0xffffffff
			}
		}
		got, _ := simulate(t, p.Filter, d)
		if want := expect(t, s, goarch, d); got != want {
			t.Fatalf("%s nr %d args %#x: verdict = %s, want %s", b.name, d.nr, d.args, verdictName(got), verdictName(want))
		}
	}
}

func TestDefaultAgainstOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, goarch := range []string{"amd64", "arm64", "arm", "386", "riscv64"} {
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_AUDIT_WRITE", "CAP_SYSLOG"}} {
			s := Default(caps, goarch)
			s.Architectures = append(s.Architectures, specs.ArchX32)
			compare(t, s, goarch, 4000, rnd)
		}
	}
}

func TestRandomProfilesAgainstOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActLog, specs.ActTrap, specs.ActTrace, specs.ActNotify}
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual}
	for range 60 {
		s := &specs.LinuxSeccomp{DefaultAction: actions[rnd.IntN(4)], Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32}}
		for range rnd.IntN(30) {
			r := specs.LinuxSyscall{Action: actions[rnd.IntN(len(actions))]}
			for range 1 + rnd.IntN(6) {
				if n := callNames[rnd.IntN(len(callNames))]; !slices.Contains(handOver, n) {
					r.Names = append(r.Names, n)
				}
			}
			if len(r.Names) == 0 {
				continue
			}
			for range rnd.IntN(4) {
				r.Args = append(r.Args, arg(uint(rnd.IntN(6)), ops[rnd.IntN(len(ops))], rnd.Uint64()>>rnd.IntN(64), rnd.Uint64()>>rnd.IntN(64)))
			}
			s.Syscalls = append(s.Syscalls, r)
		}
		compare(t, s, "amd64", 400, rnd)
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	s := Default(nil, "amd64")
	for b.Loop() {
		if _, err := Compile(s, "amd64"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		Default(nil, "amd64")
	}
}
