package monitor

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// NameDomain is the one that names of networks may also be asked in; it is the
// search domain that podman writes.
const NameDomain = "dns.podman"

// A nameRecord is what package network wrote of one container in one network.
type nameRecord struct {
	names     []string // the first is the container's own
	addresses []netip.Addr
}

// A namedNetwork is a network as it was read last.
type namedNetwork struct {
	name    string
	changed unix.Timespec // of the directory, when it was read
	settled bool          // it cannot have changed since within the same tick
	records []nameRecord
	member  bool
	inside  bool // no query leaves it
	servers []netip.Addr
}

// tick is longer than the unit in which file systems count.
const tick = 20 * time.Millisecond

// networks are those that the container is in, as their records say it now.
func (n *nameServer) networks() []*namedNetwork {
	var now []*namedNetwork
	began := time.Now()
	for _, name := range readDirectory(n.dir) {
		dir := n.dir + "/" + name
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue
		}
		var old *namedNetwork
		for _, o := range n.known {
			if o.name == name && o.settled && o.changed == st.Mtim {
				old = o
			}
		}
		if old == nil {
			old = n.readNetwork(name, dir)
			old.changed = st.Mtim
			old.settled = began.Sub(time.Unix(st.Mtim.Unix())) > tick
		}
		now = append(now, old)
	}
	n.known = now
	var in []*namedNetwork
	for _, o := range now {
		if o.member {
			in = append(in, o)
		}
	}
	return in
}

// readNetwork reads the records of a network, if the container is in it.
func (n *nameServer) readNetwork(name, dir string) *namedNetwork {
	net := &namedNetwork{name: name}
	own, err := readSmall(dir + "/" + n.id)
	if err != nil {
		return net
	}
	net.member = true
	lines := strings.SplitN(own, "\n", 4)
	if len(lines) > 2 {
		for word := range strings.FieldsSeq(lines[2]) {
			if word == "internal" {
				net.inside = true
			} else if a, err := netip.ParseAddr(word); err == nil {
				net.servers = append(net.servers, a)
			}
		}
	}
	for _, file := range readDirectory(dir) {
		text, err := readSmall(dir + "/" + file)
		if err != nil {
			continue
		}
		if r, ok := parseNameRecord(text); ok {
			net.records = append(net.records, r)
		}
	}
	return net
}

// parseNameRecord reads a line of names and a line of addresses.
func parseNameRecord(text string) (r nameRecord, ok bool) {
	lines := strings.SplitN(text, "\n", 3)
	if len(lines) < 2 {
		return r, false
	}
	r.names = strings.Fields(lines[0])
	for word := range strings.FieldsSeq(lines[1]) {
		if a, err := netip.ParseAddr(word); err == nil {
			r.addresses = append(r.addresses, a)
		}
	}
	return r, len(r.names) > 0
}

// addresses of all containers that have a name; found says that one has.
func addressesOf(in []*namedNetwork, name string) (list []netip.Addr, found bool) {
	for _, net := range in {
		for i := range net.records {
			if r := &net.records[i]; slices.Contains(r.names, name) {
				found = true
				for _, a := range r.addresses {
					if !slices.Contains(list, a) {
						list = append(list, a)
					}
				}
			}
		}
	}
	return list, found
}

// namesOf are the own names of the containers that have an address.
func namesOf(in []*namedNetwork, a netip.Addr) (list []string) {
	for _, net := range in {
		for i := range net.records {
			if r := &net.records[i]; slices.Contains(r.addresses, a) && !slices.Contains(list, r.names[0]) {
				list = append(list, r.names[0])
			}
		}
	}
	return list
}

// upstream are the servers that are asked what is not known here: those that
// were given for the container, its networks', or the host's as they are now.
// There are none inside a network that nothing leaves.
func (n *nameServer) upstream(in []*namedNetwork) []netip.Addr {
	out := len(in) == 0
	var servers []netip.Addr
	for _, net := range in {
		out = out || !net.inside
		servers = append(servers, net.servers...)
	}
	switch {
	case !out:
		return nil
	case len(n.servers) > 0:
		return n.servers
	case len(servers) > 0:
		return servers
	}
	text, err := readSmall("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return parseServers(text)
}

// parseServers reads the name servers of a resolv.conf.
func parseServers(text string) (servers []netip.Addr) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(servers) == 3 {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			servers = append(servers, a)
		}
	}
	return servers
}

// maxSmall is the size of the largest file that is read of a directory.
const maxSmall = 16 << 10

func readSmall(path string) (string, error) {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var b []byte
	buf := make([]byte, 1024)
	for len(b) < maxSmall {
		n, err := read(fd, buf)
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		b = append(b, buf[:n]...)
	}
	return string(b), nil
}

// readDirectory lists the names in a directory that do not begin with a dot.
func readDirectory(path string) (names []string) {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	return slices.DeleteFunc(names, func(s string) bool { return s[0] == '.' })
}
