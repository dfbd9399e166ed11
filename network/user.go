package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A user's network namespace has a device of this package's own in the place
// of the host's: hull-net is the machine at its other end. Its addresses are
// those that slirp4netns made customary.
var (
	UserAddress  = netip.MustParsePrefix("10.0.2.100/24")
	UserGateway  = netip.MustParseAddr("10.0.2.2")
	UserDNS      = netip.MustParseAddr("10.0.2.3") // answers for the host's resolvers
	UserAddress6 = netip.MustParsePrefix("fd00::100/64")
	UserGateway6 = netip.MustParseAddr("fd00::2")
)

// UserMTU is that of the device and, unless they say otherwise, of a user's
// bridges: each frame costs hull-net two system calls, whatever it holds.
const UserMTU = 65520

const (
	userDevice = "hull-tap0" // not a name that Setup chooses
	userPeer   = "hull-tap1"
)

// OutsideCommand is the first argument with which the helper's main is to
// serve a user's namespace; then comes the namespace's path. Descriptor 3 is
// the lock that says it runs, 4 a pipe on which it says that it is ready.
const OutsideCommand = "outside"

// outsideTime is how long hull-net may take to start.
const outsideTime = 20 * time.Second

// ensureOutside makes sure that hull-net serves the namespace of a user's
// bridges. It is called when the container's veth is there already: hull-net
// ends when it sees none, and looks once more after it has let go of the lock.
func (s *setup) ensureOutside(ctx context.Context) error {
	needed := false
	for _, p := range s.nets {
		needed = needed || p.network.Driver == DriverBridge && !p.network.Internal
	}
	if !needed || !s.m.servesUser() {
		return nil
	}
	dir, err := s.m.bootDir()
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "outside.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	giveUp := time.After(outsideTime)
	for unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		// It runs, or is about to: another command starts it, or it ends.
		if l, err := s.h.routes.link(userDevice); err == nil && l.flags&unix.IFF_UP != 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-giveUp:
			return errors.New("the user-mode network does not get ready: see " + filepath.Join(dir, "outside.log"))
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := s.m.startOutside(ctx, dir, lock); err != nil {
		return fmt.Errorf("start the user-mode network: %w", err)
	}
	return nil
}

func (m *Manager) servesUser() bool { return m.o.Rootless && m.o.NetNS != "" && m.o.Helper != "" }

// startOutside starts the program that the user's containers share.
func (m *Manager) startOutside(ctx context.Context, dir string, lock *os.File) error {
	log, err := os.OpenFile(filepath.Join(dir, "outside.log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	netns, err := m.netns()
	if err != nil {
		return err
	}
	out := m.outside()
	if out.Program == OutsideHull {
		_, err = m.runOutside(ctx, lock, netns, log, OutsideCommand, m.o.NetNS)
		return err
	}
	path, err := out.find()
	if err != nil {
		return err
	}
	jobs, err := m.jobDir()
	if err != nil {
		return err
	}
	var j Job
	if out.Program == OutsidePasta {
		// The addresses are those that Hull's own stack has, whatever the host's.
		j, err = pastaJob(path, jobs, m.o.PastaOptions, []string{
			"--ns-ifname", userDevice, "--dns-forward", UserDNS.String(), "--mtu", strconv.Itoa(UserMTU),
			"--address", UserAddress.Addr().String(), "--netmask", strconv.Itoa(UserAddress.Bits()), "--gateway", UserGateway.String(),
		}, nil)
	} else {
		var s slirp
		if s, err = slirpOptions(m.o.SlirpOptions); err == nil {
			j = s.job(path, jobs, userDevice)
		}
	}
	if err != nil {
		return err
	}
	_, err = m.runJob(ctx, lock, netns, log, j)
	return err
}

// awaitReady waits for the byte that hull-net writes.
func awaitReady(ctx context.Context, r *os.File) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(outsideTime)
	}
	r.SetReadDeadline(deadline)
	n, err := r.Read(make([]byte, 1))
	switch {
	case n == 1:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("hull-net is not ready in time: %w", err)
	}
	return errors.New("hull-net ended before it was ready")
}

// A UserDevice is the far end of a user's device.
type UserDevice struct {
	File   *os.File // Ethernet frames
	Packet bool     // File is a packet socket, and no TAP device
}

// OpenUserDevice makes the device in a namespace and gives it its addresses
// and routes. That is a TAP device; where the user may not open /dev/net/tun, a
// veth pair whose other end is read by a packet socket.
//
// With own the namespace is a container's, which has a stack to itself.
func OpenUserDevice(netns *os.File, own bool) (d UserDevice, err error) {
	device := userDevice
	if own {
		device = ownDevice
	}
	err = inNamespace(netns, func() error {
		r, err := openRoutes()
		if err != nil {
			return err
		}
		defer r.Close()
		if l, err := r.link(device); err == nil { // of one that was killed
			r.linkDelete(l.index, l.name)
			if err := r.flush(); err != nil {
				return err
			}
		}
		if d.File, err = openTAP(device); err != nil {
			d.Packet = true
			if d.File, err = r.openPair(device, int(netns.Fd())); err != nil {
				return err
			}
		}
		if err := r.configureUser(device); err != nil {
			d.File.Close()
			return err
		}
		return nil
	})
	return d, err
}

func openTAP(device string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	ifr, err := unix.NewIfreq(device)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("create TAP device", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// openPair makes a veth pair and a packet socket on its far end. That end has
// no address, and the frames are not for its own hardware address, so that the
// kernel leaves them to the socket.
func (r *routes) openPair(device string, netns int) (*os.File, error) {
	r.addVeth(vethPair{host: device, peer: userPeer, netns: netns, mtu: UserMTU})
	if err := r.flush(); err != nil {
		return nil, err
	}
	peer, err := r.link(userPeer)
	if err != nil {
		return nil, err
	}
	if err := sysctl("ipv6/conf/"+userPeer+"/disable_ipv6", "1"); err != nil {
		return nil, err
	}
	r.linkUp(peer.index, userPeer)
	if err := r.flush(); err != nil {
		return nil, err
	}
	const allProtocols = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	for _, o := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 8<<20) // as much as the host allows
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols & 0xffff, Ifindex: peer.index}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind AF_PACKET", err)
	}
	return os.NewFile(uintptr(fd), "packet socket"), nil
}

func (r *routes) configureUser(device string) error {
	l, err := r.link(device)
	if err != nil {
		return err
	}
	for _, v := range []string{"accept_ra", "accept_dad"} {
		if err := sysctl("ipv6/conf/"+device+"/"+v, "0"); err != nil {
			return err
		}
	}
	r.linkMTU(l.index, device, UserMTU)
	r.linkUp(l.index, device)
	r.addAddress(l.index, UserAddress, device)
	r.addRoute(l.index, netip.PrefixFrom(netip.IPv4Unspecified(), 0), UserGateway, defaultMetric, unix.RTN_UNICAST)
	if err := r.flush(); err != nil {
		return err
	}
	// A host without IPv6 has none for a user either.
	r.addAddress(l.index, UserAddress6, device)
	r.addRoute(l.index, netip.PrefixFrom(netip.IPv6Unspecified(), 0), UserGateway6, defaultMetric, unix.RTN_UNICAST)
	_ = r.flush()
	return nil
}

// A UserWatch tells whether containers are left in a user's namespace.
type UserWatch struct{ routes *routes }

// WatchUser opens a watch; File is to be passed on to NewUserWatch.
func WatchUser(netns *os.File) (f *os.File, err error) {
	err = inNamespace(netns, func() error {
		s, err := openSocket(unix.NETLINK_ROUTE)
		if err == nil {
			f = os.NewFile(uintptr(s.fd), "netlink")
		}
		return err
	})
	return f, err
}

// NewUserWatch returns the watch of a file of WatchUser, which it takes over.
func NewUserWatch(fd int) *UserWatch { return &UserWatch{&routes{socket: &socket{fd: fd}}} }

// Used reports whether a container's veth is there. On an error it says yes.
func (w *UserWatch) Used() bool {
	links, err := w.routes.links()
	if err != nil {
		return true
	}
	for _, l := range links {
		if l.kind == "veth" && l.name != userDevice && l.name != userPeer {
			return true
		}
	}
	return false
}
