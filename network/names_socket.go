package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// NameServer is where a container of a network with names finds its name
// server, on its own loopback device: nothing of it is on the host's addresses.
var NameServer = netip.MustParseAddr("127.0.0.11")

const (
	portNames  = 53
	namesTable = "hull_names"
)

// ListenNames opens the sockets of a name server in a container's namespace:
// UDP and TCP. Who holds them need not be in it. They are bound to ports that
// the kernel chooses, and packets are written over on their way to and from
// there, so that the container may have a name server of its own on port 53 of
// all its addresses. Where the kernel has no packet filter, they are bound to
// that port.
func ListenNames(netns *os.File) (sockets [2]*os.File, err error) {
	err = inNamespace(netns, func() error {
		ports, err := bindNames(&sockets, 0)
		if err != nil {
			return err
		}
		err = redirectNames(ports)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
			return err
		}
		closeNames(&sockets)
		_, err = bindNames(&sockets, portNames)
		return err
	})
	if err == nil {
		return sockets, nil
	}
	closeNames(&sockets)
	return [2]*os.File{}, fmt.Errorf("open the name server's sockets on %s: %w", NameServer, err)
}

func closeNames(sockets *[2]*os.File) {
	for i, f := range sockets {
		if f != nil {
			f.Close()
		}
		sockets[i] = nil
	}
}

// bindNames makes the sockets and returns their ports.
func bindNames(sockets *[2]*os.File, port int) (ports [2]uint16, err error) {
	for i, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return ports, os.NewSyscallError("socket", err)
		}
		sockets[i] = os.NewFile(uintptr(fd), "name server")
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: NameServer.As4()}); err != nil {
			return ports, os.NewSyscallError("bind", err)
		}
		at, err := unix.Getsockname(fd)
		if err != nil {
			return ports, os.NewSyscallError("getsockname", err)
		}
		if at, ok := at.(*unix.SockaddrInet4); ok {
			ports[i] = uint16(at.Port)
		}
	}
	return ports, os.NewSyscallError("listen", unix.Listen(int(sockets[1].Fd()), 128))
}

// redirectNames lays the table that writes ports over, in the namespace of the
// thread. It keeps no state: both directions pass the output hook, since all
// of it is on the loopback device.
func redirectNames(ports [2]uint16) error {
	f, err := openFilter()
	if err != nil {
		return err
	}
	defer f.Close()
	const family = unix.NFPROTO_IPV4
	fill := func() { redirectRules(f, ports) }
	f.newTable(family, namesTable)
	fill()
	if err := f.commit(); !errors.Is(err, unix.EEXIST) {
		return err
	}
	// Of an earlier server in a namespace that was kept. This is slow.
	f.deleteTable(family, namesTable)
	f.addTable(family, namesTable)
	fill()
	return f.commit()
}

func redirectRules(f *filter, ports [2]uint16) {
	const raw = -300
	const family = unix.NFPROTO_IPV4
	f.addChain(family, namesTable, chain{name: "output", kind: "filter", hook: unix.NF_INET_LOCAL_OUT, priority: raw})
	address := NameServer.As4()
	const (
		saddr, daddr = 12, 16
		sport, dport = 0, 2
	)
	for i, l4 := range []struct {
		protocol byte
		checksum uint32
	}{{unix.IPPROTO_UDP, 6}, {unix.IPPROTO_TCP, 16}} {
		for _, way := range []struct {
			address, port uint32
			from, to      uint16
		}{{daddr, dport, portNames, ports[i]}, {saddr, sport, ports[i], portNames}} {
			f.addRule(family, namesTable, "output",
				loadPayload(unix.NFT_PAYLOAD_NETWORK_HEADER, way.address, 4, reg0), equal(reg0, address[:]...),
				loadMeta(unix.NFT_META_L4PROTO, reg0), equal(reg0, l4.protocol),
				loadPayload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, way.port, 2, reg0), equal(reg0, binary.BigEndian.AppendUint16(nil, way.from)...),
				loadValue(reg0, binary.BigEndian.AppendUint16(nil, way.to)), storePayload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, way.port, 2, reg0, l4.checksum))
		}
	}
}

// loadValue puts a value into a register.
func loadValue(reg uint32, value []byte) expr {
	return expr{"immediate", func(m *message) {
		m.attrBE32(unix.NFTA_IMMEDIATE_DREG, reg)
		m.nest(unix.NFTA_IMMEDIATE_DATA|nlaNested, func() { m.attr(unix.NFTA_DATA_VALUE, value) })
	}}
}

// storePayload writes a register to the packet, whose checksum is at another
// place of the same header.
func storePayload(base, offset, size, reg, checksum uint32) expr {
	return expr{"payload", func(m *message) {
		m.attrBE32(unix.NFTA_PAYLOAD_SREG, reg)
		m.attrBE32(unix.NFTA_PAYLOAD_BASE, base)
		m.attrBE32(unix.NFTA_PAYLOAD_OFFSET, offset)
		m.attrBE32(unix.NFTA_PAYLOAD_LEN, size)
		m.attrBE32(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_INET)
		m.attrBE32(unix.NFTA_PAYLOAD_CSUM_OFFSET, checksum)
	}}
}
