package usernet

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

// question asks for the name a.b, with an OPT record behind.
var question = []byte("\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01" + "\x01a\x01b\x00\x00\x01\x00\x01" + "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00")

// A name that no resolver answers for is answered by a failure, at once where
// none can be reached: who asks does not wait for nothing.
func TestNamesFailAtOnce(t *testing.T) {
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(closed.LocalAddr().String())
	closed.Close()
	client, server := net.Pipe()
	defer client.Close()
	go query(server, []netip.AddrPort{to})
	client.SetDeadline(time.Now().Add(resolverTime))
	if _, err := client.Write(question); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 512)
	n, err := client.Read(b)
	want := []byte("\x12\x34\x81\x82\x00\x01\x00\x00\x00\x00\x00\x00" + "\x01a\x01b\x00\x00\x01\x00\x01")
	if err != nil || !bytes.Equal(b[:n], want) {
		t.Errorf("answered %x, %v, want %x", b[:n], err, want)
	}
}

// What is no question has no answer, and no length of it does harm.
func TestFailure(t *testing.T) {
	for n := range question {
		if got := failure(question[:n]); got != nil && n < 21 {
			t.Errorf("%d bytes are answered by %x", n, got)
		}
	}
	answer := append([]byte{}, question...)
	answer[2] |= 0x80
	if got := failure(answer); got != nil {
		t.Errorf("an answer is answered by %x", got)
	}
	many := append([]byte{}, question...)
	many[5] = 2
	if got := failure(many); len(got) != 12 || got[3] != 0x82 || got[5] != 0 {
		t.Errorf("two questions are answered by %x", got)
	}
	loop := append(append([]byte{}, question[:12]...), 0xc0, 12, 0, 1, 0, 1)
	if got := failure(loop); got != nil {
		t.Errorf("a name that leads to itself is answered by %x", got)
	}
}
