package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/state"
)

func (m *Manager) path(name string) string { return filepath.Join(m.config, name+".json") }

// load finds a network by name, ID or unambiguous ID prefix.
func (m *Manager) load(name string) (*Network, error) {
	name = canonical(name)
	if validName(name) == nil {
		n, err := m.read(name)
		if err == nil {
			return &n, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var found *Network
	for i := range all {
		if len(name) < 2 || !strings.HasPrefix(all[i].ID, name) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("network %s: more than one ID begins with it", name)
		}
		found = &all[i]
	}
	if found == nil {
		return nil, fmt.Errorf("network %s: %w", name, ErrNotFound)
	}
	return found, nil
}

func (m *Manager) read(name string) (Network, error) {
	var n Network
	b, err := os.ReadFile(m.path(name))
	if errors.Is(err, fs.ErrNotExist) && name == DefaultName {
		return defaultNetwork(), nil
	}
	if err != nil {
		return n, err
	}
	if err := state.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("read %s: %w", m.path(name), err)
	}
	return n, nil
}

// defaultNetwork is the default network's record while it has no file.
func defaultNetwork() Network {
	return Network{
		Name: DefaultName,
		// The SHA-256 of its name, as podman does it.
		ID:     "fb4dac7b8936e9d78a93fc3fe94f592b43c482c5bf38654a69277bbdc8c6a480",
		Driver: DriverBridge, Interface: defaultInterface,
		Subnets: []Subnet{{Subnet: defaultSubnet, Gateway: defaultSubnet.Addr().Next()}},
		IPAM:    map[string]string{"driver": ipamHostLocal},
	}
}

// save writes a record durably; exclusively: only when there is none.
func (m *Manager) save(n *Network, exclusively bool) error {
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	if exclusively {
		if _, err := os.Lstat(m.path(n.Name)); err == nil {
			return ErrExists
		}
	}
	if err := os.MkdirAll(m.config, 0o700); err != nil {
		return err
	}
	return state.WriteFile(m.config, n.Name+".json", append(b, '\n'), 0o600, true)
}

// List returns all networks by name; the default network is always there.
func (m *Manager) List() ([]Network, error) {
	entries, err := state.ReadDir(m.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	names := []string{DefaultName}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if ok && name != DefaultName && validName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var all []Network
	for _, name := range names {
		n, err := m.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// Inspect returns a network with its containers.
func (m *Manager) Inspect(ctx context.Context, name string) (Network, error) {
	n, err := m.load(name)
	if err != nil {
		return Network{}, fmt.Errorf("inspect %w", err)
	}
	n.Containers = map[string]NetworkContainer{}
	records, err := m.records()
	if err != nil {
		return Network{}, err
	}
	for _, r := range records {
		for _, j := range r.Networks {
			if j.Network == n.Name {
				n.Containers[r.Container] = NetworkContainer{
					Name: r.Name, Interfaces: map[string]NetworkInterface{j.Interface: j.podman()},
				}
			}
		}
	}
	return *n, nil
}

// Exists reports whether there is a network of that name or ID.
func (m *Manager) Exists(ctx context.Context, name string) (bool, error) {
	_, err := m.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Update changes the DNS servers of a network; its containers see it at their
// next start.
func (m *Manager) Update(ctx context.Context, name string, add, drop []netip.Addr) error {
	lock, err := m.lock(ctx, true)
	if err != nil {
		return err
	}
	defer lock.Release()
	n, err := m.load(name)
	if err != nil {
		return fmt.Errorf("update %w", err)
	}
	if !n.DNS {
		return fmt.Errorf("update network %s: DNS is disabled on it", n.Name)
	}
	n.DNSServers = slices.DeleteFunc(n.DNSServers, func(a netip.Addr) bool { return slices.Contains(drop, a) })
	for _, a := range add {
		if !slices.Contains(n.DNSServers, a) {
			n.DNSServers = append(n.DNSServers, a)
		}
	}
	return m.save(n, false)
}
