package engine

import (
	"context"
	"errors"
	"fmt"

	"hull/network"
)

// UsedNetworks are the names of networks that a container, running or not, has.
func (e *Engine) UsedNetworks(ctx context.Context) (map[string]bool, error) {
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{network.DefaultName: true}
	for _, r := range all {
		for _, n := range r.Options.Networks {
			used[n.Name] = true
		}
	}
	return used, nil
}

// RemoveNetwork removes a network that no container has; with force such
// containers are removed first.
func (e *Engine) RemoveNetwork(ctx context.Context, m *network.Manager, name string, force bool, timeout *uint) error {
	n, err := m.Inspect(ctx, name)
	if err != nil {
		return err
	}
	all, err := e.records()
	if err != nil {
		return err
	}
	for _, r := range all {
		for _, a := range r.Options.Networks {
			if a.Name != n.Name && a.Name != n.ID {
				continue
			}
			if !force {
				return fmt.Errorf("network %s is being used by container %s: %w", n.Name, r.Name, ErrInUse)
			}
			if _, err := e.Remove(ctx, r.ID, RemoveOptions{Force: true, Timeout: timeout}); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return m.Remove(ctx, n.Name)
}
