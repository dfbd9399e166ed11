package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TeardownOptions name the container.
type TeardownOptions struct {
	ContainerID string
	// Search is for a container whose Setup may have been cut off before it
	// wrote down all that it took: that is looked for.
	Search bool
}

// Teardown gives back what Setup took: leases, published ports, names. The
// devices end with the container's namespace, which the kernel cleans up by
// itself; nobody waits for it. Calling it again, or for a container that has
// no network, is no error.
func (m *Manager) Teardown(ctx context.Context, o TeardownOptions) error {
	err := m.teardown(o.ContainerID)
	if err == nil && o.Search {
		err = m.search(o.ContainerID)
	}
	if err != nil {
		return fmt.Errorf("tear down the networks of container %s: %w", short(o.ContainerID), err)
	}
	return nil
}

func (m *Manager) teardown(container string) error {
	r, err := m.readRecord(container)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(r.Ports) > 0 && r.Outside.Pid == 0 {
		h, err := m.host()
		if err != nil {
			return err
		}
		defer h.Close()
		if err := m.unpublish(h, r); err != nil {
			return err
		}
	}
	return m.forget(r)
}

// search gives back what no record tells of, and removes what writers that were
// killed left.
func (m *Manager) search(container string) error {
	dir, err := m.bootDir()
	if err != nil {
		return err
	}
	networks, err := os.ReadDir(filepath.Join(dir, "leases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, n := range networks {
		if err := m.removeNames(container, n.Name()); err != nil {
			return err
		}
		if err := m.leases(dir, n.Name(), nil).releaseAll(container); err != nil {
			return err
		}
	}
	return m.cleanTemp(dir)
}

// forget removes a container's files; its record last, since it is the list.
func (m *Manager) forget(r record) error {
	m.endUnnoted(r)
	r.endProxy()
	r.endOutside()
	for _, j := range r.Networks {
		if err := m.giveBack(r.Container, j); err != nil {
			return err
		}
	}
	path, err := m.recordPath(r.Container)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// collect forgets the containers whose devices are all gone, but not except.
func (m *Manager) collect(h *host, except string) error {
	all, err := m.records()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Container == except || !r.dead(h) {
			continue
		}
		if err := m.unpublish(h, r); err != nil {
			return err
		}
		if err := m.forget(r); err != nil {
			return err
		}
	}
	return nil
}

// dead reports whether all of the container's veths are gone; false when it
// has none, since then there is nothing to tell by. A record is written after
// its devices were made.
func (r record) dead(h *host) bool {
	veths := 0
	for _, j := range r.Networks {
		if j.HostName == "" {
			continue
		}
		veths++
		if _, err := h.routes.link(j.HostName); !errors.Is(err, unix.ENODEV) {
			return false
		}
	}
	return veths > 0
}

// Collect forgets what dead containers of this boot have left: leases,
// elements, names. The devices tell: a container's end with its namespace.
func (m *Manager) Collect(ctx context.Context) error {
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	return m.collect(h, "")
}

// Reload lays the packet filter anew, with the networks and published ports of
// all living containers, as after a firewall's restart. Devices stay.
func (m *Manager) Reload(ctx context.Context) error {
	lock, err := m.lock(ctx, true)
	if err != nil {
		return err
	}
	defer lock.Release()
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := m.collect(h, ""); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return m.restore(h)
}

// restore lays the tables and adds what the records say. The exclusive lock is
// held.
func (m *Manager) restore(h *host) error {
	networks, err := m.List()
	if err != nil {
		return err
	}
	lay := func(refuse expr) error {
		h.filter.lay(refuse)
		for i := range networks {
			n := &networks[i]
			if n.Driver != DriverBridge {
				continue
			}
			if _, err := h.routes.link(n.Interface); err == nil {
				h.filter.addBridge(n)
			}
		}
		return h.filter.commit()
	}
	err = lay(reject())
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) { // a kernel without it
		err = lay(verdict(dropPacket, ""))
	}
	if err != nil {
		return err
	}
	records, err := m.records()
	if err != nil {
		return err
	}
	var all []mapped
	for _, r := range records {
		if !r.dead(h) {
			all = append(all, elementsOf(r)...)
		}
	}
	return h.filter.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, all)
}
