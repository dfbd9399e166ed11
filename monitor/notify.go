package monitor

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// A notifier passes a container's words on to the service manager, which
// listens only to processes of the service's own cgroup: the monitor is one,
// the container often is not.
type notifier struct {
	fd, out int
	to      unix.Sockaddr
	buf     [4096]byte
}

// notifyWords are what a container may say. Process IDs are those of its
// namespace, and descriptors are not passed on.
var notifyWords = [][]byte{
	[]byte("READY="), []byte("RELOADING="), []byte("STOPPING="), []byte("STATUS="), []byte("ERRNO="), []byte("BUSERROR="), []byte("EXIT_STATUS="),
	[]byte("WATCHDOG="), []byte("WATCHDOG_USEC="), []byte("EXTEND_TIMEOUT_USEC="), []byte("MONOTONIC_USEC="),
}

// newNotifier reads the socket in, which the engine has bound to a name.
func newNotifier(in int, to string) (*notifier, error) {
	out, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	unix.SetNonblock(in, true)
	return &notifier{fd: in, out: out, to: &unix.SockaddrUnix{Name: to}}, nil
}

// begin says which process the service is, before anything of the container's
// is passed on.
func (n *notifier) begin() {
	if n != nil {
		unix.Sendto(n.out, []byte("MAINPID="+strconv.Itoa(unix.Getpid())+"\n"), unix.MSG_NOSIGNAL, n.to)
	}
}

func (n *notifier) watch(add func(fd int, events int16)) {
	if n != nil {
		add(n.fd, unix.POLLIN)
	}
}

// handle passes on what has come; it says whether fd is its own.
func (n *notifier) handle(fd int) bool {
	if n == nil || fd != n.fd {
		return false
	}
	// A container that speaks without end has its turn like all others.
	for range 16 {
		k, _, err := unix.Recvfrom(n.fd, n.buf[:], 0)
		if err != nil {
			break
		}
		if text := allowed(n.buf[:k]); len(text) > 0 {
			unix.Sendto(n.out, text, unix.MSG_NOSIGNAL, n.to)
		}
	}
	return true
}

// drain passes on what a container said before its end.
func (n *notifier) drain() {
	if n != nil {
		n.handle(n.fd)
	}
}

// allowed are the lines of a message that are passed on.
func allowed(message []byte) []byte {
	var out []byte
	for len(message) > 0 {
		line, rest, _ := bytes.Cut(message, []byte{'\n'})
		message = rest
		for _, w := range notifyWords {
			if bytes.HasPrefix(line, w) {
				out = append(append(out, line...), '\n')
			}
		}
	}
	return out
}
