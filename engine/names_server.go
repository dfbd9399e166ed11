package engine

import (
	"slices"

	"hull/monitor"
	"hull/network"
)

// named says whether one of the networks has names: the container's monitor
// answers for them then.
func named(joined []network.Joined) bool {
	return slices.ContainsFunc(joined, func(j network.Joined) bool { return j.DNS })
}

// serveNames opens the name server's sockets in the container's network
// namespace; its monitor is to hold them.
func (t *starting) serveNames() (err error) {
	if !named(t.net.Networks) || slices.Contains(t.r.Options.DNS, "none") {
		return nil
	}
	if t.names, err = network.ListenNames(t.netns); err != nil {
		return err
	}
	t.keep(t.names[0])
	t.keep(t.names[1])
	return nil
}

// nameConfig tells a monitor where the names are, and whom to ask for others.
func (e *Engine) nameConfig(r *record, cfg *monitor.Config) error {
	m, err := e.Networks()
	if err != nil {
		return err
	}
	if cfg.NamesDir, err = m.NamesDir(); err != nil {
		return err
	}
	cfg.NameServers = e.o.Defaults.DNS
	if len(r.Options.DNS) > 0 {
		cfg.NameServers = r.Options.DNS
	}
	return nil
}
