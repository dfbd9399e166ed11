package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePort is one that nobody has at the moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// fetch reads what comes from an address; the server may need a moment.
func fetch(t testing.TB, address string) string {
	t.Helper()
	var err error
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, time.Second); err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		b, _ := io.ReadAll(c)
		c.Close()
		if len(b) > 0 {
			return string(b)
		}
	}
	t.Errorf("nothing comes from %s: %v", address, err)
	return ""
}

const answers = `while true; do echo here | nc -l -p 80; done`

// helpers are the processes whose command line has a text.
func helpers(text string) []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), text) {
			var pid int
			fmt.Sscanf(p, "/proc/%d", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// needs skips a test where a peer's program is not there.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs the program %s", p)
		}
	}
}

// A container with a network stack of its own has an address and a resolver,
// is reached by its published port, and leaves no process.
func TestNetworkModes(t *testing.T) {
	needs(t, "pasta", "slirp4netns")
	for _, c := range []struct{ as, mode, device string }{
		{testUser, "pasta", ""}, {testUser, "pasta:--mtu,1400,-I,p0,--map-gw", "p0"},
		{testUser, "slirp4netns", "tap0"}, {testUser, "slirp4netns:port_handler=slirp4netns,mtu=1400,allow_host_loopback=true", "tap0"},
		{testUser, "private", "tap0"}, {"", "slirp4netns", "tap0"},
	} {
		t.Run(c.as+" "+c.mode, func(t *testing.T) {
			m := newMachine(t, c.as)
			port := freePort(t)
			for range 2 { // the port is free again at once
				m.ok("run", "-d", "--name", "c", "--network", c.mode, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), "fx:1", "sh", "-c", answers)
				if got := fetch(t, fmt.Sprintf("127.0.0.1:%d", port)); got != "here\n" {
					t.Errorf("the published port says %q", got)
				}
				routes := m.ok("exec", "c", "ip", "route")
				if !strings.Contains(routes, "default via ") || !strings.Contains(routes, c.device) {
					t.Errorf("routes: %s", routes)
				}
				if !strings.HasPrefix(m.ok("exec", "c", "cat", "/etc/resolv.conf"), "nameserver ") {
					t.Error("no resolver")
				}
				// The host has a name where its loopback is let in.
				reaches := strings.Contains(c.mode, "map-gw") || strings.Contains(c.mode, "loopback")
				if named := strings.Contains(m.ok("exec", "c", "cat", "/etc/hosts"), "host.containers.internal"); named != reaches {
					t.Errorf("the host has a name: %v, want %v", named, reaches)
				}
				word, _, _ := strings.Cut(c.mode, ":")
				m.equal(word, "inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", "c")
				if strings.Contains(c.mode, "mtu") && !strings.Contains(m.ok("exec", "c", "ip", "link"), "mtu 1400") {
					t.Error("the MTU is not what was said")
				}
				if r := m.run("network", "connect", "hull", "c"); r.code == 0 {
					t.Error("it joins a network")
				}
				m.ok("rm", "-f", "-t", "0", "c")
				for _, text := range []string{"outside", "proxy", "pasta", "slirp4netns"} {
					for _, pid := range helpers(text) {
						if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(b), m.dir) {
							t.Errorf("left: %q", b)
						}
					}
				}
			}
		})
	}
	m := newMachine(t, "")
	if r := m.run("run", "--rm", "--network", "pasta", "fx:1", "true"); r.code != 125 || !strings.Contains(r.errOut, "only supported for rootless mode") {
		t.Errorf("pasta as root: exit code %d, %s", r.code, r.errOut)
	}
}

// F49, and default_rootless_network_cmd: the program that a user's containers
// share is killed, and they have their network again.
func TestF49OutsideKilled(t *testing.T) {
	needs(t, "pasta", "slirp4netns")
	for _, program := range []string{"pasta", "slirp4netns"} {
		t.Run(program, func(t *testing.T) {
			m := newMachine(t, testUser)
			conf := filepath.Join(m.dir, "containers.conf")
			if err := os.WriteFile(conf, []byte("[network]\ndefault_rootless_network_cmd = \""+program+"\"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			m.env = append(m.env, "CONTAINERS_CONF="+conf)
			outer, port := echoOutside(t)
			m.ok("run", "-d", "--name", "c", "fx:1", "sleep", "100")
			reach := func() bool {
				return m.run("exec", "c", "sh", "-c", "echo x | nc -w 3 "+outer+" "+port).out == "hello\n"
			}
			if !reach() {
				t.Fatal("the outside is not reached")
			}
			child := 0
			for _, pid := range helpers("hull-tap0") {
				if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); !strings.Contains(string(b), "outside-job") && strings.Contains(string(b), m.dir) {
					child = pid
				}
			}
			if child == 0 {
				t.Fatalf("%s does not run", program)
			}
			syscall.Kill(child, syscall.SIGKILL)
			for end := time.Now().Add(15 * time.Second); !reach(); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the outside is not reached any more")
				}
			}
			m.ok("rm", "-f", "-t", "0", "c")
			// It would end by itself half a minute later.
			for _, pid := range helpers(m.dir) {
				syscall.Kill(pid, syscall.SIGTERM)
			}
			for end := time.Now().Add(10 * time.Second); len(helpers("outside-job")) > 0 && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

// echoOutside says hello to who comes to the host's own address.
func echoOutside(t testing.TB) (address, port string) {
	t.Helper()
	c, err := net.Dial("udp", "192.0.2.200:9") // sends nothing
	if err != nil {
		t.Skip("the host has no route to the outside")
	}
	defer c.Close()
	address = c.LocalAddr().(*net.UDPAddr).IP.String()
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello\n")
			c.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return address, port
}
