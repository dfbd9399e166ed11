package network

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A container sees who its client is, though a proxy stands between (NET-08
// for users).
func TestTransparentDial(t *testing.T) {
	m := testManager(t)
	h, err := m.host()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 2 { // it is prepared at each start
		if ok, err := h.acceptTransparent(); err != nil {
			t.Fatal(err)
		} else if !ok {
			t.Skip("this kernel's packet filter does not tell transparent sockets")
		}
	}
	ns, s := joinNetwork(t, m, SetupOptions{ContainerID: "web"})
	serve(t, ns, 80)
	echo(t, ns, 53)
	host, _ := m.netns()
	address := s.Networks[0].Addresses[0].Addr()
	client := netip.MustParseAddrPort("203.0.113.9:4711")
	for range 3 { // of the same port
		var got []byte
		err := inNamespace(host, func() error {
			c, err := dialAs("tcp", client, netip.AddrPortFrom(address, 80))
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			got, err = io.ReadAll(c)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if seen, _, _ := strings.Cut(string(got), " "); !strings.Contains(seen, "203.0.113.9") {
			t.Errorf("the container sees %s", got)
		}
		client = netip.AddrPortFrom(client.Addr(), client.Port()+1)
	}
	err = inNamespace(host, func() error {
		c, err := dialAs("udp", client, netip.AddrPortFrom(address, 53))
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		b := make([]byte, 16)
		n, err := c.Read(b)
		if string(b[:n]) != "hello" {
			t.Errorf("a datagram comes back as %q", b[:n])
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSeenAs(t *testing.T) {
	r := record{Networks: []Joined{{Addresses: []netip.Prefix{netip.MustParsePrefix("10.88.0.2/16"), netip.MustParsePrefix("fd00:1::2/64")}}}}
	for client, want := range map[string]bool{
		"192.0.2.7": true, "127.0.0.1": false, "10.88.9.9": false, "10.0.2.2": false, "169.254.1.1": false, "0.0.0.0": false, "2001:db8::1": false,
	} {
		if got := r.seenAs(netip.MustParseAddr(client), netip.MustParseAddr("10.88.0.2")); got != want {
			t.Errorf("seen as %s: %v, want %v", client, got, want)
		}
	}
	if !r.seenAs(netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fd00:1::2")) || r.seenAs(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00:1::2")) {
		t.Error("IPv6 clients")
	}
}
