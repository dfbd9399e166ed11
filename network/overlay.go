package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What VXLAN adds to each frame: outer addresses, UDP, its own header, and the
// inner frame's Ethernet header.
const (
	vxlanPort      = 4789 // of RFC 7348
	vxlanOverhead4 = 50
	vxlanOverhead6 = 70
	usualMTU       = 1500
)

// An overlay is how a bridge reaches the same network's bridges on other
// hosts: by one VXLAN device, which knows them by a fixed list.
type overlay struct {
	id      uint32 // of the VXLAN, 1 to 16777215
	remotes []netip.Addr
	local   netip.Addr // the packets' source; invalid: the route's
	port    uint16
}

// overlay reads the network's options; nil when there is none.
func (n *Network) overlay() (*overlay, error) {
	v, ok := n.Options[optionVxlan]
	if !ok {
		for _, k := range []string{optionVxlanRemote, optionVxlanLocal, optionVxlanPort} {
			if _, ok := n.Options[k]; ok {
				return nil, fmt.Errorf("option %s needs option %s, the overlay's number", k, optionVxlan)
			}
		}
		return nil, nil
	}
	id, err := strconv.ParseUint(v, 10, 24)
	if err != nil || id == 0 {
		return nil, fmt.Errorf("option %s is a number from 1 to 16777215, not %q", optionVxlan, v)
	}
	o := &overlay{id: uint32(id), port: vxlanPort}
	if v, ok := n.Options[optionVxlanPort]; ok {
		port, err := strconv.ParseUint(v, 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("option %s is a number from 1 to 65535, not %q", optionVxlanPort, v)
		}
		o.port = uint16(port)
	}
	all := strings.FieldsFunc(n.Options[optionVxlanRemote], func(c rune) bool { return c == ',' || c == ' ' })
	if len(all) == 0 {
		return nil, hint(fmt.Errorf("option %s needs the other hosts' addresses", optionVxlan), "-o %s=ADDRESS[,ADDRESS…]", optionVxlanRemote)
	}
	for _, s := range all {
		if o.remotes, err = o.with(o.remotes, optionVxlanRemote, s); err != nil {
			return nil, err
		}
	}
	if v, ok := n.Options[optionVxlanLocal]; ok {
		if all, err := o.with(o.remotes, optionVxlanLocal, v); err != nil {
			return nil, err
		} else {
			o.local = all[len(all)-1]
		}
	}
	return o, nil
}

// with appends an address of the same family as the others.
func (o *overlay) with(all []netip.Addr, option, s string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return nil, fmt.Errorf("option %s: %q is not a host's address", option, s)
	}
	if len(all) > 0 && all[0].Is4() != a.Unmap().Is4() {
		return nil, fmt.Errorf("option %s: %s and %s are of different families", option, all[0], a)
	}
	return append(all, a.Unmap()), nil
}

// mtu is what is left of the usual one.
func (o *overlay) mtu() int {
	if o.remotes[0].Is6() {
		return usualMTU - vxlanOverhead6
	}
	return usualMTU - vxlanOverhead4
}

// ownDevice is the name of the host's device that a network makes for itself:
// the VXLAN's, or the VLAN's.
func (n *Network) ownDevice() string { return "hullv" + n.ID[:min(8, len(n.ID))] }

// addOverlay makes the VXLAN device as a port of the bridge. Frames to all, and
// to those that are not known yet, go to each remote; answers tell which it is.
func (r *routes) addOverlay(n *Network, bridge int, mtu int) error {
	o, err := n.overlay()
	if err != nil || o == nil {
		return err
	}
	name := n.ownDevice()
	if _, err := r.link(name); errors.Is(err, unix.ENODEV) {
		if err := r.newOverlay(o, name, bridge, mtu); err != nil {
			return err
		}
	}
	return r.addRemotes(o, name)
}

func (r *routes) newOverlay(o *overlay, name string, bridge, mtu int) error {
	r.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, "create vxlan %s", name)
	m := &r.m
	m.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	m.attrString(unix.IFLA_IFNAME, name)
	m.attrU32(unix.IFLA_MTU, uint32(mtu))
	m.attrU32(unix.IFLA_MASTER, uint32(bridge))
	m.nest(unix.IFLA_LINKINFO|nlaNested, func() {
		m.attrString(unix.IFLA_INFO_KIND, "vxlan")
		m.nest(unix.IFLA_INFO_DATA|nlaNested, func() {
			m.attrU32(unix.IFLA_VXLAN_ID, o.id)
			m.attr(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, o.port))
			m.attrU8(unix.IFLA_VXLAN_LEARNING, 1)
			switch {
			case o.local.Is4():
				m.attr(unix.IFLA_VXLAN_LOCAL, o.local.AsSlice())
			case o.local.Is6():
				m.attr(unix.IFLA_VXLAN_LOCAL6, o.local.AsSlice())
			case o.remotes[0].Is6(): // which makes it one for IPv6
				m.attr(unix.IFLA_VXLAN_LOCAL6, netip.IPv6Unspecified().AsSlice())
			}
		})
	})
	m.end()
	err := r.flush()
	if errors.Is(err, unix.EEXIST) {
		return hint(fmt.Errorf("overlay %d at UDP port %d is another device's of this host", o.id, o.port), "make the network with another number: -o %s=NUMBER", optionVxlan)
	}
	return deviceError("vxlan", err)
}

func (r *routes) addRemotes(o *overlay, name string) error {
	l, err := r.link(name)
	if err != nil {
		return err
	}
	for _, remote := range o.remotes {
		r.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.EEXIST, "tell %s of %s", name, remote)
		const noARP = 0x40 // NUD_NOARP
		m := &r.m
		m.raw(unix.AF_BRIDGE, 0)
		m.u16(0)
		m.u32(uint32(l.index))
		m.u16(unix.NUD_PERMANENT | noARP)
		m.raw(unix.NTF_SELF, 0)
		m.attr(unix.NDA_LLADDR, make([]byte, 6))
		m.attr(unix.NDA_DST, remote.AsSlice())
		m.end()
	}
	return r.flush()
}

// vlan is the network's VLAN, 0 for none.
func (n *Network) vlan() (uint16, error) {
	v, ok := n.Options[optionVLAN]
	if !ok {
		return 0, nil
	}
	id, err := strconv.ParseUint(v, 10, 12)
	if err != nil || id == 0 || id == 4095 {
		return 0, fmt.Errorf("option %s is a number from 1 to 4094, not %q", optionVLAN, v)
	}
	return uint16(id), nil
}

// addVLAN makes the device below the parent that the containers' are made of.
// The exclusive lock is held.
func (m *Manager) addVLAN(h *host, n *Network) (link, error) {
	if l, err := h.routes.link(n.Interface); !errors.Is(err, unix.ENODEV) {
		return l, err
	}
	id, err := n.vlan()
	if err != nil {
		return link{}, err
	}
	parent, err := h.routes.link(n.Options[optionParent])
	if errors.Is(err, unix.ENODEV) {
		return link{}, noParent(n, n.Options[optionParent])
	}
	if err != nil {
		return link{}, err
	}
	r := h.routes
	r.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "create vlan %d of %s", id, parent.name)
	r.m.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	r.m.attrString(unix.IFLA_IFNAME, n.Interface)
	r.m.attrU32(unix.IFLA_LINK, uint32(parent.index))
	r.m.nest(unix.IFLA_LINKINFO|nlaNested, func() {
		r.m.attrString(unix.IFLA_INFO_KIND, "vlan")
		r.m.nest(unix.IFLA_INFO_DATA|nlaNested, func() { r.m.attrU16(unix.IFLA_VLAN_ID, id) })
	})
	r.m.end()
	if err := r.flush(); err != nil {
		return link{}, fmt.Errorf("network %s: %w", n.Name, deviceError("vlan", err))
	}
	return r.link(n.Interface)
}

func noParent(n *Network, name string) error {
	return hint(fmt.Errorf("network %s: the host has no interface %s", n.Name, name), "bring the interface back, or make the network with another: --opt parent=NAME")
}

// removeOwnDevice removes what addOverlay or addVLAN made.
func removeOwnDevice(h *host, n *Network) error {
	l, err := h.routes.link(n.ownDevice())
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	h.routes.linkDelete(l.index, l.name)
	return h.routes.flush()
}
