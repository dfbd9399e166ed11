package ociruntime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// bothWays compiles and launches, as image and as raw clone, and calls look
// with the process, which it kills afterwards.
func bothWays(t *testing.T, spec *oci.Spec, o CompileOptions, lo plan.LaunchOptions, look func(proc *plan.Process)) {
	t.Helper()
	var err error
	if o.Facts, err = LookUp(spec); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []bool{false, true} {
		p, _, err := Compile(spec, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Check(p); err != nil {
			t.Error(err)
		}
		lo.Raw = raw
		proc, err := plan.Launch(p, lo)
		if err != nil {
			t.Fatalf("raw %v: %v", raw, err)
		}
		look(proc)
		unix.Kill(proc.Pid, unix.SIGKILL)
		var status syscall.WaitStatus
		syscall.Wait4(proc.Pid, &status, 0, nil)
	}
}

func has(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("output lacks %q:\n%s", w, out)
		}
	}
}

func openNS(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// madeUserNS is a user namespace with a range of ids, made by a process that
// has ended by the time it is used.
func madeUserNS(t *testing.T) *os.File {
	t.Helper()
	cmd := exec.Command("/bin/busybox", "sleep", "100")
	m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: m, GidMappings: m, GidMappingsEnableSetgroups: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	return openNS(t, fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
}

func withUserNS(spec *oci.Spec) {
	m := []oci.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, oci.LinuxNamespace{Type: oci.UserNamespace})
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = m, m
}

func TestMadeUserNamespaceAndIdmap(t *testing.T) {
	root := busyboxRoot(t)
	// The way to the root must be open to the container's ids.
	for d := root; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	os.Mkdir(root+"/data", 0o755)
	data := t.TempDir()
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(data, unix.MNT_DETACH)
	if err := os.WriteFile(data+"/file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := basicSpec(root, "sh", "-c", `id -u; cat /proc/self/uid_map; stat -c %u:%a:%t,%T /data/file /dev/null; cat /data/file && echo more >/data/new && stat -c %u /data/new
busybox grep -c cgroup2 /proc/self/mountinfo; cat /proc/self/oom_score_adj`)
	adj := 300
	spec.Process.OOMScoreAdj = &adj
	spec.Process.Capabilities.Effective = append(spec.Process.Capabilities.Effective, "CAP_DAC_OVERRIDE")
	spec.Process.Capabilities.Permitted = spec.Process.Capabilities.Effective
	withUserNS(spec)
	spec.Mounts = append(spec.Mounts, oci.Mount{Destination: "/data", Type: "bind", Source: data, Options: []string{"bind", "idmap"}})
	out, _ := start(t, spec, CompileOptions{UserNS: madeUserNS(t)})
	has(t, out, "0\n", "100000", "0:600:0,0", "666:1,3", "x0\n", "\n300\n")

	long := *spec
	process := *spec.Process
	long.Process, process.Args = &process, []string{"sleep", "100"}
	bothWays(t, &long, CompileOptions{UserNS: madeUserNS(t)}, plan.LaunchOptions{}, func(proc *plan.Process) {
		fd, _ := unix.PidfdOpen(proc.Pid, 0)
		pidfd := os.NewFile(uintptr(fd), "pidfd")
		defer pidfd.Close()
		join, process := *spec, *spec.Process
		join.Process = &process
		process.Args, process.User = []string{"sh", "-c", "id -u; id -G; cat /proc/self/oom_score_adj"}, oci.User{UID: 5, GID: 6, AdditionalGids: []uint32{8}}
		for _, raw := range []bool{false, true} {
			p, _, err := CompileJoin(&join, JoinOptions{Pidfd: pidfd})
			if err != nil {
				t.Fatal(err)
			}
			if out, code := launch(t, p, raw); out != "5\n6 8\n300\n" || code != 0 {
				t.Errorf("exec: %q, status %d", out, code)
			}
		}
	})
	if st, err := os.Stat(data + "/new"); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("on the host: %v, %v, want owner 0", st, err)
	}
}

func TestJoinNamespaces(t *testing.T) {
	root := busyboxRoot(t)
	infra := basicSpec(root)
	infra.Hostname = "pod"
	bothWays(t, infra, CompileOptions{Infra: true}, plan.LaunchOptions{}, func(pod *plan.Process) {
		ns := func(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pod.Pid, kind) }
		spec := basicSpec(root, "sh", "-c", "hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; ps -o comm")
		spec.Hostname = ""
		for i := range spec.Linux.Namespaces {
			n := &spec.Linux.Namespaces[i]
			switch n.Type {
			case oci.IPCNamespace:
				n.Path = ns("ipc")
			case oci.PIDNamespace:
				n.Path = ns("pid")
			}
		}
		out, _ := start(t, spec, CompileOptions{Namespaces: []NamespaceFile{{oci.NetworkNamespace, openNS(t, ns("net"))}, {oci.UTSNamespace, openNS(t, ns("uts"))}}})
		net, _ := os.Readlink(ns("net"))
		ipc, _ := os.Readlink(ns("ipc"))
		has(t, out, "pod\n", net, ipc, "hull-infra")
	})
}

func TestTimeNamespace(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "cat /proc/uptime")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, oci.LinuxNamespace{Type: oci.TimeNamespace})
	spec.Linux.TimeOffsets = map[string]oci.LinuxTimeOffset{"boottime": {Secs: 1000 * 86400}}
	var up float64
	facts, _ := LookUp(spec)
	p, _, err := Compile(spec, CompileOptions{Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := launch(t, p, false)
	if fmt.Sscan(out, &up); up < 1000*86400 {
		t.Errorf("uptime %q, want more than 1000 days", out)
	}
}

// RT-09: a working directory that is a descriptor of the host's.
func TestRT09WorkingDirectoryOutside(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "pwd")
	dir := openNS(t, "/etc")
	for n := 3; n < 64; n++ {
		spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", n)
		facts, _ := LookUp(spec)
		p, _, err := Compile(spec, CompileOptions{Facts: facts, Preserve: []*os.File{dir, dir}})
		if err != nil {
			t.Fatal(err)
		}
		if proc, err := plan.Launch(p, plan.LaunchOptions{}); err == nil {
			var status syscall.WaitStatus
			syscall.Wait4(proc.Pid, &status, 0, nil)
			t.Fatalf("cwd %s was accepted", spec.Process.Cwd)
		}
	}
	// exec makes no directories: there only the check stands before it.
	spec = basicSpec(busyboxRoot(t), "sleep", "100")
	bothWays(t, spec, CompileOptions{}, plan.LaunchOptions{}, func(proc *plan.Process) {
		join := *spec
		process := *spec.Process
		process.Args, process.Cwd = []string{"pwd"}, "/proc/self/fd/3"
		join.Process = &process
		fd, _ := unix.PidfdOpen(proc.Pid, 0)
		pidfd := os.NewFile(uintptr(fd), "pidfd")
		defer pidfd.Close()
		p, _, err := CompileJoin(&join, JoinOptions{Pidfd: pidfd, CompileOptions: CompileOptions{Preserve: []*os.File{dir}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = plan.Launch(p, plan.LaunchOptions{})
		var step *plan.StepError
		if !errors.As(err, &step) || step.Call != "check" || step.Hint == "" {
			t.Errorf("cwd outside: %v, want the check to fail", err)
		}
	})
}

func TestPreserveAndListen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "echo $LISTEN_FDS $LISTEN_PID $$; [ -e /proc/$$/fd/4 ] && [ ! -e /proc/$$/fd/5 ] && echo two; cat /proc/1/comm")
	spec.Process.Env = append(spec.Process.Env, "LISTEN_FDS=2", "LISTEN_PID=77")
	out, _ := start(t, spec, CompileOptions{Preserve: []*os.File{r, w}, Init: true})
	has(t, out, "2 2 2\ntwo\n", "hull-init")
}

func TestWaits(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "cat /mark")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer outR.Close()
	defer outW.Close()
	o := CompileOptions{Wait: true, WaitHooks: true, Control: r}
	bothWays(t, spec, o, plan.LaunchOptions{Stdout: outW, UntilCreated: true}, func(proc *plan.Process) {
		defer proc.Report.Close()
		// The hooks see the container's root from outside: it is not pivoted yet.
		mark := fmt.Sprintf("/proc/%d/root%s/mark", proc.Pid, spec.Root.Path)
		if err := os.WriteFile(mark, []byte("seen\n"), 0o644); err != nil {
			t.Error(err)
		}
		w.Write([]byte{1})
		if n, err := proc.Report.Read(make([]byte, 16)); n != 16 {
			t.Fatalf("second wait: %d, %v", n, err)
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", proc.Pid)); bytes.HasPrefix(comm, []byte("sh")) {
			t.Error("the program runs before start")
		}
		w.Write([]byte{1})
		if n, err := proc.Report.Read(make([]byte, 16)); err != io.EOF {
			t.Fatalf("start: %d, %v", n, err)
		}
		buf := make([]byte, 10)
		n, _ := outR.Read(buf)
		if string(buf[:n]) != "seen\n" {
			t.Errorf("output %q", buf[:n])
		}
	})
}

func TestTerminal(t *testing.T) {
	root := busyboxRoot(t)
	spec := basicSpec(root, "sh", "-c", "tty; stat -c %u /dev/pts/0; busybox stty size; stat -c %t,%T /dev/console; echo done")
	spec.Process.Terminal = true
	spec.Process.ConsoleSize = &oci.Box{Height: 33, Width: 99}
	spec.Process.User = oci.User{UID: 7, GID: 7}
	check := func(console *os.File) {
		t.Helper()
		master := receive(t, console)
		defer master.Close()
		out, _ := io.ReadAll(master) // EIO at the end
		has(t, string(out), "/dev/pts/0", "7\r\n", "33 99", "88,0", "done")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	bothWays(t, spec, CompileOptions{}, plan.LaunchOptions{Console: theirs}, func(*plan.Process) { check(ours) })

	long := basicSpec(root, "sleep", "100")
	bothWays(t, long, CompileOptions{}, plan.LaunchOptions{}, func(proc *plan.Process) {
		fd, _ := unix.PidfdOpen(proc.Pid, 0)
		pidfd := os.NewFile(uintptr(fd), "pidfd")
		defer pidfd.Close()
		join := *spec
		join.Process = &oci.Process{}
		*join.Process = *spec.Process
		join.Process.Args = []string{"sh", "-c", "tty; echo 7; busybox stty size; echo 88,0 done"}
		p, _, err := CompileJoin(&join, JoinOptions{Pidfd: pidfd})
		if err != nil {
			t.Fatal(err)
		}
		exec, err := plan.Launch(p, plan.LaunchOptions{Console: theirs})
		if err != nil {
			t.Fatal(err)
		}
		check(ours)
		wait(exec.Pid)
	})
}

// receive takes the terminal's master.
func receive(t *testing.T, console *os.File) *os.File {
	t.Helper()
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(console.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(m) != 1 {
		t.Fatal("no descriptor came", err)
	}
	fds, err := unix.ParseUnixRights(&m[0])
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "master")
}

func wait(pid int) {
	var status syscall.WaitStatus
	syscall.Wait4(pid, &status, 0, nil)
}

func TestSharedVolume(t *testing.T) {
	root := busyboxRoot(t)
	volume := t.TempDir()
	if err := unix.Mount("tmpfs", volume, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(volume, unix.MNT_DETACH)
	if err := unix.Mount("", volume, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	spec := basicSpec(root, "sh", "-c", "busybox mkdir -p /v/m && mount -t tmpfs none /v/m && touch /v/m/inside && echo mounted")
	spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	spec.Process.Capabilities.Effective, spec.Process.Capabilities.Permitted = spec.Process.Capabilities.Bounding, spec.Process.Capabilities.Bounding
	spec.Mounts = append(spec.Mounts, oci.Mount{Destination: "/v", Type: "bind", Source: volume, Options: []string{"rbind", "rshared"}})
	spec.Linux.RootfsPropagation = "rshared"
	before := mountLines(t)
	out, _ := start(t, spec, CompileOptions{})
	has(t, out, "mounted")
	if _, err := os.Stat(volume + "/m/inside"); err != nil {
		t.Errorf("a mount in a shared volume did not reach the host: %v", err)
	}
	for unix.Unmount(volume+"/m", unix.MNT_DETACH) == nil {
	}
	if after := mountLines(t); after != before {
		t.Errorf("the host has %d mounts, had %d", after, before)
	}
}

// mountLines counts the mounts of the host that lie in this test's directories; the
// others are made by whoever works here at the same time.
func mountLines(t *testing.T) (n int) {
	own := []byte(" " + filepath.Dir(t.TempDir()) + "/") // the name alone may be another run's
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if bytes.Contains(line, own) {
			n++
		}
	}
	return n
}

func TestMountOptions(t *testing.T) {
	root := busyboxRoot(t)
	src := t.TempDir()
	os.Mkdir(src+"/sub", 0o755)
	os.WriteFile(src+"/file", []byte("content"), 0o644)
	if err := unix.Mount("tmpfs", src+"/sub", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(src+"/sub", unix.MNT_DETACH)
	spec := basicSpec(root, "sh", "-c", `touch /ro/x 2>/dev/null; echo $?; touch /ro/sub/x && echo sub; touch /rro/sub/x 2>/dev/null || echo rro; cat /f/i/l/e; touch /f/i/l/e 2>&1
touch /proc/sys/kernel/hostname 2>&1; cat /masked-file; ls /masked-dir; echo end; cat /proc/self/mountinfo`)
	os.WriteFile(root+"/masked-file", []byte("secret"), 0o644)
	os.Mkdir(root+"/masked-dir", 0o755)
	os.WriteFile(root+"/masked-dir/secret", []byte("secret"), 0o644)
	spec.Linux.MaskedPaths = append(spec.Linux.MaskedPaths, "/masked-file", "/masked-dir", "/link")
	os.Symlink("/etc/../../../../etc", root+"/link")
	spec.Mounts = append(spec.Mounts,
		oci.Mount{Destination: "/ro", Type: "bind", Source: src, Options: []string{"rbind", "ro"}},
		oci.Mount{Destination: "/rro", Type: "bind", Source: src, Options: []string{"rbind", "rro", "nosuid"}},
		oci.Mount{Destination: "/f/i/l/e", Type: "bind", Source: src + "/file", Options: []string{"bind", "ro", "noexec"}},
		oci.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m", "mode=1777", "noexec", "relatime"}},
	)
	out, _ := start1(t, spec)
	has(t, out, "1\nsub\nrro\ncontent", "/f/i/l/e: Read-only file system", "hostname: Read-only", "end\n", " /t rw,noexec,relatime")
	if strings.Contains(out, "secret") {
		t.Errorf("a mask shows what is below:\n%s", out)
	}
}

// start1 launches once: where the output names descriptors or times.
func start1(t *testing.T, spec *oci.Spec) (string, int) {
	t.Helper()
	facts, err := LookUp(spec)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := Compile(spec, CompileOptions{Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, p, false)
}

// RT-14 and RT-15: mount points that are links of the image's.
func TestRT14LinkedDestinations(t *testing.T) {
	canary := t.TempDir()
	os.WriteFile(canary+"/file", []byte("host"), 0o600)
	for _, dst := range []string{"/dev", "/dev/pts", "/dev/shm", "/proc", "/sys", "/etc/hosts"} {
		for _, to := range []string{canary, "../../../../../.." + canary, "/nonexistent/deep", "loop"} {
			root := busyboxRoot(t)
			at := root + dst
			os.RemoveAll(at)
			os.MkdirAll(filepath.Dir(at), 0o755)
			if to == "loop" {
				to = filepath.Base(dst)
			}
			os.Symlink(to, at)
			spec := basicSpec(root, "true")
			spec.Mounts = append(spec.Mounts, oci.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}})
			if dst != "/dev" {
				spec.Mounts = append(spec.Mounts[:1], spec.Mounts[2:]...)
			}
			facts, _ := LookUp(spec)
			p, _, err := Compile(spec, CompileOptions{Facts: facts})
			if err != nil {
				t.Fatal(err)
			}
			if proc, err := plan.Launch(p, plan.LaunchOptions{}); err == nil {
				wait(proc.Pid)
				if dst == "/proc" || dst == "/sys" {
					t.Errorf("%s -> %s was mounted on", dst, to)
				}
			}
			names, _ := os.ReadDir(canary)
			data, _ := os.ReadFile(canary + "/file")
			if len(names) != 1 || string(data) != "host" {
				t.Fatalf("%s -> %s: the host's directory was changed: %v", dst, to, names)
			}
		}
	}
}

// RT-07 in small: a racer exchanges a destination with a link to the host's root.
func TestRT07Racer(t *testing.T) {
	root := busyboxRoot(t)
	canary := t.TempDir()
	os.MkdirAll(root+"/a", 0o755)
	os.Symlink(canary, root+"/b")
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	spec := basicSpec(root, "true")
	spec.Mounts = append(spec.Mounts, oci.Mount{Destination: "/a/x/y", Type: "tmpfs", Source: "tmpfs"})
	facts, _ := LookUp(spec)
	p, _, err := Compile(spec, CompileOptions{Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	image, err := p.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	before := mountLines(t)
	started, starts, most := 0, 100000, 2*time.Second
	if os.Getenv("HULL_RACES") == "full" {
		starts, most = 5000, time.Hour
	}
	tried := 0
	for end := time.Now().Add(most); tried < starts && time.Now().Before(end); tried++ {
		if proc, err := plan.Launch(p, plan.LaunchOptions{Memfd: image}); err == nil {
			wait(proc.Pid)
			started++
		}
	}
	close(stop)
	<-done
	if names, _ := os.ReadDir(canary); len(names) != 0 {
		t.Errorf("the host's directory got %v", names)
	}
	if after := mountLines(t); after != before {
		t.Errorf("the host has %d mounts, had %d", after, before)
	}
	t.Logf("%d of %d starts succeeded", started, tried)
}

// CAP-01, CAP-02: the sets as they are seen from inside.
func TestCAP02Sets(t *testing.T) {
	root := busyboxRoot(t)
	all := bitNames(1<<41 - 1)
	for _, c := range []struct {
		name string
		uid  uint32
		caps *oci.LinuxCapabilities
		nnp  bool
		want string
	}{
		{"none", 0, nil, false, "Inh 0 Prm 0 Eff 0 Bnd 0 Amb 0"},
		{"root", 0, &oci.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_KILL"}, Permitted: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"}}, false, "Inh 0 Prm 21 Eff 21 Bnd 21 Amb 0"},
		{"user", 1000, &oci.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"}}, true, "Inh 0 Prm 0 Eff 0 Bnd 1 Amb 0"},
		{"ambient", 1000, &oci.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"},
			Inheritable: []string{"CAP_CHOWN"}, Ambient: []string{"CAP_CHOWN"}}, true, "Inh 1 Prm 1 Eff 1 Bnd 1 Amb 1"},
		{"all", 0, &oci.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}, false, ""},
	} {
		for _, filter := range []bool{false, true} {
			spec := basicSpec(root, "sh", "-c", `busybox sed -n 's/^Cap\(...\):\t0*\(.\)/\1 \2/p' /proc/self/status | busybox tr '\n' ' '`)
			spec.Process.User = oci.User{UID: c.uid, GID: c.uid}
			spec.Process.Capabilities, spec.Process.NoNewPrivileges = c.caps, c.nnp
			if filter {
				spec.Linux.Seccomp = &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []oci.LinuxSyscall{{Names: []string{"swapon"}, Action: "SCMP_ACT_ERRNO"}}}
			}
			out, _ := start(t, spec, CompileOptions{})
			if strings.TrimSpace(out) != c.want && c.want != "" {
				t.Errorf("%s, filter %v: %q, want %q", c.name, filter, out, c.want)
			}
		}
	}
}

func TestLimitsAndScheduling(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c; busybox ionice -p $$; busybox uname -m; cat /proc/self/oom_score_adj")
	adj := 100
	p := spec.Process
	p.OOMScoreAdj = &adj
	p.Rlimits = []oci.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 500, Hard: 600}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	p.IOPriority = &oci.LinuxIOPriority{Class: "IOPRIO_CLASS_IDLE"}
	p.Scheduler = &oci.Scheduler{Policy: "SCHED_BATCH", Nice: 4}
	spec.Linux.Personality = &oci.LinuxPersonality{Domain: "LINUX32"}
	spec.Linux.MemoryPolicy = &oci.LinuxMemoryPolicy{Mode: "MPOL_INTERLEAVE", Nodes: "0"}
	out, _ := start(t, spec, CompileOptions{})
	has(t, out, "500\n600\n0\nidle", "i686\n100\n")

	spec.Process.Rlimits[0].Hard, spec.Process.Rlimits[0].Soft = 1<<40, 1<<40
	facts := Facts{HardLimits: map[int]uint64{7: 999}}
	if _, warnings, err := Compile(spec, CompileOptions{Facts: facts}); err != nil || len(warnings) != 1 {
		t.Errorf("a limit above the host's: warnings %q, %v, want one", warnings, err)
	}
}

func TestSysctlAndDomain(t *testing.T) {
	spec := basicSpec(busyboxRoot(t), "sh", "-c", "cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni")
	spec.Domainname = "harbour"
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}
	out, _ := start(t, spec, CompileOptions{})
	if out != "harbour\n1\n77\n" {
		t.Errorf("output %q", out)
	}
}

// What is not understood, or would touch the host, is refused.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*oci.Spec)
		want   string
	}{
		"version":        {func(s *oci.Spec) { s.Version = "2.0.0" }, "ociVersion"},
		"relative cwd":   {func(s *oci.Spec) { s.Process.Cwd = "srv" }, "absolute"},
		"capability":     {func(s *oci.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FLY"} }, "CAP_FLY"},
		"namespace":      {func(s *oci.Spec) { s.Linux.Namespaces[0].Type = "moon" }, "moon"},
		"twice":          {func(s *oci.Spec) { s.Linux.Namespaces[0].Type = oci.MountNamespace }, "twice"},
		"relative path":  {func(s *oci.Spec) { s.Linux.Namespaces[0].Path = "ns/pid" }, "absolute"},
		"host's name":    {func(s *oci.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[4:] }, "hostname"},
		"host's mounts":  {func(s *oci.Spec) { s.Hostname = ""; s.Linux.Namespaces = s.Linux.Namespaces[:3] }, "mount namespace"},
		"sysctl":         {func(s *oci.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/x"} }, "no namespace"},
		"sysctl of host": {func(s *oci.Spec) { s.Linux.Sysctl = map[string]string{"user.max_user_namespaces": "1"} }, "user namespace"},
		"sysctl path":    {func(s *oci.Spec) { s.Linux.Sysctl = map[string]string{"net/../kernel/core_pattern": "x"} }, "not a name"},
		"rlimit":         {func(s *oci.Spec) { s.Process.Rlimits = []oci.POSIXRlimit{{Type: "RLIMIT_LUCK"}} }, "RLIMIT_LUCK"},
		"apparmor":       {func(s *oci.Spec) { s.Process.ApparmorProfile = "x" }, "not active"},
		"selinux":        {func(s *oci.Spec) { s.Process.SelinuxLabel = "a:b:c" }, "not active"},
		"mask":           {func(s *oci.Spec) { s.Linux.MaskedPaths = []string{"proc"} }, "absolute"},
		"bind option": {func(s *oci.Spec) {
			// KEY=VALUE is for a file system, which a bind mount has already: ignored as mount(2) does.
			s.Mounts[0] = oci.Mount{Destination: "/x", Source: "/y", Options: []string{"bind", "size=1", "nosuch"}}
		}, "nosuch"},
		"bind source":   {func(s *oci.Spec) { s.Mounts[0] = oci.Mount{Destination: "/x", Source: "y", Type: "bind"} }, "absolute"},
		"no type":       {func(s *oci.Spec) { s.Mounts[0].Type = "" }, "no type"},
		"over the root": {func(s *oci.Spec) { s.Mounts[0].Destination = "/proc/.." }, "below the root"},
		"idmap": {func(s *oci.Spec) {
			s.Mounts[0] = oci.Mount{Destination: "/x", Source: "/", Options: []string{"bind", "idmap"}}
		}, "idmap"},
		"maps without ns": {func(s *oci.Spec) { s.Linux.UIDMappings = []oci.LinuxIDMapping{{Size: 1}} }, "user namespace"},
		"many own maps": {func(s *oci.Spec) {
			withUserNS(s)
		}, "several"},
		"seccomp":     {func(s *oci.Spec) { s.Linux.Seccomp = &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_MAYBE"} }, "SCMP_ACT_MAYBE"},
		"propagation": {func(s *oci.Spec) { s.Linux.RootfsPropagation = "sideways" }, "sideways"},
		"args":        {func(s *oci.Spec) { s.Process.Args = nil }, "args"},
		"zero":        {func(s *oci.Spec) { s.Process.Env = []string{"a\x00b"} }, "zero byte"},
		"intelRdt":    {func(s *oci.Spec) { s.Linux.IntelRdt = &oci.LinuxIntelRdt{} }, "intelRdt"},
		"clock":       {func(s *oci.Spec) { s.Linux.TimeOffsets = map[string]oci.LinuxTimeOffset{"boottime": {}} }, "time namespace"},
		"netDevices":  {func(s *oci.Spec) { s.Linux.NetDevices = map[string]oci.LinuxNetDevice{"eth9": {}} }, "netDevices"},
		"device path": {func(s *oci.Spec) { s.Linux.Devices = []oci.LinuxDevice{{Path: "/", Type: "p"}} }, "linux.devices"},
		"device":      {func(s *oci.Spec) { s.Linux.Devices = []oci.LinuxDevice{{Path: "/dev/x", Type: "z"}} }, "not known"},
		"scheduler":   {func(s *oci.Spec) { s.Process.Scheduler = &oci.Scheduler{Policy: "SCHED_NAP"} }, "SCHED_NAP"},
	} {
		spec := basicSpec("/nowhere", "true")
		c.change(spec)
		if _, _, err := Compile(spec, CompileOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Compile = %v, want an error with %q", name, err, c.want)
		}
	}
}

// TestLimitsOfAUserNamespace: root who may raise hard limits may not in there.
func TestLimitsOfAUserNamespace(t *testing.T) {
	spec := &oci.Spec{
		Process: &oci.Process{Rlimits: []oci.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 1 << 40}}},
		Linux:   &oci.Linux{Namespaces: []oci.LinuxNamespace{{Type: oci.UserNamespace}}},
	}
	facts, err := LookUp(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := facts.HardLimits[7]; !ok {
		t.Errorf("hard limits %v, want this process's", facts.HardLimits)
	}
}
