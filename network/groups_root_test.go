package network

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

// When Setup returns, neighbours that look for the container's IPv6 address
// are heard.
func TestGroupsAreJoined(t *testing.T) {
	m := testManager(t)
	if _, err := m.Create(context.Background(), CreateOptions{Name: "six", IPv6: true}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"aaaa", "bbbb", "cccc"} {
		ns, s := joinNetwork(t, m, SetupOptions{ContainerID: id, Networks: []Attach{{Name: "six"}}})
		for _, a := range s.Networks[0].Addresses {
			if a.Addr().Is4() {
				continue
			}
			if groups := inNs(t, ns, "cat /proc/thread-self/net/igmp6"); !strings.Contains(groups, solicited(a.Addr())) {
				t.Errorf("nobody listens for %s:\n%s", a, groups)
			}
		}
	}
	if got := solicited(netip.MustParseAddr("fd00::a1:b2c3")); got != "ff0200000000000000000001ffa1b2c3" {
		t.Errorf("solicited = %s", got)
	}
}
