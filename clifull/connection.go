package clifull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/remote"
)

// connectionNodes are the commands on other hosts and lists of them.
func (s *session) connectionNodes() []command.Node {
	list, remove := s.connectionList, s.connectionRemove
	return []command.Node{
		{Path: "farm", Short: "Build images on several hosts, each for its own platform"},
		{Path: "farm build", Short: "Build an image on the hosts of a farm, as one manifest list", Build: s.farmBuild},
		{Path: "farm create", Short: "Create a farm of connections", Build: s.farmCreate},
		{Path: "farm list", Short: "List farms", Build: s.farmList},
		{Path: "farm ls", Short: "List farms", Build: s.farmList, Hidden: true},
		{Path: "farm remove", Short: "Remove one or more farms", Build: s.farmRemove},
		{Path: "farm rm", Short: "Remove one or more farms", Build: s.farmRemove, Hidden: true},
		{Path: "farm update", Short: "Change the connections of a farm", Build: s.farmUpdate},
		{Path: "system", Short: "Manage the system"},
		{Path: "system connection", Short: "Manage the hosts that hull is called on by ssh"},
		{Path: "system connection add", Short: "Record how to reach another host", Build: s.connectionAdd},
		{Path: "system connection default", Short: "Set the default connection", Build: s.connectionDefault},
		{Path: "system connection list", Short: "List connections", Build: list},
		{Path: "system connection ls", Short: "List connections", Build: list, Hidden: true},
		{Path: "system connection remove", Short: "Remove a connection", Build: remove},
		{Path: "system connection rm", Short: "Remove a connection", Build: remove, Hidden: true},
		{Path: "system connection rename", Short: "Rename a connection", Build: s.connectionRename},
	}
}

// changeConnections alters the user's own file.
func (s *session) changeConnections(ctx context.Context, change func(remote.Known, *remote.Config) error) error {
	if err := s.globals.Check(); err != nil {
		return err
	}
	known, err := s.globals.Connections()
	if err != nil {
		return err
	}
	path, err := remote.Path()
	if err != nil {
		return err
	}
	return remote.Change(ctx, path, func(c *remote.Config) error {
		known.Own = *c
		return change(known, c)
	})
}

func noConnection(name string) error {
	return &engine.HintError{Err: fmt.Errorf("connection %q is not defined", name), Text: "hull system connection add " + name + " user@host makes it"}
}

// notOwn tells who wants to change what the administrator wrote.
func notOwn(kind, name string) error {
	return &engine.HintError{Err: fmt.Errorf("change %s %q: it is in containers.conf", kind, name), Text: "edit the file, or make one of another name"}
}

func (s *session) connectionAdd() *command.Command {
	var byDefault bool
	var identity, port, socket string
	return &command.Command{
		Usage: "[options] NAME DESTINATION",
		Long: "Records how another host is reached by ssh: DESTINATION is [USER@]HOST[:PORT] or ssh://[USER@]HOST[:PORT].\n" +
			"hull or podman must be installed there; no service has to run. The first connection is the default.",
		Examples: []string{"system connection add build1 build@host.example.com", "system connection add --identity ~/.ssh/id_ed25519 --port 2222 build2 ssh://build@host.example.com"},
		Args:     command.Exactly(2),
		Flags: func(f *command.Flags) {
			f.BoolVarP(&byDefault, "default", "d", false, "Make it the default connection")
			f.StringVar(&identity, "identity", "", "File of the key to log in with")
			f.StringVarP(&port, "port", "p", "", "Port of the host's ssh")
			f.StringVar(&socket, "socket-path", "", "Path of podman's socket there, for podman's sake: it is written into the URI")
		},
		Run: func(ctx context.Context, args []string) error {
			if !remote.PlainWord(args[0]) {
				return fmt.Errorf("add connection: %q is no name", args[0])
			}
			d, err := newDestination(args[1], port, socket, identity)
			if err != nil {
				return err
			}
			return s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				c.Connections[args[0]] = d
				if byDefault || k.Default() == "" {
					c.Default = args[0]
				}
				return nil
			})
		},
	}
}

// newDestination puts together what the command line says.
func newDestination(where, port, socket, identity string) (remote.Destination, error) {
	u, err := remote.ParseURI(where)
	if err != nil {
		return remote.Destination{}, err
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return remote.Destination{}, fmt.Errorf("--port %s: want a number from 1 to 65535", port)
		}
		if u.Port() != "" && u.Port() != port {
			return remote.Destination{}, fmt.Errorf("--port %s: the destination says %s", port, u.Port())
		}
		u.Host = u.Host[:len(u.Host)-len(portSuffix(u.Port()))] + ":" + port
	}
	if socket != "" {
		u.Path = socket
	}
	if identity != "" {
		if _, err := os.Stat(identity); err != nil {
			return remote.Destination{}, fmt.Errorf("--identity: %w", err)
		}
		if identity, err = filepath.Abs(identity); err != nil {
			return remote.Destination{}, fmt.Errorf("--identity: %w", err)
		}
	}
	return remote.Destination{URI: u.String(), Identity: identity}, nil
}

func portSuffix(port string) string {
	if port == "" {
		return ""
	}
	return ":" + port
}

func (s *session) connectionDefault() *command.Command {
	return &command.Command{
		Usage: "NAME", Long: "Sets the connection that is used when none is named.",
		Examples: []string{"system connection default build1"},
		Args:     command.Exactly(1), Complete: s.completeConnections,
		Run: func(ctx context.Context, args []string) error {
			return s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				if _, _, ok := k.Connection(args[0]); !ok {
					return noConnection(args[0])
				}
				c.Default = args[0]
				return nil
			})
		},
	}
}

func (s *session) completeConnections(_ context.Context, args []string, _ string) []string {
	known, _ := s.globals.Connections()
	return slices.DeleteFunc(known.ConnectionNames(), func(n string) bool { return slices.Contains(args, n) })
}

// A connectionRow is one line of the list.
type connectionRow struct {
	Name, URI, Identity string
	Default, ReadWrite  bool
}

func (s *session) connectionList() *command.Command {
	var text string
	var quiet bool
	return &command.Command{
		Usage: "[options]", Long: "Lists the connections of containers.conf and the user's own.",
		Examples: []string{"system connection list", "system connection ls --format json"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "", "Pretty-print connections using a Go template, or json")
			f.BoolVarP(&quiet, "quiet", "q", false, "Names only")
		},
		Run: func(context.Context, []string) error {
			known, err := s.globals.Connections()
			if err != nil {
				return err
			}
			rows := []connectionRow{}
			var cells [][]string
			for _, name := range known.ConnectionNames() {
				d, own, _ := known.Connection(name)
				r := connectionRow{name, d.URI, d.Identity, name == known.Default(), own}
				rows = append(rows, r)
				cells = append(cells, []string{r.Name, r.URI, r.Identity, strconv.FormatBool(r.Default), strconv.FormatBool(r.ReadWrite)})
			}
			if quiet {
				for _, r := range rows {
					fmt.Fprintln(s.stdout, r.Name)
				}
				return nil
			}
			return showRows(s, "system connection list", text, rows, []string{"Name", "URI", "Identity", "Default", "ReadWrite"}, cells)
		},
	}
}

// showRows prints a list as a table, as JSON or by a template.
func showRows[T any](s *session, name, text string, rows []T, header []string, cells [][]string) error {
	switch {
	case format.IsJSON(text):
		return format.JSON(s.stdout, rows, "    ")
	case text != "" && !format.IsTable(text):
		t, err := format.Parse(name, text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, nil, false)
	}
	return format.Table(s.stdout, header, cells)
}

func (s *session) connectionRemove() *command.Command {
	var all bool
	return &command.Command{
		Usage: "[options] NAME", Long: "Removes a connection, from the farms too.",
		Examples: []string{"system connection remove build1", "system connection rm --all"},
		Args:     command.AtMost(1), Complete: s.completeConnections,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all connections")
		},
		Run: func(ctx context.Context, args []string) error {
			if all == (len(args) == 1) {
				return errors.New("remove connection: want either a NAME or --all")
			}
			return s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				gone := args
				if all {
					gone = k.ConnectionNames()
				}
				for _, name := range gone {
					_, own, ok := k.Connection(name)
					if !ok {
						return noConnection(name)
					}
					if !own && !all {
						return notOwn("connection", name)
					}
					dropConnection(c, name)
				}
				return nil
			})
		},
	}
}

func dropConnection(c *remote.Config, name string) {
	delete(c.Connections, name)
	if c.Default == name {
		c.Default = ""
	}
	for farm, list := range c.Farms {
		c.Farms[farm] = slices.DeleteFunc(list, func(n string) bool { return n == name })
	}
}

func (s *session) connectionRename() *command.Command {
	return &command.Command{
		Usage: "OLD NEW", Long: "Renames a connection, in the farms too.",
		Examples: []string{"system connection rename build1 first"},
		Args:     command.Exactly(2), Complete: s.completeConnections,
		Run: func(ctx context.Context, args []string) error {
			was, name := args[0], args[1]
			if !remote.PlainWord(name) {
				return fmt.Errorf("rename connection: %q is no name", name)
			}
			return s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				d, own, ok := k.Connection(was)
				if !ok {
					return noConnection(was)
				}
				if !own {
					return notOwn("connection", was)
				}
				if _, _, ok := k.Connection(name); ok && name != was {
					return fmt.Errorf("rename connection %q: there is one named %q", was, name)
				}
				delete(c.Connections, was)
				c.Connections[name] = d
				if c.Default == was {
					c.Default = name
				}
				for _, list := range c.Farms {
					if i := slices.Index(list, was); i >= 0 {
						list[i] = name
					}
				}
				return nil
			})
		},
	}
}
