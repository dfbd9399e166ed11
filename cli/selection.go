package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"hull/command"
	"hull/engine"
)

// selection is which containers a command is about: names and the flags that
// stand for names.
type selection struct {
	all, latest, ignore bool
	filters, cidfiles   []string
	noInfra             bool   // leave the infra containers of pods out
	has                 string // the flags that were declared, of "alfci"
}

// declare adds the flags: letters of which are a (all), l (latest), f
// (filter), c (cidfile) and i (ignore). allUsage describes --all.
func (x *selection) declare(f *command.Flags, which, allUsage string) {
	x.has = which
	for _, w := range which {
		switch w {
		case 'a':
			f.BoolVarP(&x.all, "all", "a", false, allUsage)
		case 'l':
			f.BoolVarP(&x.latest, "latest", "l", false, "Act on the latest container")
		case 'f':
			short := "f"
			if f.ShorthandLookup("f") != nil {
				short = ""
			}
			f.StringArrayVarP(&x.filters, "filter", short, nil, "Filter output based on conditions given")
		case 'c':
			f.StringArrayVar(&x.cidfiles, "cidfile", nil, "Read the container ID from the file")
		case 'i':
			f.BoolVarP(&x.ignore, "ignore", "i", false, "Ignore errors when a specified container is missing")
		}
	}
}

// check refuses combinations that contradict each other.
func (x *selection) check(args []string) error {
	switch {
	case x.all && x.latest:
		return errors.New("--all and --latest cannot be used together")
	case x.all && len(args) > 0:
		return errors.New("no arguments are needed with --all")
	case x.latest && len(args) > 0:
		return errors.New("--latest and containers cannot be used together")
	case len(x.cidfiles) > 0 && (x.all || x.latest):
		return errors.New("--all, --latest, and --cidfile cannot be used together")
	case len(x.filters) > 0 && x.latest:
		return errors.New("--latest and --filter cannot be used together")
	case len(args) == 0 && !x.all && !x.latest && len(x.filters) == 0 && len(x.cidfiles) == 0:
		return errors.New("you must provide at least one name or id")
	}
	return nil
}

// names resolves the selection. With all, or only filters, only containers in
// one of states are taken, any when there are none.
func (x *selection) names(ctx context.Context, e *engine.Engine, args []string, states ...string) ([]string, error) {
	if err := x.check(args); err != nil {
		return nil, err
	}
	for _, path := range x.cidfiles {
		id, err := os.ReadFile(path)
		if err != nil {
			if x.ignore && errors.Is(err, os.ErrNotExist) {
				continue
			}
			return nil, fmt.Errorf("read cidfile: %w", err)
		}
		first, _, _ := strings.Cut(string(id), "\n")
		args = append(args, strings.TrimSpace(first))
	}
	if x.latest {
		id, err := e.Latest(ctx)
		return []string{id}, err
	}
	if !x.all && len(x.filters) == 0 {
		return args, nil
	}
	filters, err := engine.ParseFilters(x.filters)
	if err != nil {
		return nil, err
	}
	entries, err := e.List(ctx, engine.ListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range entries {
		if len(args) > 0 && !matches(c, args) || x.noInfra && c.IsInfra {
			continue
		}
		if len(states) == 0 || slices.Contains(states, c.State) {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

// matches reports whether one of args is a name or an ID prefix of c.
func matches(c engine.PsEntry, args []string) bool {
	for _, a := range args {
		if slices.Contains(c.Names, a) || strings.HasPrefix(c.ID, a) {
			return true
		}
	}
	return false
}

// one is the container that a command takes as its only argument, or the
// latest; the arguments after it are returned.
func (x *selection) one(ctx context.Context, e *engine.Engine, args []string) (string, []string, error) {
	if x.latest {
		id, err := e.Latest(ctx)
		return id, args, err
	}
	if len(args) == 0 {
		return "", nil, errors.New("you must provide at least one name or id")
	}
	return args[0], args[1:], nil
}

// act is the common shape of stop, kill, pause…: resolve, do, print the name
// as the user gave it.
func (s *session) act(ctx context.Context, x *selection, args []string, states []string, do func(e *engine.Engine, name string) error) error {
	e, err := s.open(ctx)
	if err != nil {
		return err
	}
	names, err := x.names(ctx, e, args, states...)
	if err != nil {
		return err
	}
	return each(names, func(name string) error {
		err := do(e, name)
		if x.ignore && errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(s.stdout, name)
		return nil
	})
}

// withLatest adds the container that was created last, when it is asked for.
func withLatest(ctx context.Context, e *engine.Engine, latest bool, args []string) ([]string, error) {
	if !latest {
		return args, nil
	}
	id, err := e.Latest(ctx)
	if err != nil {
		return nil, err
	}
	return append(args, id), nil
}

// exists is the answer of the commands of that name: 0, or silently 1.
func exists(ok bool, err error) error {
	if err == nil && !ok {
		return &command.Exit{Code: command.CodeFailed}
	}
	return err
}
