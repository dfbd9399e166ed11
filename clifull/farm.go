package clifull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/remote"
)

func noFarm(name string) error {
	return &engine.HintError{Err: fmt.Errorf("farm %q does not exist", name), Text: "hull farm create " + name + " CONNECTION... makes it"}
}

func (s *session) completeFarms(_ context.Context, args []string, _ string) []string {
	known, _ := s.globals.Connections()
	return slices.DeleteFunc(known.FarmNames(), func(n string) bool { return slices.Contains(args, n) })
}

func (s *session) farmCreate() *command.Command {
	return &command.Command{
		Usage: "NAME [CONNECTION...]",
		Long: "Creates a farm: a list of connections (hull system connection add), on all of which farm build builds.\n" +
			"The first farm is the default.",
		Examples: []string{"farm create arms build1 build2"},
		Args:     command.AtLeast(1), Complete: s.completeConnections,
		Run: func(ctx context.Context, args []string) error {
			name := args[0]
			if !remote.PlainWord(name) {
				return fmt.Errorf("create farm: %q is no name", name)
			}
			err := s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				if _, _, ok := k.Farm(name); ok {
					return fmt.Errorf("create farm %q: there is one of that name", name)
				}
				list, err := addConnections(k, nil, args[1:])
				if err != nil {
					return err
				}
				if k.DefaultFarm() == "" {
					c.DefaultFarm = name
				}
				c.Farms[name] = list
				return nil
			})
			if err == nil {
				fmt.Fprintf(s.stdout, "Farm %q created\n", name)
			}
			return err
		},
	}
}

// addConnections appends those that are not in the list.
func addConnections(k remote.Known, list, add []string) ([]string, error) {
	list = append([]string{}, list...)
	for _, n := range add {
		if _, _, ok := k.Connection(n); !ok {
			return nil, noConnection(n)
		}
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list, nil
}

// A farmRow is one line of the list.
type farmRow struct {
	Name               string
	Connections        []string
	Default, ReadWrite bool
}

func (s *session) farmList() *command.Command {
	var text string
	return &command.Command{
		Usage: "[options]", Long: "Lists the farms of containers.conf and the user's own.",
		Examples: []string{"farm list", "farm ls --format json"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVar(&text, "format", "", "Pretty-print farms using a Go template, or json")
		},
		Run: func(context.Context, []string) error {
			known, err := s.globals.Connections()
			if err != nil {
				return err
			}
			rows := []farmRow{}
			var cells [][]string
			for _, name := range known.FarmNames() {
				list, own, _ := known.Farm(name)
				r := farmRow{name, list, name == known.DefaultFarm(), own}
				rows = append(rows, r)
				cells = append(cells, []string{r.Name, "[" + strings.Join(list, " ") + "]", strconv.FormatBool(r.Default), strconv.FormatBool(r.ReadWrite)})
			}
			return showRows(s, "farm list", text, rows, []string{"Name", "Connections", "Default", "ReadWrite"}, cells)
		},
	}
}

func (s *session) farmRemove() *command.Command {
	var all bool
	return &command.Command{
		Usage: "[options] [FARM...]", Long: "Removes farms; their connections stay.",
		Examples: []string{"farm remove arms", "farm rm --all"},
		Complete: s.completeFarms,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all farms")
		},
		Run: func(ctx context.Context, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("remove farm: want either a FARM or --all")
			}
			var gone []string
			var missing error
			err := s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				if all {
					args = k.FarmNames()
				}
				for _, name := range args {
					switch _, own, ok := k.Farm(name); {
					case !ok:
						missing = errors.Join(missing, noFarm(name))
						continue
					case !own && all:
						continue
					case !own:
						return notOwn("farm", name)
					}
					delete(c.Farms, name)
					gone = append(gone, name)
				}
				if _, ok := c.Farms[c.DefaultFarm]; !ok {
					// As podman has it: another becomes the default.
					rest := remote.Known{Own: *c}
					c.DefaultFarm = strings.Join(rest.FarmNames()[:min(1, len(c.Farms))], "")
				}
				return nil
			})
			if err != nil {
				return err
			}
			for _, name := range gone {
				fmt.Fprintf(s.stdout, "Farm %q deleted\n", name)
			}
			return missing
		},
	}
}

func (s *session) farmUpdate() *command.Command {
	var add, remove []string
	var byDefault *bool
	return &command.Command{
		Usage: "[options] FARM", Long: "Adds connections to a farm, removes some, or makes the farm the default.",
		Examples: []string{"farm update --add build3 arms", "farm update --remove build1 --default arms"},
		Args:     command.Exactly(1), Complete: s.completeFarms,
		Flags: func(f *command.Flags) {
			f.StringSliceVarP(&add, "add", "a", nil, "Connections to add")
			f.StringSliceVarP(&remove, "remove", "r", nil, "Connections to remove")
			command.Optional(f, &byDefault, "default", "d", "bool", "Make it the default farm; false takes that from it", parseBool)
			f.Lookup("default").NoOptDefVal = "true"
			f.Completion("add", s.completeConnections)
			f.Completion("remove", s.completeConnections)
		},
		Run: func(ctx context.Context, args []string) error {
			name := args[0]
			if len(add) == 0 && len(remove) == 0 && byDefault == nil {
				return errors.New("update farm: nothing to do: give --add, --remove or --default")
			}
			err := s.changeConnections(ctx, func(k remote.Known, c *remote.Config) error {
				list, own, ok := k.Farm(name)
				if !ok {
					return noFarm(name)
				}
				if len(add)+len(remove) > 0 {
					if !own {
						return notOwn("farm", name)
					}
					for _, n := range remove {
						if !slices.Contains(list, n) {
							return fmt.Errorf("update farm %q: connection %q is not in it", name, n)
						}
					}
					list = slices.DeleteFunc(slices.Clone(list), func(n string) bool { return slices.Contains(remove, n) })
					var err error
					if c.Farms[name], err = addConnections(k, list, add); err != nil {
						return err
					}
				}
				if byDefault != nil && *byDefault {
					c.DefaultFarm = name
				} else if byDefault != nil && c.DefaultFarm == name {
					c.DefaultFarm = ""
				}
				return nil
			})
			if err == nil {
				fmt.Fprintf(s.stdout, "Farm %q updated\n", name)
			}
			return err
		},
	}
}
