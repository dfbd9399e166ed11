package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

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
				return hint(fmt.Errorf("network %s is being used by container %s: %w", n.Name, r.Name, ErrInUse),
					"remove its containers, too, with --force, or take them out: network disconnect")
			}
			if _, err := e.Remove(ctx, r.ID, RemoveOptions{Force: true, Depend: r.Infra, Timeout: timeout}); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return m.Remove(ctx, n.Name)
}

// ConnectNetwork adds a container to a network: a running one at once, any
// other at its next start.
func (e *Engine) ConnectNetwork(ctx context.Context, name string, a NetworkAttach) error {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	m, err := e.Networks()
	if err != nil {
		return err
	}
	n, err := m.Inspect(ctx, a.Name)
	if err != nil {
		return err
	}
	a.Name = n.Name
	if !e.bridged(r) {
		return fmt.Errorf("connect container %s: its network mode is %s: only containers of a bridge join networks", r.Name, r.Options.NetworkMode)
	}
	have := r.networks()
	if slices.ContainsFunc(have, func(old NetworkAttach) bool { return old.Name == a.Name }) {
		return fmt.Errorf("connect container %s: it is in network %s already: %w", r.Name, a.Name, ErrExists)
	}
	one := *r
	one.Options.Networks, one.Options.IP, one.Options.IP6, one.Options.MAC, one.Options.NetworkAliases = []NetworkAttach{a}, "", "", "", nil
	attach, err := one.attachments()
	if err != nil {
		return err
	}
	if s.running() {
		netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.Pid))
		if err != nil {
			return fmt.Errorf("connect container %s: %w", r.Name, err)
		}
		defer netns.Close()
		j, err := m.Connect(ctx, network.ConnectOptions{ContainerID: r.ID, ContainerName: r.Name, Netns: netns, Network: attach[0]})
		if err != nil {
			return err
		}
		first := !named(s.Networks) && !s.Named
		s.Networks, s.Named = append(s.Networks, j), s.Named || j.DNS
		// Of a join that fails from here on, the next command takes back what the
		// record does not list.
		if err := e.saveState(r, s); err != nil {
			e.leave("container", r.ID)
			return err
		}
		if first && j.DNS {
			if err := e.addNames(r, s, netns); err != nil {
				e.leave("container", r.ID)
				return fmt.Errorf("connect container %s: %w", r.Name, err)
			}
		}
	}
	r.Options.Networks = append(have, a)
	r.Options.NetworkMode = "bridge"
	if err := e.saveRecord(r); err != nil {
		e.leave("container", r.ID)
		return err
	}
	e.event(ctx, "network", "connect", r, map[string]string{"network": a.Name})
	return nil
}

// DisconnectNetwork takes a container out of a network.
func (e *Engine) DisconnectNetwork(ctx context.Context, name, net string) error {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	m, err := e.Networks()
	if err != nil {
		return err
	}
	n, err := m.Inspect(ctx, net)
	if err != nil {
		return err
	}
	have := r.networks()
	i := slices.IndexFunc(have, func(a NetworkAttach) bool { return a.Name == n.Name })
	if !e.bridged(r) || i < 0 {
		return fmt.Errorf("disconnect container %s: it is not in network %s: %w", r.Name, n.Name, ErrNotFound)
	}
	// The record comes first: should this process be killed, the next command
	// takes the container out of what it does not list.
	before := r.Options
	r.Options.Networks = slices.Delete(have, i, i+1)
	if len(r.Options.Networks) == 0 {
		r.Options.NetworkMode = "none" // an empty list would mean the default network
	}
	if err := e.saveRecord(r); err != nil {
		return err
	}
	if err := e.leaveNetwork(ctx, m, r, s, n.Name); err != nil {
		r.Options = before
		return errors.Join(err, e.saveRecord(r))
	}
	e.event(ctx, "network", "disconnect", r, map[string]string{"network": n.Name})
	return nil
}

// leaveNetwork takes a container out of a network now, if it runs.
func (e *Engine) leaveNetwork(ctx context.Context, m *network.Manager, r *record, s *runState, name string) error {
	if !s.running() {
		return nil
	}
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.Pid))
	if err != nil {
		return fmt.Errorf("disconnect container %s: %w", r.Name, err)
	}
	defer netns.Close()
	if err := m.Disconnect(ctx, network.DisconnectOptions{ContainerID: r.ID, Netns: netns, Network: name}); err != nil {
		return err
	}
	s.Networks = slices.DeleteFunc(s.Networks, func(j network.Joined) bool { return j.Network == name })
	return e.saveState(r, s)
}

// bridged says whether the container's own namespace may have interfaces of
// networks; one that left its last is in mode none.
func (e *Engine) bridged(r *record) bool {
	switch r.networkMode(e) {
	case "", "bridge", "default", "none":
		return true
	case "private":
		return !e.ownStacks()
	}
	return false
}

// checkNetworks refuses what a start would.
func (e *Engine) checkNetworks(o *CreateOptions) error {
	if strings.HasPrefix(o.NetworkMode, network.OutsidePasta) && !e.o.Rootless {
		return network.ErrRootPasta
	}
	for _, a := range o.Networks {
		if a.Name == "" {
			continue
		}
		m, err := e.Networks()
		if err == nil {
			err = m.Known(a.Name)
		}
		if errors.Is(err, network.ErrNotFound) {
			return hint(err, "make it: hull network create %s", a.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownStacks says whether "private" means a stack of the container's own, as
// for a user, and not the default network.
func (e *Engine) ownStacks() bool { return e.o.Rootless && e.o.NetNS != "" }

// ownStack is the outside of a container that shares none, else nil.
func (e *Engine) ownStack(r *record) (*network.Outside, error) {
	mode := r.networkMode(e)
	switch word, _, _ := strings.Cut(mode, ":"); {
	case word == network.OutsidePasta, word == network.OutsideSlirp, word == "private" && e.ownStacks():
		out, err := network.ParseOutside(mode)
		return &out, err
	}
	return nil, nil
}

// networks are those the container joins, the default one by its name, with
// what was said for the first among its own.
func (r *record) networks() []NetworkAttach {
	o := &r.Options
	if o.NetworkMode == "none" {
		return nil
	}
	out := slices.Clone(o.Networks)
	if len(out) == 0 {
		out = []NetworkAttach{{}}
	}
	for i := range out {
		out[i].Name = firstOf(out[i].Name, network.DefaultName)
	}
	return out
}
