package systemd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func dial(t *testing.T, p *peer) *Conn {
	t.Helper()
	c, err := Dial(p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// The bytes are those that the specification's rules give, by hand.
func TestMessage(t *testing.T) {
	e := &encoder{}
	e.string("a.scope")
	e.string("fail")
	if err := e.properties([]Property{{"Delegate", true}, {"PIDs", []uint32{5}}, {"IOReadBandwidthMax", []DeviceLimit{{"/dev/x", 9}}}}); err != nil {
		t.Fatal(err)
	}
	m := &message{kind: kindCall, serial: 1, path: "/o", iface: "i.f", member: "M", sig: "ssa(sv)", body: e.b}
	got := m.encode()
	head := "6c010001" + "90000000" + "01000000" + "65000000" + // little, call, version 1; body, serial, fields
		"01016f00" + "02000000" + "2f6f00" + "0000000000" + // path
		"02017300" + "03000000" + "692e6600" + "00000000" + // interface
		"03017300" + "01000000" + "4d00" + "000000000000" + // member
		"06017300" + "18000000" + hex.EncodeToString([]byte("org.freedesktop.systemd1")) + "00" + "00000000000000" + // destination
		"08016700" + "07" + hex.EncodeToString([]byte("ssa(sv)")) + "00" + "000000" // signature
	if got := hex.EncodeToString(got); got != head+hex.EncodeToString(e.b) {
		t.Errorf("message\n%s, want\n%s", got, head)
	}
	back, _, err := decode(got)
	if err != nil || back.path != m.path || back.iface != m.iface || back.member != m.member || back.sig != m.sig || !bytes.Equal(back.body, e.b) {
		t.Errorf("decode = %+v, %v", back, err)
	}
	body := "07000000" + "612e73636f706500" + "04000000" + "6661696c00" + "000000" +
		"70000000" + "00000000" + // the array's length, and its padding
		"08000000" + "44656c656761746500" + "016200" + "01000000" + "00000000" +
		"04000000" + "5049447300" + "02617500" + "000000" + "04000000" + "05000000" +
		"12000000" + "494f5265616442616e6477696474684d617800" + "05612873742900" + "0000" + "18000000" + "00000000" +
		"06000000" + "2f6465762f7800" + "0000000000" + "0900000000000000"
	if got := hex.EncodeToString(e.b); got != body {
		t.Errorf("body\n%s\nwant\n%s", got, body)
	}
}

func TestStart(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message {
		return append([]*message{noise()}, jobOf(m, "/job/"+m.member+string(rune('0'+n)), "done", n == 1)...)
	})
	err := dial(t, p).Start(context.Background(), Unit{Name: "a.scope", Pids: []uint32{1}}, Unit{Name: "b.scope", Pids: []uint32{2}})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.said(); got != "StartTransientUnit a.scope\nStartTransientUnit b.scope" {
		t.Errorf("calls:\n%s", got)
	}
}

// A unit of the same name makes way; a slice is changed.
func TestStartExisting(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message {
		switch {
		case m.member == "StartTransientUnit" && n < 3:
			return []*message{refusal(m, errUnitExists, "Unit was already loaded")}
		case m.member == "ResetFailedUnit":
			return []*message{refusal(m, errNoSuchUnit, "not loaded")}
		case m.member == "SetUnitProperties":
			return []*message{reply(m, "", nil)}
		}
		return jobOf(m, "/job", "done", false)
	})
	if err := dial(t, p).Start(context.Background(), Unit{Name: "a.scope"}, Unit{Name: "b.slice", Properties: []Property{{"MemoryMax", uint64(1)}}}); err != nil {
		t.Fatal(err)
	}
	want := "StartTransientUnit a.scope\nStartTransientUnit b.slice\nStopUnit a.scope\nResetFailedUnit a.scope\nSetUnitProperties b.slice\nStartTransientUnit a.scope"
	if got := p.said(); got != want {
		t.Errorf("calls:\n%s\nwant:\n%s", got, want)
	}
}

// An older manager goes without what it does not know; what it must know is an error.
func TestStartUnknownProperty(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message {
		for _, name := range []string{"OOMPolicy", "AllowedCPUs"} {
			if bytes.Contains(m.body, []byte(name)) {
				return []*message{refusal(m, errReadOnly, "Cannot set property "+name+", or unknown property.")}
			}
		}
		if bytes.Contains(m.body, []byte("MemoryMax")) {
			return []*message{refusal(m, errReadOnly, "Cannot set property MemoryMax, or unknown property.")}
		}
		return jobOf(m, "/job", "done", false)
	})
	c := dial(t, p)
	if err := c.Start(context.Background(), Unit{Name: "a.scope", Properties: []Property{{"AllowedCPUs", []byte{1}}}}); err != nil {
		t.Error(err)
	}
	err := c.Start(context.Background(), Unit{Name: "a.scope", Properties: []Property{{"MemoryMax", uint64(5)}}})
	if err == nil || !strings.Contains(err.Error(), "MemoryMax") {
		t.Errorf("Start = %v, want a refusal", err)
	}
}

func TestStartFails(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message { return jobOf(m, "/job", "failed", false) })
	if err := dial(t, p).Start(context.Background(), Unit{Name: "a.scope"}); err == nil || !strings.Contains(err.Error(), "a.scope") {
		t.Errorf("Start = %v", err)
	}
}

// daemon-reexec closes all connections; the request is made again.
func TestManagerGoesAndComes(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message {
		if n == 1 || n == 3 {
			return nil
		}
		if m.member == "SetUnitProperties" {
			return []*message{reply(m, "", nil)}
		}
		return jobOf(m, "/job", "done", false)
	})
	c := dial(t, p)
	if err := c.Start(context.Background(), Unit{Name: "a.scope"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(context.Background(), "a.scope", []Property{{"TasksMax", uint64(5)}}); err != nil {
		t.Fatal(err)
	}
	if got := p.said(); strings.Count(got, "StartTransientUnit") != 2 || strings.Count(got, "SetUnitProperties") != 2 {
		t.Errorf("calls:\n%s", got)
	}
}

// I7: nobody waits for a manager that does not answer.
func TestSilentManager(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message { return []*message{noise()} })
	c := dial(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Start(ctx, Unit{Name: "a.scope"}); err == nil {
		t.Error("Start waited for nothing and said it was well")
	}
}

func TestStopOfNone(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message { return []*message{refusal(m, errNoSuchUnit, "not loaded")} })
	if err := dial(t, p).Stop(context.Background(), "a.scope"); err != nil {
		t.Error(err)
	}
}

func TestServiceType(t *testing.T) {
	p := newPeer(t, func(n int, m *message) []*message {
		if !strings.HasSuffix(m.path, "/unit/a_2db_40c_2eservice") {
			return []*message{refusal(m, errNoSuchUnit, m.path)}
		}
		if n == 1 {
			return []*message{reply(m, "v", func(e *encoder) { e.variant("oneshot") })}
		}
		return []*message{reply(m, "v", func(e *encoder) { e.variant(true) })}
	})
	kind, err := dial(t, p).ServiceType(context.Background(), "a-b@c.service")
	if kind != "oneshot+" || err != nil {
		t.Errorf("ServiceType = %q, %v", kind, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&message{kind: kindReply, replyTo: 1, sig: "s", body: []byte{1, 0, 0, 0, 'a', 0}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerSize {
			return
		}
		if m, _, err := decode(b); err == nil && m == nil || err != nil && !errors.Is(err, errMessage) {
			t.Errorf("decode = %v, %v", m, err)
		}
	})
}
