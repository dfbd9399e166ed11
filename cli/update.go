package cli

import (
	"context"
	"errors"
	"fmt"

	"hull/command"
	"hull/engine"
)

func (s *session) update() *command.Command {
	var x selection
	var o engine.UpdateOptions
	var r engine.Resources
	var swap string
	var swappiness int64 = -1
	var restart *string
	var h healthFlags
	return &command.Command{
		Usage:    "[options] CONTAINER",
		Long:     "Updates the configuration of an existing container: its limits, restart policy and environment.",
		Examples: []string{"update --cpus=5 foobar_container", "update --memory 64m --restart always web"},
		Args:     command.AtMost(1), Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			declareResources(f, &r, &swap, &swappiness)
			x.declare(f, "l", "")
			h.declare(f)
			f.Func("ulimit", "", "strings", "Ulimit options", commaList(func(v string) error {
				u, err := engine.ParseUlimit(v)
				o.Ulimits = append(o.Ulimits, u)
				return err
			}))
			f.StringArrayVarP(&o.Env, "env", "e", nil, "Set environment variables in container")
			f.StringArrayVar(&o.UnsetEnv, "unsetenv", nil, "Unset environment default variables in container")
			command.Optional(f, &restart, "restart", "", "string", "Restart policy to apply when a container exits", func(v string) (string, error) { return v, nil })
		},
		Run: func(ctx context.Context, args []string) error {
			if err := setMemory(&r, swap, swappiness); err != nil {
				return err
			}
			o.Resources, o.Restart = &r, restart
			var err error
			if o.Health, err = h.options(); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, _, err := x.one(ctx, e, args)
			if err != nil {
				return errors.New("update must be given one container")
			}
			id, err := e.Update(ctx, name, o)
			if err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, id)
			return nil
		},
	}
}
