package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// CreateOptions describe a new network; what is zero is chosen.
type CreateOptions struct {
	Name       string // "" is chosen: hull1, hull2…
	Driver     string // "" is bridge
	Interface  string
	Subnets    []netip.Prefix
	Gateways   []netip.Addr   // the i-th is the i-th subnet's
	Ranges     []LeaseRange   // as gateways
	RangeNets  []netip.Prefix // --ip-range in prefix form, as gateways
	Routes     []Route
	IPv6       bool
	Internal   bool
	DisableDNS bool
	DNSServers []netip.Addr
	Labels     map[string]string
	Options    map[string]string
	IPAMDriver string // "" is host-local
	Ignore     bool   // a network of that name is no error
}

// Create records a new network. The kernel's objects are made when the first
// container joins.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (Network, error) {
	if err := os.MkdirAll(m.config, 0o700); err != nil {
		return Network{}, err
	}
	lock, err := m.lock(ctx, true)
	if err != nil {
		return Network{}, err
	}
	defer lock.Release()
	all, err := m.List()
	if err != nil {
		return Network{}, err
	}
	if o.Name == "" {
		o.Name = freeName(all)
	}
	if err := validName(o.Name); err != nil {
		return Network{}, err
	}
	if i := slices.IndexFunc(all, func(n Network) bool { return n.Name == canonical(o.Name) }); i >= 0 {
		if o.Ignore {
			return all[i], nil
		}
		return Network{}, fmt.Errorf("create network %s: %w", o.Name, ErrExists)
	}
	n, err := m.build(o, all)
	if err != nil {
		return Network{}, fmt.Errorf("create network %s: %w", o.Name, err)
	}
	if err := m.save(&n, true); err != nil {
		return Network{}, fmt.Errorf("create network %s: %w", o.Name, err)
	}
	return n, nil
}

// build checks the options and completes them to a record.
func (m *Manager) build(o CreateOptions, all []Network) (Network, error) {
	id := make([]byte, 32)
	rand.Read(id)
	n := Network{
		Name: o.Name, ID: hex.EncodeToString(id), Driver: o.Driver, Interface: o.Interface,
		Created: time.Now(), Routes: o.Routes, IPv6: o.IPv6, Internal: o.Internal,
		DNS: !o.DisableDNS, DNSServers: o.DNSServers, Labels: o.Labels, Options: o.Options,
		IPAM: map[string]string{"driver": o.IPAMDriver},
	}
	if n.Driver == "" {
		n.Driver = DriverBridge
	}
	if o.IPAMDriver == "" {
		n.IPAM["driver"] = ipamHostLocal
	}
	switch n.IPAM["driver"] {
	case ipamHostLocal:
	case ipamNone:
		if len(o.Subnets) > 0 {
			return n, errors.New("a subnet needs an IPAM driver other than none")
		}
		n.DNS = false
	case ipamDHCP:
		return n, errors.New("IPAM driver dhcp needs a DHCP client, which this build does not have")
	default:
		return n, fmt.Errorf("IPAM driver %q is not host-local, dhcp or none", o.IPAMDriver)
	}
	if err := n.checkOptions(); err != nil {
		return n, err
	}
	if _, ok := n.Options[optionVxlan]; ok && m.o.Rootless {
		return n, errors.New("an overlay is the host's: a user's bridges have no address that other hosts reach")
	}
	if err := m.nameDevice(&n, all); err != nil {
		return n, err
	}
	if n.IPAM["driver"] != ipamNone {
		if err := m.chooseSubnets(&n, o, all); err != nil {
			return n, err
		}
	}
	return n, n.checkRoutes()
}

const freeSubnetHint = "choose another, or leave --subnet out: a free one is found"

// checkRoutes refuses routes that no container could have.
func (n *Network) checkRoutes() error {
	for _, r := range n.Routes {
		kind, err := routeKind(r.Kind)
		if err != nil {
			return err
		}
		if kind != unix.RTN_UNICAST || len(n.Subnets) == 0 {
			continue
		}
		if !slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Subnet.Contains(r.Gateway) }) {
			return hint(fmt.Errorf("route to %s: gateway %s is in none of the network's subnets", r.Destination, r.Gateway),
				"a gateway is a neighbour: give one of the network's own addresses")
		}
	}
	return nil
}

// checkOptions refuses driver options that no driver reads, and bad values.
func (n *Network) checkOptions() error {
	known := []string{optionMTU, optionMetric, optionNoDefaultRoute}
	switch n.Driver {
	case DriverBridge:
		known = append(known, optionIsolate, optionVxlan, optionVxlanRemote, optionVxlanLocal, optionVxlanPort)
		if _, err := n.overlay(); err != nil {
			return err
		}
	case DriverMacvlan, DriverIpvlan:
		known = append(known, optionParent, optionMode, optionVLAN)
		if _, err := n.vlan(); err != nil {
			return err
		}
		if _, err := slaveMode(n.Driver, n.Options[optionMode]); err != nil {
			return err
		}
	default:
		return fmt.Errorf("driver %q is not bridge, macvlan or ipvlan", n.Driver)
	}
	for k, v := range n.Options {
		if !slices.Contains(known, k) {
			return fmt.Errorf("driver %s has no option %q", n.Driver, k)
		}
		if k == optionIsolate && !slices.Contains([]string{"true", "false", "strict", "1", "0"}, v) {
			return fmt.Errorf("option isolate is true, false or strict, not %q", v)
		}
	}
	if v, ok := n.Options[optionMetric]; ok {
		if i, err := strconv.ParseUint(v, 10, 32); err != nil || i == 0 {
			return fmt.Errorf("option metric is a number from 1 to 4294967295, not %q", v)
		}
	}
	if v, ok := n.Options[optionNoDefaultRoute]; ok {
		if _, err := strconv.ParseBool(v); err != nil {
			return fmt.Errorf("option no_default_route is true or false, not %q", v)
		}
	}
	_, err := n.mtu()
	return err
}

// nameDevice chooses the bridge's name, or the parent.
func (m *Manager) nameDevice(n *Network, all []Network) error {
	if n.Driver != DriverBridge {
		if p := n.Options[optionParent]; p != "" {
			n.Interface = p
		}
		if n.Interface == "" {
			return fmt.Errorf("driver %s needs an interface of the host: --opt parent=NAME", n.Driver)
		}
		if _, ok := n.Options[optionVLAN]; ok {
			if err := validInterface(n.Interface); err != nil {
				return err
			}
			n.Options[optionParent], n.Interface = n.Interface, n.ownDevice()
		}
		return validInterface(n.Interface)
	}
	taken := map[string]bool{defaultInterface: true}
	for _, other := range all {
		taken[other.Interface] = true
	}
	if n.Interface != "" {
		if taken[n.Interface] {
			return fmt.Errorf("interface %s is another network's", n.Interface)
		}
		return validInterface(n.Interface)
	}
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := h.routes.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		taken[l.name] = true
	}
	for i := 1; ; i++ {
		n.Interface = fmt.Sprintf("hull%d", i)
		if !taken[n.Interface] {
			return nil
		}
	}
}

// chooseSubnets takes the subnets that were given, or finds free ones.
func (m *Manager) chooseSubnets(n *Network, o CreateOptions, all []Network) error {
	used := []netip.Prefix{defaultSubnet}
	if m.o.Rootless {
		used = append(used, UserAddress.Masked(), UserAddress6.Masked())
	}
	for _, other := range all {
		for _, s := range other.Subnets {
			used = append(used, s.Subnet)
		}
	}
	four, six := false, false
	for i, p := range o.Subnets {
		s := Subnet{Subnet: p.Masked()}
		four, six = four || p.Addr().Is4(), six || p.Addr().Is6()
		for _, u := range used {
			if u.Overlaps(s.Subnet) && n.Driver == DriverBridge {
				return hint(fmt.Errorf("subnet %s overlaps %s of another network", s.Subnet, u), freeSubnetHint)
			}
		}
		if i < len(o.Gateways) {
			s.Gateway = o.Gateways[i]
		}
		if err := s.complete(n, o, i); err != nil {
			return err
		}
		n.Subnets, used = append(n.Subnets, s), append(used, s.Subnet)
	}
	if len(o.Subnets) == 0 && (len(o.Gateways) > 0 || len(o.Ranges) > 0 || len(o.RangeNets) > 0) {
		return errors.New("a gateway or address range needs a subnet")
	}
	n.IPv6 = n.IPv6 || six
	if n.Driver != DriverBridge && len(o.Subnets) == 0 {
		return fmt.Errorf("driver %s needs a subnet", n.Driver)
	}
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	routes, err := h.routes.destinations()
	if err != nil {
		return err
	}
	for _, s := range n.Subnets {
		for _, r := range routes {
			if n.Driver == DriverBridge && r.Overlaps(s.Subnet) {
				return hint(fmt.Errorf("subnet %s overlaps %s, which the host has a route to", s.Subnet, r), freeSubnetHint)
			}
		}
	}
	used = append(used, routes...)
	if !four && len(o.Subnets) == 0 {
		p, err := freeSubnet(defaultPools(), used)
		if err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, Subnet{Subnet: p, Gateway: p.Addr().Next()})
	}
	if n.IPv6 && !six {
		p, err := freeSubnet6(used)
		if err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, Subnet{Subnet: p, Gateway: p.Addr().Next()})
	}
	return nil
}

// complete checks a subnet and fills in its gateway and range.
func (s *Subnet) complete(n *Network, o CreateOptions, i int) error {
	if s.Subnet.Bits() > s.Subnet.Addr().BitLen()-2 && n.Driver == DriverBridge {
		return fmt.Errorf("subnet %s is too small for a gateway and a container", s.Subnet)
	}
	if !s.Gateway.IsValid() && (!n.Internal || n.Driver == DriverBridge) {
		s.Gateway = s.Subnet.Addr().Next()
	}
	if !s.Subnet.Contains(s.Gateway) {
		return fmt.Errorf("gateway %s is not in subnet %s", s.Gateway, s.Subnet)
	}
	var r LeaseRange
	if i < len(o.RangeNets) && o.RangeNets[i].IsValid() {
		p := o.RangeNets[i].Masked()
		r = LeaseRange{Start: p.Addr(), End: lastAddr(p)}
		if p.Addr() == s.Subnet.Addr() {
			r.Start = r.Start.Next()
		}
		if r.End == lastAddr(s.Subnet) && r.End.Is4() {
			r.End = r.End.Prev()
		}
	}
	if i < len(o.Ranges) && o.Ranges[i].Start.IsValid() {
		r = o.Ranges[i]
	}
	if !r.Start.IsValid() && !r.End.IsValid() {
		return nil
	}
	if !s.Subnet.Contains(r.Start) || !s.Subnet.Contains(r.End) || r.End.Less(r.Start) {
		return fmt.Errorf("address range %s-%s is not in subnet %s", r.Start, r.End, s.Subnet)
	}
	s.Lease = &r
	return nil
}

func freeName(all []Network) string {
	for i := 1; ; i++ {
		name := fmt.Sprintf("hull%d", i)
		if !slices.ContainsFunc(all, func(n Network) bool { return n.Name == name }) {
			return name
		}
	}
}

// validName accepts podman's names: [a-zA-Z0-9][a-zA-Z0-9_.-]*, and none of
// the words that --network gives a meaning.
func validName(s string) error {
	ok := s != "" && len(s) < 240
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && (c == '_' || c == '.' || c == '-'))
	}
	if !ok {
		return fmt.Errorf("network name %q is not valid: letters, digits, and after the first also _ . -", s)
	}
	if slices.Contains([]string{"none", "host", "private", "slirp4netns", "pasta", "container", "ns"}, s) {
		return fmt.Errorf("network name %q is a network mode", s)
	}
	return nil
}

// canonical maps the names that peers give the default network.
func canonical(name string) string {
	switch name {
	case "podman", "bridge", "default", "":
		return DefaultName
	}
	return name
}
