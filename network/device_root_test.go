package network

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newNamespace(t *testing.T) *os.File {
	t.Helper()
	ns, err := NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// A device arrives under its new name, up, with its permanent global addresses; what goes
// wrong with a later one brings all back as they were.
func TestMoveDevices(t *testing.T) {
	m := testManager(t)
	host, err := m.netns()
	if err != nil {
		t.Fatal(err)
	}
	inNs(t, host, `ip link add dm0 type veth peer name px0 && ip link set dm0 mtu 1400 address 02:00:00:00:00:07 &&
ip addr add 10.9.8.7/24 brd 10.9.8.255 dev dm0 && ip addr add 10.9.8.8/32 peer 10.9.9.1/32 dev dm0 && ip addr add 169.254.1.1/16 scope link dev dm0 &&
ip -6 addr add fd00:9::7/64 nodad dev dm0 && ip addr add 10.9.7.7/24 valid_lft 100 preferred_lft 100 dev dm0 && ip link set dm0 up &&
ip link add dm1 type veth peer name px1 && ip link add dm2 type veth peer name px2 && ip addr add 10.9.6.1/24 dev dm2`)
	move := func(to *os.File, list ...HostDevice) error {
		return inNamespace(host, func() error { return MoveDevices(to, list) })
	}
	ns := newNamespace(t)
	if err := move(ns, HostDevice{"dm0", "net0"}, HostDevice{"dm2", "eth%d"}); err != nil {
		t.Fatal(err)
	}
	out := inNs(t, ns, "ip -o link; ip -o addr")
	for _, want := range []string{"net0@", "mtu 1400", "02:00:00:00:00:07", "inet 10.9.8.7/24 brd 10.9.8.255 scope global net0",
		"inet 10.9.8.8 peer 10.9.9.1/32 scope global net0", "inet6 fd00:9::7/64 scope global", "eth0@", "<NO-CARRIER,BROADCAST,MULTICAST,UP>", "inet 10.9.6.1/24 scope global eth0"} {
		if !strings.Contains(out, want) {
			t.Errorf("in the container there is no %q:\n%s", want, out)
		}
	}
	for _, not := range []string{"169.254.1.1", "10.9.7.7", "tentative"} {
		if strings.Contains(out, not) {
			t.Errorf("in the container there is %q:\n%s", not, out)
		}
	}
	if out := inNs(t, host, "ip -o link"); strings.Contains(out, "dm0@") || !strings.Contains(out, "dm1@") {
		t.Errorf("left behind:\n%s", out)
	}

	other := newNamespace(t)
	inNs(t, host, "ip link add dm3 type veth peer name px3 && ip addr add 10.9.5.1/24 dev dm3 && ip link set dm3 up")
	for want, list := range map[error][]HostDevice{
		unix.EEXIST: {{"dm3", ""}, {"dm1", "dm3"}},
		unix.ENODEV: {{"dm3", "eth7"}, {"nothing", ""}},
		unix.EINVAL: {{"dm3", "eth7"}, {"lo", "lo7"}},
	} {
		if err := move(other, list...); !errors.Is(err, want) {
			t.Errorf("MoveDevices(%v) = %v, want %v", list, err, want)
		}
		out := inNs(t, host, "ip -o link; ip -o addr")
		if !strings.Contains(out, "dm3@px3: <NO-CARRIER,BROADCAST,MULTICAST,UP") || !strings.Contains(out, "10.9.5.1/24") || !strings.Contains(out, "dm1@") {
			t.Errorf("%v: not as before:\n%s", list, out)
		}
		if out := inNs(t, other, "ip -o link"); strings.Count(out, "\n") != 1 {
			t.Errorf("%v: in the container there is more than lo:\n%s", list, out)
		}
	}
	for _, d := range []HostDevice{{"", ""}, {"dm1", "a/b"}, {"dm1", "%d%d"}, {"dm1", "%s"}, {"dm1", "longer-than-a-name"}, {"..", ""}} {
		if err := d.Validate(); err == nil {
			t.Errorf("%+v is taken", d)
		}
	}
}
