package network

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

// TestMain lets the test's program be the helper.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == ProxyCommand {
		if err := Proxy(os.Args[2], ProxyOptions{}); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestProxy: published ports answer on the host's loopback addresses, the
// container sees its gateway as the client (NET-08, NET-13), and the port is
// free when Teardown returns.
func TestProxy(t *testing.T) {
	m := testManager(t)
	var err error
	if m.o.Helper, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	host, _ := m.netns()
	inNs(t, host, "ip link set lo up")
	far := outside(t, m)
	ports, _ := ParsePorts([]string{"18088:80", "127.0.0.1:18089:80", "18090:53/udp"})
	for range 2 {
		ns, s := joinNetwork(t, m, SetupOptions{ContainerID: "web", Ports: ports})
		s.Close()
		serve(t, ns, 80)
		echo(t, ns, 53)
		sees(t, host, "127.0.0.1:18088", "10.88.0.1")
		sees(t, host, "[::1]:18088", "10.88.0.1")
		sees(t, host, "127.0.0.1:18089", "10.88.0.1")
		sees(t, far, "192.0.2.1:18088", "192.0.2.2")
		if out, err := get(far, "192.0.2.1:18089"); err == nil {
			t.Errorf("port published on 127.0.0.1 answers %q from outside", out)
		}
		for _, to := range []string{"127.0.0.1:18090", "[::1]:18090", "192.0.2.1:18090"} {
			if got := ask(t, host, to); got != "hello" {
				t.Errorf("datagram to %s comes back as %q, want hello", to, got)
			}
		}
		if err := m.Teardown(context.Background(), TeardownOptions{ContainerID: "web"}); err != nil {
			t.Fatal(err)
		}
	}
}

// echo sends datagrams back.
func echo(t testing.TB, ns *os.File, port int) {
	t.Helper()
	var c *net.UDPConn
	err := inNamespace(ns, func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(b[:n], from)
		}
	}()
}

func ask(t testing.TB, ns *os.File, address string) string {
	t.Helper()
	var c net.Conn
	err := inNamespace(ns, func() (err error) {
		c, err = net.Dial("udp", address)
		return err
	})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b := make([]byte, 100)
	for range 3 {
		c.Write([]byte("hello"))
		c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(b); err == nil {
			return string(b[:n])
		}
	}
	return "nothing"
}
