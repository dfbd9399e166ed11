package monitor

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// query is one of name, with EDNS when size is not 0.
func query(name string, kind uint16, size uint16) []byte {
	b := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b, _ = appendName(b, name)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = append(b, 0, 1)
	if size > 0 {
		b[11] = 1
		b = append(b, 0, 0, typeOPT)
		b = binary.BigEndian.AppendUint16(b, size)
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	return b
}

func TestParseQuery(t *testing.T) {
	good := query("SRV.Example", typeA, 0)
	for _, c := range []struct {
		what string
		p    []byte
		ok   bool
		name string
		size int
	}{
		{"plain", good, true, "srv.example", 512},
		{"with EDNS", query("srv", typeAAAA, 4096), true, "srv", 1232},
		{"a small EDNS size", query("srv", typeAAAA, 100), true, "srv", 512},
		{"the root", append(append([]byte{}, good[:12]...), 0, 0, 1, 0, 1), true, "", 512},
		{"another class", append(append([]byte{}, good[:len(good)-2]...), 0, 3), true, "", 512},
		{"a response", append([]byte{1, 2, 0x81}, good[3:]...), false, "", 0},
		{"another operation", append([]byte{1, 2, 0x08}, good[3:]...), false, "", 0},
		{"cut", good[:len(good)-1], false, "", 0},
		{"no question", []byte{1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, false, "", 0},
		{"a compressed name", append(append([]byte{}, good[:12]...), 0xc0, 12, 0, 1, 0, 1), false, "", 0},
		{"a label with a dot", append(append([]byte{}, good[:12]...), 3, 'a', '.', 'b', 0, 0, 1, 0, 1), true, "", 512},
		{"empty", nil, false, "", 0},
	} {
		q, ok := parseQuery(c.p)
		if ok != c.ok || ok && (q.name != c.name || q.size != c.size) {
			t.Errorf("%s: %v %q %d, want %v %q %d", c.what, ok, q.name, q.size, c.ok, c.name, c.size)
		}
	}
}

func TestReverseAddress(t *testing.T) {
	for _, a := range []string{"10.81.0.7", "fd81::2:1"} {
		addr := netip.MustParseAddr(a)
		name := ""
		if addr.Is4() {
			b := addr.As4()
			name = fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0])
		} else {
			b := addr.As16()
			for i := 15; i >= 0; i-- {
				name += fmt.Sprintf("%x.%x.", b[i]&15, b[i]>>4)
			}
			name += "ip6.arpa"
		}
		if got, ok := reverseAddress(name); !ok || got != addr {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
	for _, name := range []string{"in-addr.arpa", "1.2.3.in-addr.arpa", "01.2.3.4.in-addr.arpa", "256.1.1.1.in-addr.arpa", "1.ip6.arpa", "srv"} {
		if got, ok := reverseAddress(name); ok {
			t.Errorf("%s is taken for %v", name, got)
		}
	}
}

func TestReplyFits(t *testing.T) {
	var many []netip.Addr
	for i := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	for _, size := range []uint16{0, 512, 1232} {
		q, _ := parseQuery(query("srv", typeA, size))
		b := q.reply(rcodeOK, many, nil, q.size)
		if len(b) > q.size || b[2]&2 == 0 {
			t.Errorf("EDNS size %d: %d bytes, truncated %v", size, len(b), b[2]&2 != 0)
		}
		if b = q.reply(rcodeOK, many, nil, 0); binary.BigEndian.Uint16(b[6:]) != 200 || b[2]&2 != 0 {
			t.Errorf("by TCP %d answers of 200", binary.BigEndian.Uint16(b[6:]))
		}
	}
}

// serveNames runs a name server of container "own" on loopback addresses.
func serveNames(t *testing.T, dir string, servers []netip.Addr, port int) (udp, tcp string) {
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dup := func(f interface{ File() (*os.File, error) }) int {
		file, err := f.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fd, err := unix.Dup(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	n := newNameServer(&Config{ID: "own", NamesDir: dir}, dup(u.(*net.UDPConn)), dup(l.(*net.TCPListener)))
	n.servers, n.port = servers, port
	udp, tcp = u.LocalAddr().String(), l.Addr().String()
	u.Close()
	l.Close()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var buf [chunk]byte
		for {
			select {
			case <-stop:
				n.close()
				return
			default:
			}
			var polls []unix.PollFd
			n.watch(func(fd int, events int16) { polls = append(polls, unix.PollFd{Fd: int32(fd), Events: events}) })
			unix.Poll(polls, min(n.wait(20), 20))
			for _, p := range polls {
				if p.Revents != 0 {
					n.handle(int(p.Fd), buf[:])
				}
			}
			n.expire()
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return udp, tcp
}

func writeName(t *testing.T, dir, network, id, text string) {
	t.Helper()
	d := filepath.Join(dir, network)
	if err := os.MkdirAll(d, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d, ".new"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(d, ".new"), filepath.Join(d, id)); err != nil {
		t.Fatal(err)
	}
}

// ask asks by UDP and returns the code and the answers' data.
func ask(t *testing.T, server string, message []byte) (rcode byte, data []string) {
	t.Helper()
	c, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return answersOf(t, message, b[:n])
}

func answersOf(t *testing.T, message, b []byte) (rcode byte, data []string) {
	t.Helper()
	q, ok := parseQuery(message)
	if !ok || len(b) < q.end || string(b[:2]) != string(message[:2]) || b[2]&0x80 == 0 {
		t.Fatalf("not an answer to the query: %x", b)
	}
	rest := b[q.end:]
	for range binary.BigEndian.Uint16(b[6:]) {
		size := int(binary.BigEndian.Uint16(rest[10:]))
		switch d := rest[12 : 12+size]; size {
		case 4, 16:
			a, _ := netip.AddrFromSlice(d)
			data = append(data, a.String())
		default:
			data = append(data, string(d[1:1+d[0]]))
		}
		rest = rest[12+size:]
	}
	slices.Sort(data)
	return b[3] & 15, data
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	writeName(t, dir, "net", "own", "own 0123\n10.0.0.2 fd00::2\ninternal\n")
	writeName(t, dir, "net", "b", "b al\n10.0.0.3\n\n")
	writeName(t, dir, "net", "c", "c al\n10.0.0.4 fd00::4\n\n")
	writeName(t, dir, "other", "d", "d\n10.9.0.4\n\n")
	udp, _ := serveNames(t, dir, nil, 53)
	for _, c := range []struct {
		name  string
		kind  uint16
		rcode byte
		want  string
	}{
		{"b", typeA, rcodeOK, "10.0.0.3"},
		{"B.dns.podman", typeA, rcodeOK, "10.0.0.3"},
		{"b", typeAAAA, rcodeOK, ""},
		{"b", 15, rcodeOK, ""},
		{"al", typeA, rcodeOK, "10.0.0.3 10.0.0.4"},
		{"al", typeAAAA, rcodeOK, "fd00::4"},
		{"0123", typeA, rcodeOK, "10.0.0.2"},
		{"4.0.0.10.in-addr.arpa", typePTR, rcodeOK, "c"},
		{"d", typeA, rcodeNoName, ""}, // a network that it is not in; and nothing leaves its own
		{"example.com", typeA, rcodeNoName, ""},
		{"x.dns.podman", typeA, rcodeNoName, ""},
	} {
		rcode, data := ask(t, udp, query(c.name, c.kind, 1232))
		if rcode != c.rcode || strings.Join(data, " ") != c.want {
			t.Errorf("%s %d: %d %v, want %d %s", c.name, c.kind, rcode, data, c.rcode, c.want)
		}
	}
	// What changes is known at the next query, however soon.
	for i := range 50 {
		name := fmt.Sprintf("n%d", i)
		writeName(t, dir, "net", name, name+"\n10.0.1.1\n\n")
		if _, data := ask(t, udp, query(name, typeA, 0)); len(data) != 1 {
			t.Fatalf("%s is not known at once", name)
		}
		os.Remove(filepath.Join(dir, "net", name))
		if rcode, _ := ask(t, udp, query(name, typeA, 0)); rcode != rcodeNoName {
			t.Fatalf("%s is known after it was removed", name)
		}
	}
}

func TestNamesPassedOn(t *testing.T) {
	dir := t.TempDir()
	writeName(t, dir, "net", "own", "own\n10.0.0.2\n\n")
	// A server that answers with 192.0.2.1, by UDP and by TCP on one port.
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	l, err := net.Listen("tcp", u.LocalAddr().String())
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	respond := func(p []byte) []byte {
		q, _ := parseQuery(append([]byte{}, p...))
		return q.reply(rcodeOK, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil, 0)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			wrong := respond(b[:n])
			wrong[0]++ // a guess at the number is not listened to
			u.WriteTo(wrong, from)
			u.WriteTo(respond(b[:n]), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			m := respond(b[2:n])
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
			c.Close()
		}
	}()
	port := u.LocalAddr().(*net.UDPAddr).Port
	// The first server refuses: the next is asked.
	udp, tcp := serveNames(t, dir, []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1")}, port)
	message := query("example.com", typeA, 0)
	if rcode, data := ask(t, udp, message); rcode != rcodeOK || len(data) != 1 || data[0] != "192.0.2.1" {
		t.Fatalf("by UDP: %d %v", rcode, data)
	}
	// Many silent connections are in nobody's way.
	for range 3 * maxCallers {
		c, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	c, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if rcode, data := answersOf(t, message, b[2:n]); rcode != rcodeOK || len(data) != 1 {
		t.Fatalf("by TCP: %d %v", rcode, data)
	}
}

func TestParseServers(t *testing.T) {
	got := parseServers("# x\nsearch a b\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n")
	if fmt.Sprint(got) != "[127.0.0.53 fe80::1%eth0 1.1.1.1]" {
		t.Error(got)
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add(query("srv.dns.podman", typeA, 1232))
	f.Add(query("4.0.0.10.in-addr.arpa", typePTR, 0))
	f.Add([]byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0xc0, 12, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		q, ok := parseQuery(p)
		if !ok {
			return
		}
		if q.end > len(p) || q.size < plainSize || q.size > safeSize {
			t.Fatalf("end %d of %d, size %d", q.end, len(p), q.size)
		}
		reverseAddress(q.name)
		all := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
		b := q.reply(rcodeOK, all, []string{"a"}, q.size)
		if len(b) > max(q.size, q.end+11) {
			t.Fatalf("%d bytes for a client that takes %d", len(b), q.size)
		}
		if !q.answers(b, binary.BigEndian.Uint16(p)) {
			t.Fatal("the reply is no answer to the query")
		}
	})
}

func FuzzNameRecord(f *testing.F) {
	f.Add("a b\n10.0.0.1 fd00::1\ninternal 1.1.1.1\n")
	f.Fuzz(func(t *testing.T, text string) { parseNameRecord(text); parseServers(text) })
}
