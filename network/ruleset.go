package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// The packet filter's table, laid once. In nft's language:
//
//	table inet hull {
//	  set bridges, masq, internal, isolated, strict { type ifname; }
//	  set same { type ifname . ifname; }               # (B, B) for each bridge
//	  map ports4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
//	  map any4   { type inet_proto . inet_service : ipv4_addr . inet_service; }
//	  map ports6, any6                                 # the same for IPv6
//	  chain prerouting  { type nat hook prerouting priority dstnat; # not to loopback addresses
//	                      ip daddr & 255.0.0.0 != 127.0.0.0 fib daddr type local jump publish; … }
//	  chain output      { type nat hook output priority dstnat; the same }
//	  chain publish     { dnat ip to meta l4proto . ip daddr . th dport map @ports4; … }
//	  chain postrouting { type nat hook postrouting priority srcnat;
//	                      meta mark & 0x2000 != 0 masquerade;
//	                      iifname @masq oifname != @bridges masquerade; }
//	  chain forward     { type filter hook forward priority filter;
//	                      ct state established,related accept;
//	                      iifname . oifname @same ct status dnat meta mark set meta mark | 0x2000; … }
//	}
//	table bridge hull { chain prerouting { meta protocol ip6 iifname "hull-*" icmpv6 type { nd-router-advert, nd-redirect } drop; } }
//
// Published ports match local destinations only, so that traffic which is
// routed through the host to somebody else's port is left alone.
const tableName = "hull"

const (
	setBridges  = "bridges"  // all of ours
	setMasq     = "masq"     // whose traffic outward is masqueraded
	setInternal = "internal" // that have no way in or out
	setIsolated = "isolated" // that do not reach other isolated ones
	setStrict   = "strict"   // that reach no other one
	setSame     = "same"
	mapPorts4   = "ports4"
	mapAny4     = "any4"
	mapPorts6   = "ports6"
	mapAny6     = "any6"
)

func tableSets() []set {
	name := []field{fieldIfname}
	return []set{
		{name: setBridges, key: name},
		{name: setMasq, key: name},
		{name: setInternal, key: name},
		{name: setIsolated, key: name},
		{name: setStrict, key: name},
		{name: setSame, key: []field{fieldIfname, fieldIfname}},
		{name: mapPorts4, key: []field{fieldProto, fieldIPv4, fieldService}, data: []field{fieldIPv4, fieldService}},
		{name: mapAny4, key: []field{fieldProto, fieldService}, data: []field{fieldIPv4, fieldService}},
		{name: mapPorts6, key: []field{fieldProto, fieldIPv6, fieldService}, data: []field{fieldIPv6, fieldService}},
		{name: mapAny6, key: []field{fieldProto, fieldService}, data: []field{fieldIPv6, fieldService}},
	}
}

func tableChains() []chain {
	const dstnat, srcnat = -100, 100
	return []chain{
		{name: "publish"},
		{name: "prerouting", kind: "nat", hook: unix.NF_INET_PRE_ROUTING, priority: dstnat},
		{name: "output", kind: "nat", hook: unix.NF_INET_LOCAL_OUT, priority: dstnat},
		{name: "postrouting", kind: "nat", hook: unix.NF_INET_POST_ROUTING, priority: srcnat},
		{name: "forward", kind: "filter", hook: unix.NF_INET_FORWARD},
	}
}

// A rule of the table inet hull.
type rule struct {
	chain string
	exprs []expr
}

const (
	reg0 = unix.NFT_REG32_00 // 32-bit registers; sixteen of them
	reg1 = unix.NFT_REG32_01
	// The 128-bit registers that an interface's name fills.
	nameIn  = unix.NFT_REG_1
	nameOut = unix.NFT_REG_2
)

// Verdicts of linux/netfilter.h.
const (
	dropPacket   = 0
	acceptPacket = 1
)

// hairpinMark is set on packets that leave by the bridge they came from, with
// a translated destination. It is the bit that podman's networks use.
const hairpinMark = 0x2000

func markHairpin() []expr {
	return []expr{loadMeta(unix.NFT_META_MARK, reg0), setBits(reg0, native32(hairpinMark)), storeMark(reg0)}
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func tableRules(refuse expr) []rule {
	v4 := []expr{loadMeta(unix.NFT_META_NFPROTO, reg0), equal(reg0, unix.NFPROTO_IPV4)}
	v6 := []expr{loadMeta(unix.NFT_META_NFPROTO, reg0), equal(reg0, unix.NFPROTO_IPV6)}
	toLocal := []expr{loadAddressType(reg0), equal(reg0, native32(unix.RTN_LOCAL)...)}
	publish := verdict(unix.NFT_JUMP, "publish")
	in := loadMeta(unix.NFT_META_IIFNAME, nameIn)
	out := loadMeta(unix.NFT_META_OIFNAME, nameOut)
	accept, drop := verdict(acceptPacket, ""), verdict(dropPacket, "")
	const ctEstablished, ctRelated, ctDNAT = 1 << 1, 1 << 2, 1 << 5
	published := []expr{loadCt(unix.NFT_CT_STATUS, reg0), mask(reg0, native32(ctDNAT)), notEqual(reg0, 0, 0, 0, 0)}
	known := []expr{loadCt(unix.NFT_CT_STATE, reg0), mask(reg0, native32(ctEstablished|ctRelated)), notEqual(reg0, 0, 0, 0, 0)}

	// What a neighbour sends to a loopback address is left to the kernel, which
	// drops it.
	var r []rule
	for _, c := range []string{"prerouting", "output"} {
		r = append(r,
			rule{c, join(v4, loadPayload(unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4, reg0), mask(reg0, []byte{255, 0, 0, 0}),
				notEqual(reg0, 127, 0, 0, 0), toLocal, publish)},
			rule{c, join(v6, loadPayload(unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16, nameIn),
				notEqual(nameIn, append(make([]byte, 15), 1)...), toLocal, publish)})
	}
	r = append(r, publishRules(v4, v6)...)
	return append(r,
		// First, because it is the rule that nearly every packet meets: only a
		// connection's first packet is asked all the others.
		rule{"forward", join(known, accept)},
		// Replies on one bridge would take the short way and never meet the
		// address translation, so these alone lose their source address. They
		// are marked while the incoming device is known: at postrouting, what
		// br_netfilter has bridged comes without one.
		rule{"forward", join(in, out, lookup(setSame, nameIn, false), published, markHairpin())},
		rule{"postrouting", join(loadMeta(unix.NFT_META_MARK, reg0), mask(reg0, native32(hairpinMark)), notEqual(reg0, 0, 0, 0, 0), masquerade())},
		rule{"postrouting", join(in, lookup(setMasq, nameIn, false), out, lookup(setBridges, nameOut, true), masquerade())},

		rule{"forward", join(in, out, lookup(setSame, nameIn, false), accept)},
		rule{"forward", join(in, lookup(setInternal, nameIn, false), drop)},
		rule{"forward", join(out, lookup(setInternal, nameOut, false), drop)},
		rule{"forward", join(published, accept)},
		rule{"forward", join(in, lookup(setStrict, nameIn, false), out, lookup(setBridges, nameOut, false), refuse)},
		rule{"forward", join(out, lookup(setStrict, nameOut, false), refuse)},
		rule{"forward", join(in, lookup(setIsolated, nameIn, false), out, lookup(setIsolated, nameOut, false), refuse)},
		// From outside, only published ports are reached.
		rule{"forward", join(out, lookup(setBridges, nameOut, false), in, lookup(setBridges, nameIn, true), drop)},
	)
}

func publishRules(v4, v6 []expr) []rule {
	const dportOffset, dportSize = 2, 2
	proto := loadMeta(unix.NFT_META_L4PROTO, reg0)
	dport := func(reg uint32) expr {
		return loadPayload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, dportOffset, dportSize, reg)
	}
	return []rule{
		{"publish", join(v4, proto, loadPayload(unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4, reg0+1), dport(reg0+2),
			translate(mapPorts4, reg0, reg0), dnat(unix.NFPROTO_IPV4, reg0, reg0+1))},
		{"publish", join(v4, proto, dport(reg0+1),
			translate(mapAny4, reg0, reg0), dnat(unix.NFPROTO_IPV4, reg0, reg0+1))},
		{"publish", join(v6, proto, loadPayload(unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16, reg0+1), dport(reg0+5),
			translate(mapPorts6, reg0, reg0), dnat(unix.NFPROTO_IPV6, reg0, reg0+4))},
		{"publish", join(v6, proto, dport(reg0+1),
			translate(mapAny6, reg0, reg0), dnat(unix.NFPROTO_IPV6, reg0, reg0+4))},
	}
}

// join makes one list of exprs and lists of them.
func join(parts ...any) []expr {
	var all []expr
	for _, p := range parts {
		switch p := p.(type) {
		case expr:
			all = append(all, p)
		case []expr:
			all = append(all, p...)
		}
	}
	return all
}

// lay adds the tables to the transaction, in the place of whatever there is
// under their name; refuse is what happens between networks that are kept
// apart. It is slow (the kernel waits for readers of what it
// removes) and needed once a boot, or after somebody flushed the rules.
func (f *filter) lay(refuse expr) {
	for _, family := range []byte{unix.NFPROTO_INET, unix.NFPROTO_BRIDGE} {
		f.addTable(family, tableName) // so that the deletion finds one
		f.deleteTable(family, tableName)
		f.addTable(family, tableName)
	}
	for i, s := range tableSets() {
		f.addSet(unix.NFPROTO_INET, tableName, s, uint32(i+1))
	}
	for _, c := range tableChains() {
		f.addChain(unix.NFPROTO_INET, tableName, c)
	}
	for _, r := range tableRules(refuse) {
		f.addRule(unix.NFPROTO_INET, tableName, r.chain, r.exprs...)
	}
	// A container must not tell its neighbours, or the host, about routers.
	f.addChain(unix.NFPROTO_BRIDGE, tableName, chain{name: "prerouting", kind: "filter", hook: 0, priority: -300})
	const typeRouterAdvertisement, typeRedirect = 134, 137
	for _, kind := range []byte{typeRouterAdvertisement, typeRedirect} {
		f.addRule(unix.NFPROTO_BRIDGE, tableName, "prerouting",
			loadMeta(unix.NFT_META_PROTOCOL, reg0), equal(reg0, 0x86, 0xdd), // most are not
			loadMeta(unix.NFT_META_IIFNAME, nameIn), equal(nameIn, []byte(vethPrefix)...),
			loadMeta(unix.NFT_META_L4PROTO, reg0), equal(reg0, unix.IPPROTO_ICMPV6),
			loadPayload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, reg0), equal(reg0, kind),
			verdict(dropPacket, ""))
	}
}

// laid reports whether the table is there and whole: with all its sets and
// chains, and its rules not flushed. It costs one round trip.
func (f *filter) laid() (bool, error) {
	rules := tableRules(reject())
	requests := []getRequest{{
		kind: unix.NFT_MSG_GETTABLE, family: unix.NFPROTO_INET, want: unix.NFTA_TABLE_USE,
		fill: func(m *message) { m.attrString(unix.NFTA_TABLE_NAME, tableName) },
	}}
	want := []uint32{uint32(len(tableSets()) + len(tableChains()))}
	for _, c := range []string{"publish", "postrouting", "forward", "prerouting"} {
		requests = append(requests, getRequest{
			kind: unix.NFT_MSG_GETCHAIN, family: unix.NFPROTO_INET, want: unix.NFTA_CHAIN_USE,
			fill: func(m *message) {
				m.attrString(unix.NFTA_CHAIN_TABLE, tableName)
				m.attrString(unix.NFTA_CHAIN_NAME, c)
			},
		})
		n := 0
		for _, r := range rules {
			if r.chain == c {
				n++
			}
		}
		if c == "publish" {
			n += 4 // the jumps to it
		}
		want = append(want, uint32(n))
	}
	got, found, err := f.get(requests)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EAFNOSUPPORT) {
			return false, fmt.Errorf("packet filter: this kernel has no nf_tables: %w", err)
		}
		return false, fmt.Errorf("packet filter: look up table %s: %w", tableName, err)
	}
	return found && slices.Equal(got, want), nil
}

func ifname(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// bridgeElements are the set elements that stand for a bridge network.
func bridgeElements(n *Network) map[string][]element {
	key := element{key: ifname(n.Interface)}
	e := map[string][]element{
		setBridges: {key},
		setSame:    {{key: append(ifname(n.Interface), ifname(n.Interface)...)}},
	}
	switch {
	case n.Internal:
		e[setInternal] = []element{key}
	default:
		e[setMasq] = []element{key}
	}
	switch n.Options[optionIsolate] {
	case "false", "0":
	case "strict":
		e[setStrict] = []element{key}
	default:
		e[setIsolated] = []element{key}
	}
	return e
}

func (f *filter) addBridge(n *Network) {
	for set, e := range bridgeElements(n) {
		f.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, unix.NFPROTO_INET, tableName, set, e)
	}
}
