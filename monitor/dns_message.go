package monitor

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// What a name server needs of RFC 1035 and RFC 6891: one question, and answers
// of three types. Everything else is passed on as it came.
const (
	typeA, typePTR, typeAAAA, typeOPT, typeANY = 1, 12, 28, 41, 255

	rcodeOK, rcodeFailed, rcodeNoName, rcodeRefused = 0, 2, 3, 5

	headerSize = 12
	// plainSize is what a client without EDNS takes by UDP; more than safeSize
	// is not sent to any, since it may not arrive in one piece.
	plainSize, safeSize = 512, 1232
)

// A question is the one question of a query.
type question struct {
	message []byte
	end     int    // of the question in message
	name    string // in lower case, without the last dot; "" when no name of ours can be meant
	kind    uint16
	edns    bool
	size    int // of the largest answer by UDP
}

// parseQuery reads a query. One that is not understood is nobody's.
func parseQuery(p []byte) (q question, ok bool) {
	if len(p) < headerSize || p[2]&0xf8 != 0 || binary.BigEndian.Uint16(p[4:]) != 1 {
		return q, false // a response, another operation, or not one question
	}
	var name []byte
	ours := true
	i := headerSize
	for {
		if i >= len(p) {
			return q, false
		}
		n := int(p[i])
		i++
		if n == 0 {
			break
		}
		if n > 63 || i+n > len(p) || i+n-headerSize > 254 {
			return q, false // a question is not compressed
		}
		if len(name) > 0 {
			name = append(name, '.')
		}
		for _, c := range p[i : i+n] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c <= ' ' || c == '.' || c == '/' || c >= 0x7f {
				ours = false
			}
			name = append(name, c)
		}
		i += n
	}
	if i+4 > len(p) {
		return q, false
	}
	q = question{message: p, end: i + 4, kind: binary.BigEndian.Uint16(p[i:]), size: plainSize}
	if ours && binary.BigEndian.Uint16(p[i+2:]) == 1 {
		q.name = string(name)
	}
	// The option record follows in all queries that have one.
	if rest := p[q.end:]; p[11] > 0 && p[7] == 0 && p[9] == 0 && len(rest) >= 11 && rest[0] == 0 && binary.BigEndian.Uint16(rest[1:]) == typeOPT {
		q.edns = true
		q.size = min(max(int(binary.BigEndian.Uint16(rest[3:])), plainSize), safeSize)
	}
	return q, true
}

// reply is the answer to q: names for PTR, addresses for the other types. By
// UDP (limit above 0) what does not fit is left out and said to be.
func (q *question) reply(rcode byte, addresses []netip.Addr, names []string, limit int) []byte {
	b := append([]byte(nil), q.message[:q.end]...)
	b[2] = 0x84 | q.message[2]&1 // a response with authority; recursion as desired
	b[3] = 0x80 | rcode          // and it is available
	for i := 6; i < headerSize; i++ {
		b[i] = 0
	}
	if limit > 0 && q.edns {
		limit -= 11
	}
	count := uint16(0)
	add := func(kind uint16, data []byte) {
		if limit > 0 && len(b)+12+len(data) > limit {
			b[2] |= 2 // truncated
			return
		}
		b = append(b, 0xc0, headerSize) // the question's name
		b = binary.BigEndian.AppendUint16(b, kind)
		b = append(b, 0, 1, 0, 0, 0, 0) // class IN, not to be kept
		b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
		b = append(b, data...)
		count++
	}
	for _, a := range addresses {
		switch {
		case a.Is4() && (q.kind == typeA || q.kind == typeANY):
			add(typeA, a.AsSlice())
		case a.Is6() && (q.kind == typeAAAA || q.kind == typeANY):
			add(typeAAAA, a.AsSlice())
		}
	}
	for _, n := range names {
		if data, ok := appendName(nil, n); ok {
			add(typePTR, data)
		}
	}
	binary.BigEndian.PutUint16(b[6:], count)
	if q.edns {
		b[11] = 1
		b = append(b, 0, 0, typeOPT, safeSize>>8, safeSize&0xff, 0, 0, 0, 0, 0, 0)
	}
	return b
}

// appendName appends a name as labels.
func appendName(b []byte, name string) ([]byte, bool) {
	if len(name) > 253 {
		return b, false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return b, false
		}
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0), true
}

// reverseAddress is the address that a name below in-addr.arpa or ip6.arpa
// means.
func reverseAddress(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		var a [4]byte
		for i, p := range parts {
			n, err := strconv.ParseUint(p, 10, 8)
			if err != nil || len(p) > 1 && p[0] == '0' {
				return netip.Addr{}, false
			}
			a[3-i] = byte(n)
		}
		return netip.AddrFrom4(a), true
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var a [16]byte
	for i := range 32 {
		if i > 0 && rest[2*i-1] != '.' {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(rest[2*i:2*i+1], 16, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		a[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(a), true
}

// answers says whether p is the answer to q that was sent under id.
func (q *question) answers(p []byte, id uint16) bool {
	return len(p) >= q.end && binary.BigEndian.Uint16(p) == id && p[2]&0x80 != 0 &&
		strings.EqualFold(string(p[headerSize:q.end]), string(q.message[headerSize:q.end]))
}
