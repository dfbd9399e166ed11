package seccomp

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

// defaultCaps are the capabilities a container has when nothing is asked.
var defaultCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"}

// TestDefaultListing keeps what the default profile says of every call in a file, so that a change of the profile, of
// the tables or of the compiler shows as a diff of behaviour.
func TestDefaultListing(t *testing.T) {
	var b strings.Builder
	for _, goarch := range []string{"amd64", "arm64"} {
		native, err := nativeABI(goarch)
		if err != nil {
			t.Fatal(err)
		}
		s := Default(defaultCaps, goarch)
		p, err := Compile(s, goarch)
		if err != nil {
			t.Fatal(err)
		}
		vals := probes(s)
		for i, name := range callNames {
			nr := native.calls[i]
			if nr < 0 {
				continue
			}
			seen := map[string]bool{}
			for _, v := range vals {
				for _, w := range vals {
					got, _ := simulate(t, p.Filter, data{nr: uint32(nr), arch: native.audit, args: [6]uint64{v, 0, w}})
					seen[verdictName(got)] = true
				}
				if !slices.ContainsFunc(s.Syscalls, func(r specs.LinuxSyscall) bool { return len(r.Args) > 0 && slices.Contains(r.Names, name) }) {
					break // the arguments do not matter
				}
			}
			verdicts := make([]string, 0, len(seen))
			for v := range seen {
				verdicts = append(verdicts, v)
			}
			slices.Sort(verdicts)
			fmt.Fprintf(&b, "%s %s %s\n", goarch, name, strings.Join(verdicts, "|"))
		}
	}
	golden(t, "default.golden", b.String())
}

// TestSEC03Families is the socket table of the default profile: family by family, on every ABI of an amd64 host.
func TestSEC03Families(t *testing.T) {
	p, err := Compile(Default(defaultCaps, "amd64"), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, abi := range []struct {
		name string
		arch uint32
		nr   uint32
	}{{"amd64", unix.AUDIT_ARCH_X86_64, unix.SYS_SOCKET}, {"i386", unix.AUDIT_ARCH_I386, 359}, {"x32", unix.AUDIT_ARCH_X86_64, unix.SYS_SOCKET | x32Bit}} {
		for family := uint64(0); family < 64; family++ {
			protocols := map[string]string{}
			for _, proto := range []uint64{0, 9} {
				got, _ := simulate(t, p.Filter, data{nr: abi.nr, arch: abi.arch, args: [6]uint64{family, 2, proto}})
				protocols[fmt.Sprint(proto)] = verdictName(got)
			}
			// The kernel takes an int: bits above it must not turn a no into a yes.
			if abi.name == "amd64" {
				got, _ := simulate(t, p.Filter, data{nr: abi.nr, arch: abi.arch, args: [6]uint64{family | 1<<32, 2, 0}})
				if got == allow {
					t.Errorf("socket(%d|1<<32) = allow, want a refusal", family)
				}
			}
			fmt.Fprintf(&b, "%s family %d protocol 0: %s 9: %s\n", abi.name, family, protocols["0"], protocols["9"])
		}
	}
	golden(t, "socket.golden", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s differs from line %d on (run with -update and read the diff)", file, i+1)
		}
	}
}

func TestSEC04ProfileRefused(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "missing"), dir, fifo, "/dev/zero", "/dev/null"} {
		if p, err := Load(path); err == nil {
			t.Errorf("Load(%q) = %v, nil, want an error", path, p)
		}
	}
	for _, text := range []string{
		"", " \n", "null", "{}", "[]", "{", `{"defaultAction":"SCMP_ACT_ALLOW"} x`, `{"defaultAction":"SCMP_ACT_ALLOWED"}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscals":[]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"]}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":9,"value":1,"op":"SCMP_CMP_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[null]}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_Z80"}]}`,
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrProfile) {
			t.Errorf("Parse(%q) = %v, want ErrProfile", text, err)
		}
	}
	if os.Getuid() != 0 {
		file := filepath.Join(dir, "secret")
		if err := os.WriteFile(file, []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); !errors.Is(err, os.ErrPermission) {
			t.Errorf("Load(unreadable) = %v, want permission denied", err)
		}
	}
}

func TestResolve(t *testing.T) {
	p, err := Parse([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS",
		"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
		"syscalls":[
		{"name":"read","action":"SCMP_ACT_ALLOW"},
		{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
		{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errno":"EACCES","excludes":{"caps":["CAP_BPF"]}},
		{"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
		{"names":["modify_ldt"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64"]}},
		{"names":["kcmp"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		t    Target
		want string
	}{
		{Target{Arch: "amd64", Kernel: "4.7.0"}, "read bpf:13 modify_ldt"},
		{Target{Arch: "amd64", Kernel: "6.18.44-generic"}, "read bpf:13 ptrace modify_ldt"},
		{Target{Arch: "amd64", Kernel: "5.1", Caps: []string{"CAP_BPF"}}, "read bpf ptrace modify_ldt"},
		{Target{Arch: "arm64", Kernel: "5.1"}, "read bpf:13 ptrace kcmp"},
	}
	for _, tt := range tests {
		s, err := p.Resolve(tt.t)
		if err != nil {
			t.Errorf("Resolve(%v) = %v", tt.t, err)
			continue
		}
		var got []string
		for _, r := range s.Syscalls {
			n := r.Names[0]
			if r.ErrnoRet != nil {
				n += fmt.Sprint(":", *r.ErrnoRet)
			}
			got = append(got, n)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("Resolve(%v) = %v, want %v", tt.t, got, tt.want)
		}
		if *s.DefaultErrnoRet != uint(unix.ENOSYS) {
			t.Errorf("Resolve(%v) default errno = %d, want ENOSYS", tt.t, *s.DefaultErrnoRet)
		}
	}
	if _, err := p.Resolve(Target{Arch: "amd64", Kernel: "new"}); err == nil {
		t.Error("Resolve with kernel new = nil, want an error")
	}
	if _, err := p.Resolve(Target{Kernel: "6.1"}); err == nil {
		t.Error("Resolve without architecture = nil, want an error")
	}
}

func TestProgramRoundTrip(t *testing.T) {
	p, err := Compile(Default(nil, "amd64"), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Filter, p.Filter) || got.Flags != p.Flags || got.Notify != p.Notify {
		t.Error("Decode(AppendBinary(p)) differs from p")
	}
	for n := range len(b) {
		if n%97 != 0 {
			continue
		}
		if _, err := Decode(b[:n]); err == nil {
			t.Errorf("Decode of %d of %d bytes = nil, want an error", n, len(b))
		}
	}
	k := DefaultKey([]string{"A", "B"}, "amd64", "6.1")
	if k != DefaultKey([]string{"B", "A", "B"}, "amd64", "6.1") {
		t.Error("DefaultKey depends on the order of capabilities")
	}
	for _, other := range []string{DefaultKey([]string{"AB"}, "amd64", "6.1"), DefaultKey([]string{"A", "B"}, "arm64", "6.1"), DefaultKey([]string{"A", "B"}, "amd64", "6.2")} {
		if k == other {
			t.Error("DefaultKey of different inputs is equal")
		}
	}
}

// FuzzProfile: whatever Parse takes, Resolve and Compile finish, and the program means what the profile says.
func FuzzProfile(f *testing.F) {
	f.Add(defaultProfile)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,"args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_KILL","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[{"name":"clone","action":"SCMP_ACT_LOG","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		s, err := p.Resolve(Target{Arch: "amd64", Kernel: "6.1"})
		if err != nil {
			t.Fatalf("Resolve after Parse = %v", err)
		}
		if _, err := Compile(s, "amd64"); err != nil {
			return
		}
		compare(t, s, "amd64", 50, rand.New(rand.NewPCG(5, 6)))
		if _, err := json.Marshal(s); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecode: a cached program is taken only if every path of it ends.
func FuzzDecode(f *testing.F) {
	p, err := Compile(Default(nil, "amd64"), "amd64")
	if err != nil {
		f.Fatal(err)
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := Decode(b); err == nil {
			simulate(t, p.Filter, data{nr: 1, arch: unix.AUDIT_ARCH_X86_64})
		}
	})
}
