package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A user's ports are published by sockets in the host's namespace, which no
// packet filter of his can see. So that the program still sees who its client
// is, the proxy connects to the container from the client's own address: such
// a socket is called transparent. The container's answers go to that address,
// which is not here; the packets of a transparent socket are marked, and marked
// ones are taken for local.
const (
	transparentMark  = 0x4000
	transparentTable = 0x4000
	transparentName  = "hull_in"
	// transparentTime is how long a container may take to answer to a client's
	// address before it is asked from one of ours.
	transparentTime = 3 * time.Second
)

// acceptTransparent prepares the namespace of a user's bridges; ok is false
// when the kernel cannot tell the packets of such sockets.
func (h *host) acceptTransparent() (ok bool, err error) {
	f := h.filter
	f.newTable(unix.NFPROTO_INET, transparentName)
	const mangle = -150
	f.addChain(unix.NFPROTO_INET, transparentName, chain{name: "prerouting", kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: mangle})
	f.addRule(unix.NFPROTO_INET, transparentName, "prerouting", loadSocketTransparent(reg0), equal(reg0, 1),
		loadMeta(unix.NFT_META_MARK, reg0), setBits(reg0, native32(transparentMark)), storeMark(reg0))
	switch err := f.commit(); {
	case errors.Is(err, unix.EEXIST): // laid before
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case err != nil:
		return false, err
	}
	const loopback = 1 // in every namespace
	h.routes.linkUp(loopback, "lo")
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		h.routes.addMarkRule(family)
		h.routes.addLocalDefault(family)
	}
	err = h.routes.flush()
	return err == nil, err
}

// loadSocketTransparent puts 1 into a register when the packet is for a
// transparent socket, and ends the rule when it is for none.
func loadSocketTransparent(reg uint32) expr {
	const attrKey, attrRegister, transparent = 1, 2, 0
	return expr{"socket", func(m *message) {
		m.attrBE32(attrKey, transparent)
		m.attrBE32(attrRegister, reg)
	}}
}

// addMarkRule sends marked packets to a table of their own.
func (r *routes) addMarkRule(family byte) {
	r.request(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "add rule for transparent sockets")
	r.m.raw(family, 0, 0, 0, 0, 0, 0, 1) // FR_ACT_TO_TBL
	r.m.u32(0)
	r.m.attrU32(unix.FRA_PRIORITY, 100)
	r.m.attrU32(unix.FRA_FWMARK, transparentMark)
	r.m.attrU32(unix.FRA_FWMASK, transparentMark)
	r.m.attrU32(unix.FRA_TABLE, transparentTable)
	r.m.end()
}

// addLocalDefault makes every address a local one in that table.
func (r *routes) addLocalDefault(family byte) {
	r.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "add route for transparent sockets")
	r.m.raw(family, 0, 0, 0, unix.RT_TABLE_UNSPEC, unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL)
	r.m.u32(0)
	r.m.attrU32(unix.RTA_TABLE, transparentTable)
	r.m.attrU32(unix.RTA_OIF, 1) // lo
	r.m.end()
}

// dialAs connects to a container from its client's address.
func dialAs(network string, client netip.AddrPort, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: transparentTime, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			if client.Addr().Is4() {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
			}
			if err == nil {
				// Of one client's port there may be several connections.
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}
		})
		return errors.Join(cerr, err)
	}}
	d.LocalAddr = net.TCPAddrFromAddrPort(client)
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(client)
	}
	return d.DialContext(context.Background(), network, to.String())
}

// seenAs says whether a container at address would answer to a client by way
// of its gateway: not one that it takes for a neighbour, or for itself.
func (r record) seenAs(client, address netip.Addr) bool {
	if !client.IsValid() || client.IsLoopback() || client.IsUnspecified() || client.IsMulticast() || client.IsLinkLocalUnicast() ||
		client.Is4() != address.Is4() || UserAddress.Contains(client) || UserAddress6.Contains(client) {
		return false
	}
	for _, j := range r.Networks {
		if slices.ContainsFunc(j.Addresses, func(p netip.Prefix) bool { return p.Masked().Contains(client) }) {
			return false
		}
	}
	return true
}
