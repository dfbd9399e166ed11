package engine

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"hull/network"
)

// attachments are the networks a container joins. What was said without a
// network's name is of the first.
func (r *record) attachments() ([]network.Attach, error) {
	o := &r.Options
	said := o.Networks
	if len(said) == 0 {
		said = []NetworkAttach{{}}
	}
	var out []network.Attach
	for i, n := range said {
		a := network.Attach{Name: firstOf(n.Name, network.DefaultName), Aliases: slices.Clone(n.Aliases), Interface: n.Interface, HostInterface: n.HostInterface}
		ips, mac := slices.Clone(n.IPs), n.MAC
		if i == 0 {
			for _, ip := range []string{o.IP, o.IP6} {
				if ip != "" {
					ips = append(ips, ip)
				}
			}
			mac = firstOf(mac, o.MAC)
		}
		a.Aliases = append(a.Aliases, o.NetworkAliases...)
		for _, ip := range ips {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				return nil, fmt.Errorf("network %s: %q is no address", a.Name, ip)
			}
			a.StaticIPs = append(a.StaticIPs, addr)
		}
		if mac != "" {
			hw, err := net.ParseMAC(mac)
			if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
				return nil, fmt.Errorf("network %s: %q is no hardware address of one interface", a.Name, mac)
			}
			a.StaticMAC = hw
		}
		out = append(out, a)
	}
	return out, nil
}

// ports are those published, with -P those that are exposed as well.
func (r *record) ports() ([]PortMapping, error) {
	o := &r.Options
	out := slices.Clone(o.Publish)
	if !o.PublishAll {
		return out, nil
	}
	exposed := append(slices.Clone(o.Expose), slices.Sorted(maps.Keys(r.Image.ExposedPorts))...)
	for _, text := range exposed {
		first, last, protocol, err := parseExposed(text)
		if err != nil {
			return nil, err
		}
		for port := int(first); port <= int(last); port++ {
			p := PortMapping{ContainerPort: uint16(port), Protocol: protocol}
			has := func(old PortMapping) bool {
				n := uint16(max(old.Range, 1))
				return old.Protocol == protocol && p.ContainerPort >= old.ContainerPort && p.ContainerPort-old.ContainerPort < n
			}
			if !slices.ContainsFunc(out, has) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// parseExposed parses PORT[-PORT][/PROTOCOL].
func parseExposed(text string) (first, last uint16, protocol string, err error) {
	ports, protocol, has := strings.Cut(text, "/")
	if !has {
		protocol = "tcp"
	}
	a, b, two := strings.Cut(ports, "-")
	n, err1 := strconv.ParseUint(a, 10, 16)
	m, err2 := n, error(nil)
	if two {
		m, err2 = strconv.ParseUint(b, 10, 16)
	}
	if err1 != nil || err2 != nil || n == 0 || m < n || protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return 0, 0, "", fmt.Errorf("exposed port %q: want PORT[-PORT][/PROTOCOL]", text)
	}
	return uint16(n), uint16(m), protocol, nil
}
