package test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// The kinds of records that are asked for, and what answers begin with.
const (
	kindA, kindPTR, kindAAAA = 1, 12, 28
	codeNoName               = 3
)

// inNetworkOf calls f on a thread that is in the network namespace of a
// process. Sockets that f makes stay in it.
func inNetworkOf(pid string, f func() error) (err error) {
	state.OnLostThread(func() {
		var fd int
		if fd, err = unix.Open("/proc/"+pid+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		unix.Close(fd)
		if err == nil {
			err = f()
		}
	})
	return err
}

// askName asks the name server of the thread's network by UDP, once, and
// returns the answer's code and the data of its records.
func askName(name string, kind uint16, wait time.Duration) (code byte, data [][]byte, err error) {
	c, err := net.DialTimeout("udp", "127.0.0.11:53", wait)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	q := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	q = append(q, labels(name)...)
	q = append(binary.BigEndian.AppendUint16(q, kind), 0, 1)
	c.SetDeadline(time.Now().Add(wait))
	if _, err = c.Write(q); err != nil {
		return 0, nil, err
	}
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if err != nil {
		return 0, nil, err
	}
	if n < len(q) || !bytes.Equal(b[:2], q[:2]) {
		return 0, nil, errors.New("an answer to something else")
	}
	const fixed = 12 // name, type, class, time to live, size
	for rest := b[len(q):n]; len(rest) >= fixed; {
		size := int(binary.BigEndian.Uint16(rest[fixed-2:]))
		if len(rest) < fixed+size {
			return 0, nil, errors.New("a record is cut off")
		}
		data = append(data, rest[fixed:fixed+size])
		rest = rest[fixed+size:]
	}
	return b[3] & 15, data, nil
}

// labels is a name as the protocol has it.
func labels(name string) []byte {
	var b []byte
	for l := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0)
}

// reverse is the name that is asked for an address's name.
func reverse(a netip.Addr) string {
	if a.Is4() {
		b := a.As4()
		return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0])
	}
	var s strings.Builder
	for _, c := range slices.Backward(a.AsSlice()) {
		fmt.Fprintf(&s, "%x.%x.", c&15, c>>4)
	}
	return s.String() + "ip6.arpa"
}

// A peer is a container that others are to find.
type peer struct {
	name, id, pid string
	four, six     netip.Addr
	listener      net.Listener
}

// start runs the container and waits for nothing.
func (m *machine) startPeer(name string) *peer {
	m.Helper()
	p := &peer{name: name}
	p.id = m.ok("run", "-d", "--name", name, "--network", "quay:alias=the-"+name, "fx:1", "sleep", "1000")
	return p
}

// look reads what the container has been given.
func (m *machine) look(p *peer) {
	m.Helper()
	f := strings.Fields(m.ok("inspect", "-f", "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}", p.name))
	if len(f) != 3 {
		m.Fatalf("%s has %v", p.name, f)
	}
	p.pid, p.four, p.six = f[0], netip.MustParseAddr(f[1]), netip.MustParseAddr(f[2])
}

// listen is the peer's server, which says its name to everybody. It is the
// test's: what is looked at is the network, not how soon a program is ready.
func (p *peer) listen() error {
	return inNetworkOf(p.pid, func() (err error) {
		if p.listener, err = net.Listen("tcp", "[::]:7000"); err != nil {
			return err
		}
		go func() {
			for {
				c, err := p.listener.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, p.name)
				c.Close()
			}
		}()
		return nil
	})
}

// A tally is how the look-ups and connections went.
type tally struct {
	asks, misses int
	longest      time.Duration // of one
	longestWhat  string
	slow         int // of more than slowAsk
}

const (
	askWait = 3 * time.Second
	slowAsk = 50 * time.Millisecond
)

// note is one look-up or connection.
func (y *tally) note(t testing.TB, what string, began time.Time, err error) {
	took := time.Since(began)
	y.asks++
	if took > slowAsk {
		y.slow++
	}
	if took > 900*time.Millisecond { // as long as a lost packet takes
		t.Logf("%s: took %v", what, took)
	}
	if took > y.longest {
		y.longest, y.longestWhat = took, what
	}
	if err != nil {
		y.misses++
		t.Errorf("%s: %v after %v", what, err, took)
	}
}

// finds looks for one peer from the thread's network, each way once.
func (y *tally) finds(t testing.TB, from string, p *peer) {
	for _, q := range []struct {
		name string
		kind uint16
		want []byte
	}{
		{p.name, kindA, p.four.AsSlice()}, {p.name, kindAAAA, p.six.AsSlice()},
		{"the-" + p.name, kindA, p.four.AsSlice()}, {"the-" + p.name, kindAAAA, p.six.AsSlice()},
		{p.id[:12], kindA, p.four.AsSlice()},
		{reverse(p.four), kindPTR, labels(p.name)}, {reverse(p.six), kindPTR, labels(p.name)},
	} {
		began := time.Now()
		code, data, err := askName(q.name, q.kind, askWait)
		if err == nil && (code != 0 || len(data) != 1 || !bytes.Equal(data[0], q.want)) {
			err = fmt.Errorf("code %d, %d records %x, want %x", code, len(data), data, q.want)
		}
		y.note(t, from+" asks for "+q.name, began, err)
	}
	for _, a := range []netip.Addr{p.four, p.six} {
		began := time.Now()
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 7000).String(), askWait)
		if err == nil {
			c.SetDeadline(time.Now().Add(askWait))
			var said []byte
			said, err = io.ReadAll(c)
			c.Close()
			if err == nil && string(said) != p.name {
				err = fmt.Errorf("%q answers", said)
			}
		}
		y.note(t, from+" connects to "+p.name+" at "+a.String(), began, err)
	}
}

// gone removes the container three; from the moment that the command returns
// its name is nobody's.
func (y *tally) gone(m *machine, pid string) {
	m.Helper()
	m.ok("rm", "-f", "-t", "0", "three")
	err := inNetworkOf(pid, func() error {
		began := time.Now()
		code, _, err := askName("three.dns.podman", kindA, askWait)
		if err == nil && code != codeNoName {
			err = fmt.Errorf("code %d for a container that is gone", code)
		}
		y.note(m, "one asks for three, which is gone", began, err)
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
}

// Three containers of a user network find each other by name, alias, short ID
// and address, over IPv4 and IPv6, at the first try from the moment that their
// start has returned; and a name is gone when its container is. HULL_NET_NAMES
// raises the number of rounds; each makes 18 connections and 64 look-ups.
func TestNamesFromTheFirstMoment(t *testing.T) {
	for _, as := range []string{"", testUser} {
		t.Run("as "+as, func(t *testing.T) {
			if as == "" {
				inOwnHost(t)
			}
			m := newMachine(t, as)
			m.ok("network", "create", "--ipv6", "quay")
			rounds := count(t, "HULL_NET_NAMES", 2)
			var y tally
			var wholes []time.Duration
			for round := range rounds {
				var peers []*peer
				for _, name := range []string{"one", "two", "three"} {
					peers = append(peers, m.startPeer(name))
				}
				// Looking them up is the test's own time.
				for _, p := range peers {
					m.look(p)
					if err := p.listen(); err != nil {
						t.Fatal(err)
					}
				}
				var whole time.Duration
				for _, p := range peers {
					err := inNetworkOf(p.pid, func() error {
						began := time.Now()
						for _, to := range peers {
							y.finds(t, fmt.Sprintf("round %d: %s", round, p.name), to)
						}
						whole = max(whole, time.Since(began))
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				wholes = append(wholes, whole)
				y.gone(m, peers[0].pid)
				for _, p := range peers {
					p.listener.Close()
				}
				m.ok("rm", "-f", "-t", "0", "-a")
				if y.misses > 20 {
					t.Fatal("too many misses")
				}
			}
			slices.Sort(wholes)
			t.Logf("%d rounds, %d look-ups and connections, %d misses; %d took more than %v, the longest %v (%s); all 27 of one container: median %v, longest %v",
				rounds, y.asks, y.misses, y.slow, slowAsk, y.longest, y.longestWhat, wholes[len(wholes)/2], wholes[len(wholes)-1])
		})
	}
}
