package network

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// addSlave adds a macvlan or ipvlan device below the parent, born in the
// container's namespace.
func (r *routes) addSlave(p *planned, mac net.HardwareAddr, mtu, netns int) error {
	n := p.network
	mode, err := slaveMode(n.Driver, n.Options[optionMode])
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	r.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, "create %s %s on %s", n.Driver, p.joined.Interface, n.Interface)
	m := &r.m
	m.ifinfo(0, 0, 0)
	m.attrString(unix.IFLA_IFNAME, p.joined.Interface)
	m.attrU32(unix.IFLA_LINK, uint32(p.master))
	m.attrU32(unix.IFLA_NET_NS_FD, uint32(netns))
	if mtu != 0 {
		m.attrU32(unix.IFLA_MTU, uint32(mtu))
	}
	if n.Driver == DriverMacvlan {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	m.nest(unix.IFLA_LINKINFO|nlaNested, func() {
		m.attrString(unix.IFLA_INFO_KIND, n.Driver)
		m.nest(unix.IFLA_INFO_DATA|nlaNested, func() {
			if n.Driver == DriverMacvlan {
				m.attrU32(unix.IFLA_MACVLAN_MODE, mode)
			} else {
				m.attrU16(unix.IFLA_IPVLAN_MODE, uint16(mode))
			}
		})
	})
	m.end()
	return nil
}

// Modes of linux/if_link.h.
const (
	macvlanPrivate  = 1
	macvlanVepa     = 2
	macvlanBridge   = 4
	macvlanPassthru = 8
)

// slaveMode is the kernel's number of a mode; each driver has a default.
func slaveMode(driver, mode string) (uint32, error) {
	table := map[string]uint32{
		"": macvlanBridge, "private": macvlanPrivate, "vepa": macvlanVepa,
		"bridge": macvlanBridge, "passthru": macvlanPassthru,
	}
	if driver == DriverIpvlan {
		table = map[string]uint32{"": 0, "l2": 0, "l3": 1, "l3s": 2}
	}
	v, ok := table[mode]
	if !ok {
		return 0, fmt.Errorf("%s has no mode %q", driver, mode)
	}
	return v, nil
}
