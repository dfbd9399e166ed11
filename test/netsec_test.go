package test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NET-01: a container that sends router advertisements moves neither its
// neighbour nor the host, also with a capability that containers do not have
// by themselves.
func TestNET01RouterAdvertisements(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "--ipv6", "quay")
	for _, name := range []string{"a", "b"} {
		m.ok("run", "-d", "--name", name, "--network", "quay", "fx:1", "sleep", "1000")
	}
	const netRaw = 1 << 13
	status := m.ok("exec", "a", "grep", "CapBnd", "/proc/1/status")
	if caps, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(status, "CapBnd:")), 16, 64); err != nil || caps&netRaw != 0 {
		t.Errorf("capabilities of a container: %s, %v", status, err)
	}
	bridge := m.ok("network", "inspect", "-f", "{{.NetworkInterface}}", "quay")
	routes := func() string {
		return shell(t, "", "ip -6 route; ip -6 addr show "+bridge) + m.ok("exec", "b", "sh", "-c", "ip -6 route; ip -6 addr; cat /proc/sys/net/ipv6/conf/eth0/accept_ra")
	}
	before := routes()
	if !strings.HasSuffix(before, "\n0") || shell(t, "", "cat /proc/sys/net/ipv6/conf/"+bridge+"/accept_ra") != "0\n" {
		t.Errorf("routers are learned from neighbours: %s", before)
	}
	err := inNetworkOf(m.ok("inspect", "-f", "{{.State.Pid}}", "a"), func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		// Type 134, a lifetime of half an hour, and a prefix to make addresses of.
		ra := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0}
		prefix := netip.MustParseAddr("2001:db8:bad::").As16()
		ra = append(ra, prefix[:]...)
		to := &unix.SockaddrInet6{ZoneId: uint32(eth0.Index), Addr: netip.MustParseAddr("ff02::1").As16()}
		for range 3 {
			if err := unix.Sendto(fd, ra, 0, to); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := routes(); strings.Contains(after, "2001:db8:bad") || strings.Count(after, "default") != strings.Count(before, "default") {
		t.Errorf("a container is a router:\n%s", difference(before, after))
	}
	m.ok("rm", "-f", "-t", "0", "-a")
}

// NET-03: a container that is only in an internal network asks for a name of
// the outside: it is told that there is none, and no packet leaves the host,
// whichever server was asked for.
func TestNET03InternalNames(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "--internal", "cove")
	shell(t, "", "nft 'add table inet probe; add chain inet probe out { type filter hook output priority 0; }; add rule inet probe out meta l4proto { tcp, udp } th dport 53 ip daddr != 127.0.0.11 counter; "+
		"add chain inet probe through { type filter hook forward priority -10; }; add rule inet probe through counter'")
	m.ok("run", "-d", "--name", "a", "--network", "cove", "--dns", "198.51.100.2", "fx:1", "sleep", "1000")
	err := inNetworkOf(m.ok("inspect", "-f", "{{.State.Pid}}", "a"), func() error {
		for _, name := range []string{"example.com", "secret.of.the.cove.example.org"} {
			code, data, err := askName(name, kindA, askWait)
			if err != nil || code != codeNoName || len(data) != 0 {
				t.Errorf("%s: code %d, %x, %v", name, code, data, err)
			}
		}
		if code, data, err := askName("a", kindA, askWait); err != nil || code != 0 || len(data) != 1 {
			t.Errorf("a: code %d, %x, %v", code, data, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if rules := shell(t, "", "nft list table inet probe"); strings.Count(rules, "packets 0 ") != 2 {
		t.Errorf("something left the host:\n%s", rules)
	}
	m.ok("rm", "-f", "-t", "0", "a")
}

// NET-04: in a network of IPv4 there is no IPv6, not even of a link.
func TestNET04NoIPv6(t *testing.T) {
	for _, as := range []string{"", testUser} {
		t.Run("as "+as, func(t *testing.T) {
			if as == "" {
				inOwnHost(t)
			}
			m := newMachine(t, as)
			m.ok("network", "create", "quay")
			m.equal("1", "run", "--rm", "--network", "quay", "fx:1", "sh", "-c", "ip -6 addr show eth0; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
			if r := m.run("run", "--rm", "--network", "quay", "--cap-add", "NET_RAW", "fx:1", "busybox", "ping", "-6", "-c", "1", "-W", "1", "ff02::1%eth0"); r.code == 0 {
				t.Errorf("a neighbour answers by IPv6: %s", r.out)
			}
		})
	}
}

// busy is how much of a processor processes use, in percent, over a second.
func busy(t testing.TB, pids ...int) int {
	t.Helper()
	ticks := func() (n int) {
		for _, pid := range pids {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				t.Fatal(err)
			}
			f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
			for _, i := range []int{11, 12} { // utime and stime, in hundredths
				k, _ := strconv.Atoi(f[i])
				n += k
			}
		}
		return n
	}
	before := ticks()
	time.Sleep(time.Second)
	return ticks() - before
}

// NET-09: clients that cut their messages off, reset, or close one half leave
// neither who carries a published port nor who answers for names busy, or deaf.
func TestNET09RudeClients(t *testing.T) {
	for _, as := range []string{"", testUser} {
		t.Run("as "+as, func(t *testing.T) {
			m := newMachine(t, as)
			m.ok("network", "create", "quay")
			port := freePort(t)
			m.ok("run", "-d", "--name", "c", "--network", "quay", "-p", fmt.Sprintf("127.0.0.1:%d:80", port), "fx:1", "sh", "-c", answers)
			address := fmt.Sprintf("127.0.0.1:%d", port)
			if got := fetch(t, address); got != "here\n" {
				t.Fatalf("the published port says %q", got)
			}
			beRude(t, address)
			err := inNetworkOf(m.ok("inspect", "-f", "{{.State.Pid}}", "c"), func() error {
				beRude(t, "127.0.0.11:53")
				c, err := net.Dial("udp", "127.0.0.11:53")
				if err != nil {
					return err
				}
				defer c.Close()
				for _, b := range [][]byte{{}, {0}, make([]byte, 11), make([]byte, 1200)} {
					c.Write(b)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			monitor, _ := strconv.Atoi(m.ok("inspect", "-f", "{{.State.ConmonPid}}", "c"))
			pids := []int{monitor}
			all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, p := range all {
				if b, _ := os.ReadFile(p); strings.HasPrefix(string(b), filepath.Dir(m.hull)+"/libexec/hull/hull-net") && strings.Contains(string(b), m.dir) {
					pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
					pids = append(pids, pid)
				}
			}
			if got := busy(t, pids...); got >= 5 {
				t.Errorf("%d processes use %d %% of a processor", len(pids), got)
			}
			if got := fetch(t, address); got != "here\n" {
				t.Errorf("the published port says %q", got)
			}
			m.ok("exec", "c", "busybox", "nslookup", "c", "127.0.0.11")
			m.ok("rm", "-f", "-t", "0", "c")
		})
	}
}

// beRude visits a server by TCP in every wrong way.
func beRude(t testing.TB, address string) {
	t.Helper()
	for i := range 40 {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			continue // it listens for one at a time
		}
		tcp := c.(*net.TCPConn)
		switch i % 5 {
		case 0: // a length, and less than that
			tcp.Write(append(binary.BigEndian.AppendUint16(nil, 40000), 1, 2, 3))
		case 1:
			tcp.Write([]byte{0})
			tcp.SetLinger(0) // ends with a reset
		case 2:
			tcp.CloseWrite()
		case 3:
			tcp.Write([]byte{0, 0, 0, 0}) // two messages of nothing
			tcp.CloseWrite()
		case 4:
			tcp.SetLinger(0)
		}
		time.Sleep(2 * time.Millisecond)
		c.Close()
	}
}

// NET-13: a loopback address stays the host's own: route_localnet is off
// wherever containers are, and a neighbour that sends to 127.0.0.1 by the
// host's outer address reaches nothing.
func TestNET13NeighbourToLoopback(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	far := m.neighbour()
	m.ok("run", "-d", "--name", "c", "-p", "127.0.0.1:8080:80", "-p", "8081:80", "fx:1", "sh", "-c", answers)
	if out := shell(t, "", "cat /proc/sys/net/ipv4/conf/*/route_localnet"); strings.Trim(out, "0\n") != "" {
		t.Errorf("route_localnet is on: %s", out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:8082")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	shell(t, far, "ip addr flush dev lo; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.1/32 via 198.51.100.1 dev eth0 src 198.51.100.2")
	ask := func(to string) string {
		return strings.TrimSpace(shell(t, far, "busybox nc -w 1 "+to+" 2>/dev/null </dev/null && echo open || true"))
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(ask("198.51.100.1 8081"), "here"); {
		if time.Now().After(end) {
			t.Fatal("the neighbour does not reach the published port")
		}
	}
	for _, to := range []string{"127.0.0.1 8080", "127.0.0.1 8081", "127.0.0.1 8082"} {
		if got := ask(to); got != "" {
			t.Errorf("a neighbour reaches %s of the host: %q", to, got)
		}
	}
	m.ok("rm", "-f", "-t", "0", "c")
}
