package monitor

import (
	"encoding/binary"
	"errors"
)

// A FrameType says what a frame on the attach connection is.
type FrameType byte

// Frames from a client.
const (
	FrameHello    FrameType = 'h' // one byte of Flags; first frame of a client that connected by itself
	FrameStdin    FrameType = 's' // bytes for the container's standard input
	FrameStdinEOF FrameType = 'e' // the client's input has ended
	FrameResize   FrameType = 'r' // rows and columns, two bytes each, little endian
	FrameCleaned  FrameType = 'k' // a cleaner has done the clean-up, but for the trees named (NUL between them); the monitor leaves
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
	// FlagYields limits FlagLossless to a client that reads: when it has taken
	// nothing for a second, the container goes on, and the client loses what it
	// lags too far behind, until it has taken all that was kept for it.
	FlagYields
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
