package engine

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A canary is a directory of the host that no container may touch. Its watch
// tells of every opening, also one that changes nothing.
type canary struct {
	dir, file string
	before    string
	watch     int
}

func newCanary(t *testing.T, dir string) *canary {
	t.Helper()
	c := &canary{dir: filepath.Join(dir, "canary")}
	c.file = filepath.Join(c.dir, "file")
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.file, []byte("unchanged\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.before = c.list()
	var err error
	if c.watch, err = unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.watch) })
	for _, p := range []string{c.dir, c.file} {
		if _, err := unix.InotifyAddWatch(c.watch, p, unix.IN_OPEN|unix.IN_CREATE|unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// list has the names, owners, modes and content below the directory.
func (c *canary) list() string {
	var b strings.Builder
	filepath.WalkDir(c.dir, func(p string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(p, &st)
		}
		data, _ := os.ReadFile(p)
		fmt.Fprintln(&b, p, st.Uid, st.Gid, st.Mode, string(data), err)
		return nil
	})
	return b.String()
}

// check says what happened to the canary; quiet asks that nobody opened it.
func (c *canary) check(t *testing.T, when string, quiet bool) {
	t.Helper()
	buf := make([]byte, 4096)
	n, _ := unix.Read(c.watch, buf)
	if n > 0 && quiet {
		t.Errorf("%s: somebody looked at the host's directory: %d bytes of events", when, n)
	}
	if now := c.list(); now != c.before {
		t.Errorf("%s: the host's directory was\n%sand is\n%s", when, c.before, now)
	}
	for n = 1; n > 0; { // our own look
		n, _ = unix.Read(c.watch, buf)
	}
}

// noDescriptorOutside looks where the descriptors of a container's first
// process lead.
func noDescriptorOutside(t *testing.T, h *harness, id string) {
	t.Helper()
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.status(id).Pid))
	for _, l := range links {
		to, err := os.Readlink(l)
		if err == nil && strings.HasPrefix(to, "/") && to != "/dev/null" && !strings.HasPrefix(to, "/dev/pts/") {
			t.Errorf("descriptor %s leads to %s", filepath.Base(l), to)
		}
	}
}

// RT-01: what the runtime opens before the container has its root may be a
// link to the host in the image.
func TestRT01LinksToTheHost(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	for _, name := range []string{"dev", "dev/null", "dev/pts", "dev/shm", "dev/console", "proc", "sys", "run", "etc", "etc/hosts", "etc/passwd", "etc/group", "etc/resolv.conf", "etc/mtab", "tmp", "root"} {
		for _, to := range []string{c.dir, c.file} {
			path := filepath.Join(h.rootfs, name)
			kept := filepath.Join(h.dir, "kept")
			os.RemoveAll(kept)
			os.Rename(path, kept)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			o := h.options("sleep", "1000")
			o.User = "1000"
			if r, err := h.e.Run(t.Context(), o, RunOptions{Detach: true}); err == nil {
				noDescriptorOutside(t, h, r.ID)
			}
			c.check(t, name+" -> "+filepath.Base(to), true)
			os.Remove(path)
			os.Rename(kept, path)
		}
	}
}

// RT-02: a container that replaces the place of a mount by a link to the host
// is started again.
func TestRT02PlacesReplacedByLinks(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	src := filepath.Join(h.dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"/data", "/tmp/a/b"} {
		// The directory of a mount can be moved away, mount and all.
		o := h.options("sh", "-c", fmt.Sprintf("ln -sfn %s /data; busybox mv /tmp/a /tmp/old; ln -sfn %s /tmp/a; sleep 1000", c.dir, c.dir))
		o.Mounts = []Mount{{Type: "bind", Source: src, Destination: place}}
		id := h.detached(o)
		h.eventually("the links are there", func() bool {
			code, _ := h.exec(id, "readlink", "/data")
			return code == 0 || place == "/data"
		})
		for range 2 {
			if err := h.e.Restart(t.Context(), id, StopOptions{Timeout: new(uint)}); err != nil {
				t.Logf("restart: %v", err)
				break
			}
			noDescriptorOutside(t, h, id)
		}
		c.check(t, place, true)
	}
}

// RT-04: an image whose program is its interpreter's own file, with others that
// write to whatever programs there are, does not reach the engine's binaries.
func TestRT04TheEngineIsNotWritten(t *testing.T) {
	h := newHarness(t)
	if err := os.WriteFile(filepath.Join(h.rootfs, "evil"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binaries := []string{self, filepath.Join(h.e.o.LibexecDir, "hull-monitor")}
	sums := func() (out string) {
		for _, b := range binaries {
			data, err := os.ReadFile(b)
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprintf("%x ", sha256.Sum256(data))
		}
		return out
	}
	before := sums()
	o := h.options("sh", "-c", "while true; do for p in /proc/[0-9]*/exe; do (echo broken >$p) 2>/dev/null; done; done")
	attacker := h.detached(o)
	for range races(20, 500) {
		if r, err := h.e.Exec(t.Context(), attacker, ExecOptions{Command: []string{"/evil"}}); err == nil && r.Code == 0 {
			t.Error("the program that is its own interpreter ended well")
		}
		o := h.options("/evil")
		o.AutoRemove, o.PidNS = true, "container:"+attacker
		h.run(o)
	}
	if after := sums(); after != before {
		t.Errorf("binaries %v were\n%s, are\n%s", binaries, before, after)
	}
}

// RT-05: an image's /proc is never taken for procfs.
func TestRT05FakeProc(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	proc := filepath.Join(h.rootfs, "proc")
	for name, make := range map[string]func() error{
		"directory": func() error {
			os.MkdirAll(proc+"/self/attr", 0o755)
			os.MkdirAll(proc+"/thread-self/attr/apparmor", 0o755)
			os.WriteFile(proc+"/self/attr/exec", nil, 0o666)
			return os.WriteFile(proc+"/thread-self/attr/apparmor/exec", nil, 0o666)
		},
		"link inside": func() error { return os.Symlink("/tmp", proc) },
		"link out":    func() error { return os.Symlink(c.dir, proc) },
		"file":        func() error { return os.WriteFile(proc, nil, 0o644) },
		"missing":     func() error { return nil },
	} {
		os.RemoveAll(proc)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		o := h.options("sh", "-c", "stat -f -c %t /proc; grep -c /proc/timer_list /proc/self/mountinfo")
		o.AutoRemove = true
		code, out, _, err := h.run(o)
		if err == nil && (code != 0 || strings.TrimSpace(out) != "9fa0\n1") {
			t.Errorf("%s: exit code %d, %q; want procfs, masked", name, code, out)
		}
		for _, f := range []string{"/self/attr/exec", "/thread-self/attr/apparmor/exec"} {
			if data, _ := os.ReadFile(proc + f); len(data) > 0 {
				t.Errorf("%s: a label was written to the image's %s: %q", name, f, data)
			}
		}
		c.check(t, name, true)
	}
}

// RT-11, RT-16: an image's /dev/null is not what masks, nor what is written to
// or given away.
func TestRT11FakeNull(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	null := filepath.Join(h.rootfs, "dev/null")
	for name, make := range map[string]func() error{
		"link":         func() error { return os.Symlink(c.file, null) },
		"file":         func() error { return os.WriteFile(null, []byte("file\n"), 0o600) },
		"other device": func() error { return unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"host's file": func() error {
			if err := os.WriteFile(null, nil, 0o600); err != nil {
				return err
			}
			return unix.Mount(c.file, null, "", unix.MS_BIND, "")
		},
	} {
		unix.Unmount(null, unix.MNT_DETACH)
		os.Remove(null)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		var was, is unix.Stat_t
		unix.Lstat(null, &was)
		o := h.options("sh", "-c", `stat -c %t:%T /dev/null; head -c 1 /proc/timer_list | wc -c
(echo b >/proc/sysrq-trigger) 2>/dev/null && echo sysrq; (echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern; true`)
		o.AutoRemove, o.RootfsOverlay = true, false
		o.User = "0:0"
		code, out, errs, err := h.run(o)
		if err == nil && (code != 0 || strings.TrimSpace(out) != "1:3\n0") {
			t.Errorf("%s: exit code %d, %q %s", name, code, out, errs)
		}
		o = h.options("readlink", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2")
		o.AutoRemove, o.RootfsOverlay, o.User, o.Interactive = true, false, "1000", true
		if _, out, _, err := h.run(o); err == nil {
			for line := range strings.Lines(out) {
				if !strings.HasPrefix(line, "pipe:") && strings.TrimSpace(line) != "/dev/null" {
					t.Errorf("%s: a stream is %q", name, line)
				}
			}
		}
		unix.Lstat(null, &is)
		if was.Uid != is.Uid || was.Mode != is.Mode || was.Size != is.Size || was.Rdev != is.Rdev {
			t.Errorf("%s: the image's file was changed: %+v, %+v", name, was, is)
		}
		unix.Unmount(null, unix.MNT_DETACH)
		c.check(t, name, false)
	}
	os.Remove(null)
}

// RT-12: the console is the terminal that was made, whatever the image has.
func TestRT12Console(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	for _, name := range []string{"dev/console", "dev/pts/0", "dev/pts/ptmx", "dev/ptmx", "dev/pts"} {
		path := filepath.Join(h.rootfs, name)
		os.RemoveAll(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(c.file, path); err != nil {
			t.Fatal(err)
		}
		o := h.options("sh", "-c", "tty; stat -c %t /dev/console; stat -L -c %t /proc/self/fd/0")
		o.Terminal, o.AutoRemove = true, true
		if _, out, _, err := h.run(o); err == nil && strings.Join(strings.Fields(out), " ") != "/dev/pts/0 88 88" {
			t.Errorf("%s: %q", name, out)
		}
		c.check(t, name, true)
		os.RemoveAll(path)
	}
}

// RT-17: a working directory is made inside the root.
func TestRT17WorkingDirectories(t *testing.T) {
	h := newHarness(t)
	c := newCanary(t, h.dir)
	for link, to := range map[string]string{"abs": c.dir, "dangling": c.dir + "/missing", "up": "../../../../../../../.." + c.dir, "loop": "loop", "viaproc": "/proc/1/root" + c.dir} {
		path := filepath.Join(h.rootfs, link)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"/" + link, "/" + link + "/new", "/" + link + "/../x", "/../../" + link + "/new"} {
			o := h.options("pwd")
			o.WorkingDir, o.AutoRemove = dir, true
			if _, out, _, err := h.run(o); err == nil && (strings.Contains(out, "unreachable") || !strings.HasPrefix(out, "/")) {
				t.Errorf("run -w %s: %q", dir, out)
			}
		}
		c.check(t, link, true)
	}
	id := h.detached(h.options("sleep", "1000"))
	for _, dir := range []string{"/abs/new", "/up", "/proc/self/fd/9"} {
		if r, err := h.e.Exec(t.Context(), id, ExecOptions{WorkingDir: dir, Command: []string{"true"}}); err == nil && r.Code == 0 && dir != "/abs/new" {
			t.Logf("exec -w %s works inside", dir)
		}
		c.check(t, "exec -w "+dir, true)
	}
}
