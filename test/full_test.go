package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallStore mounts a small file system of its own where the machine's store
// will be, and returns its directory.
func smallStore(m *machine, size int64, mkfs ...string) string {
	m.Helper()
	file, dir := filepath.Join(m.dir, "disk"), m.root()
	f, err := os.Create(file)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	for d := dir; err == nil && d != m.dir; d = filepath.Dir(d) {
		err = os.Chown(d, m.id(), m.gid())
	}
	if err != nil {
		m.Fatal(err)
	}
	owner := fmt.Sprintf("root_owner=%d:%d", m.id(), m.gid())
	if out, err := exec.Command("mkfs.ext4", append(append([]string{"-q", "-m", "0", "-E", owner}, mkfs...), file)...).CombinedOutput(); err != nil {
		m.Skipf("needs mkfs.ext4: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		m.Skipf("needs loop devices: %v %s", err, out)
	}
	m.disk = dir
	return dir
}

// fill takes all that is left of a file system: its blocks, then its last ones
// in small pieces.
func fill(m *machine, dir string) {
	m.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
			if f.Sync() != nil {
				break
			}
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bavail > 0 {
		m.Fatalf("%d blocks are free after all was filled (%v)", st.Bavail, err)
	}
}

// someOfEach makes one object of each kind, and returns what shows or removes
// them: the commands that a full disk must not stop, in their order.
func someOfEach(m *machine) [][]string {
	m.Helper()
	m.ok("tag", "localhost/fx:1", "localhost/fx:2")
	m.ok("volume", "create", "v")
	m.ok("volume", "create", "--label", "x=y", "w")
	m.ok("network", "create", "full-test")
	m.ok("pod", "create", "--name", "p")
	m.ok("run", "-d", "--log-driver", "none", "--name", "runs", "-v", "v:/v", "localhost/fx:1", "sh", "-c", "echo x >/written; sleep 1000")
	m.ok("run", "-d", "--log-driver", "none", "--name", "other", "localhost/fx:1", "sleep", "1000")
	m.ok("create", "--label", "prune=me", "--name", "pruned", "localhost/fx:1", "true")
	m.ok("run", "--name", "ended", "localhost/fx:1", "sh", "-c", "dd if=/dev/zero of=/zero bs=64k count=4 2>/dev/null")
	return [][]string{{"ps", "-a"}, {"images"}, {"inspect", "runs"}, {"logs", "ended"}, {"exec", "other", "true"}, {"stop", "-t", "0", "runs"}, {"rm", "runs"}, {"kill", "other"},
		{"rm", "-f", "-t", "0", "other"}, {"container", "prune", "-f", "--filter", "label=prune=me"}, {"rm", "ended"}, {"rmi", "localhost/fx:2"}, {"volume", "rm", "v"}, {"pod", "rm", "p"}, {"network", "rm", "full-test"}, {"secret", "ls"},
		{"system", "prune", "-f"}, {"volume", "prune", "-a", "-f"}, {"image", "prune", "-a", "-f"}, {"ps", "-a"}}
}

// With nothing free, what looks and what makes room works.
func TestF29WithoutRoom(t *testing.T) {
	for name, user := range map[string]string{"root": "", "user": testUser} {
		t.Run(name, func(t *testing.T) { withoutRoom(t, user) })
	}
}

func withoutRoom(t *testing.T, user string) {
	m := newMachineOn(t, user, func(m *machine) { smallStore(m, 64<<20) })
	commands := someOfEach(m)
	fill(m, m.root())
	clearError(t, m.run("run", "--name", "late", "localhost/fx:1", "true"), "hull run with a full disk")
	clearError(t, m.run("tag", "localhost/fx:1", "localhost/fx:3"), "hull tag with a full disk")
	for _, args := range commands {
		fill(m, m.root())
		if r := m.run(args...); r.code != 0 || r.errOut != "" {
			t.Errorf("hull %q with a full disk: exit code %d: %s", args, r.code, r.errOut)
		}
	}
	os.Remove(filepath.Join(m.root(), "filler"))
	m.importImage()
	m.ok("run", "--rm", "localhost/fx:1", "true")
}

// Without inodes nothing can be made, and everything be removed.
func TestF30WithoutInodes(t *testing.T) {
	m := newMachineOn(t, "", func(m *machine) { smallStore(m, 64<<20, "-N", "500") })
	use := func() {
		dir := filepath.Join(m.root(), "fillers")
		os.Mkdir(dir, 0o700)
		for i := range 1000 {
			f, err := os.CreateTemp(dir, "")
			if err != nil {
				return
			}
			f.Close()
			_ = i
		}
	}
	commands := someOfEach(m)
	use()
	clearError(t, m.run("run", "--name", "late", "localhost/fx:1", "true"), "hull run without inodes")
	for _, args := range commands {
		use()
		if r := m.run(args...); r.code != 0 || r.errOut != "" {
			t.Errorf("hull %q without inodes: exit code %d: %s", args, r.code, r.errOut)
		}
	}
	os.RemoveAll(filepath.Join(m.root(), "fillers"))
	m.importImage()
	m.ok("run", "--rm", "localhost/fx:1", "true")
}

// A store that has become read-only can be looked at; what would change it
// says why it cannot. What runs goes on.
func TestF32ReadOnly(t *testing.T) {
	var disk string
	m := newMachineOn(t, "", func(m *machine) { disk = smallStore(m, 64<<20) })
	someOfEach(m)
	pid := m.ok("inspect", "-f", "{{.State.Pid}}", "other")
	// A monitor that has a log open would hold the remount back: these have none.
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ps", "-a"}, {"images"}, {"inspect", "other"}, {"logs", "ended"}, {"volume", "ls"}, {"pod", "ps"}, {"network", "ls"}, {"exec", "other", "true"}, {"info"}} {
		if r := m.run(args...); r.code != 0 || r.errOut != "" {
			t.Errorf("hull %q with a read-only disk: exit code %d: %s", args, r.code, r.errOut)
		}
	}
	for _, args := range [][]string{{"run", "localhost/fx:1", "true"}, {"create", "localhost/fx:1", "true"}, {"tag", "localhost/fx:1", "localhost/fx:3"}, {"volume", "create", "x"}, {"rm", "ended"}, {"rmi", "localhost/fx:2"},
		{"rename", "ended", "x"}, {"network", "create", "x"}, {"import", filepath.Join(m.dir, "image.tar")}, {"volume", "rm", "w"}, {"commit", "ended", "localhost/fx:4"}} {
		clearError(t, m.run(args...), fmt.Sprintf("hull %q with a read-only disk", args))
	}
	if got := m.ok("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "other"); got != "running "+pid {
		t.Errorf("the container that ran is %s, not running %s", got, pid)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	m.ok("rm", "ended")
	m.equal("running", "inspect", "-f", "{{.State.Status}}", "other")
	m.ok("system", "check")
	m.ok("pod", "rm", "p")
	m.ok("volume", "rm", "w")
}

// clearError wants one error, with the cause's own words.
func clearError(t *testing.T, r result, what string) {
	t.Helper()
	text := strings.ToLower(r.errOut)
	cause := strings.Contains(text, syscall.ENOSPC.Error()) || strings.Contains(text, syscall.EROFS.Error()) || strings.Contains(text, syscall.EDQUOT.Error())
	if r.code == 0 || strings.Count("\n"+r.errOut, "\nError: ") != 1 || !cause || strings.Contains(text, "panic") {
		t.Errorf("%s: exit code %d, want one clear error: %s", what, r.code, r.errOut)
	}
}

// With few descriptors a command works or says, once, that they are too few.
// Below eight Go's runtime itself does not start.
func TestF36FewDescriptors(t *testing.T) {
	m := newMachine(t, "")
	limit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skip("needs prlimit")
	}
	started := false
	for _, n := range []int{8, 12, 16, 20, 24, 256} {
		for _, args := range [][]string{{"ps", "-a"}, {"run", "--rm", "--network", "none", "localhost/fx:1", "true"}} {
			c := m.command(args...)
			c.Args = append([]string{limit, fmt.Sprintf("--nofile=%d:%d", n, n)}, c.Args...)
			c.Path = limit
			out, err := c.CombinedOutput()
			if started = err == nil && args[0] == "run"; err != nil && strings.Count("\n"+string(out), "\nError: ") != 1 {
				t.Errorf("hull %q with %d descriptors: %v, want one clear error: %s", args, n, err, out)
			}
		}
	}
	if !started {
		t.Error("no container started with 256 descriptors")
	}
	m.ok("system", "check")
	m.equal("", "ps", "-aq")
}
