package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// netLeft lists what containers have on the host: interfaces, elements of
// published ports, leases, records, names. The networks' own are not counted.
func (m *machine) netLeft() []string {
	m.Helper()
	var left []string
	out, _ := exec.Command("sh", "-c", "ip -o link | grep -o ' hull-[0-9a-f]*'").Output()
	left = append(left, strings.Fields(string(out))...)
	for _, set := range []string{"ports4", "ports6", "any4", "any6"} {
		out, _ := exec.Command("nft", "list", "map", "inet", "hull", set).Output()
		if _, elements, ok := strings.Cut(string(out), "elements = {"); ok {
			left = append(left, set+": "+elements)
		}
	}
	for _, what := range []string{"leases/*/[0-9a-f]*", "containers/*", "names/*/*"} {
		files, _ := filepath.Glob(filepath.Join(m.dir, "run", "hull", "network", "*", what))
		left = append(left, files...)
	}
	return left
}

// nothingLeft waits for the kernel, which cleans devices up by itself.
func (m *machine) nothingLeft(when string) {
	m.Helper()
	var left []string
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = m.netLeft(); len(left) == 0 {
			return
		}
	}
	m.Errorf("%s: left: %s", when, strings.Join(left, "\n"))
}

// count is a number of times that an environment variable raises.
func count(t testing.TB, variable string, usual int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return usual
	}
	return n
}

// F41, F42, F43: a start is killed at each of its messages to the kernel's
// network; the next command leaves neither device, rule nor lease of it.
func TestF41F42F43KilledInNetworkSetup(t *testing.T) {
	needs(t, "strace")
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("run", "--rm", "fx:1", "true")
	steps := count(t, "HULL_NET_KILLS", 2)
	killed := 0
	for n := 1; n <= steps; n++ {
		c := m.command("run", "--rm", "-p", "8080:80", "fx:1", "true")
		c.Args = append([]string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", fmt.Sprintf("inject=sendto:signal=KILL:when=%d", n)}, c.Args...)
		c.Path, _ = exec.LookPath("strace")
		if c.Run() != nil {
			killed++
		}
		m.ok("run", "--rm", "-p", "8080:80", "fx:1", "true")
		m.nothingLeft(fmt.Sprintf("killed at message %d", n))
	}
	t.Logf("%d of %d starts were killed", killed, steps)
	if killed == 0 {
		t.Error("no start was killed")
	}
}

// F44: starts and stops in a loop leave nothing, and addresses are used again.
func TestF44StartsInALoop(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "--subnet", "10.5.0.0/28", "small") // 13 addresses
	n := count(t, "HULL_NET_LOOP", 20)
	for i := range n {
		if r := m.run("run", "--rm", "--network", "small", "-p", "8080:80", "fx:1", "true"); r.code != 0 {
			t.Fatalf("start %d: exit code %d, %s", i, r.code, r.errOut)
		}
	}
	m.nothingLeft(fmt.Sprintf("%d starts", n))
	t.Logf("%d starts", n)
}

// 64 starts at once on one network leave nothing, and each has an address of
// its own as long as all of them run.
func TestManyStartsOnOneNetwork(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "quay")
	n := count(t, "HULL_NET_AT_ONCE", 16)
	seen := map[string]int{}
	commands := make([]*exec.Cmd, n)
	ends := make([]io.Closer, n)
	outputs := make([]io.Reader, n)
	for i := range n { // on this thread: it is the one in the test's host
		c := m.command("run", "-i", "--rm", "--network", "quay", "fx:1", "sh", "-c", "ip -4 -o addr show eth0; cat")
		in, err := c.StdinPipe()
		if err == nil {
			outputs[i], err = c.StdoutPipe()
		}
		if err == nil {
			c.Stderr = os.Stderr
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		commands[i], ends[i] = c, in
	}
	for i := range commands {
		line, err := bufio.NewReader(outputs[i]).ReadString('\n')
		f := strings.Fields(line)
		if err != nil || len(f) < 4 {
			t.Errorf("start %d: %v %q", i, err, line)
			continue
		}
		seen[f[3]]++
	}
	for i, c := range commands {
		ends[i].Close()
		if err := c.Wait(); err != nil {
			t.Errorf("start %d: %v", i, err)
		}
	}
	for a, times := range seen {
		if times != 1 {
			t.Errorf("address %s was given %d times", a, times)
		}
	}
	m.nothingLeft(fmt.Sprintf("%d at once", n))
	t.Logf("%d at once, %d addresses", n, len(seen))
}

// netnsOf is the name that a process's network namespace has in /proc.
func netnsOf(t testing.TB, pid string) string {
	t.Helper()
	to, err := os.Readlink("/proc/" + pid + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// F45: neither monitor nor proxy holds the container's network namespace: it
// ends with its processes.
func TestF45NobodyHoldsTheNamespace(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "quay")
	m.ok("run", "-d", "--name", "c", "--network", "quay", "-p", "127.0.0.1:8080:80", "fx:1", "sleep", "1000")
	ns := netnsOf(t, m.ok("inspect", "-f", "{{.State.Pid}}", "c"))
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == ns {
			comm, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "comm"))
			t.Errorf("%s (%s) holds the namespace", fd, strings.TrimSpace(string(comm)))
		}
	}
	m.ok("rm", "-f", "-t", "0", "c")
	m.nothingLeft("removed")
}

// F46, NET-05: the ruleset is flushed. Ports on loopback addresses stay closed
// to others, and the next command lays the rules again.
func TestF46RulesFlushed(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	neighbour := m.neighbour()
	m.ok("run", "-d", "--name", "c", "-p", "127.0.0.1:8080:80", "-p", "8081:81", "fx:1", "sh", "-c", `while true; do echo here | nc -l -p 80; done & while true; do echo there | nc -l -p 81; done`)
	ask := func(port string) string {
		out, _ := exec.Command("nsenter", "-t", neighbour, "-n", "busybox", "nc", "-w", "2", "198.51.100.1", port).Output()
		return strings.TrimSpace(string(out))
	}
	for end := time.Now().Add(10 * time.Second); ask("8081") != "there"; {
		if time.Now().After(end) {
			t.Fatal("the neighbour does not reach the published port")
		}
	}
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := ask("8080"); got != "" {
		t.Errorf("after a flush the neighbour reaches a loopback port: %q", got)
	}
	m.ok("run", "--rm", "fx:1", "true")
	out, err := exec.Command("nft", "list", "map", "inet", "hull", "any4").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "8081") {
		t.Errorf("the next command has not laid the rules: %v %s", err, out)
	}
	if got := ask("8081"); got != "there" {
		t.Errorf("the published port says %q", got)
	}
	if got := ask("8080"); got != "" {
		t.Errorf("the neighbour reaches a loopback port: %q", got)
	}
	m.ok("rm", "-f", "-t", "0", "c")
}

// neighbour is the process of a machine beside the test's host.
func (m *machine) neighbour() string {
	m.Helper()
	needs(m.TB, "nsenter")
	c := exec.Command("sleep", "1000")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { c.Process.Kill(); c.Wait() })
	pid := strconv.Itoa(c.Process.Pid)
	script := "ip link add to0 type veth peer name eth0 netns " + pid + "; ip link set to0 master out0 up; nsenter -t " + pid + " -n sh -ec 'ip link set lo up; ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up'"
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		m.Fatalf("%v %s", err, out)
	}
	return pid
}

// F47: a container's port is taken while it is stopped: its start says by
// whom, changes nothing, and works once the port is free.
func TestF47PortTakenAtRestart(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("run", "-d", "--name", "c", "-p", "8080:80", "fx:1", "sleep", "1000")
	m.ok("stop", "-t", "0", "c")
	m.nothingLeft("stopped")
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	r := m.run("start", "c")
	if r.code == 0 || !strings.Contains(r.errOut, "port is in use by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("start with a taken port: exit code %d, %s", r.code, r.errOut)
	}
	m.nothingLeft("a failed start")
	l.Close()
	m.ok("start", "c")
	m.ok("rm", "-f", "-t", "0", "c")
}

// F48: the process that answers for names is killed. Others have their names
// meanwhile, and the next start has its own again.
func TestF48NameServerKilled(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "quay")
	m.ok("network", "create", "pier")
	for _, c := range []struct{ name, net string }{{"a", "quay"}, {"b", "quay"}, {"c", "pier"}, {"d", "pier"}} {
		m.ok("run", "-d", "--name", c.name, "--network", c.net, "fx:1", "sleep", "1000")
	}
	finds := func(who, whom string) bool {
		return m.run("exec", who, "busybox", "nslookup", whom, "127.0.0.11").code == 0
	}
	if !finds("a", "b") || !finds("c", "d") {
		t.Fatal("containers do not find each other")
	}
	pid, _ := strconv.Atoi(m.ok("inspect", "-f", "{{.State.ConmonPid}}", "a"))
	syscall.Kill(pid, syscall.SIGKILL)
	if !finds("c", "d") || !finds("b", "b") {
		t.Error("others have lost their names")
	}
	m.ok("restart", "-t", "0", "a")
	if !finds("a", "b") || !finds("b", "a") {
		t.Error("names are not back after the next start")
	}
	m.ok("rm", "-f", "-t", "0", "-a")
	m.nothingLeft("removed")
	runtime.KeepAlive(m)
}
