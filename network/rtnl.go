package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A routes speaks rtnetlink in one network namespace. Requests are collected
// and sent together by flush: the kernel works through a batch before the send
// returns, so that a start pays for one system call and not for each object.
type routes struct {
	*socket
	m     message
	steps []string // what each request in m does, for its error
	first uint32
	// tolerate holds the errno that counts as success for a step; 0 for none.
	tolerate []unix.Errno
}

func openRoutes() (*routes, error) {
	s, err := openSocket(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &routes{socket: s}, nil
}

// request starts a request that must be finished by r.m.end.
func (r *routes) request(kind, flags uint16, tolerate unix.Errno, format string, args ...any) {
	seq := r.next()
	if len(r.steps) == 0 {
		r.first = seq
	}
	r.steps = append(r.steps, fmt.Sprintf(format, args...))
	r.tolerate = append(r.tolerate, tolerate)
	r.m.begin(kind, flags|unix.NLM_F_ACK, seq)
}

// flush sends what was collected and returns the first step's error that is
// not tolerated. Later steps have been tried too.
func (r *routes) flush() error {
	if len(r.steps) == 0 {
		return nil
	}
	steps, tolerate, first := r.steps, r.tolerate, r.first
	b := r.m.b
	r.steps, r.tolerate, r.m = nil, nil, message{b: b[:0]}
	if err := r.send(b); err != nil {
		return err
	}
	left := len(steps)
	var bad error
	err := r.receive(func(m reply) (bool, error) {
		i := int(m.seq - first)
		if m.kind != unix.NLMSG_ERROR || i < 0 || i >= len(steps) {
			return false, nil
		}
		left--
		if err := ackError(m.data); err != nil && bad == nil {
			if tolerate[i] == 0 || !errors.Is(err, tolerate[i]) {
				bad = fmt.Errorf("%s: %w", steps[i], err)
			}
		}
		return left == 0, nil
	})
	if err != nil {
		return err
	}
	return bad
}

func (m *message) ifinfo(index int, flags, change uint32) {
	m.raw(unix.AF_UNSPEC, 0)
	m.u16(0)
	m.u32(uint32(index))
	m.u32(flags)
	m.u32(change)
}

// A link is what this package needs to know of a network device.
type link struct {
	index  int
	name   string
	kind   string // "bridge", "veth", …; empty for hardware
	mtu    int
	flags  uint32
	master int
	mac    net.HardwareAddr
}

func parseLink(b []byte) (link, bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return link{}, false
	}
	l := link{
		index: int(binary.NativeEndian.Uint32(b[4:])),
		flags: binary.NativeEndian.Uint32(b[8:]),
	}
	attrs(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFLA_IFNAME && len(v) > 0:
			l.name = cString(v)
		case kind == unix.IFLA_MTU && len(v) == 4:
			l.mtu = int(binary.NativeEndian.Uint32(v))
		case kind == unix.IFLA_MASTER && len(v) == 4:
			l.master = int(binary.NativeEndian.Uint32(v))
		case kind == unix.IFLA_ADDRESS:
			l.mac = net.HardwareAddr(append([]byte(nil), v...))
		case kind == unix.IFLA_LINKINFO:
			attrs(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_INFO_KIND {
					l.kind = cString(v)
				}
			})
		}
	})
	return l, true
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// link looks a device up by name; the error is ENODEV when there is none.
func (r *routes) link(name string) (link, error) {
	seq := r.next()
	var m message
	m.begin(unix.RTM_GETLINK, unix.NLM_F_ACK, seq)
	m.ifinfo(0, 0, 0)
	m.attrString(unix.IFLA_IFNAME, name)
	m.end()
	if err := r.send(m.b); err != nil {
		return link{}, err
	}
	var found link
	err := r.receive(func(p reply) (bool, error) {
		if p.seq != seq {
			return false, nil
		}
		switch p.kind {
		case unix.NLMSG_ERROR:
			if err := ackError(p.data); err != nil {
				return true, err
			}
			return true, nil
		case unix.RTM_NEWLINK:
			found, _ = parseLink(p.data)
		}
		return false, nil
	})
	if err != nil {
		return link{}, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return found, nil
}

// dump sends a request for all objects and passes each answer on.
func (r *routes) dump(kind uint16, header []byte, f func(reply)) error {
	seq := r.next()
	var m message
	m.begin(kind, unix.NLM_F_DUMP, seq)
	m.raw(header...)
	m.end()
	if err := r.send(m.b); err != nil {
		return err
	}
	return r.receive(func(p reply) (bool, error) {
		switch {
		case p.seq != seq:
		case p.kind == unix.NLMSG_DONE:
			return true, nil
		case p.kind == unix.NLMSG_ERROR:
			return true, ackError(p.data)
		default:
			f(p)
		}
		return false, nil
	})
}

func (r *routes) links() ([]link, error) {
	var all []link
	err := r.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(p reply) {
		if l, ok := parseLink(p.data); ok && p.kind == unix.RTM_NEWLINK {
			all = append(all, l)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return all, nil
}

// destinations lists the prefixes of the main routing tables, default routes
// left out.
func (r *routes) destinations() ([]netip.Prefix, error) {
	var all []netip.Prefix
	err := r.dump(unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg), func(p reply) {
		b := p.data
		if p.kind != unix.RTM_NEWROUTE || len(b) < unix.SizeofRtMsg || b[4] == unix.RT_TABLE_LOCAL || b[1] == 0 {
			return
		}
		attrs(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
			if ip, ok := netip.AddrFromSlice(v); ok && kind == unix.RTA_DST {
				all = append(all, netip.PrefixFrom(ip, int(b[1])))
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return all, nil
}

// gateways lists those of the default routes, IPv4's first.
func (r *routes) gateways() ([]netip.Addr, error) {
	var all []netip.Addr
	err := r.dump(unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg), func(p reply) {
		b := p.data
		if p.kind != unix.RTM_NEWROUTE || len(b) < unix.SizeofRtMsg || b[4] == unix.RT_TABLE_LOCAL || b[1] != 0 {
			return
		}
		attrs(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
			if ip, ok := netip.AddrFromSlice(v); ok && kind == unix.RTA_GATEWAY {
				all = append(all, ip)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all, nil
}

// linkUp sets a device up.
func (r *routes) linkUp(index int, name string) {
	r.request(unix.RTM_NEWLINK, 0, 0, "set interface %s up", name)
	r.m.ifinfo(index, unix.IFF_UP, unix.IFF_UP)
	r.m.end()
}

func (r *routes) linkMTU(index int, name string, mtu int) {
	r.request(unix.RTM_NEWLINK, 0, 0, "set the MTU of interface %s", name)
	r.m.ifinfo(index, 0, 0)
	r.m.attrU32(unix.IFLA_MTU, uint32(mtu))
	r.m.end()
}

// linkDelete removes a device; that it is gone is no error.
func (r *routes) linkDelete(index int, name string) {
	r.request(unix.RTM_DELLINK, 0, unix.ENODEV, "remove interface %s", name)
	r.m.ifinfo(index, 0, 0)
	r.m.end()
}

// addAddress gives p to the device. Duplicate address detection is off: leases
// are unique, and it would hold an IPv6 address back for a second.
func (r *routes) addAddress(index int, p netip.Prefix, name string) {
	r.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "give %s to interface %s", p, name)
	family := byte(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	r.m.raw(family, byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	r.m.u32(uint32(index))
	ip := p.Addr().AsSlice()
	r.m.attr(unix.IFA_LOCAL, ip)
	r.m.attr(unix.IFA_ADDRESS, ip)
	if family == unix.AF_INET6 {
		r.m.attrU32(unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_PERMANENT)
	} else if p.Bits() < 31 {
		r.m.attr(unix.IFA_BROADCAST, lastAddr(p).AsSlice())
	}
	r.m.end()
}

// addRoute adds a route to dst (all addresses when its length is 0) by way of
// gateway, or, when that is not valid, directly through the device.
func (r *routes) addRoute(index int, dst netip.Prefix, gateway netip.Addr, metric int, kind byte) {
	r.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "add route %s via %s", dst, gateway)
	family := byte(unix.AF_INET)
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if !gateway.IsValid() && kind == unix.RTN_UNICAST && family == unix.AF_INET {
		scope = unix.RT_SCOPE_LINK
	}
	r.m.raw(family, byte(dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, scope, kind)
	r.m.u32(0)
	if dst.Bits() > 0 {
		r.m.attr(unix.RTA_DST, dst.Masked().Addr().AsSlice())
	}
	if gateway.IsValid() {
		r.m.attr(unix.RTA_GATEWAY, gateway.AsSlice())
	}
	if index != 0 && kind == unix.RTN_UNICAST {
		r.m.attrU32(unix.RTA_OIF, uint32(index))
	}
	if metric != 0 {
		r.m.attrU32(unix.RTA_PRIORITY, uint32(metric))
	}
	r.m.end()
}

// A vethPair describes both ends of a pair that one message creates.
type vethPair struct {
	host   string // name in this namespace
	master int    // bridge that the host's end is born into; 0 for none
	peer   string
	netns  int // descriptor of the namespace that the peer is born into
	mac    net.HardwareAddr
	mtu    int // 0 leaves the kernel's 1500
}

func (r *routes) addVeth(v vethPair) {
	r.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, "create veth %s and %s", v.host, v.peer)
	m := &r.m
	m.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	m.attrString(unix.IFLA_IFNAME, v.host)
	if v.mtu != 0 {
		m.attrU32(unix.IFLA_MTU, uint32(v.mtu))
	}
	if v.master != 0 {
		m.attrU32(unix.IFLA_MASTER, uint32(v.master))
	}
	m.nest(unix.IFLA_LINKINFO|nlaNested, func() {
		m.attrString(unix.IFLA_INFO_KIND, "veth")
		m.nest(unix.IFLA_INFO_DATA|nlaNested, func() {
			const vethInfoPeer = 1
			m.nest(vethInfoPeer|nlaNested, func() {
				// Not up yet: the kernel configures this end before it
				// knows the other, and opening it then is ENOTCONN.
				m.ifinfo(0, 0, 0)
				m.attrString(unix.IFLA_IFNAME, v.peer)
				if v.mtu != 0 {
					m.attrU32(unix.IFLA_MTU, uint32(v.mtu))
				}
				if v.mac != nil {
					m.attr(unix.IFLA_ADDRESS, v.mac)
				}
				m.attrU32(unix.IFLA_NET_NS_FD, uint32(v.netns))
			})
		})
	})
	m.end()
}

// hairpin lets a bridge send frames back to the port they came from, so that
// a container reaches itself by its published ports also where br_netfilter
// translates addresses before the bridge.
func (r *routes) hairpin(name string) {
	r.request(unix.RTM_NEWLINK, 0, 0, "set hairpin mode of interface %s", name)
	m := &r.m
	m.ifinfo(0, 0, 0)
	m.attrString(unix.IFLA_IFNAME, name)
	m.nest(unix.IFLA_LINKINFO|nlaNested, func() {
		m.attrString(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		m.nest(unix.IFLA_INFO_SLAVE_DATA|nlaNested, func() { m.attrU8(unix.IFLA_BRPORT_MODE, 1) })
	})
	m.end()
}

// addBridge creates a bridge that forwards at once (no spanning tree) and is
// up. EEXIST is tolerated: another command made it meanwhile.
func (r *routes) addBridge(name string, mac net.HardwareAddr, mtu int) {
	r.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "create bridge %s", name)
	m := &r.m
	m.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	m.attrString(unix.IFLA_IFNAME, name)
	if mtu != 0 {
		m.attrU32(unix.IFLA_MTU, uint32(mtu))
	}
	// With an address of its own the bridge does not take its lowest port's,
	// which would change whenever a container comes or goes.
	m.attr(unix.IFLA_ADDRESS, mac)
	m.nest(unix.IFLA_LINKINFO|nlaNested, func() {
		m.attrString(unix.IFLA_INFO_KIND, "bridge")
		m.nest(unix.IFLA_INFO_DATA|nlaNested, func() {
			m.attrU32(unix.IFLA_BR_FORWARD_DELAY, 200) // centiseconds; the least with STP
			m.attrU32(unix.IFLA_BR_STP_STATE, 0)
		})
	})
	m.end()
}

// lastAddr is the highest address of p: an IPv4 network's broadcast.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
