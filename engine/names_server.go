package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

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

// addNames gives a running container a name server: its sockets go to the
// monitor, and its resolv.conf is written anew.
func (e *Engine) addNames(r *record, s *runState, netns *os.File) error {
	if slices.Contains(r.Options.DNS, "none") {
		return nil
	}
	sockets, err := network.ListenNames(netns)
	if err != nil {
		return err
	}
	defer sockets[0].Close()
	defer sockets[1].Close()
	var cfg monitor.Config
	if err := e.nameConfig(r, &cfg); err != nil {
		return err
	}
	conn, err := monitor.Dial(e.containerRun(r.ID), 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if err := conn.Names(cfg, sockets); err != nil {
		return fmt.Errorf("give the monitor its name server: %w", err)
	}
	return e.rewriteResolv(r, s)
}

// rewriteResolv writes a running container's resolv.conf anew, if it has one.
func (e *Engine) rewriteResolv(r *record, s *runState) error {
	err := rewrite(filepath.Join(e.containerRun(r.ID), "resolv.conf"), e.resolvConf(r, s.Networks))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
