package monitor

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// A client is a connection on the attach socket.
type client struct {
	fd    int
	flags Flags
	in    []byte // not yet a whole frame
	out   []byte // for the client; sent of it is what has been taken
	sent  int
	lost  int64
	done  bool  // a cleaner has cleaned
	files []int // that came with its bytes

	took   time.Time // when it last took something, or had nothing to take
	yields bool      // it took nothing for so long that the container goes on
}

// queued is how many bytes wait for the client.
func (c *client) queued() int { return len(c.out) - c.sent }

// holds says whether the container waits for this client to read.
func (c *client) holds() bool {
	return c.flags&FlagLossless != 0 && !c.yields && c.queued() > maxPending
}

// blocked reports whether a lossless client holds the output up.
func (s *server) blocked() bool {
	for _, c := range s.clients {
		if c.holds() {
			return true
		}
	}
	return false
}

// impatience is how many milliseconds a client of FlagYields still has, -1 when
// none holds the output up. One that has none left holds it no longer.
func (s *server) impatience() int {
	wait := -1
	for _, c := range s.clients {
		if c.flags&FlagYields == 0 || !c.holds() {
			continue
		}
		left := time.Until(c.took.Add(patience))
		if left <= 0 {
			c.yields = true
			continue
		}
		wait = sooner(wait, int(left/time.Millisecond)+1)
	}
	return wait
}

// send sends a frame, or queues what the client does not take of it. Output
// that a client cannot be waited for is lost when it lags too far behind.
func (c *client) send(t FrameType, p []byte) {
	if c.fd < 0 {
		return
	}
	if output := t == FrameStdout || t == FrameStderr; output && (c.flags&FlagLossless == 0 || c.yields) && c.queued()+frameHeader+len(p) > maxLag {
		c.lost += int64(len(p))
		return
	}
	if c.lost > 0 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(c.lost))
		c.queue(AppendFrame(nil, FrameLost, b[:]))
		c.lost = 0
	}
	var head [frameHeader]byte
	head[0] = byte(t)
	binary.LittleEndian.PutUint32(head[1:], uint32(len(p)))
	if c.queued() > 0 {
		c.queue(head[:])
		c.queue(p)
		c.flush()
		return
	}
	c.took = time.Now()
	n, err := rawWrite2(c.fd, head[:], p)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0
	case err != nil:
		closeFD(&c.fd)
		return
	}
	if n < frameHeader {
		c.queue(head[n:])
	}
	c.queue(p[max(n-frameHeader, 0):])
}

func (c *client) queue(p []byte) {
	if c.sent > 0 && c.sent >= len(c.out)/2 {
		c.out, c.sent = c.out[:copy(c.out, c.out[c.sent:])], 0
	}
	c.out = append(c.out, p...)
}

// flush sends what is queued.
func (c *client) flush() {
	for c.queued() > 0 {
		n, err := rawWrite(c.fd, c.out[c.sent:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil:
			closeFD(&c.fd)
			return
		default:
			c.sent += n
			c.took = time.Now()
		}
	}
	c.out, c.sent, c.yields = c.out[:0], 0, false
	if cap(c.out) > chunk*2 {
		c.out = nil
	}
}
