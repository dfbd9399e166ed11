package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// publish reserves the host's ports and fills in those that were left open.
func (s *setup) publish(ports []PortMapping) ([]*os.File, error) {
	var held []*os.File
	for _, p := range ports {
		var files []*os.File
		var port uint16
		// A user's ports are the host's, where this process is; the bridges are elsewhere.
		enter := s.h.enter
		if s.m.o.Rootless {
			enter = func(f func() error) error { return f() }
		}
		err := enter(func() (err error) {
			files, port, err = s.m.reserve(p)
			return err
		})
		if err != nil {
			for _, f := range held {
				f.Close()
			}
			return nil, err
		}
		p.HostPort = port
		held = append(held, files...)
		s.rec.Ports = append(s.rec.Ports, p)
	}
	return held, nil
}

// randomTries bounds the search for a free range of host ports.
const randomTries = 64

// reserve binds a mapping's host ports. A user's are hull-net's to bind.
func (m *Manager) reserve(p PortMapping) ([]*os.File, uint16, error) {
	if p.HostPort != 0 {
		files, err := bindRange(p, p.HostPort)
		if err != nil {
			return nil, 0, m.portError(p, err)
		}
		return files, p.HostPort, nil
	}
	var last error
	for range randomTries {
		first, err := bind(p.HostIP, 0, p.Protocol)
		if err != nil {
			return nil, 0, m.portError(p, err)
		}
		if first == nil {
			return nil, 0, fmt.Errorf("publish %s: a random port needs tcp or udp", p)
		}
		port, err := boundPort(first)
		if err != nil || p.count() == 1 {
			return []*os.File{first}, port, err
		}
		first.Close()
		files, err := bindRange(p, port)
		if err == nil {
			return files, port, nil
		}
		last = err
	}
	return nil, 0, m.portError(p, last)
}

// A bindError is the failure to bind one port.
type bindError struct {
	port uint16
	err  error
}

func (e *bindError) Error() string { return fmt.Sprintf("bind port %d: %v", e.port, e.err) }
func (e *bindError) Unwrap() error { return e.err }

func bindRange(p PortMapping, first uint16) ([]*os.File, error) {
	var files []*os.File
	for i := range p.count() {
		if int(first)+i > 65535 {
			return nil, &bindError{first, unix.ERANGE}
		}
		f, err := bind(p.HostIP, first+uint16(i), p.Protocol)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, err
		}
		if f != nil {
			files = append(files, f)
		}
	}
	return files, nil
}

// bind binds one port, and listens where the protocol does; nil for SCTP,
// which many kernels lack as a socket and translate all the same.
func bind(ip netip.Addr, port uint16, protocol string) (*os.File, error) {
	kind := unix.SOCK_STREAM
	switch protocol {
	case "udp":
		kind = unix.SOCK_DGRAM
	case "sctp":
		return nil, nil
	}
	fd, address, err := portSocket(ip, port, kind)
	if err != nil {
		return nil, &bindError{port, err}
	}
	if kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, address)
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &bindError{port, err}
	}
	return os.NewFile(uintptr(fd), "published port"), nil
}

// portSocket makes the socket: for all addresses one that takes both families
// where the kernel has IPv6.
func portSocket(ip netip.Addr, port uint16, kind int) (int, unix.Sockaddr, error) {
	kind |= unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if !ip.IsValid() || ip.Is6() {
		fd, err := unix.Socket(unix.AF_INET6, kind, 0)
		if err == nil {
			only := 0
			a := &unix.SockaddrInet6{Port: int(port)}
			if ip.IsValid() {
				only, a.Addr = 1, ip.As16()
			}
			return fd, a, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
		}
		if ip.IsValid() {
			return -1, nil, err
		}
	}
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	a := &unix.SockaddrInet4{Port: int(port)}
	if ip.IsValid() {
		a.Addr = ip.As4()
	}
	return fd, a, err
}

func boundPort(f *os.File) (uint16, error) {
	a, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), nil
	case *unix.SockaddrInet6:
		return uint16(a.Port), nil
	}
	return 0, errors.New("getsockname: no internet address")
}

// portError explains why a port cannot be published, naming who has it.
func (m *Manager) portError(p PortMapping, err error) error {
	var b *bindError
	if !errors.As(err, &b) {
		return fmt.Errorf("publish %s: %w", p, err)
	}
	at := fmt.Sprintf("publish port %d/%s", b.port, p.Protocol)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s: %w by %s", at, ErrPort, m.portHolder(b.port, p.Protocol))
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s: the host has no address %s", at, p.HostIP)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w: ports below net.ipv4.ip_unprivileged_port_start need privileges", at, b.err)
	}
	return fmt.Errorf("%s: %w", at, b.err)
}

// portHolder names the container or process that has a port. It reads much,
// but only to explain a failure.
func (m *Manager) portHolder(port uint16, protocol string) string {
	records, _ := m.records()
	for _, r := range records {
		for _, p := range r.Ports {
			if p.Protocol == protocol && port >= p.HostPort && int(port) < int(p.HostPort)+p.count() {
				return "container " + r.label()
			}
		}
	}
	inodes := socketInodes(port, protocol)
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		fds, _ := os.ReadDir(dir + "/fd")
		for _, fd := range fds {
			to, err := os.Readlink(dir + "/fd/" + fd.Name())
			if err == nil && inodes[to] {
				name, _ := os.ReadFile(dir + "/comm")
				return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(name)))
			}
		}
	}
	return "another process"
}

func (r record) label() string {
	if r.Name == "" {
		return short(r.Container)
	}
	return r.Name + " (" + short(r.Container) + ")"
}

// socketInodes are the names that /proc/PID/fd has for the sockets bound to a
// port.
func socketInodes(port uint16, protocol string) map[string]bool {
	found := map[string]bool{}
	for _, table := range []string{protocol, protocol + "6"} {
		b, _ := os.ReadFile("/proc/net/" + table)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || protocol == "tcp" && f[3] != "0A" {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port {
				found["socket:["+f[9]+"]"] = true
			}
		}
	}
	return found
}

// A mapped port is an element of one of the maps.
type mapped struct {
	set string
	element
}

// elementsOf are the map elements that publish r's ports. Ports on loopback
// addresses have none: their sockets are all they need.
func elementsOf(r record) []mapped {
	var to4, to6 netip.Addr
	for _, j := range r.Networks {
		if j.Driver != DriverBridge || j.Internal {
			continue
		}
		for _, a := range j.Addresses {
			if a.Addr().Is4() && !to4.IsValid() {
				to4 = a.Addr()
			}
			if a.Addr().Is6() && !to6.IsValid() {
				to6 = a.Addr()
			}
		}
	}
	var all []mapped
	for _, p := range r.Ports {
		if p.HostIP.IsLoopback() {
			continue
		}
		for i := range p.count() {
			if to4.IsValid() && (!p.HostIP.IsValid() || p.HostIP.Is4()) {
				all = append(all, p.mapped(i, to4, mapAny4, mapPorts4, r.Container))
			}
			if to6.IsValid() && (!p.HostIP.IsValid() || p.HostIP.Is6()) {
				all = append(all, p.mapped(i, to6, mapAny6, mapPorts6, r.Container))
			}
		}
	}
	return all
}

func (p PortMapping) mapped(i int, to netip.Addr, anyMap, portMap, container string) mapped {
	number := byte(unix.IPPROTO_TCP)
	switch p.Protocol {
	case "udp":
		number = unix.IPPROTO_UDP
	case "sctp":
		number = unix.IPPROTO_SCTP
	}
	port := func(first uint16) []byte {
		return append(binary.BigEndian.AppendUint16(nil, first+uint16(i)), 0, 0)
	}
	m := mapped{set: anyMap, element: element{key: []byte{number, 0, 0, 0}, comment: container}}
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		m.set = portMap
		m.key = append(m.key, p.HostIP.AsSlice()...)
	}
	m.key = append(m.key, port(p.HostPort)...)
	m.data = append(to.AsSlice(), port(p.ContainerPort)...)
	return m
}

// commitPorts inserts the elements, each exclusively: the kernel decides who
// has a port.
func (s *setup) commitPorts() error {
	all := elementsOf(s.rec)
	err := s.h.filter.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, all)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// The sockets were free, so whoever has the element has lost his own: a
	// dead container, or one whose monitor was killed.
	if err := s.m.collect(s.h, s.rec.Container); err != nil {
		return err
	}
	if err := s.h.filter.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, all); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("publish ports: %w by another container: %w", ErrPort, err)
		}
		return err
	}
	return nil
}

// change inserts or deletes elements, in as few transactions as fit.
func (f *filter) change(kind int, flags uint16, all []mapped) error {
	done := 0
	for start := 0; start < len(all); {
		end := start
		for end < len(all) && len(f.m.b) < maxBatch {
			run := end
			for run < len(all) && all[run].set == all[end].set && run-end < maxElements {
				run++
			}
			part := make([]element, 0, run-end)
			for _, m := range all[end:run] {
				part = append(part, m.element)
			}
			f.elements(kind, flags, unix.NFPROTO_INET, tableName, all[end].set, part)
			end = run
		}
		if err := f.commit(); err != nil {
			if kind == unix.NFT_MSG_NEWSETELEM && done > 0 {
				_ = f.change(unix.NFT_MSG_DELSETELEM, 0, all[:done])
			}
			return err
		}
		start, done = end, end
	}
	return nil
}

// unpublish removes r's elements, whichever of them are there.
func (m *Manager) unpublish(h *host, r record) error {
	all := elementsOf(r)
	err := h.filter.change(unix.NFT_MSG_DELSETELEM, 0, all)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	for _, e := range all { // some are gone: one at a time
		err := h.filter.change(unix.NFT_MSG_DELSETELEM, 0, []mapped{e})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
