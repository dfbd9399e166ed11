package network

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePorts reads what -p takes: [[IP:][HOSTPORT[-END]]:]PORT[-END][/PROTOCOL].
// A missing host port is 0, to be chosen by Setup; IPv6 addresses stand in
// brackets. A mapping that is given twice is an error.
func ParsePorts(specs []string) ([]PortMapping, error) {
	var all []PortMapping
	for _, spec := range specs {
		p, err := parsePort(spec)
		if err != nil {
			return nil, fmt.Errorf("port mapping %q: %w", spec, err)
		}
		for _, other := range all {
			if other.overlaps(p) {
				return nil, fmt.Errorf("port mapping %q: host port is already given by %s", spec, other)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

func (p PortMapping) overlaps(q PortMapping) bool {
	any := func(a netip.Addr) bool { return !a.IsValid() }
	return p.HostPort != 0 && q.HostPort != 0 && p.Protocol == q.Protocol &&
		(any(p.HostIP) || any(q.HostIP) || p.HostIP == q.HostIP) &&
		int(p.HostPort) < int(q.HostPort)+q.count() && int(q.HostPort) < int(p.HostPort)+p.count()
}

func parsePort(spec string) (PortMapping, error) {
	rest, protocol, ok := strings.Cut(spec, "/")
	if !ok {
		protocol = "tcp"
	}
	p := PortMapping{Protocol: strings.ToLower(protocol)}
	switch p.Protocol {
	case "tcp", "udp", "sctp":
	default:
		return p, fmt.Errorf("protocol %q is not tcp, udp or sctp", protocol)
	}
	host, inside := "", rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, inside = rest[:i], rest[i+1:]
	}
	first, n, err := parseRange(inside)
	if err != nil {
		return p, fmt.Errorf("container port: %w", err)
	}
	p.ContainerPort, p.Range = first, n
	if host == "" && inside == rest {
		return p, nil
	}
	ip, ports := "", host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		ip, ports = host[:i], host[i+1:]
	}
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		ip = ip[1 : len(ip)-1]
	} else if strings.Contains(ip, ":") {
		return p, fmt.Errorf("IPv6 address %q must stand in brackets", ip)
	}
	if ip != "" {
		if p.HostIP, err = netip.ParseAddr(ip); err != nil || p.HostIP.Zone() != "" {
			return p, fmt.Errorf("host address %q is no IP address", ip)
		}
		p.HostIP = p.HostIP.Unmap()
	}
	if ports == "" {
		return p, nil
	}
	if ports == "0" {
		return p, nil
	}
	first, m, err := parseRange(ports)
	if err != nil {
		return p, fmt.Errorf("host port: %w", err)
	}
	if m != n {
		return p, fmt.Errorf("the host has %d ports and the container %d", m, n)
	}
	p.HostPort = first
	return p, nil
}

// parseRange reads PORT or PORT-END and returns the first and how many.
func parseRange(s string) (uint16, uint16, error) {
	a, b, isRange := strings.Cut(s, "-")
	first, err := parsePortNumber(a)
	if err != nil || !isRange {
		return first, 1, err
	}
	last, err := parsePortNumber(b)
	if err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("range %s ends before it begins", s)
	}
	return first, last - first + 1, nil
}

func parsePortNumber(s string) (uint16, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is no port number", s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// Modes of --network that are no named networks.
const (
	ModeNetworks  = "bridge"    // Attach says which
	ModeNone      = "none"      // a namespace with lo only
	ModeHost      = "host"      // the host's namespace
	ModePrivate   = "private"   // the default network, rootless a stack of its own
	ModeContainer = "container" // another container's; Target is its name
	ModeNamespace = "ns"        // Target is a path
	ModePasta     = "pasta"     // pasta's options in Options
	ModeSlirp     = "slirp4netns"
	ModePod       = "pod" // the pod's infra container's
)

// A Flag is one parsed --network.
type Flag struct {
	Mode    string
	Target  string
	Options []string // of pasta and slirp4netns
	Attach  Attach   // with ModeNetworks
}

// ParseNetworkFlag reads one value of --network: a mode, or
// NAME[:alias=…,ip=…,ip6=…,mac=…,interface_name=…,host_interface_name=…].
func ParseNetworkFlag(s string) (Flag, error) {
	name, rest, hasRest := strings.Cut(s, ":")
	f := Flag{Mode: name}
	switch name {
	case ModeNone, ModeHost, ModePrivate, ModePod:
		if hasRest {
			return f, fmt.Errorf("network %q: mode %s takes no options", s, name)
		}
		return f, nil
	case ModeContainer, ModeNamespace:
		if rest == "" {
			return f, fmt.Errorf("network %q: %s: needs a name or path after the colon", s, name)
		}
		f.Target = rest
		return f, nil
	case ModePasta, ModeSlirp:
		if rest != "" {
			f.Options = strings.Split(rest, ",")
		}
		return f, nil
	}
	f.Mode = ModeNetworks
	f.Attach.Name = canonical(name)
	if !hasRest {
		return f, validName(f.Attach.Name)
	}
	if err := validName(f.Attach.Name); err != nil {
		return f, err
	}
	for _, option := range strings.Split(rest, ",") {
		if option == "" {
			continue
		}
		if err := f.Attach.set(option); err != nil {
			return f, fmt.Errorf("network %q: %w", s, err)
		}
	}
	return f, nil
}

func (a *Attach) set(option string) error {
	key, value, _ := strings.Cut(option, "=")
	if value == "" {
		return fmt.Errorf("option %q needs a value", key)
	}
	switch key {
	case "alias":
		a.Aliases = append(a.Aliases, value)
	case "ip", "ip6":
		ip, err := netip.ParseAddr(value)
		if err != nil || key == "ip6" && !ip.Is6() {
			return fmt.Errorf("%s=%s is no such address", key, value)
		}
		a.StaticIPs = append(a.StaticIPs, ip.Unmap())
	case "mac":
		mac, err := net.ParseMAC(value)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return fmt.Errorf("mac=%s is no hardware address of one device", value)
		}
		a.StaticMAC = mac
	case "interface_name":
		a.Interface = value
		return validInterface(value)
	case "host_interface_name":
		a.HostInterface = value
		return validInterface(value)
	case "mode":
		// The macvlan and ipvlan mode of the network's record decides.
		return fmt.Errorf("option mode belongs to network create")
	default:
		return fmt.Errorf("option %q is not alias, ip, ip6, mac, interface_name or host_interface_name", key)
	}
	return nil
}
