package network

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A message builds one netlink message, or several in a row: a batch that is
// sent by one system call. Lengths are patched in by end and close.
type message struct {
	b     []byte
	start int // where the current message's header begins
}

func (m *message) begin(kind, flags uint16, seq uint32) {
	m.start = len(m.b)
	m.b = append(m.b, make([]byte, unix.NLMSG_HDRLEN)...)
	h := m.b[m.start:]
	binary.NativeEndian.PutUint16(h[4:], kind)
	binary.NativeEndian.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(h[8:], seq)
}

func (m *message) end() {
	m.pad()
	binary.NativeEndian.PutUint32(m.b[m.start:], uint32(len(m.b)-m.start))
}

func (m *message) pad() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *message) raw(b ...byte) { m.b = append(m.b, b...) }

func (m *message) u16(v uint16) { m.b = binary.NativeEndian.AppendUint16(m.b, v) }
func (m *message) u32(v uint32) { m.b = binary.NativeEndian.AppendUint32(m.b, v) }

// attr appends an attribute with the payload data.
func (m *message) attr(kind uint16, data []byte) {
	m.pad()
	m.u16(uint16(unix.SizeofRtAttr + len(data)))
	m.u16(kind)
	m.b = append(m.b, data...)
	m.pad()
}

func (m *message) attrU8(kind uint16, v uint8) { m.attr(kind, []byte{v}) }
func (m *message) attrU16(kind uint16, v uint16) {
	m.attr(kind, binary.NativeEndian.AppendUint16(nil, v))
}
func (m *message) attrU32(kind uint16, v uint32) {
	m.attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

// attrBE32 appends a word in network order, as nftables wants its numbers.
func (m *message) attrBE32(kind uint16, v uint32) {
	m.attr(kind, binary.BigEndian.AppendUint32(nil, v))
}
func (m *message) attrString(kind uint16, s string) {
	m.attr(kind, append([]byte(s), 0))
}

// nest runs fill inside an attribute of the given kind.
func (m *message) nest(kind uint16, fill func()) {
	m.pad()
	at := len(m.b)
	m.u16(0)
	m.u16(kind)
	fill()
	m.pad()
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

const nlaNested = unix.NLA_F_NESTED

// A reply is one message from the kernel.
type reply struct {
	kind uint16
	seq  uint32
	data []byte // after the netlink header
}

// attrs calls f for each attribute in b, nested flags cleared.
func attrs(b []byte, f func(kind uint16, data []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		n = (n + 3) &^ 3
		if n > len(b) {
			return
		}
		b = b[n:]
	}
}

// A socket is a netlink socket; it belongs to the network namespace that the
// calling thread was in when it was opened, and stays there.
type socket struct {
	fd  int
	seq uint32
	buf []byte
}

func openSocket(protocol int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_NETLINK", err)
	}
	// Error replies carry the kernel's text instead of a copy of the request.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	return &socket{fd: fd}, nil
}

func (s *socket) Close() {
	if s != nil {
		unix.Close(s.fd)
	}
}

func (s *socket) next() uint32 {
	s.seq++
	return s.seq
}

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == unix.EINTR {
			continue
		}
		return os.NewSyscallError("sendto netlink", err)
	}
}

// receive reads one datagram and passes its messages on; f returns true when
// it has seen the last one it waits for.
func (s *socket) receive(f func(reply) (done bool, err error)) error {
	if s.buf == nil {
		s.buf = make([]byte, 64<<10)
	}
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom netlink", err)
		}
		b := s.buf[:n]
		for len(b) >= unix.NLMSG_HDRLEN {
			l := int(binary.NativeEndian.Uint32(b))
			if l < unix.NLMSG_HDRLEN || l > len(b) {
				return fmt.Errorf("netlink reply of %d bytes says %d: malformed", len(b), l)
			}
			done, err := f(reply{
				kind: binary.NativeEndian.Uint16(b[4:]),
				seq:  binary.NativeEndian.Uint32(b[8:]),
				data: b[unix.NLMSG_HDRLEN:l],
			})
			if err != nil || done {
				return err
			}
			b = b[min((l+3)&^3, len(b)):]
		}
	}
}

// A kernelError is an errno with the explanation that the kernel gave.
type kernelError struct {
	errno unix.Errno
	text  string
}

func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return e.errno.Error() + " (" + e.text + ")"
}

func (e *kernelError) Unwrap() error { return e.errno }

// ackError decodes an NLMSG_ERROR payload; nil for a plain acknowledgement.
func ackError(data []byte) error {
	if len(data) < 4+unix.NLMSG_HDRLEN {
		return &kernelError{errno: unix.EPROTO}
	}
	code := int32(binary.NativeEndian.Uint32(data))
	if code == 0 {
		return nil
	}
	e := &kernelError{errno: unix.Errno(-code)}
	const extAckMessage = 1 // NLMSGERR_ATTR_MSG
	attrs(data[4+unix.NLMSG_HDRLEN:], func(kind uint16, v []byte) {
		if kind == extAckMessage && len(v) > 1 {
			e.text = string(v[:len(v)-1])
		}
	})
	return e
}
