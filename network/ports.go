package network

import (
	"fmt"
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
