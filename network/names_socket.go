package network

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// NameServer is where a container of a network with names finds its name
// server, on its own loopback device: nothing of it is on the host's addresses.
var NameServer = netip.MustParseAddr("127.0.0.11")

// ListenNames opens the sockets of a name server in a container's namespace:
// UDP and TCP. Who holds them need not be in it.
func ListenNames(netns *os.File) (sockets [2]*os.File, err error) {
	err = inNamespace(netns, func() error {
		for i, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
			sockets[i] = os.NewFile(uintptr(fd), "name server")
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 53, Addr: NameServer.As4()}); err != nil {
				return os.NewSyscallError("bind", err)
			}
		}
		return os.NewSyscallError("listen", unix.Listen(int(sockets[1].Fd()), 128))
	})
	if err == nil {
		return sockets, nil
	}
	for _, f := range sockets {
		if f != nil {
			f.Close()
		}
	}
	return [2]*os.File{}, fmt.Errorf("open the name server's sockets on %s: %w", NameServer, err)
}
