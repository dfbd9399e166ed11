package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// netState is all that commands on networks may change: the records, and what
// the kernel has.
func (m *machine) netState() string {
	m.Helper()
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(m.dir, "root", "networks", "*"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		b.WriteString(filepath.Base(f) + ": " + string(text))
	}
	leases, _ := filepath.Glob(filepath.Join(m.dir, "run", "hull", "network", "*", "leases", "*", "[0-9a-f]*"))
	b.WriteString(strings.Join(leases, "\n"))
	b.WriteString(m.ok("ps", "-a", "--format", "{{.Names}} {{.State}}"))
	for _, c := range []string{"ip -o link | cut -d: -f2 | grep -v hull- | sort", "nft list ruleset"} {
		// Not what ip says of a peer whose namespace is just ending.
		out, err := exec.Command("sh", "-c", c).Output()
		if err != nil {
			m.Fatalf("%s: %v\n%s", c, err, out)
		}
		b.Write(out)
	}
	return b.String()
}

// inOwnHost moves the test, its thread and what it starts, to a network
// namespace of its own, and back at its end: the thread may be the process's
// first one, which does not end with the test.
func inOwnHost(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	needs(t, "ip", "nft")
	runtime.LockOSThread()
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer host.Close()
		if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err) // the thread stays locked, and ends unless it is the first
			return
		}
		runtime.UnlockOSThread()
	})
	if out, err := exec.Command("sh", "-ec", "ip link set lo up; ip link add out0 type bridge; ip addr add 198.51.100.1/24 dev out0; ip link set out0 up").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// What a user gets wrong about networks is said clearly, with a cure where
// there is one, and nothing is changed by it.
func TestBadNetworks(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	m.ok("network", "create", "--subnet", "10.99.0.0/24", "quay")
	m.ok("network", "create", "--subnet", "10.96.1.0/30", "tiny")
	m.ok("run", "-d", "--name", "box", "--network", "quay:ip=10.99.0.7", "fx:1", "sleep", "1000")
	m.ok("run", "-d", "--name", "last", "--network", "tiny", "fx:1", "sleep", "1000")
	before := m.netState()
	for _, c := range []struct {
		args string
		code int
		want string // in what is said
		hint string
	}{
		{"network create --subnet 10.99.0.128/25 new", 125, "subnet 10.99.0.128/25 overlaps 10.99.0.0/24 of another network", "--subnet out"},
		{"network create --subnet 10.5.0.0/24 --subnet 10.5.0.0/25 new", 125, "overlaps 10.5.0.0/24", ""},
		{"network create --subnet 198.51.100.0/24 new", 125, "which the host has a route to", "--subnet out"},
		{"network create --subnet 10.5.0.0/33 new", 125, "not ADDRESS/LENGTH", ""},
		{"network create --subnet 10.5.0.0/31 new", 125, "too small", ""},
		{"network create --subnet 10.5.0.0/24 --gateway 10.6.0.1 new", 125, "gateway 10.6.0.1 is not in subnet", ""},
		{"network create --subnet 10.5.0.0/24 --ip-range 10.6.0.0/25 new", 125, "is not in subnet 10.5.0.0/24", ""},
		{"network create --gateway 10.6.0.1 new", 125, "needs a subnet", ""},
		{"network create -o mtu=abc new", 125, `mtu "abc" is not a number from 68 to 65535`, ""},
		{"network create -o mtu=70000 new", 125, "is not a number from 68 to 65535", ""},
		{"network create -o mtu=-1 new", 125, "is not a number from 68 to 65535", ""},
		{"network create -o metric=x new", 125, "option metric is a number", ""},
		{"network create -o no_default_route=x new", 125, "true or false", ""},
		{"network create -o isolate=maybe new", 125, "true, false or strict", ""},
		{"network create -o colour=blue new", 125, `driver bridge has no option "colour"`, ""},
		{"network create -d nosuch new", 125, `driver "nosuch" is not bridge`, ""},
		{"network create -d macvlan new", 125, "--opt parent=NAME", ""},
		{"network create -d macvlan -o parent=out0 -o mode=fast --subnet 10.5.0.0/24 new", 125, `no mode "fast"`, ""},
		{"network create -d macvlan -o parent=out0 -o vlan=4095 --subnet 10.5.0.0/24 new", 125, `vlan is a number from 1 to 4094, not "4095"`, ""},
		{"network create -o vlan=7 new", 125, `driver bridge has no option "vlan"`, ""},
		{"network create -o vxlan=7 new", 125, "needs the other hosts' addresses", "vxlan_remote="},
		{"network create -o vxlan=16777216 -o vxlan_remote=198.51.100.2 new", 125, "number from 1 to 16777215", ""},
		{"network create -o vxlan=7 -o vxlan_remote=198.51.100.2,2001:db8::2 new", 125, "different families", ""},
		{"network create -o vxlan=7 -o vxlan_remote=nobody new", 125, "not a host's address", ""},
		{"network create -o vxlan_remote=198.51.100.2 new", 125, "needs option vxlan", ""},
		{"network create -o vxlan=7 -o vxlan_remote=198.51.100.2 -o vxlan_port=0 new", 125, "number from 1 to 65535", ""},
		{"network create -o vxlan=7 -o vxlan_remote=198.51.100.2 -o encrypted=true new", 125, `no option "encrypted"`, ""},
		{"network create --ipam-driver nosuch new", 125, "not host-local, dhcp or none", ""},
		{"network create --interface-name waytoolongforaninterface new", 125, "1 to 15 characters", ""},
		{"network create --route 10.7.0.0/24,10.99.0.7 --subnet 10.5.0.0/24 new", 125, "in none of the network's subnets", "neighbour"},
		{"network create --dns nobody new", 125, "not an address", ""},
		{"network create quay", 125, "network already exists", ""},
		{"network create bad/name", 125, "not valid", ""},
		{"network create host", 125, "is a network mode", ""},
		{"network inspect nosuch", 125, "no such network", ""},
		{"network rm nosuch", 1, "no such network", ""},
		{"network rm quay", 2, "used by container box", "--force"},
		{"network rm hull", 125, "cannot be removed", ""},
		{"network connect nosuch box", 125, "no such network", ""},
		{"network connect quay nobody", 125, `"nobody"`, ""},
		{"network connect quay box", 125, "already", ""},
		{"network disconnect tiny box", 125, "not in network tiny", ""},
		{"run --name new --network nosuch fx:1 true", 125, "no such network", "hull network create nosuch"},
		{"run --name new --network quay:colour=blue fx:1 true", 125, `option "colour"`, ""},
		{"run --name new --network quay --network host fx:1 true", 125, "cannot be combined", ""},
		{"run --name new --network none --ip 10.99.0.9 fx:1 true", 125, "has none", ""},
		{"run --rm --network quay:ip=10.50.0.4 fx:1 true", 125, "in none of its subnets", ""},
		{"run --rm --network quay:ip=10.99.0.1 fx:1 true", 125, "is the gateway's", ""},
		{"run --rm --network quay:ip=10.99.0.7 fx:1 true", 125, "is held by container", ""},
		{"run --rm --network quay:mac=zz fx:1 true", 125, "hardware address", ""},
		{"run --rm --network quay:interface_name=a/b fx:1 true", 125, "not valid", ""},
		{"run --rm --network tiny fx:1 true", 125, "no free address", "larger --subnet"},
	} {
		r := m.run(strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.errOut, c.want) || c.hint != "" && !strings.Contains(r.errOut, "hint: ") || !strings.Contains(r.errOut, c.hint) {
			t.Errorf("hull %s\n exit code %d, want %d; want %q and hint %q\n%s", c.args, r.code, c.code, c.want, c.hint, r.errOut)
		}
	}
	if after := m.netState(); after != before {
		t.Errorf("something was changed:\n%s", difference(before, after))
	}
}

// difference is the lines that only one text has.
func difference(a, b string) string {
	var out []string
	for line := range strings.Lines(a) {
		if !strings.Contains(b, line) {
			out = append(out, "- "+line)
		}
	}
	for line := range strings.Lines(b) {
		if !strings.Contains(a, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "")
}

// A host with IPv6 switched off has no networks with it, and says so.
func TestNetworkWithoutIPv6(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	if out, err := exec.Command("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1").CombinedOutput(); err != nil {
		t.Skipf("no IPv6 to switch off: %s", out)
	}
	m.ok("network", "create", "--ipv6", "six")
	m.ok("run", "--rm", "--network", "hull", "fx:1", "true") // lays the table
	before := m.netState()
	r := m.run("run", "--rm", "--network", "six", "fx:1", "true")
	if r.code != 125 || !strings.Contains(r.errOut, "hint: IPv6 is off on this host") {
		t.Errorf("exit code %d, %s", r.code, r.errOut)
	}
	if after := m.netState(); after != before {
		t.Errorf("it changed something:\n%s", difference(before, after))
	}
}

// A kernel without a packet filter: what needs one says so and changes nothing,
// and there are networks that do without.
func TestNetworkWithoutFilter(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	before := m.netState()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	var bridged, none, host result
	withoutFilter(t, func() {
		if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		bridged = m.run("run", "--rm", "-p", "8080:80", "fx:1", "true")
		none = m.run("run", "--rm", "--network", "none", "fx:1", "true")
		host = m.run("run", "--rm", "--network", "host", "fx:1", "true")
	})
	if bridged.code != 125 || !strings.Contains(bridged.errOut, "this kernel has no nf_tables") || !strings.Contains(bridged.errOut, "hint: load the module: modprobe nf_tables; or use --network host or none") {
		t.Errorf("exit code %d, %s", bridged.code, bridged.errOut)
	}
	if none.code != 0 || host.code != 0 {
		t.Errorf("without a network, and with the host's: %v, %v", none, host)
	}
	if after := m.netState(); after != before {
		t.Errorf("it changed something:\n%s", difference(before, after))
	}
	m.ok("run", "--rm", "-p", "8080:80", "fx:1", "true")
}

// A kernel that lacks a part is named as the cause.
func TestNetworkOfALesserKernel(t *testing.T) {
	inOwnHost(t)
	m := newMachine(t, "")
	// A kind of device that the kernel does not know: veth's case is the same.
	if exec.Command("ip", "link", "add", "probe0", "link", "out0", "type", "ipvlan").Run() == nil {
		t.Skip("this kernel has ipvlan")
	}
	m.ok("run", "--rm", "fx:1", "true")
	m.ok("network", "create", "-d", "ipvlan", "-o", "parent=out0", "--subnet", "10.5.0.0/24", "low")
	before := m.netState()
	r := m.run("run", "--rm", "--network", "low", "fx:1", "true")
	if r.code != 125 || !strings.Contains(r.errOut, "this kernel has no devices of kind ipvlan") || !strings.Contains(r.errOut, "hint: load the module") {
		t.Errorf("exit code %d, %s", r.code, r.errOut)
	}
	if after := m.netState(); after != before {
		t.Errorf("it changed something:\n%s", difference(before, after))
	}
}
