package test

import (
	"os/exec"
	"strings"
	"testing"
)

// shell runs a script on the test's host, or in the network of a process.
func shell(t testing.TB, within, script string) string {
	t.Helper()
	argv := []string{"sh", "-ec", script}
	if within != "" {
		argv = append([]string{"nsenter", "-t", within, "-n", "--"}, argv...)
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// knows skips a test of a kind of device that the kernel does not have.
func knows(t testing.TB, kind, options string) {
	t.Helper()
	if exec.Command("sh", "-ec", "ip link add probe0 link out0 type "+kind+" "+options+" && ip link delete probe0").Run() != nil {
		t.Skipf("this kernel has no devices of kind %s", kind)
	}
}

// pages is a server whose answer is larger than any packet, and which says who asks.
const pages = "mkdir /w; yes cargo | head -c 300000 >/w/i; exec busybox httpd -f -vv -p 80 -h /w"

// asks fetches the page from a container's address and counts its bytes. (The
// wget of a static busybox looks names up by libraries that are not there.)
func asks(address string) []string {
	return []string{"fx:1", "sh", "-c", `for t in 1 2 3 4 5 6 7 8; do printf 'GET /i HTTP/1.0\r\n\r\n' | busybox nc -w 3 ` + address + ` 80 2>/dev/null | busybox tail -c 300000 >/tmp/i; [ -s /tmp/i ] && break; sleep 0.1; done; wc -c </tmp/i`}
}

// A network that is laid over two hosts: containers of both are neighbours, of
// whom each sees the other's own address, over IPv4 and over IPv6; another
// overlay of the same hosts is not theirs.
func TestOverlay(t *testing.T) {
	inOwnHost(t)
	knows(t, "vxlan", "id 999 dstport 4999")
	for _, c := range []struct{ name, here, there, mtu string }{
		{"four", "198.51.100.1", "198.51.100.2", "1450"}, {"six", "2001:db8::1", "2001:db8::2", "1430"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inOwnHost(t)
			m := newMachine(t, "")
			far := m.neighbour()
			shell(t, "", "ip addr add 2001:db8::1/64 dev out0 nodad")
			shell(t, far, "ip addr add 2001:db8::2/64 dev eth0 nodad")
			other := newMachineOn(t, "", func(o *machine) { o.within = far })
			m.ok("network", "create", "-o", "vxlan=42", "-o", "vxlan_remote="+c.there, "-o", "vxlan_local="+c.here, "--subnet", "10.61.0.0/24", "--gateway", "10.61.0.1", "--ip-range", "10.61.0.0/25", "wide")
			other.ok("network", "create", "-o", "vxlan=42", "-o", "vxlan_remote="+c.here, "--subnet", "10.61.0.0/24", "--gateway", "10.61.0.254", "--ip-range", "10.61.0.128/25", "wide")
			other.ok("network", "create", "-o", "vxlan=43", "-o", "vxlan_remote="+c.here, "--subnet", "10.61.1.0/24", "alien")
			m.ok("run", "-d", "--name", "a", "--network", "wide:ip=10.61.0.7", "fx:1", "sh", "-c", pages)
			if got := other.ok(append([]string{"run", "--rm", "--network", "wide:ip=10.61.0.200"}, asks("10.61.0.7")...)...); got != "300000" {
				t.Errorf("the other host's container reads %s bytes of 300000", got)
			}
			if r := m.run("logs", "a"); !strings.Contains(r.out+r.errOut, "10.61.0.200") {
				t.Errorf("the server sees not 10.61.0.200, but %s%s", r.out, r.errOut)
			}
			if got := m.ok("exec", "a", "cat", "/sys/class/net/eth0/mtu"); got != c.mtu {
				t.Errorf("the MTU is %s, want %s", got, c.mtu)
			}
			// The other overlay's container pretends to be a neighbour.
			r := other.run("run", "--rm", "--network", "alien", "--cap-add", "NET_ADMIN", "fx:1", "sh", "-c", "ip addr add 10.61.0.201/24 dev eth0; busybox nc -w 1 10.61.0.7 80 </dev/null")
			if r.code == 0 {
				t.Error("another overlay reaches the container")
			}
			m.ok("rm", "-f", "-t", "0", "a")
			m.ok("network", "rm", "wide")
			other.ok("network", "rm", "wide", "alien")
			for _, host := range []string{"", far} {
				if left := shell(t, host, "ip -o link | grep -E 'hullv|vxlan|hull[0-9]' || true"); left != "" {
					t.Errorf("left: %s", left)
				}
			}
		})
	}
}

// Containers on a device of the host's own: macvlan, ipvlan, and a VLAN below
// them. The parent is a veth, which every kernel has, and beyond it another
// machine.
func TestNetworkOnParent(t *testing.T) {
	for _, c := range []struct{ driver, options, kind, probe string }{
		{"macvlan", "", "macvlan", "mode bridge"},
		{"macvlan", "mode=private", "macvlan", "mode private"},
		{"macvlan", "vlan=7", "vlan", "id 7"},
		{"ipvlan", "", "ipvlan", "mode l2"},
		{"ipvlan", "vlan=7", "ipvlan", "mode l2"},
	} {
		t.Run(strings.Trim(c.driver+" "+c.options, " "), func(t *testing.T) {
			inOwnHost(t)
			knows(t, c.kind, c.probe)
			tagged := strings.HasPrefix(c.options, "vlan=")
			if tagged {
				knows(t, "vlan", "id 7")
			}
			m := newMachine(t, "")
			far := m.neighbour()
			shell(t, "", "ip link add par0 type veth peer name far0 netns "+far+"; ip link set par0 up")
			if tagged {
				shell(t, far, "ip link set far0 up; ip link add link far0 name lan0 type vlan id 7")
			} else {
				shell(t, far, "ip link set far0 name lan0")
			}
			shell(t, far, "ip addr add 10.62.0.1/24 dev lan0; ip -6 addr add fd62::1/64 dev lan0 nodad; ip link set lan0 up")
			args := []string{"network", "create", "-d", c.driver, "-o", "parent=par0", "--subnet", "10.62.0.0/24", "--subnet", "fd62::/64"}
			if c.options != "" {
				args = append(args, "-o", c.options)
			}
			m.ok(append(args, "low")...)
			m.ok("run", "-d", "--name", "a", "--network", "low:ip=10.62.0.7,ip=fd62::7", "fx:1", "sh", "-c", pages)
			for _, address := range []string{"10.62.0.7", "fd62::7"} {
				// In a directory of its own for what it fetches.
				if got := strings.TrimSpace(shell(t, far, "d=$(mktemp -d); "+strings.ReplaceAll(asks(address)[3], "/tmp/i", "$d/i")+"; rm -r $d")); got != "300000" {
					t.Errorf("the other machine reads %q bytes of 300000 from %s", got, address)
				}
			}
			if r := m.run("logs", "a"); !strings.Contains(r.out+r.errOut, "10.62.0.1") {
				t.Errorf("the server sees not 10.62.0.1, but %s%s", r.out, r.errOut)
			}
			// Neighbours on one parent reach each other, unless it keeps them apart.
			if c.options == "mode=private" {
				if m.run("run", "--rm", "--network", "low", "fx:1", "busybox", "nc", "-w", "1", "10.62.0.7", "80").code == 0 {
					t.Error("neighbours of a private macvlan reach each other")
				}
			} else if got := m.ok(append([]string{"run", "--rm", "--network", "low"}, asks("10.62.0.7")...)...); got != "300000" {
				t.Errorf("a neighbour reads %q bytes of 300000", got)
			}
			m.ok("rm", "-f", "-t", "0", "a")
			m.ok("network", "rm", "low")
			if left := shell(t, "", "ip -o link | grep hullv || true"); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}
