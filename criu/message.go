package criu

import (
	"encoding/binary"
	"errors"
)

// A message is one of Protocol Buffers, which criu speaks: fields of a number and a type. Three kinds of fields are all that its requests have, so
// they are written here and need no library, and no tables at the start of a program.
// See https://protobuf.dev/programming-guides/encoding and criu's images/rpc.proto.
type message []byte

const (
	wireVarint = 0
	wireBytes  = 2
)

func (m *message) number(field int, v uint64) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|wireVarint)
	*m = binary.AppendUvarint(*m, v)
}

// flag adds what is true; false is what a field that is not there means.
func (m *message) flag(field int, on bool) {
	if on {
		m.number(field, 1)
	}
}

func (m *message) text(field int, s string) { m.bytes(field, []byte(s)) }

// word is text unless it is empty.
func (m *message) word(field int, s string) {
	if s != "" {
		m.text(field, s)
	}
}

func (m *message) bytes(field int, b []byte) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|wireBytes)
	*m = binary.AppendUvarint(*m, uint64(len(b)))
	*m = append(*m, b...)
}

var errMessage = errors.New("criu's answer cannot be read")

// fields calls f for each field of m: number for one of type varint, text for one with bytes.
func (m message) fields(f func(field int, number uint64, text []byte)) error {
	for len(m) > 0 {
		key, n := binary.Uvarint(m)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
			return errMessage
		}
		m = m[n:]
		v, n := uint64(0), 0
		switch key & 7 {
		case wireVarint, wireBytes:
			if v, n = binary.Uvarint(m); n <= 0 {
				return errMessage
			}
			m = m[n:]
		case 1: // 64 bits
			v, n = 8, 0
		case 5: // 32 bits
			v, n = 4, 0
		default:
			return errMessage
		}
		if key&7 == wireVarint {
			f(int(key>>3), v, nil)
			continue
		}
		if v > uint64(len(m)) {
			return errMessage
		}
		if key&7 == wireBytes {
			f(int(key>>3), 0, m[:v])
		}
		m = m[v:]
	}
	return nil
}
