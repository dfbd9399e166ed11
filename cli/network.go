package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/network"
)

func (s *session) networkNodes() []command.Node {
	return []command.Node{
		{Path: "network", Short: "Manage networks"},
		{Path: "network connect", Short: "Add container to a network", Build: s.networkConnect},
		{Path: "network create", Short: "Create networks for containers and pods", Build: s.networkCreate},
		{Path: "network disconnect", Short: "Disconnect a container from a network", Build: s.networkDisconnect},
		{Path: "network exists", Short: "Check if network exists", Build: s.networkExists},
		{Path: "network inspect", Short: "Inspect network", Build: s.networkInspect},
		{Path: "network ls", Short: "List networks", Build: s.networkList},
		{Path: "network list", Short: "List networks", Build: s.networkList, Hidden: true},
		{Path: "network prune", Short: "Prune unused networks", Build: s.networkPrune},
		{Path: "network reload", Short: "Lay the packet filter's rules of all networks anew", Build: s.networkReload},
		{Path: "network rm", Short: "Remove networks", Build: s.networkRemove},
		{Path: "network remove", Short: "Remove networks", Build: s.networkRemove, Hidden: true},
		{Path: "network update", Short: "Update an existing network", Build: s.networkUpdate},
	}
}

// networks opens the networks of the engine.
func (s *session) networks(ctx context.Context) (*engine.Engine, *network.Manager, error) {
	e, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	m, err := e.Networks()
	return e, m, err
}

func (s *session) completeNetworks(ctx context.Context, _ []string, _ string) []string {
	_, m, err := s.networks(ctx)
	if err != nil {
		return nil
	}
	list, err := m.List()
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names
}

func (s *session) inspectNetwork(ctx context.Context, e *engine.Engine, name string) (any, error) {
	m, err := e.Networks()
	if err != nil {
		return nil, err
	}
	n, err := m.Inspect(ctx, name)
	return networkView{n}, err
}

// networkView is a network as templates see it: by podman's names as well.
type networkView struct{ network.Network }

func (n networkView) DNSEnabled() bool                { return n.DNS }
func (n networkView) IPv6Enabled() bool               { return n.IPv6 }
func (n networkView) NetworkInterface() string        { return n.Interface }
func (n networkView) IPAMOptions() map[string]string  { return n.IPAM }
func (n networkView) NetworkDNSServers() []netip.Addr { return n.DNSServers }

// networkCreateFlags are the flags of network create.
type networkCreateFlags struct {
	o                                                   network.CreateOptions
	labels, opts, subnets, gateways, ranges, routes, ds []string
}

func (s *session) networkCreate() *command.Command {
	var c networkCreateFlags
	return &command.Command{
		Usage: "[options] [NAME]", Long: "Creates a network for containers and pods.",
		Examples: []string{"network create podman1", "network create --subnet 10.89.1.0/24 --gateway 10.89.1.1 web"},
		Args:     command.AtMost(1),
		Flags: func(f *command.Flags) {
			f.BoolVar(&c.o.DisableDNS, "disable-dns", false, "disable dns plugin")
			f.StringArrayVar(&c.ds, "dns", nil, "DNS servers this network will use")
			f.StringVarP(&c.o.Driver, "driver", "d", "bridge", "driver to manage the network")
			f.StringArrayVar(&c.gateways, "gateway", nil, "IPv4 or IPv6 gateway for the subnet")
			f.BoolVar(&c.o.Ignore, "ignore", false, "Don't fail if network already exists")
			f.StringVar(&c.o.Interface, "interface-name", "", "interface name which is used by the driver")
			f.BoolVar(&c.o.Internal, "internal", false, "restrict external access from this network")
			f.StringArrayVar(&c.ranges, "ip-range", nil, "allocate container IP from range")
			f.StringVar(&c.o.IPAMDriver, "ipam-driver", "", "IP Address Management Driver")
			f.BoolVar(&c.o.IPv6, "ipv6", false, "enable IPv6 networking")
			f.StringArrayVar(&c.labels, "label", nil, "set metadata on a network")
			f.StringArrayVarP(&c.opts, "opt", "o", nil, "Set driver specific options (default [])")
			f.StringArrayVar(&c.routes, "route", nil, "static routes: DESTINATION,GATEWAY[,METRIC]")
			f.StringArrayVar(&c.subnets, "subnet", nil, "subnets in CIDR format")
			f.Words("driver", "bridge", "macvlan", "ipvlan")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				c.o.Name = args[0]
			}
			if err := c.parse(); err != nil {
				return err
			}
			_, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			n, err := m.Create(ctx, c.o)
			if err != nil {
				return err
			}
			name := n.Name
			if s.docker() {
				name = n.ID
			}
			fmt.Fprintln(s.stdout, name)
			return nil
		},
	}
}

// parse reads what the flags have as text.
func (c *networkCreateFlags) parse() error {
	var err error
	if c.o.Labels, err = keyValues(c.labels); err != nil {
		return err
	}
	if c.o.Options, err = keyValues(c.opts); err != nil {
		return err
	}
	for _, t := range c.subnets {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return fmt.Errorf("--subnet %s: not ADDRESS/LENGTH", t)
		}
		c.o.Subnets = append(c.o.Subnets, p)
	}
	for _, l := range []struct {
		flag  string
		words []string
		to    *[]netip.Addr
	}{{"gateway", c.gateways, &c.o.Gateways}, {"dns", c.ds, &c.o.DNSServers}} {
		for _, t := range l.words {
			a, err := netip.ParseAddr(t)
			if err != nil {
				return fmt.Errorf("--%s %s: not an address", l.flag, t)
			}
			*l.to = append(*l.to, a)
		}
	}
	for _, t := range c.ranges {
		if p, err := netip.ParsePrefix(t); err == nil {
			c.o.RangeNets = append(c.o.RangeNets, p)
			continue
		}
		first, last, ok := strings.Cut(t, "-")
		a, err1 := netip.ParseAddr(first)
		b, err2 := netip.ParseAddr(last)
		if !ok || err1 != nil || err2 != nil {
			return fmt.Errorf("--ip-range %s: want ADDRESS/LENGTH or FIRST-LAST", t)
		}
		c.o.Ranges = append(c.o.Ranges, network.LeaseRange{Start: a, End: b})
	}
	for _, t := range c.routes {
		w := strings.Split(t, ",")
		r := network.Route{}
		var err error
		if r.Destination, err = netip.ParsePrefix(w[0]); err == nil && len(w) > 1 {
			r.Gateway, err = netip.ParseAddr(w[1])
		}
		if err == nil && len(w) > 2 {
			_, err = fmt.Sscanf(w[2], "%d", &r.Metric)
		}
		if err != nil || len(w) < 2 || len(w) > 3 {
			return fmt.Errorf("--route %s: want DESTINATION,GATEWAY[,METRIC]", t)
		}
		c.o.Routes = append(c.o.Routes, r)
	}
	return nil
}

func (s *session) networkExists() *command.Command {
	return &command.Command{
		Usage: "NETWORK", Long: "Ends with 0 when the network exists, with 1 when it does not.", Args: command.Exactly(1), Complete: s.completeNetworks,
		Run: func(ctx context.Context, args []string) error {
			_, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			ok, err := m.Exists(ctx, args[0])
			return exists(ok, err)
		},
	}
}

func (s *session) networkInspect() *command.Command {
	var text string
	return &command.Command{
		Usage: "[options] NETWORK [NETWORK...]", Long: "Displays the configuration of one or more networks.", Args: command.AtLeast(1), Complete: s.completeNetworks,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "", "Pretty-print network to JSON or using a Go template")
			f.Completion("format", completeFormat(network.Network{}))
		},
		Run: func(ctx context.Context, args []string) error {
			_, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			return s.inspectAll(args, inspectFlags{format: text}, func(name string) (any, error) {
				n, err := m.Inspect(ctx, name)
				return networkView{n}, err
			})
		},
	}
}

// networkRow is what a template of network ls sees.
type networkRow struct{ networkView }

func (r networkRow) ID() string      { return format.ShortID(r.Network.ID) }
func (r networkRow) Created() string { return format.Ago(time.Now(), r.Network.Created) }
func (r networkRow) Labels() string  { return labelText(r.Network.Labels) }

func (s *session) networkList() *command.Command {
	var filters []string
	var text string
	var quiet, noTrunc, noHeading bool
	return &command.Command{
		Usage: "[options]", Long: "Lists networks.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&filters, "filter", "f", nil, "Provide filter values (e.g. 'name=podman')")
			f.StringVar(&text, "format", "", "Pretty-print networks to JSON or using a Go template")
			f.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the network ID")
			f.BoolVarP(&noHeading, "noheading", "n", false, "Do not print headers")
			f.BoolVarP(&quiet, "quiet", "q", false, "display only names")
			f.Completion("format", completeFormat(networkRow{}))
		},
		Run: func(ctx context.Context, _ []string) error {
			_, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			list, err := m.List()
			if err != nil {
				return err
			}
			if list, err = filterNetworks(list, filters); err != nil {
				return err
			}
			return s.showNetworks(list, text, quiet, noTrunc, noHeading)
		},
	}
}

// filterNetworks: values of one key are alternatives.
func filterNetworks(list []network.Network, words []string) ([]network.Network, error) {
	f, err := engine.ParseFilters(words)
	if err != nil {
		return nil, err
	}
	for key, values := range f {
		var test func(n network.Network, v string) bool
		switch key {
		case "name":
			test = func(n network.Network, v string) bool { return strings.Contains(n.Name, v) }
		case "id":
			test = func(n network.Network, v string) bool { return strings.HasPrefix(n.ID, v) }
		case "driver":
			test = func(n network.Network, v string) bool { return n.Driver == v }
		case "label":
			test = func(n network.Network, v string) bool {
				k, want, has := strings.Cut(v, "=")
				got, ok := n.Labels[k]
				return ok && (!has || got == want)
			}
		case "until":
			t, err := format.ParseTime(time.Now(), values[0])
			if err != nil {
				return nil, err
			}
			test = func(n network.Network, _ string) bool { return n.Created.Before(t) }
		default:
			return nil, fmt.Errorf("invalid filter %q", key)
		}
		list = slices.DeleteFunc(list, func(n network.Network) bool {
			return !slices.ContainsFunc(values, func(v string) bool { return test(n, v) })
		})
	}
	return list, nil
}

func (s *session) showNetworks(list []network.Network, text string, quiet, noTrunc, noHeading bool) error {
	rows := make([]networkRow, len(list))
	for i := range list {
		rows[i] = networkRow{networkView{list[i]}}
	}
	switch {
	case quiet:
		for _, n := range list {
			fmt.Fprintln(s.stdout, n.Name)
		}
		return nil
	case format.IsJSON(text):
		if list == nil {
			list = []network.Network{}
		}
		return format.JSON(s.stdout, list, "     ")
	case text != "" && !format.IsTable(text):
		t, err := format.Parse("network ls", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, map[string]string{"ID": "NETWORK ID"}, noHeading)
	}
	header := []string{"NETWORK ID", "NAME", "DRIVER"}
	if noHeading {
		header = nil
	}
	var lines [][]string
	for _, r := range rows {
		id := r.ID()
		if noTrunc {
			id = r.Network.ID
		}
		lines = append(lines, []string{id, r.Name, r.Driver})
	}
	return format.Table(s.stdout, header, lines)
}

func (s *session) networkPrune() *command.Command {
	var force bool
	var filters []string
	return &command.Command{
		Usage: "[options]", Long: "Removes all networks that no container uses.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
			f.BoolVarP(&force, "force", "f", false, "do not prompt for confirmation")
		},
		Run: func(ctx context.Context, _ []string) error {
			if !force {
				ok, err := s.confirm("WARNING! This will remove all networks not used by at least one container.\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			removed, err := pruneNetworks(ctx, e, m, filters)
			for _, name := range removed {
				fmt.Fprintln(s.stdout, name)
			}
			return err
		},
	}
}

// pruneNetworks removes the networks that no container has and that the filters
// hold for. One that networks do not know holds for none.
func pruneNetworks(ctx context.Context, e *engine.Engine, m *network.Manager, filters []string) ([]string, error) {
	used, err := e.UsedNetworks(ctx)
	if err != nil {
		return nil, err
	}
	return m.Prune(ctx, func(n network.Network) bool {
		match, err := filterNetworks([]network.Network{n}, filters)
		return used[n.Name] || err != nil || len(match) == 0
	})
}

func (s *session) networkReload() *command.Command {
	var x selection
	return &command.Command{
		Usage: "[options] [CONTAINER...]", Long: "Lays the packet filter's rules anew, after somebody flushed them.",
		Flags: func(f *command.Flags) { x.declare(f, "al", "Reload network configuration of all containers") },
		Run: func(ctx context.Context, args []string) error {
			e, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			names, err := x.names(ctx, e, args, "running")
			if err != nil {
				return err
			}
			if err := m.Reload(ctx); err != nil {
				return err
			}
			return each(names, func(name string) error {
				id, err := e.Lookup(ctx, name)
				if err == nil {
					fmt.Fprintln(s.stdout, id)
				}
				return err
			})
		},
	}
}

func (s *session) networkRemove() *command.Command {
	var force bool
	var stop stopFlags
	return &command.Command{
		Usage: "[options] NETWORK [NETWORK...]", Long: "Removes one or more networks that no container uses; with --force such containers are removed first.",
		Args: command.AtLeast(1), Complete: s.completeNetworks,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&force, "force", "f", false, "remove any containers using network")
			stop.declare(f, false)
		},
		Run: func(ctx context.Context, args []string) error {
			e, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			return each(args, func(name string) error {
				err := e.RemoveNetwork(ctx, m, name, force, stop.timeout)
				switch {
				case isNotFound(err) && force:
					return nil
				case isNotFound(err):
					return command.WithCode(command.CodeFailed, err)
				case errors.Is(err, engine.ErrInUse) || errors.Is(err, network.ErrInUse):
					return command.WithCode(command.CodeInUse, err)
				case err != nil:
					return err
				}
				fmt.Fprintln(s.stdout, name)
				return nil
			})
		},
	}
}
