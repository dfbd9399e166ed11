package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A planned interface is one that connect will make.
type planned struct {
	network *Network
	attach  Attach
	joined  Joined
	master  int // the bridge's or parent's index
	taken   []netip.Addr
}

// plan chooses what one attachment will be, and takes its addresses.
func (s *setup) plan(ctx context.Context, a Attach) error {
	n, err := s.m.load(a.Name)
	if err != nil {
		return err
	}
	for _, other := range s.nets {
		if other.network.Name == n.Name {
			return fmt.Errorf("network %s is given twice", n.Name)
		}
	}
	p := &planned{network: n, attach: a}
	p.joined = Joined{
		Network: n.Name, ID: n.ID, Driver: n.Driver, Interface: a.Interface,
		Aliases: a.Aliases, DNS: n.DNS, DNSServer: n.DNSServers, Internal: n.Internal,
	}
	if s.m.servesUser() && !n.Internal && len(n.DNSServers) == 0 {
		p.joined.DNSServer = []netip.Addr{UserDNS}
	}
	if p.joined.Interface == "" {
		p.joined.Interface = s.freeInterface()
	}
	if err := validInterface(p.joined.Interface); err != nil {
		return err
	}
	if p.master, err = s.device(ctx, n); err != nil {
		return err
	}
	if n.Driver == DriverBridge {
		p.joined.Bridge = n.Interface
		p.joined.HostName = a.HostInterface
		if p.joined.HostName == "" {
			p.joined.HostName = vethPrefix + fmt.Sprintf("%08x", rand.Uint32())
		}
		if err := validInterface(p.joined.HostName); err != nil {
			return err
		}
	}
	s.nets = append(s.nets, p)
	return s.addresses(p)
}

// freeInterface is the first ethN that is neither there nor asked for.
func (s *setup) freeInterface() string {
	for i := 0; ; i++ {
		name := "eth" + strconv.Itoa(i)
		used := false
		for _, p := range s.nets {
			used = used || p.joined.Interface == name
		}
		for _, j := range s.rec.Networks {
			used = used || j.Interface == name
		}
		if !used {
			return name
		}
	}
}

// device returns the index of the network's bridge or parent, and makes the
// bridge when it is not there.
func (s *setup) device(ctx context.Context, n *Network) (int, error) {
	l, err := s.h.routes.link(n.Interface)
	if n.Driver != DriverBridge {
		if _, ok := n.Options[optionVLAN]; ok && errors.Is(err, unix.ENODEV) {
			err = s.exclusively(ctx, func() error {
				l, err = s.m.addVLAN(s.h, n)
				return err
			})
		} else if errors.Is(err, unix.ENODEV) {
			err = noParent(n, n.Interface)
		}
		return l.index, err
	}
	if err == nil && l.flags&unix.IFF_UP != 0 {
		if l.kind != "bridge" {
			return 0, fmt.Errorf("network %s: interface %s exists and is no bridge", n.Name, n.Interface)
		}
		return l.index, nil
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return 0, err
	}
	err = s.exclusively(ctx, func() error {
		l, err = s.m.makeBridge(s.h, n)
		return err
	})
	return l.index, err
}

// addresses takes the addresses of one interface and derives its MAC.
func (s *setup) addresses(p *planned) error {
	n := p.network
	dir, err := s.m.bootDir()
	if err != nil {
		return err
	}
	l := s.m.leases(dir, n.Name, s.h)
	device := p.joined.HostName
	if device == "" {
		device = "-"
	}
	wanted := p.attach.StaticIPs
	if n.IPAM["driver"] == ipamNone {
		if len(wanted) > 0 {
			return fmt.Errorf("network %s gives no addresses: %s cannot be chosen", n.Name, wanted[0])
		}
		wanted = nil
	}
	used := make([]bool, len(wanted))
	for _, subnet := range n.Subnets {
		r := subnet.leaseRange()
		static := false
		for i, a := range wanted {
			if !r.subnet.Contains(a) {
				continue
			}
			if a == r.gateway {
				return fmt.Errorf("network %s: address %s is the gateway's", n.Name, a)
			}
			if err := l.take(a, s.rec.Container, device); err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
			used[i], static = true, true
			p.take(a, r)
		}
		if static {
			continue
		}
		a, err := l.allocate(r, s.rec.Container, device)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		p.take(a, r)
	}
	for i, ok := range used {
		if !ok {
			return fmt.Errorf("network %s: address %s is in none of its subnets", n.Name, wanted[i])
		}
	}
	switch {
	case p.attach.StaticMAC != nil:
		p.joined.MAC = p.attach.StaticMAC.String()
	case len(p.taken) > 0:
		mac := macFor(p.taken[0])
		p.joined.MAC = net.HardwareAddr(mac[:]).String()
	default:
		mac := [6]byte{0x02, 'h'}
		for i := range 4 {
			mac[2+i] = byte(rand.Uint32())
		}
		p.joined.MAC = net.HardwareAddr(mac[:]).String()
	}
	return nil
}

func (p *planned) take(a netip.Addr, r leaseRange) {
	p.taken = append(p.taken, a)
	p.joined.Addresses = append(p.joined.Addresses, netip.PrefixFrom(a, r.subnet.Bits()))
	if r.gateway.IsValid() && !p.network.Internal {
		p.joined.Gateways = append(p.joined.Gateways, r.gateway)
	}
}

// connect makes the planned interfaces: devices by the host's socket, then
// addresses and routes by one in the container's namespace.
func (s *setup) connect() error {
	return inNamespace(s.netns, func() error {
		six := false
		for _, p := range s.nets {
			for _, a := range p.joined.Addresses {
				six = six || a.Addr().Is6()
			}
		}
		if err := interfaceDefaults(six); err != nil {
			return err
		}
		r, err := openRoutes()
		if err != nil {
			return err
		}
		defer r.Close()
		for _, p := range s.nets {
			if err := s.addDevice(p); err != nil {
				return err
			}
		}
		if err := s.h.routes.flush(); err != nil {
			return deviceError(s.kinds(), err)
		}
		for _, p := range s.nets {
			if err := s.configure(r, p); err != nil {
				return err
			}
			// The next one's question must not come between this batch's numbers.
			if err := r.flush(); err != nil {
				return err
			}
		}
		s.settle(r, six)
		if six {
			s.awaitGroups()
		}
		return nil
	})
}

// kinds are those of the devices that were to be made.
func (s *setup) kinds() string {
	kinds := []string{}
	for _, p := range s.nets {
		kind := p.network.Driver
		if kind == DriverBridge {
			kind = "veth"
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return strings.Join(kinds, " or ")
}

// settle makes the kernel act at once on carriers that came up. By itself a
// bridge notices some milliseconds later, and a packet lost meanwhile, such as
// a first SYN, is sent again only after a second. Asked for a device's state,
// kernels from 6.8 first work off what is due; older ones answer and wait.
// Inside the container, where there is, IPv6 does not begin before that.
func (s *setup) settle(there *routes, six bool) {
	for _, p := range s.nets {
		if six {
			_, _ = there.link(p.joined.Interface)
		}
		if p.joined.HostName != "" {
			_, _ = s.h.routes.link(p.joined.HostName)
			_, _ = s.h.routes.link(p.joined.Bridge)
		}
	}
}

// How long a start waits for the kernel to hear neighbours, at most: on a bridge
// it will, however late on a busy machine; a device whose parent is down may not.
const (
	heard       = 20 * time.Millisecond
	heardBridge = time.Second
)

// awaitGroups waits until the kernel listens to neighbours that look for the
// thread's IPv6 addresses. It joins their multicast groups by itself, in a work
// queue, later than it says that it has the address; what a neighbour asks
// before that is lost, and asked again only after a second.
func (s *setup) awaitGroups() {
	limit := heardBridge
	if slices.ContainsFunc(s.nets, func(p *planned) bool { return p.network.Driver != DriverBridge }) {
		limit = heard
	}
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		joined, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			return
		}
		all := true
		for _, p := range s.nets {
			for _, a := range p.joined.Addresses {
				all = all && (a.Addr().Is4() || bytes.Contains(joined, []byte(solicited(a.Addr()))))
			}
		}
		if all {
			return
		}
	}
}

// solicited is the group of an address, as /proc/net/igmp6 has it. See RFC 4291
// section 2.7.1.
func solicited(a netip.Addr) string {
	b := a.As16()
	return fmt.Sprintf("ff0200000000000000000001ff%02x%02x%02x", b[13], b[14], b[15])
}

// interfaceDefaults sets what new interfaces of the thread's namespace start
// with: no IPv6 on networks that have none (CVE-2024-32473), and routers are
// not learned from neighbours (CVE-2020-10749).
func interfaceDefaults(six bool) error {
	if !six {
		return sysctl("ipv6/conf/default/disable_ipv6", "1")
	}
	for _, v := range []struct{ path, value string }{
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
	} {
		if err := sysctl(v.path, v.value); err != nil {
			return err
		}
	}
	return nil
}

func (s *setup) addDevice(p *planned) error {
	mac, err := net.ParseMAC(p.joined.MAC)
	if err != nil {
		return err
	}
	mtu, err := s.m.mtu(p.network)
	if err != nil {
		return err
	}
	if p.network.Driver != DriverBridge {
		return s.h.routes.addSlave(p, mac, mtu, int(s.netns.Fd()))
	}
	s.h.routes.addVeth(vethPair{
		host: p.joined.HostName, master: p.master,
		peer: p.joined.Interface, netns: int(s.netns.Fd()),
		mac: mac, mtu: mtu,
	})
	if s.publishes {
		s.h.routes.hairpin(p.joined.HostName)
	}
	return nil
}

// defaultMetric is that of routes whose network says nothing else.
const defaultMetric = 100

// configure adds the addresses and routes of one interface to r's batch.
func (s *setup) configure(r *routes, p *planned) error {
	name := p.joined.Interface
	l, err := r.link(name)
	if err != nil {
		return err
	}
	r.linkUp(l.index, name)
	for _, a := range p.joined.Addresses {
		r.addAddress(l.index, a, name)
	}
	metric := defaultMetric
	if v := p.network.Options[optionMetric]; v != "" {
		if metric, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("network %s: metric %q: %w", p.network.Name, v, err)
		}
	}
	if !isTrue(p.network.Options[optionNoDefaultRoute]) {
		for _, g := range p.joined.Gateways {
			r.addRoute(l.index, netip.PrefixFrom(zeroOf(g), 0), g, metric, unix.RTN_UNICAST)
		}
	}
	for _, route := range p.network.Routes {
		kind, err := routeKind(route.Kind)
		if err != nil {
			return fmt.Errorf("network %s: %w", p.network.Name, err)
		}
		m := route.Metric
		if m == 0 {
			m = metric
		}
		r.addRoute(l.index, route.Destination, route.Gateway, m, kind)
	}
	return nil
}

func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func validInterface(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || name == "." || name == ".." {
		return fmt.Errorf("interface name %q is not valid: 1 to 15 characters", name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c == '/' || c == ':' || c == '%' || c >= 0x7f {
			return fmt.Errorf("interface name %q is not valid: it holds %q", name, c)
		}
	}
	return nil
}
