package monitor

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxAsked is how many queries are passed on at once, and maxCallers how
	// many connections are open: the oldest gives way.
	maxAsked, maxCallers = 64, 64
	// askTime is how long a server may take before the next is asked, and
	// askRounds how often all are.
	askTime   = 2 * time.Second
	askRounds = 2
	maxDNS    = 64 << 10
)

// A nameServer answers the container's queries on sockets that are inside its
// network namespace, while everything else of it is outside: what it does not
// know it asks the host's servers by the host's network.
type nameServer struct {
	dir     string // of the name records
	id      string // the container's
	servers []netip.Addr
	port    int // of all servers that are asked
	udp     int
	tcp     int
	callers []*caller
	asked   []*asked
	known   []*namedNetwork
}

// A caller is a connection of a client.
type caller struct {
	fd  int
	in  []byte
	out []byte
}

// An asked query is one that was passed on.
type asked struct {
	q       question
	fd      int // to the server
	id      uint16
	servers []netip.Addr
	tries   int
	until   time.Time
	peer    unix.Sockaddr // of a query by UDP
	caller  *caller       // of one by TCP
	in, out []byte        // of a TCP connection to the server
}

// newNameServer takes over the two sockets.
func newNameServer(cfg *Config, udp, tcp int) *nameServer {
	n := &nameServer{dir: cfg.NamesDir, id: cfg.ID, udp: udp, tcp: tcp, port: 53}
	for _, s := range cfg.NameServers {
		if a, err := netip.ParseAddr(s); err == nil {
			n.servers = append(n.servers, a)
		}
	}
	unix.SetNonblock(udp, true)
	unix.SetNonblock(tcp, true)
	return n
}

// watch adds what there is to wait for.
func (n *nameServer) watch(add func(fd int, events int16)) {
	if n == nil {
		return
	}
	add(n.udp, unix.POLLIN)
	add(n.tcp, unix.POLLIN)
	for _, c := range n.callers {
		events := int16(unix.POLLIN)
		if len(c.out) > 0 {
			events |= unix.POLLOUT
		}
		add(c.fd, events)
	}
	for _, a := range n.asked {
		events := int16(unix.POLLIN)
		if len(a.out) > 0 {
			events = unix.POLLOUT
		}
		add(a.fd, events)
	}
}

// close gives the sockets back: they keep the container's network namespace.
func (n *nameServer) close() {
	if n == nil {
		return
	}
	closeFD(&n.udp)
	closeFD(&n.tcp)
	for _, c := range n.callers {
		closeFD(&c.fd)
	}
	for _, a := range n.asked {
		closeFD(&a.fd)
	}
	n.callers, n.asked = nil, nil
}

// wait is how long until a server has not answered in time, in milliseconds,
// at most most; below 0 is for ever.
func (n *nameServer) wait(most int) int {
	if n == nil {
		return most
	}
	for _, a := range n.asked {
		left := max(0, int(time.Until(a.until)/time.Millisecond)+1)
		if most < 0 || left < most {
			most = left
		}
	}
	return most
}

// handle serves fd, if it is one of the server's.
func (n *nameServer) handle(fd int, buf []byte) bool {
	if n == nil {
		return false
	}
	switch fd {
	case n.udp:
		n.receive(buf)
		return true
	case n.tcp:
		n.accept()
		return true
	}
	for _, c := range n.callers {
		if c.fd == fd {
			n.listen(c, buf)
			return true
		}
	}
	for _, a := range n.asked {
		if a.fd == fd {
			n.hear(a, buf)
			return true
		}
	}
	return false
}

// expire asks the next server where one has been silent, and forgets what has
// ended.
func (n *nameServer) expire() {
	if n == nil {
		return
	}
	for _, a := range n.asked {
		if a.fd >= 0 && time.Now().After(a.until) {
			n.ask(a)
		}
	}
	n.asked = slices.DeleteFunc(n.asked, func(a *asked) bool { return a.fd < 0 })
	n.callers = slices.DeleteFunc(n.callers, func(c *caller) bool { return c.fd < 0 })
}

// receive takes the queries that have come by UDP, but not so many that the
// container's output has to wait.
func (n *nameServer) receive(buf []byte) {
	for range 16 {
		k, from, err := unix.Recvfrom(n.udp, buf[:maxDNS/2], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		q, ok := parseQuery(buf[:k])
		if !ok {
			continue
		}
		if answer := n.answer(&q, q.size); answer != nil {
			unix.Sendto(n.udp, answer, unix.MSG_DONTWAIT, from)
			continue
		}
		n.pass(q, from, nil)
	}
}

// answer is the reply to what is known here; nil for what is to be passed on.
func (n *nameServer) answer(q *question, limit int) []byte {
	in := n.networks()
	name, inDomain := q.name, false
	if k := len(name) - len(NameDomain) - 1; k > 0 && name[k:] == "."+NameDomain {
		name, inDomain = name[:k], true
	}
	if name == "" {
		return nil
	}
	if a, ok := reverseAddress(name); ok {
		names := namesOf(in, a)
		switch {
		case len(names) == 0:
			return nil
		case q.kind != typePTR && q.kind != typeANY:
			names = nil
		}
		return q.reply(rcodeOK, nil, names, limit)
	}
	list, found := addressesOf(in, name)
	if !found {
		if inDomain || name == NameDomain {
			return q.reply(rcodeNoName, nil, nil, limit)
		}
		return nil
	}
	// Who takes the first takes each in turn.
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return q.reply(rcodeOK, list, nil, limit)
}

// accept takes a connection; when there are too many, the one that has been
// silent for the longest goes.
func (n *nameServer) accept() {
	fd, _, err := unix.Accept4(n.tcp, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return
	}
	if len(n.callers) >= maxCallers {
		closeFD(&n.callers[0].fd)
		n.forget(n.callers[0])
		n.callers = n.callers[1:]
	}
	n.callers = append(n.callers, &caller{fd: fd})
}

// forget gives up what was asked for a caller who has left.
func (n *nameServer) forget(c *caller) {
	for _, a := range n.asked {
		if a.caller == c {
			closeFD(&a.fd)
		}
	}
}

// listen moves bytes of a connection: each message has its length before it.
func (n *nameServer) listen(c *caller, buf []byte) {
	if len(c.out) > 0 && !c.flush() {
		n.forget(c)
		return
	}
	k, err := read(c.fd, buf)
	if err == unix.EAGAIN {
		return
	}
	if k == 0 || err != nil {
		closeFD(&c.fd)
		n.forget(c)
		return
	}
	if i := slices.Index(n.callers, c); i >= 0 {
		n.callers = append(slices.Delete(n.callers, i, i+1), c)
	}
	c.in = append(c.in, buf[:k]...)
	for len(c.in) >= 2 {
		size := int(binary.BigEndian.Uint16(c.in))
		if len(c.in) < 2+size {
			return
		}
		q, ok := parseQuery(append([]byte(nil), c.in[2:2+size]...))
		c.in = c.in[:copy(c.in, c.in[2+size:])]
		if !ok || len(c.out) > maxDNS {
			closeFD(&c.fd)
			n.forget(c)
			return
		}
		if answer := n.answer(&q, 0); answer != nil {
			c.say(answer)
			continue
		}
		n.pass(q, nil, c)
	}
}

// say sends a message.
func (c *caller) say(message []byte) {
	if c.fd < 0 {
		return
	}
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(message)))
	c.out = append(c.out, message...)
	c.flush()
}

// flush writes what is waiting, and reports whether the connection stands.
func (c *caller) flush() bool {
	for len(c.out) > 0 {
		k, err := unix.Write(c.fd, c.out)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return true
		case err != nil:
			closeFD(&c.fd)
			return false
		default:
			c.out = c.out[:copy(c.out, c.out[k:])]
		}
	}
	return true
}

// read reads bytes of a client, and keeps the files that come with them.
func (c *client) read(p []byte) (int, error) {
	var oob [64]byte
	for {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, p, oob[:], unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range messages {
			if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
				c.files = append(c.files, fds...)
			}
		}
		return n, nil
	}
}

// serveNames begins to answer on sockets that a client brought.
func (s *server) serveNames(c *client, payload []byte) {
	cfg, err := DecodeConfig(payload)
	if err == nil && s.names == nil && len(c.files) == 2 {
		cfg.ID = s.cfg.ID
		s.names = newNameServer(cfg, c.files[0], c.files[1])
		c.files = nil
	}
	for i := range c.files { // of a client that does not know the protocol, or came second
		closeFD(&c.files[i])
	}
	c.files = nil
	if s.names != nil {
		c.send(FrameNames, nil)
	}
}
