package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
)

// errReach reports a place that a registry must not send us to.
var errReach = errors.New("address is closer to this machine than the registry's own")

// kind sorts addresses by who can be there.
type kind uint8

const (
	public kind = iota
	private
	loopback
	linkLocal
	special // multicast, unspecified: nobody's
)

func kindOf(a netip.Addr) kind {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return loopback
	case a.IsLinkLocalUnicast():
		return linkLocal
	case a.IsPrivate(), carrier.Contains(a):
		return private
	case !a.IsValid(), a.IsMulticast(), a.IsUnspecified():
		return special
	}
	// An IPv4 address inside of NAT64 and 6to4 is reached through a gateway of
	// this network: it counts as what it embeds.
	if b := a.As16(); a.Is6() && nat64.Contains(a) {
		return kindOf(netip.AddrFrom4([4]byte(b[12:16])))
	} else if a.Is6() && sixToFour.Contains(a) {
		return kindOf(netip.AddrFrom4([4]byte(b[2:6])))
	}
	return public
}

var (
	carrier   = netip.MustParsePrefix("100.64.0.0/10")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// reach learns where a registry is, and refuses other hosts nearer than that.
// It looks at the address that is really connected to, so a name that resolves
// differently the second time gains nothing.
type reach struct {
	mu   sync.Mutex
	seen map[kind]bool // guarded by mu
}

func (r *reach) learn(_ context.Context, _, address string, _ syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		r.mu.Lock()
		if r.seen == nil {
			r.seen = map[kind]bool{}
		}
		r.seen[kindOf(ap.Addr())] = true
		r.mu.Unlock()
	}
	return nil
}

func (r *reach) check(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, errReach)
	}
	return r.allow(ap.Addr())
}

func (r *reach) allow(a netip.Addr) error {
	k := kindOf(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	if k == public || k != special && r.seen[k] {
		return nil
	}
	return fmt.Errorf("connect to %s: %w", a, errReach)
}

// follow checks a URL that a registry sent us: its scheme, and an address
// written in it, which a proxy would connect to in our place.
func (h *host) follow(from, to *url.URL) error {
	switch {
	case to.Scheme != "https" && to.Scheme != "http", to.Host == "":
		return fmt.Errorf("%s leads to %q: not a web address", from.Host, to.Redacted())
	case to.Scheme == "http" && (!h.insecure || h.url().Scheme == "https"):
		return fmt.Errorf("%s leads to %s: plain HTTP is not allowed", from.Host, to.Redacted())
	case to.User != nil:
		return fmt.Errorf("%s leads to an address with a user name in it", from.Host)
	}
	if sameHost(h.url(), to) {
		return nil
	}
	if a, err := netip.ParseAddr(to.Hostname()); err == nil {
		return h.reach.allow(a)
	}
	return nil
}

// url is the registry's own address, for comparing.
func (h *host) url() *url.URL {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.base != nil {
		return h.base
	}
	return &url.URL{Scheme: "https", Host: h.name}
}

// sameHost compares scheme, host and port: who may see the same secrets.
func sameHost(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && port(a) == port(b)
}
