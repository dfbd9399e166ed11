package network

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestLeasesFillAndDrain takes every address of a /16, gives them back, and
// takes some again.
func TestLeasesFillAndDrain(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 65,000 files")
	}
	s := Subnet{Subnet: netip.MustParsePrefix("10.88.0.0/16"), Gateway: netip.MustParseAddr("10.88.0.1")}
	dir, err := os.MkdirTemp("/dev/shm", "leases") // as /run is: no disk
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	r, l := s.leaseRange(), &leases{dir: dir}
	const all = 1<<16 - 3 // the network's, the gateway's, broadcast
	seen := make(map[netip.Addr]bool, all)
	for range all {
		a, err := l.allocate(r, "c", "-")
		if err != nil {
			t.Fatalf("allocate number %d: %v", len(seen), err)
		}
		if seen[a] || a == s.Gateway || !s.Subnet.Contains(a) || a == r.subnet.Addr() || a == lastAddr(r.subnet) {
			t.Fatalf("allocate = %s, which is taken or reserved", a)
		}
		seen[a] = true
	}
	if a, err := l.allocate(r, "c", "-"); !errors.Is(err, ErrExhausted) {
		t.Errorf("allocate in a full subnet = %v, %v, want ErrExhausted", a, err)
	}
	one := netip.MustParseAddr("10.88.200.7")
	if err := l.release(one, "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.read(one); err != nil {
		t.Errorf("a stranger's release removed %s: %v", one, err)
	}
	if err := l.release(one, "c"); err != nil {
		t.Fatal(err)
	}
	if a, err := l.allocate(r, "d", "-"); a != one || err != nil {
		t.Errorf("allocate with one free = %v, %v, want %v", a, err, one)
	}
	seen[one] = false
	for a, mine := range seen {
		if mine {
			if err := l.release(a, "c"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left, _ := os.ReadDir(l.dir); len(left) > 3 { // one lease, the hint, the lock
		t.Errorf("%d files after all were released", len(left))
	}
}

func TestLeaseRanges(t *testing.T) {
	for _, c := range []struct {
		subnet, gateway string
		lease           *LeaseRange
		want            []string // in order, then exhausted
	}{
		{"10.0.0.0/29", "10.0.0.1", nil, []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}},
		{"10.0.0.0/29", "10.0.0.6", nil, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"}},
		{"10.0.0.0/31", "", nil, []string{"10.0.0.0", "10.0.0.1"}},
		{"10.0.0.0/24", "10.0.0.1", &LeaseRange{Start: netip.MustParseAddr("10.0.0.9"), End: netip.MustParseAddr("10.0.0.10")}, []string{"10.0.0.9", "10.0.0.10"}},
		{"fd01::/126", "fd01::1", nil, []string{"fd01::2", "fd01::3"}},
	} {
		s := Subnet{Subnet: netip.MustParsePrefix(c.subnet), Lease: c.lease}
		if c.gateway != "" {
			s.Gateway = netip.MustParseAddr(c.gateway)
		}
		l := &leases{dir: t.TempDir()}
		for _, want := range c.want {
			if a, err := l.allocate(s.leaseRange(), "c", "-"); err != nil || a.String() != want {
				t.Errorf("%s: allocate = %v, %v, want %s", c.subnet, a, err, want)
			}
		}
		if a, err := l.allocate(s.leaseRange(), "c", "-"); !errors.Is(err, ErrExhausted) {
			t.Errorf("%s: allocate = %v, %v, want ErrExhausted", c.subnet, a, err)
		}
	}
}

// TestTakeOver: an address of a dead container is given out when no other is
// free, and its holder is buried first.
func TestTakeOver(t *testing.T) {
	s := Subnet{Subnet: netip.MustParsePrefix("10.0.0.0/30"), Gateway: netip.MustParseAddr("10.0.0.1")}
	buried := ""
	l := &leases{dir: t.TempDir(), dead: func(h lease) bool { return h.container == "dead" }, bury: func(c string) error { buried = c; return nil }}
	if _, err := l.allocate(s.leaseRange(), "dead", "hull-x"); err != nil {
		t.Fatal(err)
	}
	a, err := l.allocate(s.leaseRange(), "new", "-")
	if err != nil || a.String() != "10.0.0.2" || buried != "dead" {
		t.Errorf("allocate = %v, %v after burying %q, want 10.0.0.2 and dead", a, err, buried)
	}
	if err := l.take(a, "third", "-"); !errors.Is(err, ErrAddressInUse) {
		t.Errorf("take of a living container's address = %v, want ErrAddressInUse", err)
	}
	if got, err := l.read(a); err != nil || got.container != "new" || got.device != "-" || time.Since(got.taken) > time.Minute {
		t.Errorf("read = %+v, %v", got, err)
	}
}
