package monitor

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// pass passes a query on, by the way it came.
func (n *nameServer) pass(q question, peer unix.Sockaddr, c *caller) {
	servers := n.upstream(n.networks())
	if len(servers) == 0 {
		// Nothing leaves: there is no such name here.
		n.tell(&asked{q: q, peer: peer, caller: c}, q.reply(rcodeNoName, nil, nil, q.limit(c)))
		return
	}
	if c == nil {
		q.message = append([]byte(nil), q.message...) // the buffer is used again
	}
	if len(n.asked) >= maxAsked {
		n.refuse(n.asked[0])
	}
	a := &asked{q: q, fd: -1, servers: servers, peer: peer, caller: c}
	n.asked = append(n.asked, a)
	n.ask(a)
}

// limit is the largest answer to a query of a connection, or by UDP.
func (q *question) limit(c *caller) int {
	if c != nil {
		return 0
	}
	return q.size
}

// ask asks the next server, or gives up.
func (n *nameServer) ask(a *asked) {
	closeFD(&a.fd)
	for a.tries < askRounds*len(a.servers) {
		server := a.servers[a.tries%len(a.servers)]
		a.tries++
		if a.send(server, n.port) {
			a.until = time.Now().Add(askTime)
			return
		}
		closeFD(&a.fd)
	}
	n.refuse(a)
}

// refuse says that no server could be asked.
func (n *nameServer) refuse(a *asked) {
	closeFD(&a.fd)
	n.tell(a, a.q.reply(rcodeFailed, nil, nil, a.q.limit(a.caller)))
}

// tell sends the client his answer.
func (n *nameServer) tell(a *asked, message []byte) {
	if a.caller != nil {
		a.caller.say(message)
		return
	}
	unix.Sendto(n.udp, message, unix.MSG_DONTWAIT, a.peer)
}

// send sends the query to a server, from a socket of its own with a port that
// the kernel chooses, under a number that nobody can guess.
func (a *asked) send(server netip.Addr, port int) bool {
	family, kind := unix.AF_INET, unix.SOCK_DGRAM
	if a.caller != nil {
		kind = unix.SOCK_STREAM
	}
	var to unix.Sockaddr
	if server = server.Unmap(); server.Is4() {
		to = &unix.SockaddrInet4{Port: port, Addr: server.As4()}
	} else {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: server.As16(), ZoneId: zone(server.Zone())}
	}
	var err error
	if a.fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		a.fd = -1
		return false
	}
	if err := unix.Connect(a.fd, to); err != nil && err != unix.EINPROGRESS {
		return false
	}
	a.id = uint16(rand.Uint32())
	message := append([]byte(nil), a.q.message...)
	binary.BigEndian.PutUint16(message, a.id)
	if a.caller != nil {
		a.in, a.out = nil, append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
		return true
	}
	_, err = unix.Write(a.fd, message)
	return err == nil
}

// zone is the number of an interface that a link-local address names.
func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr) != nil {
		return 0
	}
	return ifr.Uint32()
}

// hear takes what a server says.
func (n *nameServer) hear(a *asked, buf []byte) {
	if len(a.out) > 0 {
		k, err := unix.Write(a.fd, a.out)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			n.ask(a)
		} else if k > 0 {
			a.out = a.out[k:]
		}
		return
	}
	k, err := read(a.fd, buf)
	if err == unix.EAGAIN {
		return
	}
	if err != nil || k == 0 {
		n.ask(a)
		return
	}
	message := buf[:k]
	if a.caller != nil {
		a.in = append(a.in, message...)
		if len(a.in) < 2 || len(a.in) < 2+int(binary.BigEndian.Uint16(a.in)) {
			return
		}
		message = a.in[2 : 2+int(binary.BigEndian.Uint16(a.in))]
	}
	if !a.q.answers(message, a.id) {
		if a.caller != nil {
			n.ask(a)
		}
		return // a stranger's packet: the server's may still come
	}
	copy(message, a.q.message[:2])
	n.tell(a, message)
	closeFD(&a.fd)
}
