package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ConnectOptions say which running container joins what.
type ConnectOptions struct {
	ContainerID   string
	ContainerName string
	Netns         *os.File // the container's network namespace
	Network       Attach
}

// Connect joins a running container to one more network. After an error
// nothing of it is left. Its published ports stay where they are, unless it had
// no network that could carry them.
func (m *Manager) Connect(ctx context.Context, o ConnectOptions) (_ Joined, err error) {
	s, err := m.begin(ctx, o.ContainerID, o.ContainerName, o.Netns)
	if err != nil {
		return Joined{}, err
	}
	defer s.close()
	old, err := m.readRecord(o.ContainerID)
	if err == nil {
		s.rec, s.old = old, len(old.Networks)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Joined{}, err
	}
	defer func() {
		if err != nil {
			s.undo()
		}
	}()
	n, err := m.load(o.Network.Name)
	if err != nil {
		return Joined{}, err
	}
	if slices.ContainsFunc(s.rec.Networks, func(j Joined) bool { return j.Network == n.Name }) {
		return Joined{}, fmt.Errorf("connect container %s: it is in network %s already: %w", s.rec.label(), n.Name, ErrExists)
	}
	if err := s.plan(ctx, o.Network); err != nil {
		return Joined{}, err
	}
	s.publishes = len(s.rec.Ports) > 0
	if err := s.connect(); err != nil {
		return Joined{}, err
	}
	if err := s.ensureOutside(ctx); err != nil {
		return Joined{}, err
	}
	if err := s.record(); err != nil {
		return Joined{}, err
	}
	if err := m.republish(s.h, old, s.rec); err != nil {
		return Joined{}, err
	}
	return s.rec.Networks[len(s.rec.Networks)-1], nil
}

// DisconnectOptions say which container leaves what.
type DisconnectOptions struct {
	ContainerID string
	Netns       *os.File // nil: it runs no more
	Network     string   // name, ID or ID prefix
}

// Disconnect takes a container out of a network: its interface, addresses,
// names, and the published ports that came in by it, which move to another of
// its networks if there is one.
func (m *Manager) Disconnect(ctx context.Context, o DisconnectOptions) error {
	lock, err := m.lock(ctx, false)
	if err != nil {
		return err
	}
	defer lock.Release()
	n, err := m.load(o.Network)
	if err != nil {
		return fmt.Errorf("disconnect %w", err)
	}
	old, err := m.readRecord(o.ContainerID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	i := slices.IndexFunc(old.Networks, func(j Joined) bool { return j.Network == n.Name })
	if i < 0 {
		return fmt.Errorf("disconnect container %s: it is not in network %s: %w", short(o.ContainerID), n.Name, ErrNotFound)
	}
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	gone := old.Networks[i]
	rec := old
	rec.Networks = slices.Delete(slices.Clone(old.Networks), i, i+1)
	if err := m.republish(h, old, rec); err != nil {
		return err
	}
	if err := removeInterface(h, o.Netns, gone); err != nil {
		return err
	}
	if o.Netns != nil {
		if err := defaultRoutes(o.Netns, rec.Networks); err != nil {
			return err
		}
	}
	if err := m.giveBack(old.Container, gone); err != nil {
		return err
	}
	// The record goes last: what it tells of is given back again, at the latest
	// with the container, when one of these failed.
	return m.writeRecord(rec)
}

// defaultRoutes adds those that the network that was left had in its place.
func defaultRoutes(netns *os.File, joined []Joined) error {
	return inNamespace(netns, func() error {
		r, err := openRoutes()
		if err != nil {
			return err
		}
		defer r.Close()
		for _, j := range joined {
			l, err := r.link(j.Interface)
			if err != nil {
				return err
			}
			for _, g := range j.Gateways {
				r.addRoute(l.index, netip.PrefixFrom(zeroOf(g), 0), g, defaultMetric, unix.RTN_UNICAST)
			}
			// The next one's question must not come between this batch's numbers.
			if err := r.flush(); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeInterface deletes a container's interface: a veth by its host's end.
func removeInterface(h *host, netns *os.File, j Joined) error {
	remove := func(r *routes, name string) error {
		l, err := r.link(name)
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		r.linkDelete(l.index, name)
		return r.flush()
	}
	if j.HostName != "" {
		return remove(h.routes, j.HostName)
	}
	if netns == nil {
		return nil
	}
	return inNamespace(netns, func() error {
		r, err := openRoutes()
		if err != nil {
			return err
		}
		defer r.Close()
		return remove(r, j.Interface)
	})
}

// giveBack removes the names and leases of one interface.
func (m *Manager) giveBack(container string, j Joined) error {
	dir, err := m.bootDir()
	if err != nil {
		return err
	}
	if err := m.removeNames(container, j.Network); err != nil {
		return err
	}
	l := m.leases(dir, j.Network, nil)
	for _, a := range j.Addresses {
		if err := l.release(a.Addr(), container); err != nil {
			return err
		}
	}
	return nil
}

// republish replaces the elements of old by those of rec where they differ.
func (m *Manager) republish(h *host, old, rec record) error {
	a, b := elementsOf(old), elementsOf(rec)
	same := slices.EqualFunc(a, b, func(x, y mapped) bool {
		return x.set == y.set && string(x.key) == string(y.key) && string(x.data) == string(y.data)
	})
	if same {
		return nil
	}
	if err := m.unpublish(h, old); err != nil {
		return err
	}
	return h.filter.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}
