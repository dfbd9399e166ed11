package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
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
	if err := m.nameDevice(&n, all); err != nil {
		return n, err
	}
	for _, r := range n.Routes {
		if _, err := routeKind(r.Kind); err != nil {
			return n, err
		}
	}
	if n.IPAM["driver"] == ipamNone {
		return n, nil
	}
	return n, m.chooseSubnets(&n, o, all)
}

// checkOptions refuses driver options that no driver reads, and bad values.
func (n *Network) checkOptions() error {
	known := []string{optionMTU, optionMetric, optionNoDefaultRoute}
	switch n.Driver {
	case DriverBridge:
		known = append(known, optionIsolate)
	case DriverMacvlan, DriverIpvlan:
		known = append(known, optionParent, optionMode)
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
				return fmt.Errorf("subnet %s overlaps %s of another network", s.Subnet, u)
			}
		}
		if i < len(o.Gateways) {
			s.Gateway = o.Gateways[i]
		}
		if err := s.complete(n, o, i); err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, s)
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
				return fmt.Errorf("subnet %s overlaps %s, which the host has a route to", s.Subnet, r)
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

// A pool is a range from which subnets of a size are cut.
type pool struct {
	base netip.Prefix
	bits int
}

// defaultPools are podman's: 10.89.0.0/24 to 10.255.255.0/24.
func defaultPools() []pool {
	pools := []pool{{netip.MustParsePrefix("10.89.0.0/16"), 24}}
	for i := 90; i < 96; i++ {
		pools = append(pools, pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16), 24})
	}
	return append(pools,
		pool{netip.MustParsePrefix("10.96.0.0/11"), 24},
		pool{netip.MustParsePrefix("10.128.0.0/9"), 24},
		pool{netip.MustParsePrefix("172.30.0.0/15"), 24},
		pool{netip.MustParsePrefix("192.168.128.0/17"), 24})
}

// freeSubnet is the first subnet of the pools that overlaps nothing used.
func freeSubnet(pools []pool, used []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		for s := netip.PrefixFrom(p.base.Addr(), p.bits); p.base.Contains(s.Addr()); {
			if !slices.ContainsFunc(used, s.Overlaps) {
				return s, nil
			}
			next := lastAddr(s).Next()
			if !next.IsValid() {
				break
			}
			s = netip.PrefixFrom(next, p.bits)
		}
	}
	return netip.Prefix{}, errors.New("all subnets of the default pools are in use: give one with --subnet")
}

// freeSubnet6 is a random unique local /64 (RFC 4193).
func freeSubnet6(used []netip.Prefix) (netip.Prefix, error) {
	for range 100 {
		b := [16]byte{0: 0xfd}
		rand.Read(b[1:8])
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !slices.ContainsFunc(used, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no free IPv6 subnet was found")
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

func (m *Manager) path(name string) string { return filepath.Join(m.config, name+".json") }

// load finds a network by name, ID or unambiguous ID prefix.
func (m *Manager) load(name string) (*Network, error) {
	name = canonical(name)
	if validName(name) == nil {
		n, err := m.read(name)
		if err == nil {
			return &n, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var found *Network
	for i := range all {
		if len(name) < 2 || !strings.HasPrefix(all[i].ID, name) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("network %s: more than one ID begins with it", name)
		}
		found = &all[i]
	}
	if found == nil {
		return nil, fmt.Errorf("network %s: %w", name, ErrNotFound)
	}
	return found, nil
}

func (m *Manager) read(name string) (Network, error) {
	var n Network
	b, err := os.ReadFile(m.path(name))
	if errors.Is(err, fs.ErrNotExist) && name == DefaultName {
		return defaultNetwork(), nil
	}
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("read %s: %w", m.path(name), err)
	}
	return n, nil
}

// defaultNetwork is the default network's record while it has no file.
func defaultNetwork() Network {
	return Network{
		Name: DefaultName,
		// The SHA-256 of its name, as podman does it.
		ID:     "fb4dac7b8936e9d78a93fc3fe94f592b43c482c5bf38654a69277bbdc8c6a480",
		Driver: DriverBridge, Interface: defaultInterface,
		Subnets: []Subnet{{Subnet: defaultSubnet, Gateway: defaultSubnet.Addr().Next()}},
		IPAM:    map[string]string{"driver": ipamHostLocal},
	}
}

// save writes a record durably; exclusively: only when there is none.
func (m *Manager) save(n *Network, exclusively bool) error {
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	if exclusively {
		if _, err := os.Lstat(m.path(n.Name)); err == nil {
			return ErrExists
		}
	}
	if err := os.MkdirAll(m.config, 0o700); err != nil {
		return err
	}
	return state.WriteFile(m.config, n.Name+".json", append(b, '\n'), 0o600, true)
}

// List returns all networks by name; the default network is always there.
func (m *Manager) List() ([]Network, error) {
	entries, err := os.ReadDir(m.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	names := []string{DefaultName}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if ok && name != DefaultName && validName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var all []Network
	for _, name := range names {
		n, err := m.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// Inspect returns a network with its containers.
func (m *Manager) Inspect(ctx context.Context, name string) (Network, error) {
	n, err := m.load(name)
	if err != nil {
		return Network{}, fmt.Errorf("inspect %w", err)
	}
	n.Containers = map[string]NetworkContainer{}
	records, err := m.records()
	if err != nil {
		return Network{}, err
	}
	for _, r := range records {
		for _, j := range r.Networks {
			if j.Network == n.Name {
				n.Containers[r.Container] = NetworkContainer{
					Name: r.Name, Interfaces: map[string]NetworkInterface{j.Interface: j.podman()},
				}
			}
		}
	}
	return *n, nil
}

// Exists reports whether there is a network of that name or ID.
func (m *Manager) Exists(ctx context.Context, name string) (bool, error) {
	_, err := m.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Remove removes a network that no container is joined to; the caller has
// removed or disconnected those it may.
func (m *Manager) Remove(ctx context.Context, name string) error {
	lock, err := m.lock(ctx, true)
	if err != nil {
		return err
	}
	defer lock.Release()
	n, err := m.load(name)
	if err != nil {
		return fmt.Errorf("remove %w", err)
	}
	if n.Name == DefaultName {
		return fmt.Errorf("remove network %s: the default network cannot be removed", n.Name)
	}
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := m.unused(h, n); err != nil {
		return err
	}
	if n.Driver == DriverBridge {
		if err := removeBridge(h, n); err != nil {
			return fmt.Errorf("remove network %s: %w", n.Name, err)
		}
	}
	dir, err := m.bootDir()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "leases", n.Name)); err != nil {
		return err
	}
	if err := state.Remove(m.path(n.Name), true); err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	return nil
}

// unused fails when a living container is joined to n.
func (m *Manager) unused(h *host, n *Network) error {
	records, err := m.records()
	if err != nil {
		return err
	}
	for _, r := range records {
		for _, j := range r.Networks {
			if j.Network == n.Name && !r.dead(h) {
				return fmt.Errorf("remove network %s: %w by container %s", n.Name, ErrInUse, r.label())
			}
		}
	}
	return nil
}

func removeBridge(h *host, n *Network) error {
	l, err := h.routes.link(n.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.kind != "bridge" {
		return nil
	}
	h.routes.linkDelete(l.index, l.name)
	if err := h.routes.flush(); err != nil {
		return err
	}
	for set, e := range bridgeElements(n) {
		h.filter.elements(unix.NFT_MSG_DELSETELEM, 0, unix.NFPROTO_INET, tableName, set, e)
	}
	if err := h.filter.commit(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// Prune removes the networks that no container is joined to and keep does not
// hold back, and returns their names. keep may be nil.
func (m *Manager) Prune(ctx context.Context, keep func(Network) bool) ([]string, error) {
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, n := range all {
		if n.Name == DefaultName || keep != nil && keep(n) {
			continue
		}
		switch err := m.Remove(ctx, n.Name); {
		case errors.Is(err, ErrInUse):
		case err != nil:
			return removed, err
		default:
			removed = append(removed, n.Name)
		}
	}
	return removed, nil
}

// Update changes the DNS servers of a network; its containers see it at their
// next start.
func (m *Manager) Update(ctx context.Context, name string, add, drop []netip.Addr) error {
	lock, err := m.lock(ctx, true)
	if err != nil {
		return err
	}
	defer lock.Release()
	n, err := m.load(name)
	if err != nil {
		return fmt.Errorf("update %w", err)
	}
	if !n.DNS {
		return fmt.Errorf("update network %s: DNS is disabled on it", n.Name)
	}
	n.DNSServers = slices.DeleteFunc(n.DNSServers, func(a netip.Addr) bool { return slices.Contains(drop, a) })
	for _, a := range add {
		if !slices.Contains(n.DNSServers, a) {
			n.DNSServers = append(n.DNSServers, a)
		}
	}
	return m.save(n, false)
}
