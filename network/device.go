package network

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A HostDevice is a network device of this process's namespace that goes into another.
type HostDevice struct {
	Name string
	// As is its name there; empty keeps it. A "%d" in it is the lowest number that is free.
	As string
}

// Validate refuses names that the kernel would not take.
func (d HostDevice) Validate() error {
	if err := validInterface(d.Name); err != nil {
		return err
	}
	if strings.Count(d.As, "%d") > 1 {
		return fmt.Errorf("interface name %q is not valid: it has two places for a number", d.As)
	}
	if d.As == "" {
		return nil
	}
	return validInterface(strings.Replace(d.As, "%d", "0", 1))
}

// A moving is one HostDevice under way.
type moving struct {
	HostDevice
	link      link
	addresses [][]byte // RTM_NEWADDR payloads: header and attributes
	there     int      // its number in the other namespace, 0 before it is there
}

// MoveDevices moves network devices of this process's namespace into ns, with
// their permanent addresses of global scope, and sets them up there. See
// runtime-spec config-linux.md#network-devices. After an error those that were
// moved are back.
func MoveDevices(ns *os.File, devices []HostDevice) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("move network devices: %w", err)
	}
	defer home.Close()
	here, err := openRoutes()
	if err != nil {
		return fmt.Errorf("move network devices: %w", err)
	}
	defer here.Close()
	var there *routes
	err = inNamespace(ns, func() error {
		there, err = openRoutes() // it stays in the namespace that it was made in
		return err
	})
	if err != nil {
		return fmt.Errorf("move network devices: %w", err)
	}
	defer there.Close()
	devices = slices.Clone(devices)
	slices.SortFunc(devices, func(a, b HostDevice) int { return cmp.Compare(a.Name, b.Name) })
	var moved []*moving
	for _, d := range devices {
		m := &moving{HostDevice: d}
		err := m.move(here, there, ns)
		if m.there != 0 {
			moved = append(moved, m)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("move network device %s: %w", d.Name, err)
		for _, m := range slices.Backward(moved) {
			err = errors.Join(err, m.back(here, there, home))
		}
		return err
	}
	return nil
}

func (m *moving) move(here, there *routes, ns *os.File) (err error) {
	if err := m.Validate(); err != nil {
		return err
	}
	if m.link, err = here.link(m.Name); err != nil {
		return err
	}
	if m.addresses, err = here.permanent(m.link.index); err != nil {
		return err
	}
	name := m.As
	if name == "" {
		name = m.Name
	}
	before, err := there.links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(before, func(l link) bool { return l.name == name }) {
		return fmt.Errorf("the container's network namespace has an interface %s: %w", name, unix.EEXIST)
	}
	here.linkMove(m.link.index, ns, name, m.Name)
	moveErr := here.flush()
	// The kernel chooses number and, from a pattern, name.
	after, err := there.links()
	if err != nil {
		return errors.Join(moveErr, err)
	}
	for _, l := range after {
		if !slices.ContainsFunc(before, func(b link) bool { return b.index == l.index }) {
			m.there, name = l.index, l.name
		}
	}
	switch {
	case moveErr != nil:
		return moveErr
	case m.there == 0:
		return errors.New("it is not there after it was moved")
	}
	return there.settleDevice(m.there, name, m.addresses, true)
}

// back returns a device after another one could not be moved.
func (m *moving) back(here, there *routes, home *os.File) error {
	there.linkMove(m.there, home, m.Name, m.Name)
	if err := there.flush(); err != nil {
		return err
	}
	l, err := here.link(m.Name)
	if err != nil {
		return err
	}
	return here.settleDevice(l.index, m.Name, m.addresses, m.link.flags&unix.IFF_UP != 0)
}

// settleDevice gives a moved device its addresses, which the kernel takes from it.
func (r *routes) settleDevice(index int, name string, addresses [][]byte, up bool) error {
	for _, a := range addresses {
		binary.NativeEndian.PutUint32(a[4:], uint32(index))
		r.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST, "give interface %s its address", name)
		r.m.raw(a...)
		r.m.end()
	}
	if up {
		r.linkUp(index, name)
	}
	return r.flush()
}

// linkMove moves a device into a namespace and names it.
func (r *routes) linkMove(index int, ns *os.File, as, name string) {
	r.request(unix.RTM_NEWLINK, 0, 0, "move interface %s", name)
	r.m.ifinfo(index, 0, 0)
	r.m.attrU32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
	r.m.attrString(unix.IFLA_IFNAME, as)
	r.m.end()
}

// permanent are the permanent addresses of global scope of a device, as the
// requests that would give it them.
func (r *routes) permanent(index int) (all [][]byte, err error) {
	err = r.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func(p reply) {
		// struct ifaddrmsg: family, prefix length, flags, scope, index
		const size = unix.SizeofIfAddrmsg
		if p.kind != unix.RTM_NEWADDR || len(p.data) < size || binary.NativeEndian.Uint32(p.data[4:]) != uint32(index) || p.data[3] != unix.RT_SCOPE_UNIVERSE {
			return
		}
		flags := uint32(p.data[2])
		m := message{b: bytes.Clone(p.data[:size])}
		m.b[2] = 0
		attrs(p.data[size:], func(kind uint16, v []byte) {
			switch kind {
			case unix.IFA_FLAGS:
				if len(v) == 4 {
					flags = binary.NativeEndian.Uint32(v)
				}
			case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY:
				m.attr(kind, v)
			}
		})
		if flags&unix.IFA_F_PERMANENT == 0 {
			return
		}
		// Without a search for duplicates, which has been made: the program may use the address at once.
		const keep = unix.IFA_F_PERMANENT | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_MCAUTOJOIN
		flags &= keep
		if p.data[0] == unix.AF_INET6 {
			flags |= unix.IFA_F_NODAD
		}
		m.attrU32(unix.IFA_FLAGS, flags)
		all = append(all, m.b)
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return all, nil
}
