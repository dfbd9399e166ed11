package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// ErrExhausted is the error when a subnet has no free address.
var ErrExhausted = errors.New("no free address")

// ErrAddressInUse is the error when a wanted address belongs to another
// container.
var ErrAddressInUse = errors.New("address in use")

// leases gives out the addresses of one network. A lease is a link named after
// the address, which reads as the holder: made in one call, exclusively, it is
// the whole lock, and the cost does not depend on how many there are. The file .next is a hint where to
// look first, so that an address is not used again soon.
type leases struct {
	dir string
	// dead reports whether the holder of a lease is known to be gone.
	dead func(l lease) bool
	// bury removes everything else of a dead holder.
	bury func(container string) error
}

// A lease is what such a link reads as.
type lease struct {
	container string
	device    string // the host's end of the veth; "-" for none
	taken     time.Time
}

// A leaseRange is what is given out of a subnet.
type leaseRange struct {
	subnet      netip.Prefix
	gateway     netip.Addr
	first, last netip.Addr
}

func (s Subnet) leaseRange() leaseRange {
	r := leaseRange{subnet: s.Subnet.Masked(), gateway: s.Gateway}
	r.first, r.last = r.subnet.Addr(), lastAddr(r.subnet)
	if r.subnet.Bits() < r.subnet.Addr().BitLen()-1 {
		r.first = r.first.Next() // the network's own, IPv6's anycast
		if r.subnet.Addr().Is4() {
			r.last = r.last.Prev() // broadcast
		}
	}
	if s.Lease != nil && s.Lease.Start.IsValid() {
		r.first = s.Lease.Start
	}
	if s.Lease != nil && s.Lease.End.IsValid() {
		r.last = s.Lease.End
	}
	return r
}

func (r leaseRange) next(a netip.Addr) netip.Addr {
	if !a.IsValid() || a.Less(r.first) || !a.Less(r.last) {
		return r.first
	}
	return a.Next()
}

// probes is how many addresses are tried before the directory is read.
const probes = 16

// allocate takes a free address of r for the container.
func (l *leases) allocate(r leaseRange, container, device string) (netip.Addr, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return netip.Addr{}, err
	}
	hint := l.readHint(r)
	a := hint
	for range probes {
		a = r.next(a)
		if a == r.gateway {
			a = r.next(a)
		}
		ok, err := l.claim(a, container, device)
		if err != nil {
			return netip.Addr{}, err
		}
		if ok {
			l.writeHint(r, a)
			return a, nil
		}
	}
	return l.search(r, a, container, device)
}

// search reads all leases once and tries what is free, then what the dead hold.
func (l *leases) search(r leaseRange, from netip.Addr, container, device string) (netip.Addr, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return netip.Addr{}, err
	}
	taken := make(map[netip.Addr]bool, len(entries))
	for _, e := range entries {
		if a, err := netip.ParseAddr(e.Name()); err == nil {
			taken[a] = true
		}
	}
	for _, takeOver := range []bool{false, true} {
		a := from
		// A range larger than all leases together holds a free one among
		// the first len+2 addresses.
		for n := 0; n < len(taken)+2; n++ {
			a = r.next(a)
			if a == r.gateway || taken[a] && !takeOver {
				if n > 0 && a == from {
					break
				}
				continue
			}
			if taken[a] && !l.reclaim(a) {
				continue
			}
			ok, err := l.claim(a, container, device)
			if err != nil {
				return netip.Addr{}, err
			}
			if ok {
				l.writeHint(r, a)
				return a, nil
			}
		}
	}
	return netip.Addr{}, hint(fmt.Errorf("subnet %s (%s to %s): %w", r.subnet, r.first, r.last, ErrExhausted),
		"stop containers of the network, or make one with a larger --subnet or --ip-range")
}

// take claims the wanted address a; one that the container has already is its.
func (l *leases) take(a netip.Addr, container, device string) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	for range 3 {
		if ok, err := l.claim(a, container, device); ok || err != nil {
			return err
		}
		held, err := l.read(a)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && held.container != container && !l.reclaim(a) {
			return fmt.Errorf("address %s is held by container %s: %w", a, short(held.container), ErrAddressInUse)
		}
		if err == nil && held.container == container {
			if err := os.Remove(l.path(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return fmt.Errorf("address %s: %w", a, ErrAddressInUse)
}

func (l *leases) path(a netip.Addr) string { return filepath.Join(l.dir, a.String()) }

func (l *leases) claim(a netip.Addr, container, device string) (bool, error) {
	err := os.Symlink(container+" "+device, l.path(a))
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take address %s: %w", a, err)
	}
	return true, nil
}

func (l *leases) read(a netip.Addr) (lease, error) {
	text, err := os.Readlink(l.path(a))
	if errors.Is(err, unix.EINVAL) { // an earlier version's, which may still be held
		var b []byte
		b, err = os.ReadFile(l.path(a))
		text = strings.TrimSuffix(string(b), "\n")
	}
	if err != nil {
		return lease{}, err
	}
	fi, err := os.Lstat(l.path(a))
	if err != nil {
		return lease{}, err
	}
	got := lease{taken: fi.ModTime()}
	got.container, got.device, _ = strings.Cut(text, " ")
	return got, nil
}

// reclaim removes the lease of a when its holder is dead, and all else that
// the holder left.
func (l *leases) reclaim(a netip.Addr) bool {
	if l.dead == nil {
		return false
	}
	// Of two that reclaim, the second must not remove the new lease of the first.
	lock, err := state.Acquire(context.Background(), filepath.Join(l.dir, ".lock"))
	if err != nil {
		return false
	}
	defer lock.Release()
	held, err := l.read(a)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil || !l.dead(held) {
		return false
	}
	if l.bury != nil && l.bury(held.container) != nil {
		return false
	}
	err = os.Remove(l.path(a))
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// of returns everything that the container holds.
func (l *leases) of(container string) (map[netip.Addr]lease, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	held := map[netip.Addr]lease{}
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		if got, err := l.read(a); err == nil && got.container == container {
			held[a] = got
		}
	}
	return held, nil
}

// releaseAll gives back everything that the container holds.
func (l *leases) releaseAll(container string) error {
	held, err := l.of(container)
	if err != nil {
		return err
	}
	for a := range held {
		if err := l.release(a, container); err != nil {
			return err
		}
	}
	return nil
}

// release gives a back if the container holds it.
func (l *leases) release(a netip.Addr, container string) error {
	held, err := l.read(a)
	if errors.Is(err, fs.ErrNotExist) || err == nil && held.container != container {
		return nil
	}
	if err == nil {
		err = os.Remove(l.path(a))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give back address %s: %w", a, err)
	}
	return nil
}

func (l *leases) hintPath(r leaseRange) string {
	if r.subnet.Addr().Is6() {
		return filepath.Join(l.dir, ".next6")
	}
	return filepath.Join(l.dir, ".next4")
}

func (l *leases) readHint(r leaseRange) netip.Addr {
	b, err := os.ReadFile(l.hintPath(r))
	if err != nil {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok || !r.subnet.Contains(a) {
		return netip.Addr{}
	}
	return a
}

// writeHint stores the address last given out. It may be lost or old.
func (l *leases) writeHint(r leaseRange, a netip.Addr) {
	_ = os.WriteFile(l.hintPath(r), a.AsSlice(), 0o600)
}

// macFor derives a locally administered hardware address from the first
// address of an interface: a neighbour that remembers who had the address
// before is then still right.
func macFor(a netip.Addr) [6]byte {
	mac := [6]byte{0x02, 'h'}
	b := a.AsSlice()
	copy(mac[2:], b[len(b)-4:])
	if a.Is6() {
		mac[1] = 'H' ^ b[7]
		binary.BigEndian.PutUint32(mac[2:], binary.BigEndian.Uint32(b[12:])^binary.BigEndian.Uint32(b[8:]))
	}
	return mac
}

func short(id string) string { return id[:min(12, len(id))] }

// leases are those of a network. With a host, the leases of dead containers
// can be told and taken over.
func (m *Manager) leases(dir, network string, h *host) *leases {
	l := &leases{dir: filepath.Join(dir, "leases", network)}
	if h == nil {
		return l
	}
	l.dead = func(held lease) bool {
		// A young lease may belong to a start whose device is not made yet.
		if time.Since(held.taken) < 10*time.Second {
			return false
		}
		if held.device != "-" {
			_, err := h.routes.link(held.device)
			return errors.Is(err, unix.ENODEV)
		}
		_, err := m.readRecord(held.container)
		return errors.Is(err, fs.ErrNotExist)
	}
	l.bury = func(container string) error {
		r, err := m.readRecord(container)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return m.unpublish(h, r)
	}
	return l
}
