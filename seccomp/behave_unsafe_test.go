package seccomp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the confined child of TestSEC03Behaviour.
func TestMain(m *testing.M) {
	if os.Getenv("HULL_SECCOMP_CHILD") != "" {
		confined()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// confined loads the default profile on its thread and prints what the kernel answers.
func confined() {
	runtime.LockOSThread()
	p, err := Compile(Default(defaultCaps, runtime.GOARCH), runtime.GOARCH)
	if err != nil {
		fmt.Println("compile:", err)
		return
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println("no_new_privs:", err)
		return
	}
	prog := unix.SockFprog{Len: uint16(len(p.Filter)), Filter: &p.Filter[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog))); e != 0 {
		fmt.Println("seccomp:", e)
		return
	}
	try := func(name string, nr uintptr, a, b, c uintptr) {
		r, _, e := unix.RawSyscall(nr, a, b, c)
		switch {
		case e != 0:
			fmt.Println(name, unix.ErrnoName(e))
		default:
			fmt.Println(name, "ok")
			if strings.HasPrefix(name, "socket") {
				unix.Close(int(r))
			}
		}
	}
	for family := range uintptr(64) {
		for _, typ := range []uintptr{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
			try(fmt.Sprintf("socket %d %d", family, typ), unix.SYS_SOCKET, family, typ, 0)
		}
	}
	try("socket alg with high bits", unix.SYS_SOCKET, unix.AF_ALG|1<<32, unix.SOCK_SEQPACKET, 0)
	try("socket audit", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)
	try("x32 getpid", unix.SYS_GETPID|x32Bit, 0, 0, 0)
	try("getpid", unix.SYS_GETPID, 0, 0, 0)
	for _, f := range []uintptr{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWNET, unix.CLONE_NEWTIME} {
		try(fmt.Sprintf("unshare %#x", f), unix.SYS_UNSHARE, f, 0, 0)
	}
	try("unshare files", unix.SYS_UNSHARE, unix.CLONE_FS, 0, 0)
	try("clone newuser", unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0)
	try("clone3", unix.SYS_CLONE3, 0, 0, 0)
	try("mount", unix.SYS_MOUNT, 0, 0, 0)
	try("fsopen", unix.SYS_FSOPEN, 0, 0, 0)
	try("fsconfig", unix.SYS_FSCONFIG, 0, 0, 0)
	try("open_tree", unix.SYS_OPEN_TREE, 0, 0, 0)
	try("keyctl", unix.SYS_KEYCTL, 0, 0, 0)
	try("bpf", unix.SYS_BPF, 0, 0, 0)
	try("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, 0, 0)
	try("userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0)
	try("unknown", 3000, 0, 0, 0)
}

// TestSEC03Behaviour and SEC-05: what the kernel itself answers under the default profile, as whoever runs the tests.
func TestSEC03Behaviour(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "HULL_SECCOMP_CHILD=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("confined child: %v\n%s", err, out.String())
	}
	got := map[string]string{}
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 {
			got[line[:i]] = line[i+1:]
		}
	}
	want := map[string]string{
		"socket 1 1": "ok", "socket 2 1": "ok", "socket 2 2": "ok", "socket 10 1": "ok", "socket 16 3": "ok",
		"socket alg with high bits": "ENOSYS", "socket audit": "EINVAL", "getpid": "ok",
		"unshare 0x10000000": "EPERM", "unshare 0x20000": "EPERM", "unshare 0x40000000": "EPERM", "unshare 0x80": "EPERM",
		"unshare files": "ok", "clone newuser": "EPERM", "clone3": "ENOSYS", "mount": "EPERM", "fsopen": "EPERM",
		"fsconfig": "EPERM", "open_tree": "EPERM", "keyctl": "EPERM", "bpf": "EPERM", "io_uring_setup": "EPERM",
		"userfaultfd": "EPERM", "unknown": "ENOSYS",
	}
	if runtime.GOARCH == "amd64" {
		want["x32 getpid"] = "ENOSYS"
	}
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
		want[fmt.Sprintf("socket %d %d", unix.AF_ALG, typ)] = "EAFNOSUPPORT"
		want[fmt.Sprintf("socket %d %d", unix.AF_VSOCK, typ)] = "EAFNOSUPPORT"
		want[fmt.Sprintf("socket 63 %d", typ)] = "ENOSYS"
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s = %q, want %q", name, got[name], w)
		}
	}
	everyFamily(t, got)
	if t.Failed() && len(got) < 64 {
		t.Log(out.String())
	}
}

// everyFamily: what the filter refuses is refused with its error, and what it lets through is
// answered by the kernel, which may not have the family or may want a right for it.
func everyFamily(t *testing.T, got map[string]string) {
	t.Helper()
	p, err := Compile(Default(defaultCaps, runtime.GOARCH), runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	native, err := nativeABI(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	for family := range uint64(64) {
		for _, typ := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
			name := fmt.Sprintf("socket %d %d", family, typ)
			v, _ := simulate(t, p.Filter, data{nr: unix.SYS_SOCKET, arch: native.audit, args: [6]uint64{family, typ, 0}})
			switch answer := got[name]; {
			case v != allow && answer != verdictName(v):
				t.Errorf("%s = %s, want %s", name, answer, verdictName(v))
			case v == allow && (answer == "" || answer == "ENOSYS"):
				t.Errorf("%s = %q, and the filter lets it through", name, answer)
			}
		}
	}
}
