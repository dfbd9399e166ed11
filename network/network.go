package network

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// The network that containers join when nothing else was said.
const (
	DefaultName      = "hull"
	defaultInterface = "hull0"
)

// defaultSubnet is the default network's, unless the host has a route that
// overlaps it when it is first used.
var defaultSubnet = netip.MustParsePrefix("10.88.0.0/16")

// Drivers.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIpvlan  = "ipvlan"
)

// IPAM drivers: who chooses addresses.
const (
	ipamHostLocal = "host-local"
	ipamNone      = "none"
	ipamDHCP      = "dhcp"
)

// Driver options (--opt).
const (
	optionIsolate        = "isolate"          // true (default), false, strict
	optionMTU            = "mtu"              // bytes
	optionMetric         = "metric"           // of the default route
	optionNoDefaultRoute = "no_default_route" // true, false
	optionParent         = "parent"           // macvlan, ipvlan: the host's interface
	optionMode           = "mode"             // macvlan: bridge, private, vepa, passthru; ipvlan: l2, l3, l3s
	optionVLAN           = "vlan"             // macvlan, ipvlan: of the parent, 1 to 4094
	optionVxlan          = "vxlan"            // bridge: number of the overlay
	optionVxlanRemote    = "vxlan_remote"     // addresses of the other hosts, by commas
	optionVxlanLocal     = "vxlan_local"      // this host's
	optionVxlanPort      = "vxlan_port"       // UDP; 4789
)

// A Network is the record of one network. Its JSON is that of podman's
// "network inspect".
type Network struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"` // 64 hexadecimal digits
	Driver     string            `json:"driver"`
	Interface  string            `json:"network_interface,omitempty"` // the bridge, or the parent of macvlan and ipvlan
	Created    time.Time         `json:"created"`
	Subnets    []Subnet          `json:"subnets,omitempty"`
	Routes     []Route           `json:"routes,omitempty"`
	IPv6       bool              `json:"ipv6_enabled"`
	Internal   bool              `json:"internal"`
	DNS        bool              `json:"dns_enabled"`
	DNSServers []netip.Addr      `json:"network_dns_servers,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	IPAM       map[string]string `json:"ipam_options,omitempty"`
	// Containers is filled by Inspect only.
	Containers map[string]NetworkContainer `json:"containers,omitempty"`
}

// A Subnet is an address range of a network.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Lease   *LeaseRange  `json:"lease_range,omitempty"` // nil: the whole subnet
}

// A LeaseRange bounds the addresses that are given out; both ends are in it.
type LeaseRange struct {
	Start netip.Addr `json:"start_ip,omitzero"`
	End   netip.Addr `json:"end_ip,omitzero"`
}

// A Route is one more route that containers of a network get.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Metric      int          `json:"metric,omitempty"`
	Kind        string       `json:"route_type,omitempty"` // "", unicast, blackhole, unreachable, prohibit
}

// A NetworkContainer is a container in the answer of Inspect.
type NetworkContainer struct {
	Name       string                      `json:"name"`
	Interfaces map[string]NetworkInterface `json:"interfaces"`
}

// A NetworkInterface is one interface of a container, in podman's words.
type NetworkInterface struct {
	Subnets []InterfaceSubnet `json:"subnets"`
	MAC     string            `json:"mac_address"`
}

// An InterfaceSubnet is one address with its gateway.
type InterfaceSubnet struct {
	IPNet   netip.Prefix `json:"ipnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// An Attach asks for one interface in a network; what is left zero is chosen.
type Attach struct {
	Name          string // network name, ID or ID prefix
	Aliases       []string
	StaticIPs     []netip.Addr
	StaticMAC     net.HardwareAddr
	Interface     string // in the container; "" is eth0, eth1…
	HostInterface string // on the host; "" is chosen
}

// A PortMapping is one published port, or a range of them.
type PortMapping struct {
	HostIP        netip.Addr `json:"host_ip,omitzero"` // zero: all addresses
	HostPort      uint16     `json:"host_port"`        // 0: chosen by Setup
	ContainerPort uint16     `json:"container_port"`
	Range         uint16     `json:"range"`    // number of ports; 0 means 1
	Protocol      string     `json:"protocol"` // tcp, udp, sctp
}

func (p PortMapping) count() int { return max(1, int(p.Range)) }

// String is the form that -p takes.
func (p PortMapping) String() string {
	host := ""
	if p.HostIP.IsValid() {
		host = p.HostIP.String() + ":"
		if p.HostIP.Is6() {
			host = "[" + p.HostIP.String() + "]:"
		}
	}
	ports := func(first uint16) string {
		if p.count() == 1 {
			return fmt.Sprint(first)
		}
		return fmt.Sprintf("%d-%d", first, int(first)+p.count()-1)
	}
	return fmt.Sprintf("%s%s:%s/%s", host, ports(p.HostPort), ports(p.ContainerPort), p.Protocol)
}

// A Joined is one interface that a container has.
type Joined struct {
	Network   string         `json:"network"`
	ID        string         `json:"network_id"`
	Driver    string         `json:"driver"`
	Interface string         `json:"interface"` // in the container
	HostName  string         `json:"host_interface,omitempty"`
	Bridge    string         `json:"bridge,omitempty"`
	MAC       string         `json:"mac_address"`
	Addresses []netip.Prefix `json:"addresses"` // each with its subnet's length
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	Aliases   []string       `json:"aliases,omitempty"`
	DNS       bool           `json:"dns,omitempty"`
	DNSServer []netip.Addr   `json:"dns_servers,omitempty"`
	Internal  bool           `json:"internal,omitempty"`
}

// Interfaces gives the interfaces in podman's form.
func (j Joined) podman() NetworkInterface {
	n := NetworkInterface{MAC: j.MAC, Subnets: []InterfaceSubnet{}}
	for _, a := range j.Addresses {
		s := InterfaceSubnet{IPNet: a}
		for _, g := range j.Gateways {
			if a.Contains(g) {
				s.Gateway = g
			}
		}
		n.Subnets = append(n.Subnets, s)
	}
	return n
}
