package monitor

import (
	"encoding/binary"
	"errors"
	"io"
)

// A FrameType says what a frame on the attach connection is.
type FrameType byte

// Frames from a client.
const (
	FrameHello    FrameType = 'h' // one byte of Flags; first frame of a client that connected by itself
	FrameStdin    FrameType = 's' // bytes for the container's standard input
	FrameStdinEOF FrameType = 'e' // the client's input has ended
	FrameResize   FrameType = 'r' // rows and columns, two bytes each, little endian
	FrameCleaned  FrameType = 'k' // a cleaner has done the clean-up; the monitor leaves
	FrameNames    FrameType = 'n' // two sockets, and a Config that says what to answer on them; answered by the same
)

// Frames from the monitor.
const (
	FrameStdout FrameType = 'o' // output; a terminal's whole output
	FrameStderr FrameType = 'E'
	FrameExit   FrameType = 'x' // exit code, four bytes little endian; the last frame
	FrameLost   FrameType = 'l' // eight bytes: how many bytes of output this client lost
)

// Flags say what a client wants.
type Flags uint8

const (
	// FlagOutput asks for the container's output from now on.
	FlagOutput Flags = 1 << iota
	// FlagLossless asks that the container waits when this client does not read.
	FlagLossless
	// FlagCleaner says that this client does the clean-up after FrameExit.
	// Should it leave before FrameCleaned, the monitor sees to it.
	FlagCleaner
)

const (
	frameHeader = 5
	maxFrame    = 64 << 10
)

// ErrFrame reports bytes that are not of the attach protocol.
var ErrFrame = errors.New("attach: bad frame")

// AppendFrame appends a frame with payload p, of at most 64 KiB, to b.
func AppendFrame(b []byte, t FrameType, p []byte) []byte {
	b = append(b, byte(t))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	return append(b, p...)
}

// ReadFrame reads a frame from r into buf, which grows as needed and is
// returned with the payload, valid until the next call.
func ReadFrame(r io.Reader, buf []byte) (t FrameType, payload, grown []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, buf, err
	}
	n := binary.LittleEndian.Uint32(h[1:])
	if n > maxFrame {
		return 0, nil, buf, ErrFrame
	}
	if cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, nil, buf, io.ErrUnexpectedEOF
	}
	return FrameType(h[0]), buf, buf, nil
}

// cutFrame takes a whole frame from the front of b; ok is false when b holds
// only a part of one.
func cutFrame(b []byte) (t FrameType, payload, rest []byte, ok bool, err error) {
	if len(b) < frameHeader {
		return 0, nil, b, false, nil
	}
	n := binary.LittleEndian.Uint32(b[1:])
	if n > maxFrame {
		return 0, nil, b, false, ErrFrame
	}
	if len(b) < frameHeader+int(n) {
		return 0, nil, b, false, nil
	}
	return FrameType(b[0]), b[frameHeader : frameHeader+n], b[frameHeader+n:], true, nil
}
