package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A filter speaks nf_tables netlink in one network namespace. Changes are
// collected in one transaction: the kernel takes all or nothing.
type filter struct {
	*socket
	m     message
	steps []string
	first uint32
}

func openFilter() (*filter, error) {
	s, err := openSocket(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("speak to nf_tables: %w", err)
	}
	return &filter{socket: s}, nil
}

// maxBatch keeps a transaction below the default send buffer of a socket,
// which a user's namespace may not raise.
const maxBatch = 96 << 10

func (f *filter) header(kind, flags uint16, seq uint32, family byte, resource uint16) {
	f.m.begin(kind, flags, seq)
	f.m.raw(family, unix.NFNETLINK_V0, byte(resource>>8), byte(resource))
}

// add appends one request to the transaction.
func (f *filter) add(kind int, flags uint16, family byte, what string, fill func(m *message)) {
	if len(f.steps) == 0 {
		f.first = f.next()
		f.steps = append(f.steps, "begin transaction")
		f.header(unix.NFNL_MSG_BATCH_BEGIN, 0, f.first, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
		f.m.end()
	}
	f.steps = append(f.steps, what)
	f.header(unix.NFNL_SUBSYS_NFTABLES<<8|uint16(kind), flags, f.next(), family, 0)
	fill(&f.m)
	f.m.end()
}

// A filterError is the failure of one request of a transaction, which left
// everything as it was.
type filterError struct {
	step string
	err  error
}

func (e *filterError) Error() string { return "packet filter: " + e.step + ": " + e.err.Error() }
func (e *filterError) Unwrap() error { return e.err }

// commit sends the transaction and waits for its end.
func (f *filter) commit() error {
	if len(f.steps) == 0 {
		return nil
	}
	// Only the last request asks for an acknowledgement; failures are
	// reported for each.
	flags := f.m.b[f.m.start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	steps, first := f.steps, f.first
	f.header(unix.NFNL_MSG_BATCH_END, 0, f.next(), unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	f.m.end()
	b := f.m.b
	f.m, f.steps = message{b: b[:0]}, nil
	if err := f.send(b); err != nil {
		return fmt.Errorf("packet filter: %w", err)
	}
	var bad error
	err := f.receive(func(p reply) (bool, error) {
		i := int(p.seq - first)
		if p.kind != unix.NLMSG_ERROR || i < 0 || i >= len(steps) {
			return false, nil
		}
		if err := ackError(p.data); err != nil && bad == nil {
			bad = &filterError{steps[i], err}
		}
		// A refused beginning is the only answer there will be.
		return i == len(steps)-1 || i == 0, nil
	})
	if err != nil {
		return fmt.Errorf("packet filter: %w", err)
	}
	return bad
}

// get sends read requests together and returns the one word attribute asked
// for from each answer; a missing object gives found false.
type getRequest struct {
	kind   int
	family byte
	fill   func(m *message)
	want   uint16 // attribute: a word in network order
}

func (f *filter) get(requests []getRequest) (values []uint32, found bool, err error) {
	var m message
	first := f.seq + 1
	for _, q := range requests {
		m.begin(unix.NFNL_SUBSYS_NFTABLES<<8|uint16(q.kind), unix.NLM_F_ACK, f.next())
		m.raw(q.family, unix.NFNETLINK_V0, 0, 0)
		q.fill(&m)
		m.end()
	}
	if err := f.send(m.b); err != nil {
		return nil, false, err
	}
	values = make([]uint32, len(requests))
	left := len(requests)
	found = true
	err = f.receive(func(p reply) (bool, error) {
		i := int(p.seq - first)
		if i < 0 || i >= len(requests) {
			return false, nil
		}
		if p.kind == unix.NLMSG_ERROR {
			left--
			if err := ackError(p.data); errors.Is(err, unix.ENOENT) {
				found = false
			} else if err != nil {
				return true, err
			}
			return left == 0, nil
		}
		if len(p.data) >= 4 {
			attrs(p.data[4:], func(kind uint16, v []byte) {
				if kind == requests[i].want && len(v) == 4 {
					values[i] = binary.BigEndian.Uint32(v)
				}
			})
		}
		return false, nil
	})
	return values, found, err
}

// Objects.

func (f *filter) addTable(family byte, table string) {
	f.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, family, "add table "+table, func(m *message) {
		m.attrString(unix.NFTA_TABLE_NAME, table)
	})
}

// newTable adds a table that must not be there.
func (f *filter) newTable(family byte, table string) {
	f.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, family, "add table "+table, func(m *message) {
		m.attrString(unix.NFTA_TABLE_NAME, table)
	})
}

func (f *filter) deleteTable(family byte, table string) {
	f.add(unix.NFT_MSG_DELTABLE, 0, family, "delete table "+table, func(m *message) {
		m.attrString(unix.NFTA_TABLE_NAME, table)
	})
}

// A chain with an empty kind is a plain one, to jump to.
type chain struct {
	name     string
	kind     string // "nat", "filter"
	hook     uint32
	priority int32
}

func (f *filter) addChain(family byte, table string, c chain) {
	f.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, family, "add chain "+c.name, func(m *message) {
		m.attrString(unix.NFTA_CHAIN_TABLE, table)
		m.attrString(unix.NFTA_CHAIN_NAME, c.name)
		if c.kind == "" {
			return
		}
		m.attrString(unix.NFTA_CHAIN_TYPE, c.kind)
		m.nest(unix.NFTA_CHAIN_HOOK|nlaNested, func() {
			m.attrBE32(unix.NFTA_HOOK_HOOKNUM, c.hook)
			m.attrBE32(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))
		})
	})
}

// A set maps keys to data, or only holds keys when data is empty.
type set struct {
	name string
	key  []field
	data []field
}

// A field is a part of a key: nft's type number and its size in bytes. Each
// takes whole 32-bit registers.
type field struct {
	kind uint32
	size uint32
}

var (
	fieldIPv4    = field{7, 4}
	fieldIPv6    = field{8, 16}
	fieldProto   = field{12, 1}
	fieldService = field{13, 2}
	fieldIfname  = field{41, 16}
)

func typeOf(fields []field) (kind, size uint32) {
	for _, f := range fields {
		kind = kind<<6 | f.kind
		size += (f.size + 3) &^ 3
	}
	if len(fields) == 1 {
		size = fields[0].size
	}
	return kind, size
}

func (f *filter) addSet(family byte, table string, s set, id uint32) {
	f.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, family, "add set "+s.name, func(m *message) {
		m.attrString(unix.NFTA_SET_TABLE, table)
		m.attrString(unix.NFTA_SET_NAME, s.name)
		m.attrBE32(unix.NFTA_SET_ID, id)
		kind, size := typeOf(s.key)
		m.attrBE32(unix.NFTA_SET_KEY_TYPE, kind)
		m.attrBE32(unix.NFTA_SET_KEY_LEN, size)
		if len(s.key) == 1 && s.key[0] == fieldIfname {
			// For nft's eyes: the key's bytes are in the host's order.
			const keyByteOrder, hostEndian = 0, 1
			m.attr(unix.NFTA_SET_USERDATA, append([]byte{keyByteOrder, 4}, native32(hostEndian)...))
		}
		if len(s.data) > 0 {
			kind, size := typeOf(s.data)
			m.attrBE32(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP)
			m.attrBE32(unix.NFTA_SET_DATA_TYPE, kind)
			m.attrBE32(unix.NFTA_SET_DATA_LEN, size)
		}
	})
}

// An element of a set; comment is what "nft list" shows beside it.
type element struct {
	key, data []byte
	comment   string
}

// maxElements keeps the nested list of one request below its 64 KiB.
const maxElements = 400

// elements adds requests that insert (exclusively, with NLM_F_EXCL in flags)
// or delete elements.
func (f *filter) elements(kind int, flags uint16, family byte, table, set string, all []element) {
	what := "add to set " + set
	if kind == unix.NFT_MSG_DELSETELEM {
		what = "delete from set " + set
	}
	for len(all) > 0 {
		part := all[:min(len(all), maxElements)]
		all = all[len(part):]
		f.add(kind, flags, family, what, func(m *message) {
			m.attrString(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			m.attrString(unix.NFTA_SET_ELEM_LIST_SET, set)
			m.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS|nlaNested, func() {
				for _, e := range part {
					m.element(e, kind == unix.NFT_MSG_NEWSETELEM)
				}
			})
		})
	}
}

func (m *message) element(e element, withData bool) {
	m.nest(unix.NFTA_LIST_ELEM|nlaNested, func() {
		m.nest(unix.NFTA_SET_ELEM_KEY|nlaNested, func() { m.attr(unix.NFTA_DATA_VALUE, e.key) })
		if !withData {
			return
		}
		if len(e.data) > 0 {
			m.nest(unix.NFTA_SET_ELEM_DATA|nlaNested, func() { m.attr(unix.NFTA_DATA_VALUE, e.data) })
		}
		if e.comment != "" && len(e.comment) < 200 {
			const comment = 0 // NFTNL_UDATA_SET_ELEM_COMMENT: type, length, text
			u := append([]byte{comment, byte(len(e.comment) + 1)}, e.comment...)
			m.attr(unix.NFTA_SET_ELEM_USERDATA, append(u, 0))
		}
	})
}

// An expr is one instruction of a rule.
type expr struct {
	name string
	fill func(m *message)
}

func (f *filter) addRule(family byte, table, chain string, exprs ...expr) {
	f.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, family, "add rule to "+chain, func(m *message) {
		m.attrString(unix.NFTA_RULE_TABLE, table)
		m.attrString(unix.NFTA_RULE_CHAIN, chain)
		m.nest(unix.NFTA_RULE_EXPRESSIONS|nlaNested, func() {
			for _, e := range exprs {
				m.nest(unix.NFTA_LIST_ELEM|nlaNested, func() {
					m.attrString(unix.NFTA_EXPR_NAME, e.name)
					m.nest(unix.NFTA_EXPR_DATA|nlaNested, func() { e.fill(m) })
				})
			}
		})
	})
}

// loadMeta puts a property of the packet (NFT_META_…) into a register.
func loadMeta(key, reg uint32) expr {
	return expr{"meta", func(m *message) {
		m.attrBE32(unix.NFTA_META_KEY, key)
		m.attrBE32(unix.NFTA_META_DREG, reg)
	}}
}

// loadPayload puts size bytes of the packet at offset into a register.
func loadPayload(base, offset, size, reg uint32) expr {
	return expr{"payload", func(m *message) {
		m.attrBE32(unix.NFTA_PAYLOAD_DREG, reg)
		m.attrBE32(unix.NFTA_PAYLOAD_BASE, base)
		m.attrBE32(unix.NFTA_PAYLOAD_OFFSET, offset)
		m.attrBE32(unix.NFTA_PAYLOAD_LEN, size)
	}}
}

// loadAddressType puts the RTN_… type of the destination into a register.
func loadAddressType(reg uint32) expr {
	return expr{"fib", func(m *message) {
		m.attrBE32(unix.NFTA_FIB_DREG, reg)
		m.attrBE32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		m.attrBE32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
	}}
}

func loadCt(key, reg uint32) expr {
	return expr{"ct", func(m *message) {
		m.attrBE32(unix.NFTA_CT_DREG, reg)
		m.attrBE32(unix.NFTA_CT_KEY, key)
	}}
}

// mask keeps the bits of a register that are set in bits.
func mask(reg uint32, bits []byte) expr { return bitwise(reg, bits, make([]byte, len(bits))) }

// setBits sets the bits of a register that are set in bits.
func setBits(reg uint32, bits []byte) expr {
	keep := make([]byte, len(bits))
	for i, b := range bits {
		keep[i] = ^b
	}
	return bitwise(reg, keep, bits)
}

func bitwise(reg uint32, and, xor []byte) expr {
	return expr{"bitwise", func(m *message) {
		m.attrBE32(unix.NFTA_BITWISE_SREG, reg)
		m.attrBE32(unix.NFTA_BITWISE_DREG, reg)
		m.attrBE32(unix.NFTA_BITWISE_LEN, uint32(len(and)))
		m.nest(unix.NFTA_BITWISE_MASK|nlaNested, func() { m.attr(unix.NFTA_DATA_VALUE, and) })
		m.nest(unix.NFTA_BITWISE_XOR|nlaNested, func() { m.attr(unix.NFTA_DATA_VALUE, xor) })
	}}
}

// storeMark makes a register the packet's mark.
func storeMark(reg uint32) expr {
	return expr{"meta", func(m *message) {
		m.attrBE32(unix.NFTA_META_KEY, unix.NFT_META_MARK)
		m.attrBE32(unix.NFTA_META_SREG, reg)
	}}
}

func compare(op, reg uint32, value []byte) expr {
	return expr{"cmp", func(m *message) {
		m.attrBE32(unix.NFTA_CMP_SREG, reg)
		m.attrBE32(unix.NFTA_CMP_OP, op)
		m.nest(unix.NFTA_CMP_DATA|nlaNested, func() { m.attr(unix.NFTA_DATA_VALUE, value) })
	}}
}

func equal(reg uint32, value ...byte) expr    { return compare(unix.NFT_CMP_EQ, reg, value) }
func notEqual(reg uint32, value ...byte) expr { return compare(unix.NFT_CMP_NEQ, reg, value) }

// lookup goes on when the registers from sreg are (or, inverted, are not) in
// the set.
func lookup(set string, sreg uint32, inverted bool) expr {
	return expr{"lookup", func(m *message) {
		m.attrString(unix.NFTA_LOOKUP_SET, set)
		m.attrBE32(unix.NFTA_LOOKUP_SREG, sreg)
		if inverted {
			m.attrBE32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	}}
}

// translate is lookup in a map; its data comes to the registers from dreg.
func translate(set string, sreg, dreg uint32) expr {
	return expr{"lookup", func(m *message) {
		m.attrString(unix.NFTA_LOOKUP_SET, set)
		m.attrBE32(unix.NFTA_LOOKUP_SREG, sreg)
		m.attrBE32(unix.NFTA_LOOKUP_DREG, dreg)
	}}
}

// dnat rewrites the destination to the address and port in two registers.
func dnat(family, address, port uint32) expr {
	return expr{"nat", func(m *message) {
		m.attrBE32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		m.attrBE32(unix.NFTA_NAT_FAMILY, family)
		m.attrBE32(unix.NFTA_NAT_REG_ADDR_MIN, address)
		m.attrBE32(unix.NFTA_NAT_REG_PROTO_MIN, port)
	}}
}

func masquerade() expr { return expr{"masq", func(*message) {}} }

// reject drops a packet and says so to its sender, who need not wait for nothing.
func reject() expr {
	return expr{"reject", func(m *message) {
		m.attrBE32(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_ICMPX_UNREACH)
		m.attr(unix.NFTA_REJECT_ICMP_CODE, []byte{unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
	}}
}

// verdict ends the rule: NF_ACCEPT, NF_DROP, or NFT_JUMP to a chain.
func verdict(code int32, chain string) expr {
	return expr{"immediate", func(m *message) {
		m.attrBE32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		m.nest(unix.NFTA_IMMEDIATE_DATA|nlaNested, func() {
			m.nest(unix.NFTA_DATA_VERDICT|nlaNested, func() {
				m.attrBE32(unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					m.attrString(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	}}
}
