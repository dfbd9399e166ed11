package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"hull/command"
	"hull/engine"
)

func (s *session) networkConnect() *command.Command {
	var a engine.NetworkAttach
	var ip, ip6 string
	return &command.Command{
		Usage:    "[options] NETWORK CONTAINER",
		Long:     "Adds a container to a network: a running one at once, any other at its next start.",
		Examples: []string{"network connect web ctr", "network connect --ip 10.89.0.7 --alias db web ctr"},
		Args:     command.Exactly(2),
		Complete: s.completeNetworkThenContainer,
		Flags: func(f *command.Flags) {
			f.StringSliceVar(&a.Aliases, "alias", nil, "Add network-scoped alias for the container")
			f.StringVar(&ip, "ip", "", "Set a static ipv4 address for this container network")
			f.StringVar(&ip6, "ip6", "", "Set a static ipv6 address for this container network")
			f.StringVar(&a.MAC, "mac-address", "", "Set a static mac address for this container network")
		},
		Run: func(ctx context.Context, args []string) error {
			for _, one := range []string{ip, ip6} {
				if one != "" {
					a.IPs = append(a.IPs, one)
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			a.Name = args[0]
			return e.ConnectNetwork(ctx, args[1], a)
		},
	}
}

func (s *session) networkDisconnect() *command.Command {
	var force bool
	return &command.Command{
		Usage:    "[options] NETWORK CONTAINER",
		Long:     "Takes a container out of a network.",
		Examples: []string{"network disconnect web ctr"},
		Args:     command.Exactly(2),
		Complete: s.completeNetworkThenContainer,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&force, "force", "f", false, "Go on when the container is not there, or not in the network")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			err = e.DisconnectNetwork(ctx, args[1], args[0])
			if force && isNotFound(err) {
				return nil
			}
			return err
		},
	}
}

func (s *session) completeNetworkThenContainer(ctx context.Context, args []string, word string) []string {
	if len(args) == 0 {
		return s.completeNetworks(ctx, args, word)
	}
	return s.completeContainers()(ctx, args, word)
}

func (s *session) networkUpdate() *command.Command {
	var add, drop []string
	return &command.Command{
		Usage:    "[options] NETWORK",
		Long:     "Changes the DNS servers of a network; its containers see it at their next start.",
		Examples: []string{"network update web --dns-add 8.8.8.8,1.1.1.1", "network update web --dns-drop 1.1.1.1"},
		Args:     command.Exactly(1),
		Complete: s.completeNetworks,
		Flags: func(f *command.Flags) {
			f.StringSliceVar(&add, "dns-add", nil, "add network level nameservers")
			f.StringSliceVar(&drop, "dns-drop", nil, "remove network level nameservers")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(add)+len(drop) == 0 {
				return errors.New("nothing to change: give --dns-add or --dns-drop")
			}
			more, err := addresses(add)
			if err != nil {
				return err
			}
			less, err := addresses(drop)
			if err != nil {
				return err
			}
			_, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			if err := m.Update(ctx, args[0], more, less); err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, args[0])
			return nil
		},
	}
}

func addresses(words []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, w := range words {
		a, err := netip.ParseAddr(strings.TrimSpace(w))
		if err != nil {
			return nil, fmt.Errorf("%q is no address", w)
		}
		out = append(out, a)
	}
	return out, nil
}
