package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What cannot be done is said in one error, with the exit codes that podman
// has: 125 the engine, 126 it cannot be executed, 127 it is not there.
func TestBadInput(t *testing.T) {
	m := newMachine(t, "")
	m.ok("run", "-d", "--name", "box", "--network", "none", "fx:1", "sleep", "1000")
	for _, c := range []struct {
		line string
		code int
		say  string // in the error
		hint string // in the hint; "" may have none
	}{
		{"run --no-such-flag fx:1 true", 125, "unknown flag: --no-such-flag", "run --help"},
		{"create --no-such-flag fx:1 true", 125, "unknown flag: --no-such-flag", "create --help"},
		{"exec --no-such-flag box true", 125, "unknown flag: --no-such-flag", "exec --help"},
		{"run --memory abc fx:1 true", 125, "abc", "run --help"},
		{"run", 125, "requires at least 1 arg", ""},
		{"exec box", 125, "command", ""},
		{"no-such-command", 125, "no-such-command", "--help"},
		{"run --rm --pull=never localhost/no-such true", 125, "localhost/no-such", "pull"},
		{"run --rm --network none -u no-such fx:1 true", 126, "no-such", "/etc/passwd"},
		{"create -u no-such fx:1 true", 125, "no-such", "/etc/passwd"},
		{"exec -u no-such box true", 126, "no-such", "/etc/passwd"},
		{"run --rm --network none -w /no/such fx:1 true", 126, "/no/such", "does not exist"},
		{"run --rm --network none -w /etc/passwd fx:1 true", 126, "not a directory", ""},
		{"run --rm --network none -w relative fx:1 true", 125, "absolute", ""},
		{"exec -w /no/such box true", 127, "/no/such", "does not exist"},
		{"run --rm --network none fx:1 /etc/passwd", 126, "/etc/passwd", "not executable"},
		{"run --rm --network none fx:1 /etc", 126, "/etc", "not executable"},
		{"run --rm --network none fx:1 no-such", 127, "no-such", "not in the container"},
		{"run --rm --network none fx:1 /no/such", 127, "/no/such", "not in the container"},
		{"exec box /etc/passwd", 126, "/etc/passwd", "not executable"},
		{"exec box no-such", 127, "no-such", "not in the container"},
		{"exec no-such-box true", 125, "no-such-box", ""},
		{"run --name box fx:1 true", 125, "already in use", "--replace"},
		{"run --rm --network no-such fx:1 true", 125, "no-such", ""},
		{"run --rm -v /no/such:/x fx:1 true", 125, "/no/such", ""},
		{"run --rm -v /tmp:relative fx:1 true", 125, "relative", ""},
		{"run --rm --cap-add NO_SUCH fx:1 true", 125, "NO_SUCH", ""},
		{"run --rm --device /dev/no-such fx:1 true", 125, "/dev/no-such", ""},
		{"run --rm -p 99999:80 fx:1 true", 125, "99999", ""},
		{"run --rm --ulimit no-such=1 fx:1 true", 125, "no-such", ""},
		{"run --rm --security-opt seccomp=/no/such fx:1 true", 125, "/no/such", ""},
		{"run --rm --sysctl kernel.core_pattern=x fx:1 true", 125, "kernel.core_pattern", ""},
		{"run --rm --userns no-such fx:1 true", 125, "no-such", ""},
	} {
		r := m.run(strings.Fields(c.line)...)
		lines := strings.Split(strings.TrimSpace(r.errOut), "\n")
		if r.code != c.code || !strings.HasPrefix(lines[0], "Error: ") || !strings.Contains(lines[0], c.say) {
			t.Errorf("hull %s: exit code %d, want %d with %q\n%s", c.line, r.code, c.code, c.say, r.errOut)
		}
		if len(lines) > 2 || c.hint != "" && !strings.Contains(lines[len(lines)-1], c.hint) {
			t.Errorf("hull %s: want one error and its hint, with %q\n%s", c.line, c.hint, r.errOut)
		}
		if r.out != "" && !strings.HasPrefix(c.line, "run --rm --pull") {
			t.Errorf("hull %s: standard output is %q", c.line, r.out)
		}
	}
	m.equal("box", "ps", "-a", "--format", "{{.Names}}")
}

// A user without subordinate ids is told how to get some.
func TestNoSubordinateIDs(t *testing.T) {
	m := newMachine(t, testUser)
	const nobodys = 54321 // no user of this number has ranges
	for _, args := range [][]string{{"run", "--rm", "fx:1", "true"}, {"create", "fx:1"}, {"ps"}} {
		c := m.command(args...)
		dir := filepath.Join(m.dir, "nobody")
		os.MkdirAll(dir, 0o700)
		os.Chown(dir, nobodys, nobodys)
		c.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir}
		c.SysProcAttr.Credential.Uid, c.SysProcAttr.Credential.Gid = nobodys, nobodys
		out, _ := c.CombinedOutput()
		if code := c.ProcessState.ExitCode(); code != 125 || !strings.Contains(string(out), "no subordinate ids in /etc/subuid") || !strings.Contains(string(out), "hint: give the user a range: usermod --add-subuids") {
			t.Errorf("hull %v: exit code %d\n%s", args, code, out)
		}
	}
}

// A disk that is full is named, and what could not be made is not there.
func TestFullDisk(t *testing.T) {
	m := newMachine(t, "")
	disk := filepath.Join(m.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	small := func(args ...string) result {
		t.Helper()
		return m.run(append([]string{"--root", disk}, args...)...)
	}
	image := filepath.Join(m.dir, "image.tar")
	if r := small("import", "-q", image, "localhost/fx:1"); r.code != 0 {
		t.Fatalf("import: %s", r.errOut)
	}
	full := func(what string, r result) {
		t.Helper()
		if r.code != 125 || !strings.Contains(r.errOut, "no space left on device") {
			t.Errorf("%s on a full disk: exit code %d\n%s", what, r.code, r.errOut)
		}
	}
	// A second image does not fit.
	var last result
	for i := range 8 {
		if last = small("import", "-q", "--change", fmt.Sprintf("ENV N=%d", i), bigger(t, m, i), fmt.Sprintf("localhost/big:%d", i)); last.code != 0 {
			break
		}
	}
	full("import", last)
	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := 1 << 20; chunk > 0; chunk /= 2 {
		for {
			if _, err := f.Write(make([]byte, chunk)); err != nil {
				break
			}
		}
	}
	f.Close()
	full("create", small("create", "--name", "a", "fx:1", "true"))
	full("run", small("run", "--name", "b", "--network", "none", "fx:1", "true"))
	if r := small("ps", "-aq"); r.code != 0 || r.out != "" {
		t.Errorf("ps -a on a full disk: %+v; want none", r)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if r := small("run", "--rm", "--name", "a", "--network", "none", "fx:1", "echo", "works"); r.out != "works\n" {
		t.Errorf("with space again: %+v", r)
	}
	if left := entries(filepath.Join(disk, "containers")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// bigger is an archive of 4 MB that compresses badly.
func bigger(t *testing.T, m *machine, n int) string {
	t.Helper()
	dir := filepath.Join(m.dir, fmt.Sprint("big", n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 4<<20)
	seed := uint64(time.Now().UnixNano())
	for i := range data {
		seed = seed*6364136223846793005 + 1442695040888963407
		data[i] = byte(seed >> 56)
	}
	if err := os.WriteFile(filepath.Join(dir, "random"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	file := dir + ".tar"
	if out, err := tarOf(dir, file); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	return file
}
