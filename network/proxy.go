package network

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// ProxyCommand is the first argument with which the helper's main calls Proxy.
const ProxyCommand = "proxy"

// ProxyTransparent is the last argument, after the namespace, with which Proxy
// is to be transparent.
const ProxyTransparent = "transparent"

// startProxy hands the held sockets to a process that outlives this command
// and carries what comes to them into the container. One runs for a container
// with published ports, in the host's namespace, until Teardown ends it or the
// container's record goes.
func (s *setup) startProxy(held []*os.File) error {
	path, err := s.m.recordPath(s.rec.Container)
	if err != nil {
		return err
	}
	args := []string{path}
	start := s.h.enter
	if s.m.o.Rootless {
		// The way in is the helper's: it stays a child of the host's namespace.
		args = append(args, s.m.o.NetNS)
		if s.transparent {
			args = append(args, ProxyTransparent)
		}
		start = func(f func() error) error { return f() }
	}
	return start(func() error {
		s.rec.Proxy, err = s.m.launchProxy(held, args...)
		return err
	})
}

// launchProxy starts a proxy, to which the first files are published ports.
func (m *Manager) launchProxy(files []*os.File, args ...string) (id state.ProcessID, err error) {
	c := exec.Command(m.o.Helper, append([]string{ProxyCommand}, args...)...)
	c.ExtraFiles = files
	c.Env = []string{"GOMAXPROCS=2", "GOGC=50"}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return id, fmt.Errorf("start the proxy of published ports: %w", err)
	}
	id, err = state.IdentifyProcess(c.Process.Pid)
	m.lasting(c.Process.Pid, false)
	go c.Wait()
	return id, err // of a process that has ended already
}

// endProxy ends the process that startProxy started and waits until its
// sockets are closed: the ports can be bound again when Teardown returns.
func (r record) endProxy() { end(r.Proxy, unix.SIGKILL) }

// endUnnoted ends what was started for a container with published ports by a
// command that was killed before it wrote that down: it would end by itself a
// moment after the record, with the ports bound until then.
func (m *Manager) endUnnoted(r record) {
	path, err := m.recordPath(r.Container)
	if err != nil || len(r.Ports) == 0 || r.Proxy.Pid != 0 || r.Outside.Pid != 0 {
		return
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		line, err := os.ReadFile(name)
		args := strings.Split(string(line), "\x00")
		if err != nil || len(args) < 3 || args[0] != m.o.Helper || args[1] != ProxyCommand && args[1] != JobCommand || !strings.Contains(args[2], path) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if id, err := state.IdentifyProcess(pid); err == nil {
			end(id, unix.SIGKILL)
		}
	}
}

// endOutside ends the program that setupOwn started, which ends its child.
func (r record) endOutside() {
	if !end(r.Outside, unix.SIGTERM) {
		end(r.Outside, unix.SIGKILL)
	}
}

// end sends a process a signal and waits for its end; false when that does not
// come for two seconds.
func end(p state.ProcessID, signal unix.Signal) bool {
	if p.Pid <= 0 {
		return true
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	if !p.Alive() { // the number was another's when the descriptor was opened
		return true
	}
	if unix.PidfdSendSignal(fd, signal, nil, 0) != nil {
		return true
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 2000)
		if err != unix.EINTR || n > 0 {
			return n > 0
		}
	}
}

// A target is one published port.
type target struct {
	protocol string
	to       []netip.AddrPort // the container's addresses, the first that answers
}

// targets are r's in the order of the held sockets.
func (r record) targets() []target {
	var all []target
	for _, p := range r.Ports {
		if p.Protocol == "sctp" {
			continue
		}
		for i := range p.count() {
			t := target{protocol: p.Protocol}
			for _, j := range r.Networks {
				if j.Internal {
					continue
				}
				for _, a := range j.Addresses {
					t.to = append(t.to, netip.AddrPortFrom(a.Addr(), p.ContainerPort+uint16(i)))
				}
			}
			all = append(all, t)
		}
	}
	return all
}

// ProxyOptions for Proxy.
type ProxyOptions struct {
	// Transparent says that the namespace is one that acceptTransparent has
	// prepared, a user's, in which this process has capabilities.
	Transparent bool
}

// Proxy carries connections and datagrams from the held sockets, descriptors 3
// and up, to the container whose record is at path. It reads the record at each
// connection, so that networks may be joined and left, and returns when the
// record is gone.
//
// With ProxyOptions.Transparent the container sees the client's address.
//
// It is there for what the packet filter cannot rewrite: loopback addresses,
// IPv6 clients of a container without IPv6, and everybody after a flush.
func Proxy(path string, o ProxyOptions) error {
	r, err := loadRecord(path)
	if err != nil {
		return err
	}
	for i, t := range r.targets() {
		f := os.NewFile(uintptr(3+i), "published port")
		p := &proxied{path: path, index: i, o: o}
		if t.protocol == "udp" {
			c, err := net.FilePacketConn(f)
			if err != nil {
				return fmt.Errorf("take over port %d of %d: %w", i+1, len(r.targets()), err)
			}
			go p.datagrams(c.(*net.UDPConn))
		} else {
			l, err := net.FileListener(f)
			if err != nil {
				return fmt.Errorf("take over port %d of %d: %w", i+1, len(r.targets()), err)
			}
			go p.streams(l)
		}
		f.Close()
	}
	return UntilGone(path)
}

func loadRecord(path string) (record, error) {
	var r record
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, state.Unmarshal(b, &r)
}

// UntilGone returns when the file is removed. It is replaced by renaming, so
// its directory is watched.
func UntilGone(path string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_ONLYDIR); err != nil {
		return &os.PathError{Op: "watch", Path: path, Err: err}
	}
	buf := make([]byte, 8<<10)
	for {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if _, err := unix.Read(fd, buf); err != nil && err != unix.EINTR {
			return os.NewSyscallError("read inotify", err)
		}
	}
}

// A proxied is one held socket: the index-th target of the record.
type proxied struct {
	path  string
	index int
	o     ProxyOptions
}

// dial connects to the container on behalf of a client.
func (p *proxied) dial(network string, client netip.AddrPort) (net.Conn, error) {
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	r, err := loadRecord(p.path)
	if err != nil {
		return nil, err
	}
	all := r.targets()
	if p.index >= len(all) {
		return nil, fs.ErrNotExist
	}
	err = errors.New("the container has no address")
	for _, to := range all[p.index].to {
		var c net.Conn
		if p.o.Transparent && r.seenAs(client.Addr(), to.Addr()) {
			if c, err = dialAs(network, client, to); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
				return c, err
			}
		}
		if c, err = net.DialTimeout(network, to.String(), 10*time.Second); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (p *proxied) streams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors: some end
			continue
		}
		go func() {
			defer c.Close()
			from, _ := c.RemoteAddr().(*net.TCPAddr)
			to, err := p.dial("tcp", from.AddrPort())
			if err != nil {
				c.(*net.TCPConn).SetLinger(0) // a reset, as if nobody listened
				return
			}
			defer to.Close()
			Splice(c.(*net.TCPConn), to.(*net.TCPConn))
		}()
	}
}

// A HalfCloser is a stream that can end in one direction.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
}

// Splice copies both ways until both ends have finished. A direction's end is
// passed on; an error ends both.
func Splice(a, b HalfCloser) {
	var both sync.WaitGroup
	one := func(to, from HalfCloser) {
		if _, err := io.Copy(to, from); err != nil {
			to.Close()
			from.Close()
			return
		}
		_ = to.CloseWrite()
	}
	both.Go(func() { one(a, b) })
	one(b, a)
	both.Wait()
}

// Limits of the datagram proxy.
const (
	datagramIdle    = 90 * time.Second
	datagramClients = 4096
)

// datagrams keeps a connected socket for each client, while it is used.
func (p *proxied) datagrams(c *net.UDPConn) {
	var mu sync.Mutex
	clients := map[netip.AddrPort]net.Conn{} // guarded by mu
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		mu.Lock()
		to, full := clients[from], len(clients) >= datagramClients
		mu.Unlock()
		if to == nil {
			if full {
				continue
			}
			if to, err = p.dial("udp", from); err != nil {
				continue
			}
			mu.Lock()
			clients[from] = to
			mu.Unlock()
			go func() {
				back := make([]byte, 64<<10)
				for {
					to.SetReadDeadline(time.Now().Add(datagramIdle))
					n, err := to.Read(back)
					if errors.Is(err, syscall.ECONNREFUSED) {
						continue
					}
					if err != nil {
						break
					}
					_, _ = c.WriteToUDPAddrPort(back[:n], from)
				}
				mu.Lock()
				delete(clients, from)
				mu.Unlock()
				to.Close()
			}()
		}
		to.SetReadDeadline(time.Now().Add(datagramIdle))
		_, _ = to.Write(buf[:n])
	}
}
