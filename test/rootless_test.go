package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A user runs, looks at and removes containers, and nothing is left.
func TestRootless(t *testing.T) {
	m := newMachine(t, testUser)
	t.Run("none", func(t *testing.T) { m.with(t).none() })
	t.Run("cgroup files", func(t *testing.T) { m.with(t).cgroupFiles() })
	t.Run("host", func(t *testing.T) { m.with(t).hostNetwork() })
	t.Run("published port", func(t *testing.T) { m.with(t).publishedPort() })
	t.Run("files", func(t *testing.T) { m.with(t).files() })
	t.Run("volumes", func(t *testing.T) { m.with(t).volumes() })
	t.Run("id maps", func(t *testing.T) { m.with(t).idMaps() })
	t.Run("life", func(t *testing.T) { m.with(t).life() })
}

// with is the machine in a subtest.
func (m *machine) with(t *testing.T) *machine {
	c := *m
	c.TB = t
	return &c
}

func (m *machine) none() {
	m.equal("0 0", "run", "--rm", "--network", "none", "fx:1", "sh", "-c", "id -u; id -g")
	m.equal("lo:", "run", "--rm", "--network", "none", "fx:1", "sh", "-c", "ip -o link | while read a b c; do echo $b; done")
	m.equal(fmt.Sprintf("0 %d 1", m.id()), "run", "--rm", "--network", "none", "fx:1", "head", "-n", "1", "/proc/self/uid_map")
	m.equal("uid=1000(sailor) gid=1000(sailor) groups=1000(sailor)", "run", "--rm", "--network", "none", "-u", "sailor", "fx:1", "id")
	if r := m.run("run", "--rm", "--network", "none", "fx:1", "sh", "-c", "echo oops >&2; exit 7"); r.code != 7 || r.errOut != "oops\n" {
		m.Errorf("run = %+v, want code 7", r)
	}
}

// cgroupFiles: nothing of them is writable (CG-01).
func (m *machine) cgroupFiles() {
	for _, mode := range []string{"host", "private"} {
		m.equal("", "run", "--rm", "--network", "none", "--cgroupns", mode, "fx:1", "sh", "-c", `mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; for f in /sys/fs/cgroup/* /sys/fs/cgroup/*/*; do [ -f $f ] && true 2>/dev/null 3>>$f && echo $f; done; true`)
	}
}

func (m *machine) hostNetwork() {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		m.Fatal(err)
	}
	m.equal(own, "run", "--rm", "--network", "host", "fx:1", "readlink", "/proc/self/ns/net")
}

// publishedPort: two containers on a bridge, one found by its address and by
// its port on the host.
func (m *machine) publishedPort() {
	m.ok("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "fx:1", "sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
	_, address, ok := strings.Cut(m.ok("port", "web"), "-> ")
	if !ok {
		m.Fatal("no published port")
	}
	var body []byte
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && len(body) == 0; time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get("http://" + address + "/"); err == nil {
			body, _ = io.ReadAll(r.Body)
			r.Body.Close()
		}
	}
	if string(body) != "hello\n" {
		m.Errorf("http://%s/ = %q, want hello", address, body)
	}
	ip := m.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
	m.equal("hello", "run", "--rm", "fx:1", "wget", "-q", "-O", "-", "http://"+ip+"/")
	m.ok("rm", "-f", "-t", "0", "web")
	if _, err := http.Get("http://" + address + "/"); err == nil {
		m.Errorf("%s is still open", address)
	}
}

func (m *machine) files() {
	m.ok("run", "-d", "--name", "box", "--network", "none", "fx:1", "sh", "-c", "echo line 1; echo line 2; exec sleep 1000")
	m.equal("hi", "exec", "box", "echo", "hi")
	m.equal("1000", "exec", "-u", "sailor", "box", "id", "-u")
	if r := m.run("exec", "box", "sh", "-c", "exit 9"); r.code != 9 {
		m.Errorf("exec = %+v, want code 9", r)
	}
	m.eventually("the log has both lines", func() bool { return m.ok("logs", "box") == "line 1\nline 2" })
	m.equal("line 2", "logs", "--tail", "1", "box")

	m.ok("exec", "box", "sh", "-c", "touch /tmp/five; chown 5:5 /tmp/five; rm /srv/cargo; echo new >/srv/new")
	m.equal("C /srv D /srv/cargo A /srv/new C /tmp A /tmp/five", "diff", "box")
	host := filepath.Join(m.dir, "tmp", "in")
	if err := os.WriteFile(host, []byte("from the host\n"), 0o644); err != nil {
		m.Fatal(err)
	}
	m.ok("cp", host, "box:/tmp/in")
	m.equal("from the host 0:0", "exec", "box", "sh", "-c", "cat /tmp/in; stat -c %u:%g /tmp/in")
	m.ok("cp", "box:/tmp/in", host+".out")
	if b, err := os.ReadFile(host + ".out"); string(b) != "from the host\n" {
		m.Errorf("copied out: %q, %v", b, err)
	}
	m.ok("commit", "-q", "box", "localhost/fx:2")
	m.equal("new 5:5", "run", "--rm", "--network", "none", "localhost/fx:2", "sh", "-c", "ls /srv; stat -c %u:%g /tmp/five")
	m.ok("rm", "-f", "-t", "0", "box")
	m.ok("rmi", "localhost/fx:2")
}

func (m *machine) volumes() {
	m.ok("volume", "create", "hold")
	m.equal("1000:1000 cargo", "run", "--rm", "--network", "none", "-v", "hold:/srv", "fx:1", "sh", "-c", "stat -c %u:%g /srv/cargo; cat /srv/cargo; echo more >/srv/more")
	m.equal("more", "run", "--rm", "--network", "none", "-v", "hold:/x:ro", "fx:1", "cat", "/x/more")
	if r := m.run("run", "--rm", "--network", "none", "-v", "hold:/x:ro", "fx:1", "touch", "/x/y"); r.code == 0 {
		m.Error("a read-only volume was written to")
	}
	if !slices.Contains(strings.Fields(m.ok("volume", "ls", "-q")), "hold") {
		m.Error("volume ls does not list the volume")
	}
	dir := filepath.Join(m.dir, "tmp", "bound")
	if err := os.Mkdir(dir, 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.Chown(dir, m.id(), m.gid()); err != nil {
		m.Fatal(err)
	}
	m.ok("run", "--rm", "--network", "none", "-v", dir+":/b", "fx:1", "touch", "/b/mine")
	if st, err := os.Stat(filepath.Join(dir, "mine")); err != nil || owner(st) != m.id() {
		m.Errorf("what the container made on the host: %v, %v", st, err)
	}
	m.ok("volume", "rm", "hold")
}

// idMaps: the files of an image have their owners in every user namespace, and
// what is committed there too.
func (m *machine) idMaps() {
	const look = "id -u; stat -c %u:%g /bin/busybox /srv/cargo; touch /tmp/mine; stat -c %u /tmp/mine; echo .$HOME"
	for mode, want := range map[string]string{
		"keep-id":              fmt.Sprintf("%d 0:0 1000:1000 %d ./", m.id(), m.id()),
		"keep-id:uid=77,gid=7": "77 0:0 1000:1000 77 ./",
		"auto":                 "0 0:0 1000:1000 0 ./root",
		"nomap":                "0 0:0 1000:1000 0 ./root",
	} {
		m.equal(want, "run", "--rm", "--network", "none", "--userns", mode, "fx:1", "sh", "-c", look)
	}
	m.equal(testUser, "run", "--rm", "--network", "none", "--userns", "keep-id", "fx:1", "id", "-un")
	dir := filepath.Join(m.dir, "tmp", "bound")
	m.equal(fmt.Sprint(m.id()), "run", "--rm", "--network", "none", "--userns", "keep-id", "-v", dir+":/b", "fx:1", "stat", "-c", "%u", "/b")
	m.ok("run", "-d", "--name", "mapped", "--userns", "keep-id", "-u", "0", "fx:1", "sh", "-c", "touch /tmp/five; chown 5:6 /tmp/five; exec sleep 1000")
	m.eventually("the program has made its file", func() bool { return m.run("exec", "mapped", "stat", "-c", "%u:%g", "/tmp/five").out == "5:6\n" })
	m.equal("0:0", "run", "--rm", "--userns", "container:mapped", "fx:1", "stat", "-c", "%u:%g", "/bin/busybox")
	m.equal("C /tmp A /tmp/five", "diff", "mapped")
	m.ok("cp", filepath.Join(m.dir, "tmp", "in"), "mapped:/tmp/in")
	m.equal("0:0", "exec", "mapped", "stat", "-c", "%u:%g", "/tmp/in")
	m.ok("commit", "-q", "mapped", "localhost/fx:3")
	m.equal("5:6", "run", "--rm", "--network", "none", "localhost/fx:3", "stat", "-c", "%u:%g", "/tmp/five")
	m.ok("rm", "-f", "-t", "0", "mapped")
	m.ok("rmi", "localhost/fx:3")
}

func (m *machine) life() {
	id := m.ok("run", "-d", "--network", "none", "fx:1", "sleep", "1000")
	m.equal("running", "inspect", "-f", "{{.State.Status}}", id)
	m.ok("stop", "-t", "0", id)
	m.equal("exited 137", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id)
	m.ok("start", id)
	m.ok("kill", id)
	m.equal("137", "wait", id)
	m.ok("rm", id)
	m.equal("", "ps", "-aq")
}
