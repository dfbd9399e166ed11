package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/state"
)

// Remove removes a network that no container is joined to; the caller has
// removed or disconnected those it may.
func (m *Manager) Remove(ctx context.Context, name string) error {
	lock, err := m.lock(ctx, true)
	if err != nil {
		return err
	}
	defer lock.Release()
	n, err := m.load(name)
	if err != nil {
		return fmt.Errorf("remove %w", err)
	}
	if n.Name == DefaultName {
		return fmt.Errorf("remove network %s: the default network cannot be removed", n.Name)
	}
	h, err := m.host()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := m.unused(h, n); err != nil {
		return err
	}
	if n.Driver == DriverBridge {
		if err := removeBridge(h, n); err != nil {
			return fmt.Errorf("remove network %s: %w", n.Name, err)
		}
	}
	if err := removeOwnDevice(h, n); err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	dir, err := m.bootDir()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "leases", n.Name)); err != nil {
		return err
	}
	if err := state.Remove(m.path(n.Name), true); err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	return nil
}

const inUseHint = "remove its containers, too, with --force, or take them out: network disconnect"

// unused fails when a living container is joined to n.
func (m *Manager) unused(h *host, n *Network) error {
	records, err := m.records()
	if err != nil {
		return err
	}
	for _, r := range records {
		for _, j := range r.Networks {
			if j.Network == n.Name && !r.dead(h) {
				return hint(fmt.Errorf("remove network %s: %w by container %s", n.Name, ErrInUse, r.label()), inUseHint)
			}
		}
	}
	return nil
}

func removeBridge(h *host, n *Network) error {
	l, err := h.routes.link(n.Interface)
	switch {
	case errors.Is(err, unix.ENODEV): // a removal that was cut off may have left the rest
	case err != nil:
		return err
	case l.kind != "bridge":
		return nil
	default:
		h.routes.linkDelete(l.index, l.name)
		if err := h.routes.flush(); err != nil {
			return err
		}
	}
	for set, e := range bridgeElements(n) {
		h.filter.elements(unix.NFT_MSG_DELSETELEM, 0, unix.NFPROTO_INET, tableName, set, e)
	}
	if err := h.filter.commit(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// Prune removes the networks that no container is joined to and keep does not
// hold back, and returns their names. keep may be nil.
func (m *Manager) Prune(ctx context.Context, keep func(Network) bool) ([]string, error) {
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, n := range all {
		if n.Name == DefaultName || keep != nil && keep(n) {
			continue
		}
		switch err := m.Remove(ctx, n.Name); {
		case errors.Is(err, ErrInUse):
		case err != nil:
			return removed, err
		default:
			removed = append(removed, n.Name)
		}
	}
	return removed, nil
}
