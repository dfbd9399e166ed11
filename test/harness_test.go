package test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testUser is who the tests of a user's containers are run as; hack/setup makes it.
const testUser = "hulltest"

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hull-test-bin-")
	if err != nil {
		return "", err
	}
	for to, pkg := range map[string]string{"hull": "hull/cmd/hull", "libexec/hull/hull-monitor": "hull/cmd/hull-monitor", "libexec/hull/hull-net": "hull/cmd/hull-net"} {
		c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, to), pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %v\n%s", pkg, err, out)
		}
	}
	return dir, exec.Command("chmod", "-R", "a+rX", dir).Run()
})

func TestMain(m *testing.M) {
	if crashRole() {
		return
	}
	code := m.Run()
	if dir, _ := buildOnce(); dir != "" && built {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var built bool

// A machine is a store of its own with hull upon it, as root or as a user.
type machine struct {
	testing.TB
	hull, dir string
	user      *user.User // nil is root
	env       []string
	disk      string // where a file system of the store's own is mounted
	within    string // a process whose network is the machine's; "": the thread's
}

// newMachine needs root, also for a user's: it becomes that user.
func newMachine(t testing.TB, as string) *machine {
	t.Helper()
	return newMachineOn(t, as, func(*machine) {})
}

// newMachineOn is newMachine; prepare is called before the store is made.
func newMachineOn(t testing.TB, as string, prepare func(*machine)) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts, namespaces and other users")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	m := &machine{TB: t, env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"}}
	if as != "" {
		u, err := user.Lookup(as)
		if err != nil {
			t.Skipf("needs the user %s: hack/setup makes it", as)
		}
		m.user = u
	}
	built = true
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	m.hull = filepath.Join(bin, "hull")
	// Not t.TempDir, which a user may not enter.
	if m.dir, err = os.MkdirTemp("", "hull-test-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.cleanUp)
	for _, d := range []string{"", "home", "run", "tmp"} {
		d = filepath.Join(m.dir, d)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, m.id(), m.gid()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "HOME="+filepath.Join(m.dir, "home"), "XDG_RUNTIME_DIR="+filepath.Join(m.dir, "run"), "TMPDIR="+filepath.Join(m.dir, "tmp"))
	prepare(m)
	m.importImage()
	return m
}

func (m *machine) id() int {
	if m.user == nil {
		return 0
	}
	n, _ := strconv.Atoi(m.user.Uid)
	return n
}

func (m *machine) gid() int {
	if m.user == nil {
		return 0
	}
	n, _ := strconv.Atoi(m.user.Gid)
	return n
}

// globals are the options before every command: root's store is the machine's
// own only when it is said so.
func (m *machine) globals() []string {
	if m.user != nil {
		return nil // $HOME and $XDG_RUNTIME_DIR say where
	}
	return []string{"--root", filepath.Join(m.dir, "root"), "--runroot", filepath.Join(m.dir, "run", "hull")}
}

// command is hull with arguments, as the machine's user.
func (m *machine) command(args ...string) *exec.Cmd {
	argv := append([]string{m.hull}, append(m.globals(), args...)...)
	if m.within != "" {
		argv = append([]string{"nsenter", "-t", m.within, "-n", "--"}, argv...)
	}
	c := exec.Command(argv[0], argv[1:]...)
	c.Env, c.Dir = m.env, filepath.Join(m.dir, "tmp")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if m.user != nil {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(m.id()), Gid: uint32(m.gid())}
	}
	// A container that keeps the output open must not hang the test.
	c.WaitDelay = 10 * time.Second
	return c
}

// A result is how a command ended.
type result struct {
	code        int
	out, errOut string
}

// run runs hull to its end.
func (m *machine) run(args ...string) result {
	m.Helper()
	var out, errs bytes.Buffer
	c := m.command(args...)
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.Fatalf("hull %q: %v\n%s", args, err, errs.String())
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok runs hull, which must succeed, and returns its output without the last
// line's end.
func (m *machine) ok(args ...string) string {
	m.Helper()
	r := m.run(args...)
	if r.code != 0 {
		m.Fatalf("hull %q: exit code %d\n%s%s", args, r.code, r.out, r.errOut)
	}
	return strings.TrimSuffix(r.out, "\n")
}

// equal runs hull and compares its output, in words.
func (m *machine) equal(want string, args ...string) {
	m.Helper()
	if got := m.ok(args...); strings.Join(strings.Fields(got), " ") != want {
		m.Errorf("hull %q = %q, want %q", args, got, want)
	}
}

// importImage makes the image fx: busybox, a file of another's, and a user.
func (m *machine) importImage() {
	m.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			m.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			m.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "root", "run", "home/sailor", "srv"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		m.Fatal(err)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, a := range strings.Fields("sh true false cat echo ls id sleep mount hostname ps grep stat tty touch pwd readlink kill env head wc ip mkdir rm ln dd nc wget httpd chown chmod mknod unshare sort yes tail seq") {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox"}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nsailor:x:1000:\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "srv/cargo", Mode: 0o640, Uid: 1000, Gid: 1000}, []byte("cargo\n"))
	if err := w.Close(); err != nil {
		m.Fatal(err)
	}
	file := filepath.Join(m.dir, "image.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		m.Fatal(err)
	}
	m.ok("import", "-q", file, "localhost/fx:1")
}

// cleanUp removes all containers and says what is left then.
func (m *machine) cleanUp() {
	m.run("rm", "-af", "-t", "0", "-v")
	if m.disk != "" {
		syscall.Unmount(m.disk, syscall.MNT_DETACH)
	}
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = m.left(); len(left) == 0 {
			break
		}
	}
	if len(left) > 0 {
		m.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	m.endHolder()
	if err := os.RemoveAll(m.dir); err != nil {
		m.Error(err)
	}
}

// eventually waits for a condition.
func (m *machine) eventually(what string, is func() bool) {
	m.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	m.Fatalf("never: %s", what)
}

func owner(st os.FileInfo) int { return int(st.Sys().(*syscall.Stat_t).Uid) }

func tarOf(dir, file string) ([]byte, error) {
	return exec.Command("tar", "-C", dir, "-cf", file, ".").CombinedOutput()
}
