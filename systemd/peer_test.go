package systemd

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// A peer is a service manager as far as the tests need one: it answers calls
// from a script.
type peer struct {
	t      *testing.T
	l      net.Listener
	Socket string
	// answer makes the messages that answer a call; nil ends the connection.
	answer func(n int, m *message) []*message
	calls  chan string
}

func newPeer(t *testing.T, answer func(n int, m *message) []*message) *peer {
	t.Helper()
	p := &peer{t: t, Socket: filepath.Join(t.TempDir(), "private"), answer: answer, calls: make(chan string, 100)}
	l, err := net.Listen("unix", p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	p.l = l
	t.Cleanup(func() { l.Close() })
	go p.serve()
	return p
}

func (p *peer) serve() {
	n := 0
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		head := make([]byte, len("\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"))
		if _, err := io.ReadFull(c, head); err != nil || string(head) != "\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n" {
			c.Close()
			continue
		}
		io.WriteString(c, "DATA\r\nOK 00112233445566778899aabbccddeeff\r\n")
		in := &Conn{c: c, ended: map[string]string{}}
		for {
			m, order, err := in.receive()
			if err != nil {
				break
			}
			d := &decoder{b: m.body, order: order}
			word := ""
			if strings.HasPrefix(m.sig, "s") {
				word = d.string()
			}
			p.calls <- m.member + " " + word
			n++
			out := p.answer(n, m)
			if out == nil {
				break
			}
			for _, o := range out {
				c.Write(o.encode())
			}
		}
		c.Close()
	}
}

// said are the calls so far.
func (p *peer) said() string {
	var out []string
	for {
		select {
		case c := <-p.calls:
			out = append(out, c)
		default:
			return strings.Join(out, "\n")
		}
	}
}

func reply(to *message, sig string, write func(e *encoder)) *message {
	e := &encoder{}
	if write != nil {
		write(e)
	}
	return &message{kind: kindReply, serial: 1, replyTo: to.serial, sig: sig, body: e.b}
}

func refusal(to *message, name, text string) *message {
	e := &encoder{}
	e.string(text)
	return &message{kind: kindError, serial: 1, replyTo: to.serial, errName: name, sig: "s", body: e.b}
}

// jobOf are the answer to a request and the end of its job, which may come first.
func jobOf(to *message, job, result string, endFirst bool) []*message {
	e := &encoder{}
	e.uint32(7)
	e.string(job)
	e.string("x.scope")
	e.string(result)
	end := &message{kind: kindSignal, serial: 2, path: managerPath, iface: managerIface, member: "JobRemoved", sig: "uoss", body: e.b}
	answer := reply(to, "o", func(e *encoder) { e.string(job) })
	if endFirst {
		return []*message{end, answer}
	}
	return []*message{answer, end}
}

// noise is a signal that nobody asked for.
func noise() *message {
	return &message{kind: kindSignal, serial: 9, path: "/x", iface: "a.b", member: "UnitNew", sig: "t", body: binary.LittleEndian.AppendUint64(nil, 1)}
}
