package systemd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// patience is how long a manager may take for a request when the caller has set no end.
const patience = 30 * time.Second

// A BusError is a manager's refusal.
type BusError struct{ Name, Text string }

func (e *BusError) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text
}

// The manager's errors that something is done about.
const (
	errUnitExists   = "org.freedesktop.systemd1.UnitExists"
	errNoSuchUnit   = "org.freedesktop.systemd1.NoSuchUnit"
	errReadOnly     = "org.freedesktop.DBus.Error.PropertyReadOnly"
	errUnknownField = "org.freedesktop.DBus.Error.UnknownProperty"
)

func isBusError(err error, name string) bool {
	var e *BusError
	return errors.As(err, &e) && e.Name == name
}

// Socket is where a manager listens: the system's, or, for a user, his own.
// runtimeDir is his XDG_RUNTIME_DIR; uid his number, for where that is not set.
func Socket(user bool, runtimeDir string, uid int) string {
	switch {
	case !user:
		return "/run/systemd/private"
	case runtimeDir == "":
		runtimeDir = "/run/user/" + strconv.Itoa(uid)
	}
	return filepath.Join(runtimeDir, "systemd/private")
}

// A Conn is a connection to a manager. It is for one goroutine.
type Conn struct {
	socket string
	c      net.Conn
	serial uint32
	// ended are the jobs that have ended, by name: their results.
	ended map[string]string
}

// Dial connects to the manager at socket. It waits for no answer.
func Dial(socket string) (*Conn, error) {
	conn := &Conn{socket: socket}
	return conn, conn.dial()
}

func (conn *Conn) dial() error {
	c, err := net.DialTimeout("unix", conn.socket, patience)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	// Who we are the kernel says: in a user namespace our number is another.
	if _, err := io.WriteString(c, "\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"); err != nil {
		c.Close()
		return fmt.Errorf("connect to systemd: %w", err)
	}
	conn.c, conn.serial, conn.ended = c, 0, make(map[string]string)
	if err := conn.greeting(); err != nil {
		c.Close()
		return fmt.Errorf("connect to systemd: %w", err)
	}
	return nil
}

// greeting reads the two lines that answer ours.
func (conn *Conn) greeting() error {
	conn.c.SetDeadline(time.Now().Add(patience))
	for _, want := range []string{"DATA", "OK "} {
		line := make([]byte, 0, 64)
		for !strings.HasSuffix(string(line), "\r\n") {
			var b [1]byte
			if _, err := io.ReadFull(conn.c, b[:]); err != nil {
				return err
			}
			if line = append(line, b[0]); len(line) > 512 {
				return errMessage
			}
		}
		if !strings.HasPrefix(string(line), want) {
			return fmt.Errorf("it does not know this user: %q", strings.TrimSpace(string(line)))
		}
	}
	return nil
}

// Close ends the connection; nil has none.
func (conn *Conn) Close() {
	if conn != nil && conn.c != nil {
		conn.c.Close()
	}
}

// until is how long a request may take.
func (conn *Conn) until(ctx context.Context) func() {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(patience)
	}
	conn.c.SetDeadline(end)
	stop := context.AfterFunc(ctx, func() { conn.c.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// send sends a call of a manager's method and returns its number.
func (conn *Conn) send(path, iface, member, sig string, body []byte) (uint32, error) {
	conn.serial++
	m := &message{kind: kindCall, serial: conn.serial, path: path, iface: iface, member: member, sig: sig, body: body}
	if _, err := conn.c.Write(m.encode()); err != nil {
		return 0, err
	}
	return m.serial, nil
}

// receive reads one message. Ends of jobs are noted.
func (conn *Conn) receive() (*message, binary.ByteOrder, error) {
	buf := make([]byte, headerSize)
	if _, err := io.ReadFull(conn.c, buf); err != nil {
		return nil, nil, err
	}
	fields, body, err := sizes(buf)
	if err != nil {
		return nil, nil, err
	}
	buf = append(buf, make([]byte, fields+body)...)
	if _, err := io.ReadFull(conn.c, buf[headerSize:]); err != nil {
		return nil, nil, err
	}
	m, order, err := decode(buf)
	if err != nil {
		return nil, nil, err
	}
	if m.kind == kindSignal && m.member == "JobRemoved" && m.sig == "uoss" {
		d := &decoder{b: m.body, order: order}
		d.uint32()
		job := d.string()
		d.string() // the unit
		if result := d.string(); d.err == nil {
			conn.ended[job] = result
		}
	}
	return m, order, nil
}

// reply waits for the answer to a call and returns its body.
func (conn *Conn) reply(serial uint32) (*decoder, error) {
	for {
		m, order, err := conn.receive()
		if err != nil {
			return nil, err
		}
		if m.replyTo != serial || m.kind != kindReply && m.kind != kindError {
			continue
		}
		d := &decoder{b: m.body, order: order}
		if m.kind == kindReply {
			return d, nil
		}
		e := &BusError{Name: m.errName}
		if strings.HasPrefix(m.sig, "s") {
			e.Text = d.string()
		}
		return nil, e
	}
}

// wait waits for the end of a job.
func (conn *Conn) wait(job string) (result string, err error) {
	for {
		if result, ok := conn.ended[job]; ok {
			return result, nil
		}
		if _, _, err := conn.receive(); err != nil {
			return "", err
		}
	}
}

// lost says whether the manager has gone away under a request, as it does when
// it executes itself anew.
func lost(err error) bool {
	var op *net.OpError
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op))
}

// again connects anew to a manager that is on its way back.
func (conn *Conn) again(ctx context.Context) error {
	conn.c.Close()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := conn.dial()
		if err == nil {
			return nil
		}
		if wait > 400*time.Millisecond {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
