package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testManager is a Manager whose host is a network namespace of its own; the
// namespace ends with the test.
func testManager(t testing.TB) *Manager {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ctx := context.Background()
	dir := t.TempDir()
	ns, err := NewNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	m, err := Open(dir+"/networks", dir+"/run", Options{NetNS: path})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inHost runs a command in the manager's host namespace.
func (m *Manager) inHost(t testing.TB, command string) string {
	t.Helper()
	ns, err := m.netns()
	if err != nil {
		t.Fatal(err)
	}
	return inNs(t, ns, command)
}

func tryNs(ns *os.File, command string) (string, error) {
	var out []byte
	err := inNamespace(ns, func() error {
		var err error
		out, err = exec.Command("sh", "-c", command).CombinedOutput()
		return err
	})
	return string(out), err
}

func inNs(t testing.TB, ns *os.File, command string) string {
	t.Helper()
	out, err := tryNs(ns, command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// join sets up one container and returns its namespace.
func joinNetwork(t testing.TB, m *Manager, o SetupOptions) (*os.File, Status) {
	t.Helper()
	ns, err := NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	o.Netns = ns
	s, err := m.Setup(context.Background(), o)
	if err != nil {
		t.Fatalf("Setup(%s) = %v", o.ContainerID, err)
	}
	t.Cleanup(s.Close)
	return ns, s
}

// needs skips a test that cannot do without a program.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs the program %s", p)
		}
	}
}

func TestSetupDefault(t *testing.T) {
	needs(t, "ping", "ip")
	m := testManager(t)
	ns, s := joinNetwork(t, m, SetupOptions{ContainerID: "aaaa"})
	if got, want := s.Networks[0].Addresses[0], netip.MustParsePrefix("10.88.0.2/16"); got != want {
		t.Errorf("address = %v, want %v", got, want)
	}
	ns2, s2 := joinNetwork(t, m, SetupOptions{ContainerID: "bbbb"})
	for _, ip := range []string{"10.88.0.1", s2.Networks[0].Addresses[0].Addr().String()} {
		inNs(t, ns, "ping -c1 -W2 "+ip)
	}
	inNs(t, ns2, "ping -c1 -W2 10.88.0.2")
	out := inNs(t, ns, "ip route; ip -6 addr show eth0; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
	if !strings.Contains(out, "default via 10.88.0.1 dev eth0") || strings.Contains(out, "inet6") || !strings.HasSuffix(out, "1\n") {
		t.Errorf("routes and IPv6 of the container:\n%s", out)
	}
	if ok, err := lay(m); !ok || err != nil {
		t.Errorf("laid() = %v, %v, want true", ok, err)
	}
	ctx := context.Background()
	for range 2 {
		if err := m.Teardown(ctx, TeardownOptions{ContainerID: "aaaa"}); err != nil {
			t.Errorf("Teardown = %v", err)
		}
	}
	left, _ := filepath.Glob(m.run + "/*/leases/hull/10*")
	if len(left) != 1 {
		t.Errorf("leases after one of two teardowns = %v, want one", left)
	}
}

func lay(m *Manager) (bool, error) {
	h, err := m.host()
	if err != nil {
		return false, err
	}
	defer h.Close()
	return h.filter.laid()
}

// outside joins a second host to the manager's by a veth: 192.0.2.1 is the
// host, 192.0.2.2 the other machine.
func outside(t testing.TB, m *Manager) *os.File {
	t.Helper()
	ns, err := NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	m.inHost(t, fmt.Sprintf("ip link add out0 type veth peer name out1 && ip link set out1 netns /proc/%d/fd/%d && ip addr add 192.0.2.1/24 dev out0 && ip link set out0 up", os.Getpid(), ns.Fd()))
	inNs(t, ns, "ip addr add 192.0.2.2/24 dev out1 && ip link set out1 up")
	return ns
}

// serve answers each TCP connection in ns with the client's address and its
// own.
func serve(t testing.TB, ns *os.File, port int) {
	t.Helper()
	var l net.Listener
	err := inNamespace(ns, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
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
			fmt.Fprintf(c, "%s %s", c.RemoteAddr(), c.LocalAddr())
			c.Close()
		}
	}()
}

// get returns what the server at address says to a client in ns.
func get(ns *os.File, address string) (string, error) {
	var c net.Conn
	err := inNamespace(ns, func() (err error) {
		// A packet that a device of the test's own loses, which has just been
		// made, is sent again after a second.
		c, err = net.DialTimeout("tcp", address, 3*time.Second)
		return err
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	b, err := io.ReadAll(c)
	return string(b), err
}

// sees checks which client address a server reports.
func sees(t testing.TB, ns *os.File, address, want string) {
	t.Helper()
	got, err := get(ns, address)
	got, _, _ = strings.Cut(got, " ")
	if host, _, _ := net.SplitHostPort(got); err != nil || host != want {
		t.Errorf("server at %s sees %q, %v, want client %s", address, got, err, want)
	}
}

func TestPublish(t *testing.T) {
	needs(t, "ip")
	m := testManager(t)
	far := outside(t, m)
	ports, err := ParsePorts([]string{"18080:80", "192.0.2.1:18081:80", "18090-18092:90-92/udp"})
	if err != nil {
		t.Fatal(err)
	}
	ns, _ := joinNetwork(t, m, SetupOptions{ContainerID: "web", Ports: ports})
	serve(t, ns, 80)
	host, _ := m.netns()
	// NET-08: the source address is kept, from outside and from the host itself.
	sees(t, far, "192.0.2.1:18080", "192.0.2.2")
	sees(t, far, "192.0.2.1:18081", "192.0.2.2")
	sees(t, host, "192.0.2.1:18080", "192.0.2.1")
	sees(t, ns, "192.0.2.1:18080", "10.88.0.1") // hairpin: the gateway's
	// Direct routing to what is not published is dropped.
	inNs(t, far, "ip route add 10.88.0.0/16 via 192.0.2.1")
	if out, err := get(far, "10.88.0.2:80"); err == nil {
		t.Errorf("unpublished address answers %q from outside", out)
	}
	// F46, NET-05: flushed rules come back with the next command.
	needs(t, "nft")
	m.inHost(t, "nft flush ruleset")
	joinNetwork(t, m, SetupOptions{ContainerID: "other"})
	sees(t, far, "192.0.2.1:18080", "192.0.2.2")
	if err := m.Teardown(context.Background(), TeardownOptions{ContainerID: "web"}); err != nil {
		t.Fatal(err)
	}
	if out := m.inHost(t, "nft list map inet hull any4"); strings.Contains(out, "elements") {
		t.Errorf("elements after Teardown:\n%s", out)
	}
}

func TestPortTaken(t *testing.T) {
	m := testManager(t)
	ports, _ := ParsePorts([]string{"18085:80"})
	joinNetwork(t, m, SetupOptions{ContainerID: "first", ContainerName: "one", Ports: ports})
	ns, err := NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	_, err = m.Setup(context.Background(), SetupOptions{ContainerID: "second", Netns: ns, Ports: ports})
	if !errors.Is(err, ErrPort) || !strings.Contains(err.Error(), "one (first)") {
		t.Errorf("Setup with a taken port = %v, want the holder's name", err)
	}
	if left, _ := filepath.Glob(m.run + "/*/leases/hull/10*"); len(left) != 1 {
		t.Errorf("leases after a failed Setup = %v, want one", left)
	}
}

func BenchmarkSetup(b *testing.B) {
	m := testManager(b)
	ctx := context.Background()
	var namespace, setup, teardown time.Duration
	one := func(i int, ports []PortMapping) {
		t0 := time.Now()
		ns, err := NewNamespace(ctx)
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		id := fmt.Sprintf("c%d", i)
		s, err := m.Setup(ctx, SetupOptions{ContainerID: id, Netns: ns, Ports: ports})
		if err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		if err := m.Teardown(ctx, TeardownOptions{ContainerID: id}); err != nil {
			b.Fatal(err)
		}
		namespace += t1.Sub(t0)
		setup += t2.Sub(t1)
		teardown += time.Since(t2)
		s.Close()
		ns.Close()
	}
	one(-1, nil)
	for name, ports := range map[string][]PortMapping{"plain": nil, "port": {{HostPort: 18099, ContainerPort: 80, Protocol: "tcp"}}} {
		b.Run(name, func(b *testing.B) {
			namespace, setup, teardown = 0, 0, 0
			for i := range b.N {
				one(i, ports)
			}
			b.ReportMetric(float64(namespace.Microseconds())/float64(b.N), "us-namespace")
			b.ReportMetric(float64(setup.Microseconds())/float64(b.N), "us-setup")
			b.ReportMetric(float64(teardown.Microseconds())/float64(b.N), "us-teardown")
		})
	}
}

// TestNET07Routed: a port published on one address is not taken from others whose
// traffic only passes through, and route_localnet stays off (NET-13).
func TestNET07Routed(t *testing.T) {
	m := testManager(t)
	needs(t, "ip")
	far := outside(t, m)
	behind, err := NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	m.inHost(t, fmt.Sprintf("ip link add in0 type veth peer name in1 && ip link set in1 netns /proc/%d/fd/%d && ip addr add 198.51.100.1/24 dev in0 && ip link set in0 up", os.Getpid(), behind.Fd()))
	inNs(t, behind, "ip addr add 198.51.100.2/24 dev in1 && ip link set in1 up && ip route add default via 198.51.100.1")
	inNs(t, far, "ip route add default via 192.0.2.1")
	ports, _ := ParsePorts([]string{"18091:80", "192.0.2.1:18092:80"})
	ns, _ := joinNetwork(t, m, SetupOptions{ContainerID: "web", Ports: ports})
	serve(t, ns, 80)
	serve(t, behind, 18091)
	serve(t, behind, 18092)
	sees(t, far, "192.0.2.1:18091", "192.0.2.2")
	for _, port := range []string{"18091", "18092"} {
		if got, err := get(far, "198.51.100.2:"+port); err != nil || !strings.HasSuffix(got, " 198.51.100.2:"+port) {
			t.Errorf("%s of the machine behind answers %q, %v, want its own address", port, got, err)
		}
	}
	if _, err := get(far, "198.51.100.1:18092"); err == nil {
		t.Error("a port of 192.0.2.1 answers at the host's other address")
	}
	if out := m.inHost(t, "cat /proc/sys/net/ipv4/conf/*/route_localnet | sort -u"); out != "0\n" {
		t.Errorf("route_localnet = %q, want 0", out)
	}
	// NET-13: a neighbour that routes 127.0.0.1 to the host does not reach it.
	host, _ := m.netns()
	inNs(t, host, "ip link set lo up")
	var l net.Listener
	if err := inNamespace(host, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:18093"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inNs(t, far, "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 192.0.2.1 src 192.0.2.2; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet")
	if _, err := get(far, "127.0.0.1:18093"); err == nil {
		t.Error("a neighbour reaches 127.0.0.1 of the host")
	}
}

// TestIsolation keeps two networks apart, and an internal one from the outside
// (NET-03).
func TestIsolation(t *testing.T) {
	m := testManager(t)
	needs(t, "ip")
	ctx := context.Background()
	far := outside(t, m)
	serve(t, far, 7000)
	for _, o := range []CreateOptions{{Name: "a"}, {Name: "b"}, {Name: "in", Internal: true}} {
		if _, err := m.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	one, _ := joinNetwork(t, m, SetupOptions{ContainerID: "one", Networks: []Attach{{Name: "a"}}})
	two, s := joinNetwork(t, m, SetupOptions{ContainerID: "two", Networks: []Attach{{Name: "b"}}})
	serve(t, two, 80)
	inside, _ := joinNetwork(t, m, SetupOptions{ContainerID: "three", Networks: []Attach{{Name: "in"}}})
	sees(t, one, "192.0.2.2:7000", "192.0.2.1")
	if out, err := get(one, s.Networks[0].Addresses[0].Addr().String()+":80"); err == nil {
		t.Errorf("a container of another network answers %q", out)
	}
	if out, err := get(inside, "192.0.2.2:7000"); err == nil {
		t.Errorf("from an internal network the outside answers %q", out)
	}
}
