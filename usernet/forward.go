package usernet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"hull/network"
)

const (
	dialTime     = 20 * time.Second
	datagramIdle = 90 * time.Second
	resolverTime = 5 * time.Second
	portDNS      = 53
)

// buffers are what a stream copies through: one frame of the device and more.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// targets are the host's addresses for one of the stack's, in the order to try.
func (s *server) targets(id stack.TransportEndpointID) []netip.AddrPort {
	to := netip.AddrPortFrom(fromStack(id.LocalAddress), id.LocalPort)
	if to.Addr() == network.UserDNS && to.Port() == portDNS {
		var all []netip.AddrPort
		for _, r := range s.resolvers() {
			all = append(all, netip.AddrPortFrom(r, portDNS))
		}
		return all
	}
	if !allowed(to.Addr()) {
		return nil
	}
	return []netip.AddrPort{to}
}

// dial connects to the first target that answers.
func dial(proto string, targets []netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	err := errRefused
	for _, to := range targets {
		var c net.Conn
		if c, err = new(net.Dialer).DialContext(ctx, proto, to.String()); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// take takes a token, if there is one.
func take(tokens chan struct{}) bool {
	select {
	case tokens <- struct{}{}:
		return true
	default:
		return false
	}
}

// stream carries one connection. The host's side is connected first, so that
// the container sees a refusal as one.
func (s *server) stream(r *tcp.ForwarderRequest) {
	if !take(s.streams) {
		r.Complete(true)
		return
	}
	defer func() { <-s.streams }()
	c, err := dial("tcp", s.targets(r.ID()))
	if err != nil {
		r.Complete(true)
		return
	}
	out := c.(*net.TCPConn)
	defer out.Close()
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		r.Complete(true)
		return
	}
	r.Complete(false)
	ep.SocketOptions().SetKeepAlive(true)
	in := gonet.NewTCPConn(&queue, ep)
	defer in.Close()
	splice(in, out)
}

// splice copies both ways until both have finished; the end of one direction
// is passed on, an error ends both.
func splice(in *gonet.TCPConn, out *net.TCPConn) {
	one := func(to, from network.HalfCloser) {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		// Without their other methods, which would not use the buffer.
		if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *b); err != nil {
			out.SetLinger(0)
			in.Close()
			out.Close()
			return
		}
		_ = to.CloseWrite()
	}
	var both sync.WaitGroup
	both.Go(func() { one(in, out) })
	one(out, in)
	both.Wait()
}

// datagram opens a flow; false is answered by "port unreachable", as where the
// host has no way there: who asks would else wait until he gives up.
func (s *server) datagram(r *udp.ForwarderRequest) bool {
	targets := s.targets(r.ID())
	if len(targets) == 0 || !take(s.datagrams) {
		return false
	}
	names := r.ID().LocalPort == portDNS
	var out net.Conn
	if !names {
		var err error
		if out, err = dial("udp", targets[:1]); err != nil { // nothing is sent by that
			<-s.datagrams
			return false
		}
	}
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		if out != nil {
			out.Close()
		}
		<-s.datagrams
		return true
	}
	in := gonet.NewUDPConn(&queue, ep)
	go func() {
		defer func() { <-s.datagrams }()
		defer in.Close()
		if names {
			query(in, targets)
			return
		}
		relay(in, out)
	}()
	return true
}

// relay carries datagrams both ways until there are none for a while.
func relay(in, out net.Conn) {
	var both sync.WaitGroup
	one := func(to, from net.Conn) {
		defer in.Close()
		defer out.Close()
		b := make([]byte, 64<<10)
		for {
			from.SetReadDeadline(time.Now().Add(datagramIdle))
			n, err := from.Read(b)
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue
			}
			if err != nil {
				return
			}
			// What one direction carries keeps the other.
			to.SetReadDeadline(time.Now().Add(datagramIdle))
			if _, err := to.Write(b[:n]); err != nil && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EMSGSIZE) {
				return
			}
		}
	}
	both.Go(func() { one(in, out) })
	one(out, in)
	both.Wait()
}

// query asks the resolvers one after the other, for each datagram of a flow. When
// none answers that is said: on a host without a network at once.
func query(in net.Conn, targets []netip.AddrPort) {
	ask, answer := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		in.SetReadDeadline(time.Now().Add(datagramIdle))
		n, err := in.Read(ask)
		if err != nil {
			return
		}
		reply := failure(ask[:n])
		for _, to := range targets {
			if m, err := exchange(to, ask[:n], answer); err == nil {
				reply = answer[:m]
				break
			}
		}
		if reply != nil {
			_, _ = in.Write(reply)
		}
	}
}

// failure is the answer SERVFAIL to a question (RFC 1035 section 4.1), nil to
// what is none.
func failure(ask []byte) []byte {
	const header = 12
	if len(ask) < header || ask[2]&0x80 != 0 {
		return nil
	}
	end := header
	if ask[4] == 0 && ask[5] == 1 { // one question, as everybody asks: it is repeated
		for end < len(ask) && ask[end] != 0 && ask[end] < 64 {
			end += 1 + int(ask[end])
		}
		if end += 5; end > len(ask) || ask[end-5] != 0 {
			return nil
		}
	}
	reply := append([]byte{}, ask[:end]...)
	reply[2] = ask[2]&0x79 | 0x80 // an answer, with the kind and the wish of the question
	reply[3] = 0x80 | 2
	clear(reply[6:header])
	if end == header {
		clear(reply[4:6])
	}
	return reply
}

func exchange(to netip.AddrPort, ask, answer []byte) (int, error) {
	out, err := dial("udp", []netip.AddrPort{to})
	if err != nil {
		return 0, err
	}
	defer out.Close()
	out.SetDeadline(time.Now().Add(resolverTime))
	if _, err := out.Write(ask); err != nil {
		return 0, err
	}
	return out.Read(answer)
}

var _ network.HalfCloser = (*gonet.TCPConn)(nil)
