package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A container is a service of systemd: it says when it is ready, and takes the
// sockets that were opened for it.
func TestService(t *testing.T) {
	for name, as := range map[string]string{"root": "", "user": testUser} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, as)
			bin := m.buildService()
			t.Run("conmon", func(t *testing.T) { m.with(t).notifyConmon() })
			t.Run("container", func(t *testing.T) { m.with(t).notifyContainer(bin) })
			t.Run("healthy", func(t *testing.T) { m.with(t).notifyHealthy() })
			t.Run("ignore", func(t *testing.T) { m.with(t).notifyIgnore() })
			t.Run("sockets", func(t *testing.T) { m.with(t).activation(bin) })
			t.Run("exit code", func(t *testing.T) { m.with(t).serviceExit() })
		})
	}
}

// buildService makes the program that speaks to systemd and returns its
// directory.
func (m *machine) buildService() string {
	m.Helper()
	dir := filepath.Join(m.dir, "bin")
	c := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "service"), "./testdata/service")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		m.Fatalf("build the service: %v\n%s", err, out)
	}
	if err := exec.Command("chmod", "-R", "a+rX", dir).Run(); err != nil {
		m.Fatal(err)
	}
	return dir
}

// A manager is what a service sees of systemd.
type manager struct {
	*machine
	conn *net.UnixConn
	path string
}

func (m *machine) manager() *manager {
	m.Helper()
	g := &manager{machine: m, path: filepath.Join(m.dir, "run", "notify-"+strconv.FormatInt(time.Now().UnixNano(), 36))}
	var err error
	if g.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: g.path, Net: "unixgram"}); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { g.conn.Close() })
	if err := os.Chmod(g.path, 0o666); err != nil {
		m.Fatal(err)
	}
	raw, err := g.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	}
	if err != nil {
		m.Fatal(err)
	}
	return g
}

// service runs hull as systemd would, in the background.
func (g *manager) service(env []string, args ...string) *exec.Cmd {
	c := g.command(args...)
	// LISTEN_PID is the process's own.
	c.Args = append([]string{"sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"`, "sh", g.hull}, c.Args[1:]...)
	c.Path = "/bin/sh"
	c.Env = append(append(c.Env, "NOTIFY_SOCKET="+g.path), env...)
	return c
}

// start is service for run -d, which must succeed.
func (g *manager) start(env []string, args ...string) {
	g.Helper()
	if out, err := g.service(env, append([]string{"run", "-d", "--network", "none"}, args...)...).CombinedOutput(); err != nil {
		g.Fatalf("run: %v\n%s", err, out)
	}
}

// next is the next message and who sent it; "" when none comes in time.
func (g *manager) next(wait time.Duration) (text string, pid int) {
	g.Helper()
	buf, oob := make([]byte, 4096), make([]byte, 256)
	g.conn.SetReadDeadline(time.Now().Add(wait))
	n, k, _, _, err := g.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return "", 0
	}
	messages, err := unix.ParseSocketControlMessage(oob[:k])
	if err != nil || len(messages) == 0 {
		g.Fatalf("a message without credentials: %v", err)
	}
	cred, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		g.Fatal(err)
	}
	return string(buf[:n]), int(cred.Pid)
}

// mainPid reads the first message, which names the container's monitor.
func (g *manager) mainPid(more string) int {
	g.Helper()
	text, _ := g.next(20 * time.Second)
	line, rest, _ := strings.Cut(text, "\n")
	pid, err := strconv.Atoi(strings.TrimPrefix(line, "MAINPID="))
	if err != nil || rest != more {
		g.Fatalf("the first message is %q", text)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != "hull-monitor" {
		g.Errorf("the main process is %q, %v", comm, err)
	}
	return pid
}

func (m *machine) notifyConmon() {
	g := m.manager()
	g.start([]string{"INVOCATION_ID=1"}, "--name", "c", "--sdnotify", "conmon", "fx:1", "sleep", "60")
	pid := g.mainPid("READY=1\n")
	id := m.ok("inspect", "-f", "{{.Id}}", "c")
	file, err := os.ReadFile(filepath.Join(m.dir, "run", "hull", "containers", id, "monitor.pid"))
	if err != nil || string(file) != strconv.Itoa(pid) {
		m.Errorf("monitor.pid = %q, %v; want %d", file, err, pid)
	}
	m.ok("rm", "-f", "-t", "0", "c")
}

// notifyContainer: the program's words come from the monitor, and those that
// are not its business do not.
func (m *machine) notifyContainer(bin string) {
	g := m.manager()
	g.start([]string{"WATCHDOG_USEC=5000000"}, "--name", "c", "-u", "sailor", "-v", bin+":/svc:ro", "fx:1", "/svc/service", "notify",
		"STATUS=so far\nMAINPID=1\nFDSTORE=1", "MAINPID=1", "watchdog", "READY=1\n")
	pid := g.mainPid("")
	for _, want := range []string{"STATUS=so far\n", "STATUS=watchdog 5000000\n", "READY=1\n"} {
		if text, from := g.next(20 * time.Second); text != want || from != pid {
			m.Errorf("got %q from %d, want %q from %d", text, from, want, pid)
		}
	}
	m.ok("rm", "-f", "-t", "0", "c")
}

func (m *machine) notifyHealthy() {
	g := m.manager()
	g.start(nil, "--name", "c", "--sdnotify", "healthy", "--health-cmd", "test -e /tmp/ok", "--health-interval", "200ms", "--health-retries", "1000", "fx:1", "sleep", "60")
	g.mainPid("")
	if text, _ := g.next(time.Second); text != "" {
		m.Errorf("got %q before it was healthy", text)
	}
	m.ok("exec", "c", "touch", "/tmp/ok")
	if text, _ := g.next(20 * time.Second); text != "READY=1\n" {
		m.Errorf("got %q when it was healthy", text)
	}
	m.ok("rm", "-f", "-t", "0", "c")
}

func (m *machine) notifyIgnore() {
	g := m.manager()
	g.start(nil, "--name", "c", "--sdnotify", "ignore", "fx:1", "sh", "-c", "echo socket=$NOTIFY_SOCKET")
	if text, _ := g.next(time.Second); text != "" {
		m.Errorf("got %q", text)
	}
	m.equal("socket=", "logs", "c")
	m.ok("rm", "-f", "-t", "0", "c")
}

func (m *machine) activation(bin string) {
	g := m.manager()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		m.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c := g.service([]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=web"}, "run", "--rm", "--network", "none", "-v", bin+":/svc:ro", "fx:1", "/svc/service", "listen")
	c.ExtraFiles = []*os.File{file}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		m.Fatal(err)
	}
	file.Close()
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		m.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	said, err := io.ReadAll(conn)
	conn.Close()
	if werr := c.Wait(); err != nil || werr != nil || string(said) != "hello\n" {
		m.Errorf("the service said %q (%v), ended with %v\n%s", said, err, werr, out.String())
	}
	if got := strings.TrimSpace(out.String()); got != "1 1 web 1" {
		m.Errorf("LISTEN_FDS LISTEN_PID LISTEN_FDNAMES pid = %q", got)
	}
}

// serviceExit: the main process ends as the container did, and well when it
// was stopped.
func (m *machine) serviceExit() {
	// The monitors become this process's children when hull has ended.
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	for script, want := range map[string]int{"exit 3": 3, "exec sleep 60": 0} {
		g := m.manager()
		g.start(nil, "--name", "c", "--sdnotify", "conmon", "fx:1", "sh", "-c", "sleep 1; "+script)
		pid := g.mainPid("READY=1\n")
		if want == 0 {
			m.ok("stop", "-t", "0", "c")
		}
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || ws.ExitStatus() != want {
			m.Errorf("%s: the main process ended with %d, %v; want %d", script, ws.ExitStatus(), err, want)
		}
		m.ok("rm", "-f", "-t", "0", "c")
	}
}
