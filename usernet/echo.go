package usernet

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"hull/network"
)

const echoSeconds = 10

// echo carries an echo request over an unprivileged socket of the host's. True
// keeps the stack from answering by itself for machines it knows nothing of;
// for its own addresses it does.
func (s *server) echo(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	to := fromStack(id.LocalAddress)
	if to == network.UserGateway || to == network.UserDNS {
		return false
	}
	h := header.ICMPv4(pkt.TransportHeader().Slice())
	if len(h) < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4Echo {
		return false
	}
	if !allowed(to) || !take(s.echoes) {
		return true
	}
	message := append([]byte(nil), h...)
	message = append(message, pkt.Data().AsRange().ToSlice()...)
	from := fromStack(id.RemoteAddress)
	go func() {
		defer func() { <-s.echoes }()
		if reply, err := ping(to, message); err == nil {
			copy(reply[4:6], message[4:6]) // the host's socket has an identifier of its own
			s.answer(to, from, reply)
		}
	}()
	return true
}

// echo6 keeps the stack from answering for other machines; requests to them
// are not carried.
func (s *server) echo6(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	return fromStack(id.LocalAddress) != network.UserGateway6
}

// ping sends an echo request and returns the reply.
func ping(to netip.Addr, message []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: echoSeconds}); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		return nil, err
	}
	if _, err := unix.Write(fd, message); err != nil {
		return nil, err
	}
	reply := make([]byte, 64<<10)
	n, err := unix.Read(fd, reply)
	if err != nil || n < header.ICMPv4MinimumSize {
		return nil, errRefused
	}
	return reply[:n], nil
}

// answer sends an ICMP message into the device.
func (s *server) answer(from, to netip.Addr, message []byte) {
	route, terr := s.stack.FindRoute(nic, toStack(from), toStack(to), ipv4.ProtocolNumber, false)
	if terr != nil {
		return
	}
	defer route.Release()
	h := header.ICMPv4(message)
	h.SetChecksum(0)
	h.SetChecksum(^checksum.Checksum(message, 0))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(route.MaxHeaderLength()), Payload: buffer.MakeWithData(message),
	})
	defer pkt.DecRef()
	_ = route.WritePacket(stack.NetworkHeaderParams{Protocol: header.ICMPv4ProtocolNumber, TTL: 64}, pkt)
}
