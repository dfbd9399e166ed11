package network

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
)

// A pool is a range from which subnets of a size are cut.
type pool struct {
	base netip.Prefix
	bits int
}

// defaultPools are podman's: 10.89.0.0/24 to 10.255.255.0/24.
func defaultPools() []pool {
	pools := []pool{{netip.MustParsePrefix("10.89.0.0/16"), 24}}
	for i := 90; i < 96; i++ {
		pools = append(pools, pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16), 24})
	}
	return append(pools,
		pool{netip.MustParsePrefix("10.96.0.0/11"), 24},
		pool{netip.MustParsePrefix("10.128.0.0/9"), 24},
		pool{netip.MustParsePrefix("172.30.0.0/15"), 24},
		pool{netip.MustParsePrefix("192.168.128.0/17"), 24})
}

// freeSubnet is the first subnet of the pools that overlaps nothing used.
func freeSubnet(pools []pool, used []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		for s := netip.PrefixFrom(p.base.Addr(), p.bits); p.base.Contains(s.Addr()); {
			if !slices.ContainsFunc(used, s.Overlaps) {
				return s, nil
			}
			next := lastAddr(s).Next()
			if !next.IsValid() {
				break
			}
			s = netip.PrefixFrom(next, p.bits)
		}
	}
	return netip.Prefix{}, errors.New("all subnets of the default pools are in use: give one with --subnet")
}

// freeSubnet6 is a random unique local /64 (RFC 4193).
func freeSubnet6(used []netip.Prefix) (netip.Prefix, error) {
	for range 100 {
		b := [16]byte{0: 0xfd}
		rand.Read(b[1:8])
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !slices.ContainsFunc(used, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no free IPv6 subnet was found")
}
