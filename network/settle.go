package network

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"hull/state"
)

// SettleOptions say what a running container is to have.
type SettleOptions struct {
	ContainerID string
	Netns       *os.File // the container's network namespace
	Networks    []string // by name or ID
}

// Settle takes back what Connect did before it was cut off, and completes
// Disconnect: the container leaves networks that are not listed, and whatever
// else bears its ID goes. It returns what the container has; one that has no
// record is left alone.
func (m *Manager) Settle(ctx context.Context, o SettleOptions) ([]Joined, error) {
	rec, err := m.readRecord(o.ContainerID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var listed []string
	for _, name := range o.Networks {
		if n, err := m.load(name); err == nil {
			name = n.Name
		}
		listed = append(listed, name)
	}
	for _, j := range rec.Networks {
		if slices.Contains(listed, j.Network) {
			continue
		}
		if err := m.Disconnect(ctx, DisconnectOptions{ContainerID: o.ContainerID, Netns: o.Netns, Network: j.Network}); err != nil {
			return nil, err
		}
	}
	lock, err := m.lock(ctx, false)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if rec, err = m.readRecord(o.ContainerID); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	rec.Container = o.ContainerID
	if err := m.dropStray(rec, o.Netns); err != nil {
		return nil, err
	}
	return rec.Networks, defaultRoutes(o.Netns, rec.Networks)
}

// dropStray removes the devices, leases and names of a running container that
// its record does not have.
func (m *Manager) dropStray(rec record, netns *os.File) error {
	dir, err := m.bootDir()
	if err != nil {
		return err
	}
	networks, err := state.ReadDir(filepath.Join(dir, "leases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	for _, n := range networks {
		var has Joined
		if i := slices.IndexFunc(rec.Networks, func(j Joined) bool { return j.Network == n.Name() }); i >= 0 {
			has = rec.Networks[i]
		} else {
			if err := m.removeNames(rec.Container, n.Name()); err != nil {
				return err
			}
		}
		if err := m.dropLeases(h, rec, m.leases(dir, n.Name(), nil), has, netns); err != nil {
			return err
		}
	}
	return m.cleanTemp(dir)
}

// dropLeases gives back the container's leases of one network that has does not
// list. The device goes first: the lease is what tells of it.
func (m *Manager) dropLeases(h *host, rec record, l *leases, has Joined, netns *os.File) error {
	held, err := l.of(rec.Container)
	if err != nil {
		return err
	}
	for a, lease := range held {
		if slices.ContainsFunc(has.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			continue
		}
		if lease.device != "-" {
			err = removeInterface(h, netns, Joined{HostName: lease.device})
		} else {
			err = removeSlaves(netns, rec)
		}
		if err == nil {
			err = l.release(a, rec.Container)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeSlaves deletes the devices of macvlan and ipvlan in a container's
// namespace that its record does not have.
func removeSlaves(netns *os.File, rec record) error {
	return inNamespace(netns, func() error {
		r, err := openRoutes()
		if err != nil {
			return err
		}
		defer r.Close()
		all, err := r.links()
		if err != nil {
			return err
		}
		for _, l := range all {
			recorded := slices.ContainsFunc(rec.Networks, func(j Joined) bool { return j.Interface == l.name })
			if !recorded && (l.kind == DriverMacvlan || l.kind == DriverIpvlan) {
				r.linkDelete(l.index, l.name)
			}
		}
		return r.flush()
	})
}

// cleanTemp removes what writers that were killed left of records and names.
func (m *Manager) cleanTemp(dir string) error {
	names, err := os.ReadDir(filepath.Join(dir, "names"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dirs := []string{filepath.Join(dir, "containers")}
	for _, n := range names {
		dirs = append(dirs, filepath.Join(dir, "names", n.Name()))
	}
	for _, d := range dirs {
		if err := state.CleanTemp(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if d != dirs[0] {
			_ = unix.Rmdir(d) // when it is empty
		}
	}
	return nil
}
