package usernet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"hull/network"
)

// Options say where the frames are.
type Options struct {
	Device int  // descriptor of network.UserDevice's file, taken over
	Packet bool // it is a packet socket
	// Gone receives the reason when the device is no more.
	Gone chan<- error
}

const nic = 1

// hardware is the address of the far end: locally administered.
const hardware = tcpip.LinkAddress("\x02hun\x00\x02")

// limits of what containers may have open at once; the stack refuses more.
const (
	maxDialing   = 1024 // connections not yet accepted by the far side
	maxStreams   = 8192
	maxDatagrams = 4096
	maxEchoes    = 256
)

// A server is the stack with what its forwarders share.
type server struct {
	stack     *stack.Stack
	streams   chan struct{} // a token for each
	datagrams chan struct{}
	echoes    chan struct{}
	resolvers func() []netip.Addr
}

// start brings the stack up.
func start(o Options) (*server, error) {
	s := &server{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		}),
		streams:   make(chan struct{}, maxStreams),
		datagrams: make(chan struct{}, maxDatagrams),
		echoes:    make(chan struct{}, maxEchoes),
		resolvers: hostResolvers,
	}
	mode := fdbased.Readv
	if o.Packet {
		mode = fdbased.RecvMMsg
	}
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{o.Device}, MTU: network.UserMTU, EthernetHeader: true, Address: hardware, PacketDispatchMode: mode,
		// Nothing is lost on the way: the kernel leaves the sums of its own
		// packets open.
		RXChecksumOffload: true,
		ClosedFunc: func(err tcpip.Error) {
			select {
			case o.Gone <- fmt.Errorf("read from the device: %v", err):
			default:
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open the device: %w", err)
	}
	if err := s.stack.CreateNIC(nic, link); err != nil {
		return nil, fmt.Errorf("start the stack: %v", err)
	}
	for _, a := range []netip.Addr{network.UserGateway, network.UserDNS, network.UserGateway6} {
		p := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: toStack(a).WithPrefix()}
		if a.Is6() {
			p.Protocol = ipv6.ProtocolNumber
		}
		if err := s.stack.AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("add address %s to the stack: %v", a, err)
		}
	}
	// It answers for every address there is.
	s.stack.SetPromiscuousMode(nic, true)
	s.stack.SetSpoofing(nic, true)
	s.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	s.tune()
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s.stack, 0, maxDialing, s.stream).HandlePacket)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s.stack, s.datagram).HandlePacket)
	s.stack.SetTransportProtocolHandler(icmp.ProtocolNumber4, s.echo)
	s.stack.SetTransportProtocolHandler(icmp.ProtocolNumber6, s.echo6)
	return s, nil
}

// tune sets buffers that fill a fast link.
func (s *server) tune() {
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: 8 << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: 8 << 20}
	s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)
	s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate)
	s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &receive)
	s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send)
}

// Close ends the stack and all connections.
func (s *server) Close() { s.stack.Close() }

func toStack(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func fromStack(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip.Unmap()
}

var errRefused = errors.New("destination refused")

// allowed reports whether containers may reach an address by way of the host.
// Not those that are the host's own loopback, under whatever name: the
// unspecified address means it, too, in a connect. See NET-10.
func allowed(a netip.Addr) bool {
	a = a.Unmap()
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsLoopback(), a.IsMulticast():
		return false
	case a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240):
		return false // this network; reserved, broadcast
	case a.Is6() && a.IsLinkLocalUnicast():
		return false // of which link is not known
	case a.Is6() && embedsLoopback(a):
		return false
	}
	return !network.UserAddress.Contains(a) && !network.UserAddress6.Contains(a)
}

// embedsLoopback reports an IPv4 loopback or unspecified address in one of the
// forms that a translator on the host could take apart.
func embedsLoopback(a netip.Addr) bool {
	b := a.As16()
	var four []byte
	switch {
	case netip.PrefixFrom(netip.IPv6Unspecified(), 96).Contains(a), // IPv4-compatible
		netip.MustParsePrefix("64:ff9b::/96").Contains(a): // NAT64
		four = b[12:]
	case b[0] == 0x20 && b[1] == 0x02: // 6to4
		four = b[2:6]
	default:
		return false
	}
	return four[0] == 127 || four[0] == 0
}

// hostResolvers reads the host's, at each query: they change as laptops move.
func hostResolvers() []netip.Addr {
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return parseResolvers(string(b))
}

func parseResolvers(text string) []netip.Addr {
	var all []netip.Addr
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" && len(all) < 3 {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				all = append(all, a)
			}
		}
	}
	return all
}
