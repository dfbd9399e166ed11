package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A user that looks like a number is a number (CVE-2016-3697).
func TestUSR01NumbersAreNumbers(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct{ user, want string }{
		{"1000", "uid=1000"}, {"00", "uid=0"}, {"sailor", "uid=1000"},
	} {
		o := h.options("id")
		o.User = c.user
		if got := h.output(o); !strings.HasPrefix(got, c.want) {
			t.Errorf("user %q: id = %q, want %s…", c.user, got, c.want)
		}
	}
	for _, user := range []string{"-1", "4294967295", "4294967296", "nobody-at-all"} {
		o := h.options("id")
		o.User = user
		if _, err := h.e.Create(t.Context(), o); err == nil {
			t.Errorf("user %q was accepted", user)
		}
	}
}

func TestUSR02UsersOfRunAndExec(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	for _, c := range []struct{ user, want string }{
		{"1", "1 1 0"}, {"01", "1 1 0"}, {"1:1", "1 1 1"}, {":1", "0 0 1"}, {"1:", "1 1 0"}, {"sailor", "1000 1000 1000"}, {"sailor:crew", "1000 1000 2000"}, {"77:crew", "77 77 2000"},
	} {
		fields := strings.Fields(c.want)
		want := fields[0] + " " + fields[2]
		var out bytes.Buffer
		r, err := h.e.Exec(t.Context(), id, ExecOptions{User: c.user, Command: []string{"sh", "-c", "echo $(id -u) $(id -g)"}, Streams: Streams{Stdout: &out}})
		if err != nil || r.Code != 0 || strings.TrimSpace(out.String()) != want {
			t.Errorf("exec -u %s = %q, %v; want %s", c.user, out.String(), err, want)
		}
		o := h.options("sh", "-c", "echo $(id -u) $(id -g)")
		o.User = c.user
		if got := strings.TrimSpace(h.output(o)); got != want {
			t.Errorf("run -u %s = %q, want %s", c.user, got, want)
		}
	}
	for _, user := range []string{"-1", "4294967295", "1:2:3"} {
		if _, err := h.e.Exec(t.Context(), id, ExecOptions{User: user, Command: []string{"id"}}); err == nil {
			t.Errorf("exec -u %s was accepted", user)
		}
	}
}

// The primary group is among the supplementary ones (CVE-2022-2989).
func TestUSR03PrimaryGroupIsListed(t *testing.T) {
	h := newHarness(t)
	o := h.options("id", "-G")
	o.User, o.GroupAdd = "1000:2000", []string{"3000"}
	if got := strings.TrimSpace(h.output(o)); got != "2000 3000" {
		t.Errorf("id -G = %q, want 2000 3000", got)
	}
}

// passwd files that block, never end or lead in circles are bounded.
func TestUSR04HostilePasswdFiles(t *testing.T) {
	h := newHarness(t)
	for name, make := range map[string]func(file string) error{
		"fifo":   func(f string) error { return unix.Mkfifo(f, 0o644) },
		"sparse": func(f string) error { return os.WriteFile(f, nil, 0o644) },
		"loop":   func(f string) error { return os.Symlink("passwd", f) },
		"zero":   func(f string) error { return unix.Mknod(f, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
		"dir":    func(f string) error { return os.Mkdir(f, 0o755) },
		"host":   func(f string) error { return os.Symlink("/etc/../../../../../../etc/shadow", f) },
	} {
		file := filepath.Join(h.rootfs, "etc/passwd")
		os.RemoveAll(file)
		if err := make(file); err != nil {
			t.Fatal(err)
		}
		if name == "sparse" {
			if err := os.Truncate(file, 5<<30); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		o := h.options("sh", "-c", "id -u")
		o.User = "1000"
		o.AutoRemove = true
		_, out, errs, err := h.run(o)
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
		if err == nil && strings.TrimSpace(out) != "1000" {
			t.Errorf("%s: id -u = %q %s", name, out, errs)
		}
	}
	os.RemoveAll(filepath.Join(h.rootfs, "etc/passwd"))
}

// The user is the same at run, restart and exec.
func TestUSR06UserStays(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.User = "sailor"
	id := h.detached(o)
	if _, out := h.exec(id, "id", "-u"); strings.TrimSpace(out) != "1000" {
		t.Errorf("exec: id -u = %q", out)
	}
	if err := h.e.Restart(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, out := h.exec(id, "sh", "-c", "grep -i ^Uid: /proc/1/status"); !strings.Contains(out, "1000\t1000\t1000\t1000") {
		t.Errorf("after restart: %q", out)
	}
}

// Nothing is inheritable or ambient that was not asked for (CVE-2022-24769).
func TestCAP01NothingInheritable(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	for _, user := range []string{"", "sailor"} {
		var out bytes.Buffer
		if _, err := h.e.Exec(t.Context(), id, ExecOptions{User: user, Command: []string{"sh", "-c", "cat /proc/1/status /proc/self/status | grep -E 'CapInh|CapAmb'"}, Streams: Streams{Stdout: &out}}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if !strings.HasSuffix(strings.TrimSpace(line), "0000000000000000") {
				t.Errorf("user %q: %s", user, line)
			}
		}
	}
}

func TestCAP02Matrix(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct {
		user      string
		add, drop []string
		priv      bool
		want      string // prm eff bnd inh amb
	}{
		{"", nil, nil, false, "800405fb 800405fb 800405fb 0 0"},
		{"", nil, []string{"all"}, false, "0 0 0 0 0"},
		{"", []string{"NET_ADMIN"}, []string{"all"}, false, "1000 1000 1000 0 0"},
		{"", nil, []string{"CHOWN"}, false, "800405fa 800405fa 800405fa 0 0"},
		{"1000", nil, nil, false, "0 0 800405fb 0 0"},
		{"1000", []string{"NET_ADMIN"}, nil, false, "1000 1000 800415fb 1000 1000"},
	} {
		o := h.options("sh", "-c", `sed -n 's/^Cap\(Prm\|Eff\|Bnd\|Inh\|Amb\):\t0*\([0-9a-f]\)/\1 \2/p' /proc/self/status`)
		o.User, o.CapAdd, o.CapDrop, o.Privileged = c.user, c.add, c.drop, c.priv
		got := map[string]string{}
		for line := range strings.Lines(h.output(o)) {
			f := strings.Fields(line)
			got[f[0]] = f[1]
		}
		text := strings.Join([]string{got["Prm"], got["Eff"], got["Bnd"], got["Inh"], got["Amb"]}, " ")
		// The default set's number depends on nothing: compare as it is.
		if text != c.want {
			t.Errorf("user %q add %v drop %v: %s, want %s", c.user, c.add, c.drop, text, c.want)
		}
	}
}

// No descriptor of the engine is seen inside, and no working directory leads
// out (CVE-2024-21626).
func TestRT09NoDescriptorLeads(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	if got := h.output(h.options("sh", "-c", "ls /proc/self/fd | sort -n | tr '\\n' ' ' 2>/dev/null || ls /proc/self/fd")); strings.Contains(got, "4") {
		t.Errorf("descriptors of run: %q", got)
	}
	if _, out := h.exec(id, "ls", "/proc/self/fd"); len(strings.Fields(out)) > 4 {
		t.Errorf("descriptors of exec: %q", out)
	}
	for n := 3; n < 20; n++ {
		o := h.options("pwd")
		o.WorkingDir, o.AutoRemove = fmt.Sprintf("/proc/self/fd/%d", n), true
		if _, out, _, err := h.run(o); err == nil && (strings.Contains(out, "unreachable") || !strings.HasPrefix(out, "/proc")) {
			t.Errorf("working directory %d of run: %q", n, out)
		}
		var out bytes.Buffer
		_, err := h.e.Exec(t.Context(), id, ExecOptions{WorkingDir: fmt.Sprintf("/proc/self/fd/%d", n), Command: []string{"pwd"}, Streams: Streams{Stdout: &out}})
		if err == nil && (strings.Contains(out.String(), "unreachable") || !strings.HasPrefix(out.String(), "/proc")) {
			t.Errorf("working directory %d of exec: %q", n, out.String())
		}
	}
}

// What the engine puts into a container is mounted, and links there lead
// nowhere else.
func TestRT15LinksWhereFilesAreMounted(t *testing.T) {
	h := newHarness(t)
	canary := filepath.Join(h.dir, "canary")
	if err := os.WriteFile(canary, []byte("unchanged"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"} {
		if err := os.Symlink(canary, filepath.Join(h.rootfs, name)); err != nil {
			t.Fatal(err)
		}
	}
	o := h.options("sh", "-c", "echo x > /etc/hosts; echo y > /etc/hostname; cat /etc/resolv.conf")
	o.AutoRemove = true
	h.run(o)
	if data, err := os.ReadFile(canary); err != nil || string(data) != "unchanged" {
		t.Errorf("the host's file is %q, %v", data, err)
	}
}

// Volumes may not lie on /proc or /sys.
func TestRT03NothingOnProc(t *testing.T) {
	h := newHarness(t)
	for _, dst := range []string{"/proc", "/proc/self/attr", "/sys", "/sys/kernel"} {
		o := h.options("true")
		o.Mounts = []Mount{{Type: "bind", Source: h.dir, Destination: dst}}
		if _, err := h.e.Create(t.Context(), o); err == nil {
			t.Errorf("a mount on %s was accepted", dst)
		}
		o.Mounts = []Mount{{Type: "volume", Source: "v", Destination: dst}}
		if _, err := h.e.Create(t.Context(), o); err == nil {
			t.Errorf("a volume on %s was accepted", dst)
		}
	}
	// A link that leads there is no way either.
	if err := os.Symlink("/proc", filepath.Join(h.rootfs, "innocent")); err != nil {
		t.Fatal(err)
	}
	o := h.options("sh", "-c", "ls /proc/self/status")
	o.Mounts = []Mount{{Type: "bind", Source: h.dir, Destination: "/innocent"}}
	o.AutoRemove = true
	if code, out, _, err := h.run(o); err == nil && (code != 0 || !strings.Contains(out, "status")) {
		t.Errorf("a mount over /proc by a link: exit code %d, %q", code, out)
	}
}

// Destinations that are links are resolved inside the root.
func TestRT14LinksForDirectories(t *testing.T) {
	h := newHarness(t)
	outside := filepath.Join(h.dir, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{outside, "/../../../../../.." + outside, "loop", "../../../../../../../etc"} {
		for _, name := range []string{"dev", "proc", "sys"} {
			link := filepath.Join(h.rootfs, name)
			os.Remove(link)
			if err := os.Symlink(dst, link); err != nil {
				t.Fatal(err)
			}
			o := h.options("true")
			o.AutoRemove = true
			h.run(o) // it may fail; it must not write outside
			os.Remove(link)
			os.Mkdir(link, 0o755)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("the host's directory has %v, %v", entries, err)
	}
}

// Settings of the host cannot be changed by a sysctl of a container.
func TestSEC02SysctlsOfTheHost(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct{ sysctl, net, ipc string }{
		{"net.ipv4.ip_forward=1", "host", ""}, {"kernel.shmmax=1", "none", "host"}, {"kernel.core_pattern=|/evil", "none", ""}, {"vm.swappiness=1", "none", ""},
	} {
		o := h.options("true")
		o.NetworkMode, o.IpcNS, o.Sysctls = c.net, c.ipc, []string{c.sysctl}
		if _, err := h.e.Create(t.Context(), o); err == nil {
			t.Errorf("sysctl %s with --net=%s --ipc=%s was accepted", c.sysctl, c.net, c.ipc)
		}
	}
}

// A seccomp profile that cannot be read is a refusal.
func TestSEC04BadProfiles(t *testing.T) {
	h := newHarness(t)
	bad := filepath.Join(h.dir, "bad.json")
	empty := filepath.Join(h.dir, "empty.json")
	os.WriteFile(bad, []byte("{"), 0o644)
	os.WriteFile(empty, nil, 0o644)
	for _, profile := range []string{bad, empty, filepath.Join(h.dir, "missing.json"), h.dir, ""} {
		o := h.options("true")
		o.SecurityOpt = []string{"seccomp=" + profile}
		if _, err := h.e.Create(t.Context(), o); err == nil {
			t.Errorf("seccomp=%s was accepted", profile)
		}
	}
}

func TestSEC05DefaultFilter(t *testing.T) {
	h := newHarness(t)
	for _, command := range []string{"unshare -U true", "mount -t tmpfs none /tmp", "unshare -m true"} {
		o := h.options("sh", "-c", command+" 2>/dev/null && echo allowed; grep Seccomp: /proc/self/status")
		if got := h.output(o); strings.Contains(got, "allowed") || !strings.Contains(got, "\t2") {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// A child that keeps the output open does not hold an exec up.
func TestEXEC04ChildKeepsOutput(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	begin := time.Now()
	if _, out := h.exec(id, "sh", "-c", "sleep 500 & echo done"); !strings.Contains(out, "done") {
		t.Errorf("output = %q", out)
	}
	if d := time.Since(begin); d > drainTime+3*time.Second {
		t.Errorf("exec took %v", d)
	}
}

// A program in the container gets no descriptor of the user's terminal or
// files, only pipes.
func TestEXEC07OutputIsAPipe(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	file, err := os.Create(filepath.Join(h.dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := h.e.Exec(t.Context(), id, ExecOptions{Command: []string{"readlink", "/proc/self/fd/1"}, Streams: Streams{Stdout: file}}); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(file.Name()); !strings.HasPrefix(string(data), "pipe:") {
		t.Errorf("standard output of exec is %q", data)
	}
}

func TestExecCodes(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	if code, _ := h.exec(id, "sh", "-c", "exit 5"); code != 5 {
		t.Errorf("exit code = %d, want 5", code)
	}
	for _, c := range []struct {
		command string
		code    int
	}{{"no-such", 127}, {"/etc/passwd", 126}} {
		if _, err := h.e.Exec(t.Context(), id, ExecOptions{Command: []string{c.command}}); ExitCode(err) != c.code {
			t.Errorf("exec %s: %v has exit code %d, want %d", c.command, err, ExitCode(err), c.code)
		}
	}
	created, err := h.e.Create(t.Context(), h.options("true"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Exec(t.Context(), created, ExecOptions{Command: []string{"true"}}); !errors.Is(err, ErrState) {
		t.Errorf("exec in a created container: %v, want ErrState", err)
	}
}
