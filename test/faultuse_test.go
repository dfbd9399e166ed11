package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// F14: the programs are replaced while containers run: old monitors work on,
// and the new programs know what the old ones started.
func TestF14BinariesReplaced(t *testing.T) {
	m := newMachine(t, "")
	old := filepath.Join(m.dir, "bin")
	copyTo := func(dir string) {
		t.Helper()
		if out, err := exec.Command("cp", "-a", filepath.Dir(m.hull), dir).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v %s", err, out)
		}
	}
	built := m.hull
	copyTo(old)
	m.hull = filepath.Join(old, "hull")
	for _, name := range []string{"ends", "stays", "restarts"} {
		args := []string{"run", "-d", "--name", name}
		if name == "restarts" {
			args = append(args, "--restart", "always")
		}
		m.ok(append(args, "localhost/fx:1", "sh", "-c", "trap 'exit 7' TERM; while ! test -e /end; do sleep 0.1; done; rm /end; exit 3")...)
	}
	// As a package manager does: the old files go, others take their places.
	m.hull = built
	if err := os.Rename(old, old+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(old + ".old"); err != nil {
		t.Fatal(err)
	}
	// While there is none, a container ends: nobody can clean up after it.
	pid := m.pid("ends")
	m.ok("exec", "ends", "touch", "/end")
	m.eventually("the container has ended", func() bool { return unix.Kill(pid, 0) != nil })
	m.hull = built
	copyTo(old)
	m.hull = filepath.Join(old, "hull")
	m.eventually("its end is known", func() bool {
		return m.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends") == "exited 3"
	})
	m.equal("running", "inspect", "-f", "{{.State.Status}}", "stays")
	m.ok("exec", "stays", "true")
	m.ok("logs", "stays")
	m.ok("stop", "stays")
	m.equal("exited 7", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "stays")
	m.ok("exec", "restarts", "touch", "/end")
	m.eventually("the new program restarts it", func() bool {
		return m.ok("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "restarts") == "running 1"
	})
	m.ok("rm", "-f", "-t", "0", "ends", "stays", "restarts")
	m.hull = built
}

// F19: a session ends: all processes of the user are killed and his run
// directory is removed. The containers are known as ended, and start again.
func TestF19SessionEnds(t *testing.T) {
	m := newMachine(t, testUser)
	m.ok("run", "-d", "--name", "c", "localhost/fx:1", "sleep", "1000")
	pid := m.pid("c")
	// The monitor goes before the container: it would tell its end else.
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		cwd, _ := os.Readlink(p + "/cwd")
		line, _ := os.ReadFile(p + "/cmdline")
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && (strings.HasPrefix(cwd, m.dir+"/run") || bytes.Contains(line, []byte(m.dir))) && pid != os.Getpid() {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	m.endHolder() // and with it all that the user has of this machine
	unix.Kill(pid, unix.SIGKILL)
	if err := os.RemoveAll(filepath.Join(m.dir, "run", "hull")); err != nil {
		t.Fatal(err)
	}
	m.eventually("the end is seen", func() bool { return m.ok("inspect", "-f", "{{.State.Status}}", "c") == "exited" })
	if why := m.ok("inspect", "-f", "{{.State.Error}}", "c"); !strings.Contains(why, "linger") {
		t.Errorf("the state's error is %q; it should name the cure for an end of the session", why)
	}
	m.ok("start", "c")
	m.equal("running", "inspect", "-f", "{{.State.Status}}", "c")
	m.ok("exec", "c", "true")
	m.ok("rm", "-f", "-t", "0", "c")
}

// F37: there is no number of locks: objects are limited by the disk alone.
func TestF37NoNumberOfLocks(t *testing.T) {
	m := newMachine(t, "")
	n := count(t, "HULL_OBJECTS", 40)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < n; i += 4 {
				name := "o" + strconv.Itoa(i)
				m.ok("volume", "create", name)
				m.ok("create", "--name", name, "--network", "none", "-v", name+":/v", "localhost/fx:1", "true")
				if i%10 == 0 {
					m.ok("pod", "create", "--network", "none", "--name", "pod-"+name)
				}
			}
		})
	}
	wg.Wait()
	if got := len(strings.Fields(m.ok("ps", "-aq", "--filter", "name=^o"))); got != n {
		t.Errorf("%d containers, want %d", got, n)
	}
	if locks := entries(filepath.Join(m.runRoot(), "locks")); len(locks) > 0 {
		t.Errorf("locks are left: %q", locks)
	}
	m.ok("pod", "rm", "-af", "-t", "0")
	m.ok("rm", "-af")
	m.ok("volume", "prune", "-a", "-f")
}

// F52: what was written below a mount point while nothing was mounted there is
// put aside, and the container starts, mounts and goes.
func TestF52FilesBelowTheMountPoint(t *testing.T) {
	m := newMachine(t, "")
	m.ok("create", "--name", "c", "localhost/fx:1", "true")
	for i, then := range [][]string{{"start", "-a", "c"}, {"mount", "c"}, {"umount", "-f", "c"}, {"rm", "c"}} {
		dir := m.ok("mount", "c")
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "precious"), []byte(strconv.Itoa(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		m.ok(then...)
		if then[0] == "mount" {
			m.ok("umount", "c")
		}
	}
	kept, _ := filepath.Glob(m.runRoot() + "/lost+found/*/precious")
	if len(kept) != 4 {
		t.Errorf("kept are %q, want all four", kept)
	}
}

// F54: a reset of a root that is no store, or not only, removes nothing of
// others; a link as root is no way around that.
func TestF54ResetOfAWrongRoot(t *testing.T) {
	m := newMachine(t, "")
	home := filepath.Join(m.dir, "home", "jo")
	files := []string{"images/holiday.jpg", "volumes/7/book.txt", "cache/browser/x", "secrets/diary", "letter", "containers/box/list", "build/main.o", "networks/map.png"}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(home, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(m.dir, "link")
	if err := os.Symlink(home, link); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(m.dir, "run", "jo")
	check := func(what string) {
		t.Helper()
		for _, f := range files {
			if b, err := os.ReadFile(filepath.Join(home, f)); err != nil || string(b) != f {
				t.Errorf("%s: %s: %v", what, f, err)
			}
		}
	}
	reset := func(root string, dir string) result {
		c := exec.Command(m.hull, "--root", root, "--runroot", run, "system", "reset", "--force")
		c.Env, c.Dir = m.env, dir
		out, _ := c.CombinedOutput()
		return result{c.ProcessState.ExitCode(), "", string(out)}
	}
	for _, root := range []string{home, link, "."} {
		if r := reset(root, home); r.code == 0 {
			t.Errorf("reset of %s succeeded: %s", root, r.errOut)
		}
		check("reset of " + root)
	}
	// A store among the user's files: his stay, the store's go only when that is safe.
	c := exec.Command(m.hull, "--root", home, "--runroot", run, "import", "-q", filepath.Join(m.dir, "image.tar"), "localhost/fx:1")
	c.Env = m.env
	c.CombinedOutput()
	reset(home, m.dir)
	check("reset of a store among a user's files")
	// The store itself goes.
	m.ok("volume", "create", "v")
	m.ok("system", "reset", "--force")
	m.equal("", "images", "-q")
	m.equal("", "volume", "ls", "-q")
}

// F56: what prune takes is what nobody uses, and of volumes those without a
// name, unless it is told otherwise.
func TestF56PruneKeeps(t *testing.T) {
	m := newMachine(t, "")
	m.ok("tag", "localhost/fx:1", "localhost/spare:1")
	m.ok("volume", "create", "named")
	m.ok("volume", "create", "--label", "keep=yes", "labelled")
	m.ok("network", "create", "pruned")
	m.ok("run", "-d", "--name", "runs", "--network", "none", "-v", "used:/u", "-v", "/anonymous", "localhost/fx:1", "sleep", "1000")
	m.ok("create", "--name", "made", "--network", "none", "-v", "made:/u", "-v", "/anonymous", "localhost/fx:1", "true")
	volumes := func() string { return strings.Join(strings.Fields(m.ok("volume", "ls", "-q")), " ") }
	has := func(what string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(" "+volumes()+" ", " "+w+" ") {
				t.Errorf("%s: volume %s is gone", what, w)
			}
		}
	}
	before := len(strings.Fields(volumes()))
	m.ok("volume", "prune", "-f")
	if got := len(strings.Fields(volumes())); got != before {
		t.Errorf("volume prune took of what is named or used: %d volumes, before %d", got, before)
	}
	m.ok("image", "prune", "-f")
	m.ok("image", "prune", "-a", "-f")
	m.ok("image", "inspect", "localhost/fx:1")
	m.ok("system", "prune", "-f")
	has("system prune", "named", "labelled", "used", "made")
	m.equal("running", "inspect", "-f", "{{.State.Status}}", "runs")
	m.ok("system", "prune", "-a", "-f", "--volumes", "--filter", "label!=keep")
	has("system prune --volumes with a filter", "labelled", "used")
	m.ok("volume", "prune", "-a", "-f", "--filter", "label!=keep")
	has("volume prune -a with a filter", "labelled", "used")
	m.ok("volume", "prune", "-a", "-f")
	has("volume prune -a", "used")
	if r := m.run("network", "inspect", "pruned"); r.code == 0 {
		t.Error("the network that nobody uses is still there")
	}
	m.ok("exec", "runs", "true")
	m.ok("rm", "-f", "-t", "0", "-v", "runs")
	m.ok("volume", "prune", "-a", "-f")
}

// stopped says whether a process sleeps as SIGSTOP makes it.
func stopped(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(b, ')')
	return i > 0 && len(b) > i+2 && b[i+2] == 'T'
}

// monitorMemory is what the container's monitor has in memory, in bytes, at most so far.
func (m *machine) monitorMemory(name string) int64 {
	m.Helper()
	status, err := os.ReadFile("/proc/" + m.ok("inspect", "-f", "{{.State.ConmonPid}}", name) + "/status")
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// F60: a container writes without end while an attached client is stopped, a
// reader of its log takes a byte a second, and another has attached and does
// not read: it is not held up, and its monitor does not grow.
func TestF60OutputWithoutReaders(t *testing.T) {
	m := newMachine(t, "")
	megabytes := count(t, "HULL_OUTPUT_MB", 64)
	m.ok("run", "-d", "--name", "c", "--network", "none", "--log-driver", "k8s-file", "--log-opt", "max-size=1mb", "localhost/fx:1",
		"sh", "-c", fmt.Sprintf("while ! test -e /go; do sleep 0.05; done; yes 0123456789012345678901234567890123456789 | head -c %dM; touch /written; sleep 1000", megabytes))
	halted := m.command("attach", "--no-stdin", "c")
	if err := halted.Start(); err != nil {
		t.Fatal(err)
	}
	slow := m.command("logs", "-f", "c")
	out, err := slow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := m.command("attach", "--no-stdin", "c") // into a pipe that nobody reads
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stuck.Stdout = w
	if err := stuck.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer func() {
		for _, c := range []*exec.Cmd{halted, slow, stuck} {
			c.Process.Kill()
			c.Wait()
		}
	}()
	go func() {
		b := bufio.NewReaderSize(out, 16)
		for {
			if _, err := b.ReadByte(); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}()
	time.Sleep(300 * time.Millisecond) // they are attached
	halted.Process.Signal(syscall.SIGSTOP)
	m.eventually("the client is stopped", func() bool { return stopped(halted.Process.Pid) })
	m.ok("exec", "c", "touch", "/go")
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if m.run("exec", "c", "sh", "-c", "test -e /written").code == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the container does not get rid of its output")
		}
	}
	if got := m.monitorMemory("c"); got > 24<<20 {
		t.Errorf("the monitor took %d MB", got>>20)
	} else {
		t.Logf("the monitor took %d kB at most", got>>10)
	}
	m.ok("rm", "-f", "-t", "0", "c")
}

// The output of a foreground run is the user's pipe: nothing of it is lost,
// however slowly it is read.
func TestForegroundOutputIsWhole(t *testing.T) {
	m := newMachine(t, "")
	c := m.command("run", "--rm", "--network", "none", "localhost/fx:1", "sh", "-c", "seq 1 600000")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	b, err := io.ReadAll(out)
	if werr := c.Wait(); err != nil || werr != nil || !bytes.HasSuffix(b, []byte("\n600000\n")) || bytes.Count(b, []byte("\n")) != 600000 {
		t.Errorf("read %d lines, %v, %v", bytes.Count(b, []byte("\n")), err, werr)
	}
}
