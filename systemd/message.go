package systemd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Property is one of a unit's. Value is a string, bool, int32, uint32,
// uint64, []byte, []string, []uint32 or []DeviceLimit.
type Property struct {
	Name  string
	Value any
}

// A DeviceLimit is a block device and how much of it a second.
type DeviceLimit struct {
	Path  string
	Limit uint64
}

// An encoder writes values as D-Bus aligns them; the specification is
// https://dbus.freedesktop.org/doc/dbus-specification.html, little endian here.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) uint32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) uint64(v uint64) {
	e.align(8)
	e.b = binary.LittleEndian.AppendUint64(e.b, v)
}

func (e *encoder) string(s string) {
	e.uint32(uint32(len(s)))
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) signature(s string) {
	e.b = append(append(append(e.b, byte(len(s))), s...), 0)
}

// array writes what each adds, after its length in bytes; elements are aligned to n.
func (e *encoder) array(n int, each func()) {
	e.uint32(0)
	at := len(e.b)
	e.align(n)
	begin := len(e.b)
	each()
	binary.LittleEndian.PutUint32(e.b[at-4:], uint32(len(e.b)-begin))
}

// variant writes a value with its type before it.
func (e *encoder) variant(v any) error {
	switch v := v.(type) {
	case string:
		e.signature("s")
		e.string(v)
	case bool:
		e.signature("b")
		n := uint32(0)
		if v {
			n = 1
		}
		e.uint32(n)
	case uint32:
		e.signature("u")
		e.uint32(v)
	case int32:
		e.signature("i")
		e.uint32(uint32(v))
	case uint64:
		e.signature("t")
		e.uint64(v)
	case []byte:
		e.signature("ay")
		e.array(1, func() { e.b = append(e.b, v...) })
	case []string:
		e.signature("as")
		e.array(4, func() {
			for _, s := range v {
				e.string(s)
			}
		})
	case []uint32:
		e.signature("au")
		e.array(4, func() {
			for _, n := range v {
				e.uint32(n)
			}
		})
	case []DeviceLimit:
		e.signature("a(st)")
		e.array(8, func() {
			for _, d := range v {
				e.align(8)
				e.string(d.Path)
				e.uint64(d.Limit)
			}
		})
	default:
		return fmt.Errorf("a value of type %T has no type of D-Bus", v)
	}
	return nil
}

// properties writes a(sv).
func (e *encoder) properties(list []Property) error {
	var err error
	e.array(8, func() {
		for _, p := range list {
			e.align(8)
			e.string(p.Name)
			if verr := e.variant(p.Value); verr != nil && err == nil {
				err = fmt.Errorf("property %s: %w", p.Name, verr)
			}
		}
	})
	return err
}

// The kinds of messages, and the fields of their headers.
const (
	kindCall   = 1
	kindReply  = 2
	kindError  = 3
	kindSignal = 4

	fieldPath      = 1
	fieldInterface = 2
	fieldMember    = 3
	fieldError     = 4
	fieldReplyTo   = 5
	fieldTo        = 6
	fieldSignature = 8
)

// A message is one, sent or received.
type message struct {
	kind                              byte
	serial, replyTo                   uint32
	path, iface, member, errName, sig string
	body                              []byte
}

// encode makes the message's bytes.
func (m *message) encode() []byte {
	e := &encoder{b: []byte{'l', m.kind, 0, 1}}
	e.uint32(uint32(len(m.body)))
	e.uint32(m.serial)
	e.array(8, func() {
		text := func(field byte, sig, s string) {
			if s == "" {
				return
			}
			e.align(8)
			e.b = append(e.b, field)
			e.signature(sig)
			if sig == "g" {
				e.signature(s)
				return
			}
			e.string(s)
		}
		text(fieldPath, "o", m.path)
		text(fieldInterface, "s", m.iface)
		text(fieldMember, "s", m.member)
		text(fieldError, "s", m.errName)
		if m.replyTo != 0 {
			e.align(8)
			e.b = append(e.b, fieldReplyTo)
			e.signature("u")
			e.uint32(m.replyTo)
		}
		if m.kind == kindCall {
			text(fieldTo, "s", "org.freedesktop.systemd1")
		}
		text(fieldSignature, "g", m.sig)
	})
	e.align(8)
	return append(e.b, m.body...)
}

// errMessage is bytes that are no message.
var errMessage = errors.New("malformed message of D-Bus")

// A decoder reads values; after one that is not there all are empty.
type decoder struct {
	b     []byte
	at    int
	order binary.ByteOrder
	err   error
}

func (d *decoder) take(align, n int) []byte {
	at := (d.at + align - 1) / align * align
	if d.err != nil || n < 0 || at > len(d.b) || n > len(d.b)-at {
		d.err = errMessage
		return make([]byte, min(max(n, 0), 8))
	}
	d.at = at + n
	return d.b[at:d.at]
}

func (d *decoder) byte() byte     { return d.take(1, 1)[0] }
func (d *decoder) uint32() uint32 { return d.order.Uint32(d.take(4, 4)) }
func (d *decoder) text(n int) string {
	s := string(d.take(1, n))
	d.take(1, 1) // the zero
	if d.err != nil {
		return ""
	}
	return s
}
func (d *decoder) string() string    { return d.text(int(d.uint32())) }
func (d *decoder) signature() string { return d.text(int(d.byte())) }

// skipValue passes over a header field of a type that none of ours has.
func (d *decoder) skipValue(sig string) {
	switch sig {
	case "s", "o":
		d.string()
	case "g":
		d.signature()
	case "u":
		d.uint32()
	default:
		d.err = errMessage
	}
}

// headerSize is the part of a message that says how long the rest is.
const headerSize = 16

// maxMessage bounds what a peer can make us keep: the largest we want is an error text.
const maxMessage = 1 << 20

// sizes are those of the fields with their padding, and of the body.
func sizes(head []byte) (fields, body int, err error) {
	order, err := byteOrder(head[0])
	if err != nil {
		return 0, 0, err
	}
	f, b := order.Uint32(head[12:]), order.Uint32(head[4:])
	if f > maxMessage || b > maxMessage {
		return 0, 0, fmt.Errorf("%w: it is too long", errMessage)
	}
	return (int(f) + 7) / 8 * 8, int(b), nil
}

func byteOrder(c byte) (binary.ByteOrder, error) {
	switch c {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, errMessage
}

// decode reads a whole message.
func decode(b []byte) (*message, binary.ByteOrder, error) {
	order, err := byteOrder(b[0])
	if err != nil {
		return nil, nil, err
	}
	fields, body, err := sizes(b)
	if err != nil || len(b) != headerSize+fields+body {
		return nil, nil, errMessage
	}
	m := &message{kind: b[1], serial: order.Uint32(b[8:]), body: b[headerSize+fields:]}
	d := &decoder{b: b[:headerSize+int(order.Uint32(b[12:]))], at: headerSize, order: order}
	for d.err == nil && d.at < len(d.b) {
		d.take(8, 0)
		switch field, sig := d.byte(), d.signature(); {
		case field == fieldPath && sig == "o":
			m.path = d.string()
		case field == fieldInterface && sig == "s":
			m.iface = d.string()
		case field == fieldMember && sig == "s":
			m.member = d.string()
		case field == fieldError && sig == "s":
			m.errName = d.string()
		case field == fieldReplyTo && sig == "u":
			m.replyTo = d.uint32()
		case field == fieldSignature && sig == "g":
			m.sig = d.signature()
		default:
			d.skipValue(sig)
		}
	}
	return m, order, d.err
}
