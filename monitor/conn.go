package monitor

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNoMonitor reports that nobody listens on a container's attach socket:
// it does not run, or its monitor was killed.
var ErrNoMonitor = errors.New("no monitor is listening")

// A Conn is a client's end of the attach connection. One goroutine may read
// while others write.
type Conn struct {
	f    *os.File
	buf  []byte // what was read and not yet returned is rest, the end of it
	rest []byte

	mu  sync.Mutex // guards out and the order of writes
	out []byte
}

func newConn(f *os.File) *Conn { return &Conn{f: f} }

// Dial connects to the monitor of the container whose run directory is dir.
func Dial(dir string, flags Flags) (*Conn, error) {
	// The socket's path may be longer than an address holds; the directory's
	// descriptor makes it short.
	d, err := os.Open(dir)
	if err != nil {
		return nil, &stepError{"attach", err}
	}
	defer d.Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, &stepError{"attach", err}
	}
	name := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + AttachSocket
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: name}); err != nil {
		syscall.Close(fd)
		if err == syscall.ECONNREFUSED || err == syscall.ENOENT {
			return nil, ErrNoMonitor
		}
		return nil, &stepError{"attach", err}
	}
	syscall.SetNonblock(fd, true)
	c := newConn(os.NewFile(uintptr(fd), "attach"))
	if err := c.write(FrameHello, []byte{byte(flags)}); err != nil {
		c.Close()
		return nil, &stepError{"attach", err}
	}
	return c, nil
}

// Read returns the next frame from the monitor. The payload is valid until
// the next call. io.EOF without a FrameExit before means the monitor died.
func (c *Conn) Read() (FrameType, []byte, error) {
	for {
		t, p, rest, ok, err := cutFrame(c.rest)
		if err != nil || ok {
			c.rest = rest
			return t, p, err
		}
		if c.buf == nil {
			c.buf = make([]byte, 0, 4*(frameHeader+maxFrame))
		}
		c.buf = c.buf[:copy(c.buf[:cap(c.buf)], c.rest)]
		n, err := c.f.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		c.rest = c.buf
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
		if n == 0 {
			if err == io.EOF && len(c.rest) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
	}
}

func (c *Conn) write(t FrameType, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = AppendFrame(c.out[:0], t, p)
	_, err := c.f.Write(c.out)
	return err
}

// Write sends p to the container's standard input.
func (c *Conn) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, chunk)
		if err := c.write(FrameStdin, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

// CloseInput says that the client has no more input.
func (c *Conn) CloseInput() error { return c.write(FrameStdinEOF, nil) }

// Resize sets the size of the container's terminal.
func (c *Conn) Resize(rows, cols uint16) error {
	var b [4]byte
	binary.LittleEndian.PutUint16(b[:], rows)
	binary.LittleEndian.PutUint16(b[2:], cols)
	return c.write(FrameResize, b[:])
}

// SetReadDeadline ends a Read that lasts beyond t; the connection is of no use
// after it.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.f.SetReadDeadline(t) }

// Cleaned tells the monitor that this client, a cleaner, has cleaned up, but
// for the trees at the given absolute paths: those the monitor removes before
// it leaves, while the client goes on.
func (c *Conn) Cleaned(left []string) error {
	return c.write(FrameCleaned, []byte(strings.Join(left, "\x00")))
}

// Names gives the monitor a name server's sockets, UDP and TCP, with NamesDir
// and NameServers of c, and returns when it answers on them.
func (c *Conn) Names(cfg Config, sockets [2]*os.File) error {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.out = AppendFrame(c.out[:0], FrameNames, cfg.Encode())
	out, rights := c.out, syscall.UnixRights(int(sockets[0].Fd()), int(sockets[1].Fd()))
	cerr := raw.Write(func(fd uintptr) bool {
		for len(out) > 0 {
			var n int
			n, err = syscall.SendmsgN(int(fd), out, rights, nil, syscall.MSG_NOSIGNAL)
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				return err != syscall.EAGAIN
			}
			out, rights = out[n:], nil
		}
		return true
	})
	c.mu.Unlock()
	if err = errors.Join(err, cerr); err != nil {
		return err
	}
	for {
		switch t, _, err := c.Read(); {
		case err != nil:
			return err
		case t == FrameNames:
			return nil
		}
	}
}

// Close ends the connection; the container goes on. A nil Conn is closed.
func (c *Conn) Close() error {
	if c == nil {
		return nil
	}
	return c.f.Close()
}

// Copy writes the container's output to stdout and stderr until it exits, and
// returns its exit code. An output that fails is given up, so that the
// container is not held up by it; the first such error comes back with the
// code. lost, when not nil, is told how many bytes were dropped.
func (c *Conn) Copy(stdout, stderr io.Writer, lost func(n int64)) (code int, err error) {
	var failed error
	put := func(w io.Writer, p []byte) {
		if failed == nil && w != nil {
			_, failed = w.Write(p)
		}
	}
	for {
		t, p, err := c.Read()
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, &stepError{"attach: monitor is gone", err}
		}
		switch t {
		case FrameStdout:
			put(stdout, p)
		case FrameStderr:
			put(stderr, p)
		case FrameLost:
			if lost != nil && len(p) == 8 {
				lost(int64(binary.LittleEndian.Uint64(p)))
			}
		case FrameExit:
			if len(p) != 4 {
				return 0, ErrFrame
			}
			return int(int32(binary.LittleEndian.Uint32(p))), failed
		}
	}
}

// Peer returns the number of the process at the other end: the monitor.
func (c *Conn) Peer() (pid int, err error) {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var cred *syscall.Ucred
		if cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err = errors.Join(err, cerr); err != nil {
		return 0, err
	}
	return pid, nil
}
