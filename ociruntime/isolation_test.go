package ociruntime

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// openWay lets other users reach dir, which is below the test's directories.
func openWay(dir string) {
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
}

// TestRootless starts a container as a user without any rights on the host.
func TestRootless(t *testing.T) {
	const uid = 65534
	if root := os.Getenv("OCIRUNTIME_TEST_ROOT"); root != "" {
		rootless(t, root)
		return
	}
	root := busyboxRoot(t)
	openWay(root)
	if err := exec.Command("chown", "-R", fmt.Sprint(uid), root).Run(); err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(t.TempDir(), "test")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(self, data, 0o755); err != nil {
		t.Fatal(err)
	}
	openWay(filepath.Dir(self))
	cmd := exec.Command(self, "-test.run=^TestRootless$", "-test.v")
	cmd.Env = []string{"OCIRUNTIME_TEST_ROOT=" + root, "PATH=/usr/bin:/bin", "TMPDIR=/tmp"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func rootless(t *testing.T, root string) {
	spec := basicSpec(root, "sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %t,%T /dev/null; cat /proc/self/oom_score_adj; touch /made && stat -c %u /made; cat /proc/kcore; busybox grep CapEff /proc/self/status; mount | busybox grep -c ' / '")
	adj := 400
	spec.Process.OOMScoreAdj = &adj
	one := []oci.LinuxIDMapping{{HostID: uint32(os.Getuid()), Size: 1}}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, oci.LinuxNamespace{Type: oci.UserNamespace})
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = one, one
	spec.Mounts[2].Options = spec.Mounts[2].Options[:5] // without gid=5, which is not mapped
	out, code := start(t, spec, CompileOptions{})
	has(t, out, "0\n", "65534", "1,3\n400\n0\n", "CapEff:\t00000000000000e1")
	if code != 0 {
		t.Errorf("status %d:\n%s", code, out)
	}
}

// cgroup2 makes a group in the version 2 hierarchy, wherever it is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		group := fmt.Sprintf("%s/hull-test-%d", dir, os.Getpid())
		if err := os.Mkdir(group, 0o755); err != nil {
			t.Skip("cannot make a cgroup:", err)
		}
		t.Cleanup(func() {
			for range 100 {
				if os.Remove(group) == nil {
					return
				}
			}
		})
		return group
	}
	t.Skip("there is no cgroup hierarchy of version 2")
	return ""
}

func TestCgroups(t *testing.T) {
	root := busyboxRoot(t)
	group := cgroup2(t)
	dir := openNS(t, group)
	spec := basicSpec(root, "sh", "-c", "cat /proc/self/cgroup; mount | busybox grep cgroup; touch /sys/fs/cgroup/*/x 2>&1 | busybox grep -c Read-only")
	for name, o := range map[string]CompileOptions{
		"born":    {Cgroup: dir},
		"written": {CgroupProcs: []string{group + "/cgroup.procs"}},
	} {
		out, _ := start(t, spec, o)
		has(t, out, "0::/\n", "cgroup")
		if strings.Contains(out, "hull-test") {
			t.Errorf("%s: the container sees where it is:\n%s", name, out)
		}
	}
	// Without a namespace of its own it sees the path, and its own directory.
	spec.Linux.Namespaces = spec.Linux.Namespaces[:5]
	out, _ := start(t, spec, CompileOptions{CgroupProcs: []string{group + "/cgroup.procs"}})
	has(t, out, "0::/hull-test")
}

func TestOverlayManyLayers(t *testing.T) {
	lower := busyboxRoot(t)
	base := t.TempDir()
	lowers := []string{}
	for i := range 12 {
		d := filepath.Join(base, "layers", strings.Repeat(fmt.Sprintf("%x", i), 40), "diff")
		os.MkdirAll(d, 0o755)
		os.WriteFile(d+fmt.Sprintf("/layer%d", i), nil, 0o644)
		lowers = append(lowers, d)
	}
	os.Rename(lower, filepath.Join(base, "layers/base"))
	lowers = append(lowers, filepath.Join(base, "layers/base"))
	for _, d := range []string{"upper", "work", "target"} {
		os.Mkdir(filepath.Join(base, d), 0o755)
	}
	spec := basicSpec(lower, "sh", "-c", "ls / | busybox grep -c layer; touch /x; ls /many | busybox grep -c layer; touch /many/x || echo ro; busybox grep -c ' /many .*nodev' /proc/mounts")
	spec.Mounts = append(spec.Mounts, oci.Mount{Destination: "/many", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + strings.Join(lowers, ":"), "ro", "nodev"}})
	facts, err := LookUp(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, appends := range []bool{true, false} {
		if appends && !facts.OverlayAppend {
			continue
		}
		facts.OverlayAppend = appends
		p, _, err := Compile(spec, CompileOptions{Facts: facts, RootfsTarget: base + "/target", Rootfs: []oci.Mount{{Type: "overlay", Source: "overlay",
			Options: []string{"lowerdir=" + strings.Join(lowers, ":"), "upperdir=" + base + "/upper", "workdir=" + base + "/work", "nodev"}}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range []bool{false, true} {
			if out, code := launch(t, p, raw); !strings.HasPrefix(out, "12\n12\n") || !strings.HasSuffix(out, "ro\n1\n") || code != 0 {
				t.Errorf("lowerdir+ %v: %q, status %d", appends, out, code)
			}
		}
	}
}

// An image's link to a file that is not there is a mount point inside the root.
func TestDanglingFile(t *testing.T) {
	root := busyboxRoot(t)
	os.Symlink("/run/resolv.conf", root+"/etc/resolv.conf")
	os.Mkdir(root+"/run", 0o755)
	spec := basicSpec(root, "cat", "/etc/resolv.conf")
	source := filepath.Join(t.TempDir(), "file")
	os.WriteFile(source, []byte("nameserver 127.0.0.11\n"), 0o644)
	spec.Mounts = append(spec.Mounts, oci.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: source, Options: []string{"bind"}})
	out, _ := start(t, spec, CompileOptions{})
	has(t, out, "127.0.0.11")
}

// A key of the terminal's reaches the program once, not again through its init.
func TestInitTerminal(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", `n=0; trap 'n=$((n+1)); echo got $n' INT; echo ready; busybox sleep 0.5; busybox sleep 0.5; echo end $n`)
	spec.Process.Terminal = true
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	bothWays(t, spec, CompileOptions{Init: true}, plan.LaunchOptions{Console: theirs}, func(*plan.Process) {
		master := receive(t, ours)
		defer master.Close()
		var out bytes.Buffer
		buf := make([]byte, 512)
		sent := false
		for {
			n, err := master.Read(buf)
			out.Write(buf[:n])
			if err != nil {
				break
			}
			if !sent && strings.Contains(out.String(), "ready") {
				master.Write([]byte{3})
				sent = true
			}
		}
		has(t, out.String(), "got 1", "end 1")
	})
}

func TestNoPivot(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "ls -d /etc/debian_version /bin/busybox; pwd; busybox chroot /proc/1/root /bin/ls -d /etc/debian_version 2>/dev/null; mount | busybox head -1")
	out, _ := start(t, spec, CompileOptions{NoPivot: true})
	if strings.Contains(strings.ReplaceAll(out, "ls: /etc/debian_version", ""), "/etc/debian_version") {
		t.Errorf("the host's files are there:\n%s", out)
	}
	has(t, out, "/bin/busybox\n/\n")
}

func TestSeccompListener(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sleep", "100")
	spec.Linux.Seccomp = &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", ListenerPath: "/run/x", ListenerMetadata: "tag",
		Syscalls: []oci.LinuxSyscall{{Names: []string{"mkdir"}, Action: "SCMP_ACT_NOTIFY"}}}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "theirs")
	defer unix.Close(ours)
	defer theirs.Close()
	state, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	state.WriteString("tagged")
	for _, nnp := range []bool{false, true} {
		spec.Process.NoNewPrivileges = nnp
		bothWays(t, spec, CompileOptions{SeccompListener: theirs, SeccompState: state, SeccompStateSize: 3}, plan.LaunchOptions{}, func(*plan.Process) {
			buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
			n, m, _, _, err := unix.Recvmsg(ours, buf, oob, unix.MSG_CMSG_CLOEXEC)
			if err != nil || string(buf[:n]) != "tag" {
				t.Fatalf("message %q, %v", buf[:n], err)
			}
			msgs, err := unix.ParseSocketControlMessage(oob[:m])
			if err != nil || len(msgs) != 1 {
				t.Fatal("no listener came", err)
			}
			fds, _ := unix.ParseUnixRights(&msgs[0])
			link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fds[0]))
			if link != "anon_inode:seccomp notify" {
				t.Errorf("descriptor of %s came", link)
			}
			unix.Close(fds[0])
		})
	}
}

// RT-04, EXEC-01: what a process in the container could find of the engine
// while it is made: no binary, no memory, no open file.
func TestEXEC01NothingOfTheEngine(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "true")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	facts, _ := LookUp(spec)
	p, _, err := Compile(spec, CompileOptions{Facts: facts, Wait: true, Control: r})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := plan.Launch(p, plan.LaunchOptions{UntilCreated: true})
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Report.Close()
	dir := fmt.Sprintf("/proc/%d/", proc.Pid)
	if exe, _ := os.Readlink(dir + "exe"); !strings.HasPrefix(exe, "/memfd:plan") {
		t.Errorf("its program is %s, want a sealed memory file", exe)
	}
	if status, _ := os.ReadFile(dir + "statm"); len(bytes.Fields(status)) > 1 {
		t.Logf("resident pages while it waits: %s", bytes.Fields(status)[1])
	}
	fds, _ := os.ReadDir(dir + "fd")
	for _, f := range fds {
		to, _ := os.Readlink(dir + "fd/" + f.Name())
		switch {
		case to == "/dev/null", strings.HasPrefix(to, "pipe:"), to == "/":
		default:
			t.Errorf("descriptor %s is %s", f.Name(), to)
		}
	}
	w.Write([]byte{1})
	wait(proc.Pid)
}

// A container started from a plan that was compiled once, many times.
func BenchmarkLaunch(b *testing.B) {
	spec := basicSpec(busyboxRoot(b), "true")
	facts, err := LookUp(spec)
	if err != nil {
		b.Fatal(err)
	}
	p, _, err := Compile(spec, CompileOptions{Facts: facts})
	if err != nil {
		b.Fatal(err)
	}
	for _, raw := range []bool{false, true} {
		b.Run(fmt.Sprintf("raw=%v", raw), func(b *testing.B) {
			for b.Loop() {
				proc, err := plan.Launch(p, plan.LaunchOptions{Raw: raw})
				if err != nil {
					b.Fatal(err)
				}
				wait(proc.Pid)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	spec := basicSpec("/nowhere", "true")
	for b.Loop() {
		if _, _, err := Compile(spec, CompileOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
