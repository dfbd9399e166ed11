package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// makeBridge creates a network's bridge with its addresses and its place in
// the packet filter. It is set up last: a bridge that is up is complete, and
// one that an interrupted command left is finished by the next. The exclusive
// lock is held.
func (m *Manager) makeBridge(h *host, n *Network) (l link, err error) {
	l, err = h.routes.link(n.Interface)
	switch {
	case err == nil && l.kind != "bridge":
		return l, fmt.Errorf("network %s: interface %s exists and is no bridge", n.Name, n.Interface)
	case err == nil && l.flags&unix.IFF_UP != 0:
		return l, nil
	case err != nil && !errors.Is(err, unix.ENODEV):
		return l, err
	}
	if err := m.free(h, n); err != nil {
		return l, err
	}
	mtu, err := m.mtu(n)
	if err != nil {
		return l, err
	}
	h.routes.addBridge(n.Interface, bridgeMAC(n), mtu)
	if err := h.routes.flush(); err != nil {
		return l, fmt.Errorf("network %s: %w", n.Name, deviceError("bridge", err))
	}
	defer func() {
		if err != nil { // half a bridge is in the way of the next try, with other options
			h.routes.linkDelete(l.index, n.Interface)
			_ = h.routes.flush()
			_ = removeOwnDevice(h, n)
		}
	}()
	if l, err = h.routes.link(n.Interface); err != nil {
		return l, err
	}
	six := false
	for _, s := range n.Subnets {
		six = six || s.Subnet.Addr().Is6()
	}
	if err := h.enter(func() error { return hostSettings(n, six) }); err != nil {
		return l, fmt.Errorf("network %s: %w", n.Name, err)
	}
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			h.routes.addAddress(l.index, netip.PrefixFrom(s.Gateway, s.Subnet.Bits()), n.Interface)
		}
	}
	if err := h.routes.flush(); err != nil {
		return l, fmt.Errorf("network %s: %w", n.Name, noIPv6(n, err))
	}
	if err := h.routes.addOverlay(n, l.index, mtu); err != nil {
		return l, fmt.Errorf("network %s: %w", n.Name, err)
	}
	h.filter.addBridge(n)
	if err := h.filter.commit(); err != nil {
		return l, fmt.Errorf("network %s: %w", n.Name, err)
	}
	h.routes.linkUp(l.index, n.Interface)
	return l, h.routes.flush()
}

// hostSettings are the bridge's side: forwarding on, IPv6 only where the
// network has it, routers not learned from containers.
func hostSettings(n *Network, six bool) error {
	type setting struct{ path, value string }
	all := []setting{}
	if six {
		conf := "ipv6/conf/" + n.Interface
		all = append(all, setting{conf + "/accept_ra", "0"}, setting{conf + "/accept_dad", "0"})
		if !n.Internal {
			all = append(all, setting{"ipv6/conf/all/forwarding", "1"})
		}
	} else {
		all = append(all, setting{"ipv6/conf/" + n.Interface + "/disable_ipv6", "1"})
	}
	if !n.Internal {
		all = append(all, setting{"ipv4/ip_forward", "1"})
	}
	// Connections to a loopback address stay the host's own (CVE-2020-8558).
	all = append(all, setting{"ipv4/conf/" + n.Interface + "/route_localnet", "0"})
	for _, s := range all {
		if err := sysctl(s.path, s.value); err != nil {
			return err
		}
	}
	return nil
}

// free makes sure that the host does not use the network's subnets already.
// The default network moves away from what is taken, others fail.
func (m *Manager) free(h *host, n *Network) error {
	used, err := h.routes.destinations()
	if err != nil {
		return err
	}
	for _, s := range n.Subnets {
		for _, u := range used {
			if !u.Overlaps(s.Subnet) {
				continue
			}
			if n.Name == DefaultName && s.Subnet == defaultSubnet {
				return m.moveDefault(n, used)
			}
			return hint(fmt.Errorf("network %s: subnet %s overlaps %s, which the host has a route to", n.Name, s.Subnet, u),
				"remove that route, or the network, and make it with another subnet")
		}
	}
	return nil
}

// moveDefault gives the default network a free subnet and writes that down.
func (m *Manager) moveDefault(n *Network, used []netip.Prefix) error {
	all, err := m.List()
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Name != n.Name {
			for _, s := range other.Subnets {
				used = append(used, s.Subnet)
			}
		}
	}
	free, err := freeSubnet(defaultPools(), used)
	if err != nil {
		return err
	}
	n.Subnets = []Subnet{{Subnet: free, Gateway: free.Addr().Next()}}
	return m.save(n, false)
}

// bridgeMAC is stable, so that neighbours may remember it.
func bridgeMAC(n *Network) net.HardwareAddr {
	mac := [6]byte{0x02, 'h', 0, 0, 0, 1}
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			mac = macFor(s.Gateway)
			break
		}
	}
	if len(n.Subnets) == 0 {
		for i, c := range []byte(n.ID) {
			mac[2+i%4] ^= c << (i % 3)
		}
	}
	return mac[:]
}

// mtu is the network's; 0 when the kernel's is good.
func (n *Network) mtu() (int, error) {
	v := n.Options[optionMTU]
	if v == "" {
		return 0, nil
	}
	mtu, err := strconv.Atoi(v)
	if err != nil || mtu < 68 || mtu > 65535 {
		return 0, fmt.Errorf("mtu %q is not a number from 68 to 65535", v)
	}
	return mtu, nil
}

// mtu is that of a network's devices here.
func (m *Manager) mtu(n *Network) (int, error) {
	mtu, err := n.mtu()
	if err != nil {
		return 0, fmt.Errorf("network %s: %w", n.Name, err)
	}
	if mtu == 0 && n.Driver == DriverBridge && m.o.Rootless {
		mtu = UserMTU
	}
	if mtu != 0 || n.Driver != DriverBridge {
		return mtu, nil
	}
	if o, err := n.overlay(); err != nil {
		return 0, fmt.Errorf("network %s: %w", n.Name, err)
	} else if o != nil {
		mtu = o.mtu()
	}
	return mtu, nil
}

func isTrue(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && b
}

func routeKind(s string) (byte, error) {
	switch s {
	case "", "unicast":
		return unix.RTN_UNICAST, nil
	case "blackhole":
		return unix.RTN_BLACKHOLE, nil
	case "unreachable":
		return unix.RTN_UNREACHABLE, nil
	case "prohibit":
		return unix.RTN_PROHIBIT, nil
	}
	return 0, fmt.Errorf("route type %q is not unicast, blackhole, unreachable or prohibit", s)
}
