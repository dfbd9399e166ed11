package cli

import (
	"context"
	"fmt"

	"hull/command"
	"hull/engine"
)

// healthcheck runs a container's check once: 0 is healthy, 1 not.
func (s *session) healthcheck() *command.Command {
	return &command.Command{
		Usage:    "CONTAINER",
		Long:     "Runs the health check of a container once, and exits with 1 when it fails.",
		Examples: []string{"healthcheck run mywebapp"},
		Args:     command.Exactly(1),
		Complete: s.completeContainers("running"),
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			r, err := e.HealthCheck(ctx, args[0])
			if err != nil {
				return err
			}
			if r.Code != 0 {
				word := r.Status
				if word == "" {
					word = engine.HealthUnhealthy
				}
				fmt.Fprintln(s.stdout, word)
				return &command.Exit{Code: 1}
			}
			return nil
		},
	}
}

// watchHealth is the process that a start leaves for a container with a check.
func (s *session) watchHealth() *command.Command {
	return &command.Command{
		Usage: "ID",
		Args:  command.Exactly(1),
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.HealthLoop(ctx, args[0])
		},
	}
}

// restoreStart is the program between a monitor and CRIU.
func (s *session) restoreStart() *command.Command {
	return &command.Command{
		Usage: "CONTAINER",
		Args:  command.Exactly(1),
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return e.RestoreStart(ctx, args[0])
		},
	}
}

// foreignStart is the program between a monitor and another OCI runtime.
func (s *session) foreignStart() *command.Command {
	return &command.Command{
		Usage: "BUNDLE",
		Args:  command.Exactly(1),
		Run:   func(ctx context.Context, args []string) error { return engine.ForeignStart(ctx, args[0]) },
	}
}
