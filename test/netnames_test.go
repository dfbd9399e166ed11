package test

import (
	"strings"
	"testing"
	"time"
)

// Three containers of a user network find each other by name, alias and
// address, over IPv4 and IPv6, with the programs that an image has for that:
// 36 connections and 54 look-ups a round. How soon they do is
// TestNamesFromTheFirstMoment's.
func TestContainersFindEachOther(t *testing.T) {
	for _, as := range []string{"", testUser} {
		t.Run(as, func(t *testing.T) {
			if as == "" {
				inOwnHost(t)
			}
			m := newMachine(t, as)
			m.ok("network", "create", "--ipv6", "quay")
			const rounds = 1
			var longest time.Duration
			for round := range rounds {
				names := []string{"one", "two", "three"}
				for _, n := range names {
					m.ok("run", "-d", "--name", n, "--network", "quay:alias=the-"+n, "fx:1", "sh", "-c",
						"mkdir /w; echo "+n+" >/w/i; exec busybox httpd -f -p 7000 -h /w")
				}
				started := time.Now()
				var asks []string
				for _, n := range names {
					addresses := strings.Fields(m.ok("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}", n))
					if len(addresses) != 2 {
						t.Fatalf("%s has the addresses %v", n, addresses)
					}
					for _, to := range append(addresses, n, "the-"+n) {
						asks = append(asks, to+" "+n)
					}
				}
				// One shell asks all: each answer is the name of who was meant. A
				// server that is not listening yet is asked again.
				script := `while read to name; do
  t=0; while :; do got=$(printf 'GET /i HTTP/1.0\r\n\r\n' | busybox nc -w 2 $to 7000 2>/dev/null | busybox tail -n 1); [ "$got" = $name ] && break; t=$((t+1)); [ $t -lt 100 ] || { echo "$to: $got, not $name"; break; }; done
  case $to in
  *[:.]*) busybox nslookup $to 127.0.0.11 2>/dev/null | busybox grep -q "name = $name" || echo "no name of $to";;
  *) for kind in a aaaa; do busybox nslookup -type=$kind $to 127.0.0.11 2>/dev/null | busybox grep -q "^Name" || echo "no $kind of $to"; done;;
  esac
done <<E
` + strings.Join(asks, "\n") + "\nE\n"
				for _, who := range names {
					if out := m.ok("exec", who, "sh", "-c", script); strings.TrimSpace(out) != "" {
						t.Errorf("round %d, from %s: %s", round, who, out)
					}
				}
				longest = max(longest, time.Since(started))
				m.ok("rm", "-f", "-t", "0", "-a")
			}
			t.Logf("%d rounds of 36 connections and 54 look-ups; the longest round took %v", rounds, longest)
		})
	}
}
