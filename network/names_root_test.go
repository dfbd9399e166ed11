package network

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// A container asks its name server on port 53, and may have a name server of
// its own there.
func TestListenNames(t *testing.T) {
	testManager(t)
	ns, err := NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	began := time.Now()
	sockets, err := ListenNames(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("made in %v", time.Since(began))
	udp, err := net.FilePacketConn(sockets[0])
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.FileListener(sockets[1])
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(b[:n], from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	err = inNamespace(ns, func() error {
		own, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		defer own.Close()
		l, err := net.Listen("tcp", ":53")
		if err != nil {
			return err
		}
		defer l.Close()
		for _, network := range []string{"udp", "tcp"} {
			c, err := net.Dial(network, NameServer.String()+":53")
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Write([]byte("query")); err != nil {
				return err
			}
			b := make([]byte, 16)
			n, err := c.Read(b)
			if err != nil || string(b[:n]) != "query" {
				t.Errorf("by %s: %q, %v", network, b[:n], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
