package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"hull/command"
	"hull/front"
	"hull/network"
)

// unshare runs a command where a user's containers are made.
func (s *session) unshare() *command.Command {
	var netns bool
	return &command.Command{
		Usage: "[options] [COMMAND [ARG...]]",
		Long: "Runs a command, by default the shell, in the user namespace of the user's containers: their files belong to whom they belong inside,\n" +
			"and their processes can be signalled.",
		Examples:     []string{"unshare id", "unshare cat /proc/self/uid_map", "unshare --rootless-netns ip addr"},
		ArgsEndFlags: true,
		Flags: func(f *command.Flags) {
			f.BoolVar(&netns, "rootless-netns", false, "Join the network namespace that holds the user's bridges")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if !front.InUserNamespace() {
				return errors.New("please use unshare with rootless: root needs no other namespace")
			}
			if len(args) == 0 {
				args = []string{os.Getenv("SHELL")}
				if args[0] == "" {
					args[0] = "/bin/sh"
				}
			}
			path, err := exec.LookPath(args[0])
			if err != nil {
				return command.WithCode(command.CodeNotFound, fmt.Errorf("unshare: %w", err))
			}
			if netns {
				ns := front.NetNS()
				if ns == "" {
					return errors.New("unshare: there is no network namespace of the user's")
				}
				if err := network.JoinAll(ns); err != nil {
					return err
				}
			}
			env := append(os.Environ(), "CONTAINERS_GRAPHROOT="+e.Options().Root, "CONTAINERS_RUNROOT="+e.Options().RunRoot)
			return fmt.Errorf("unshare: execute %s: %w", path, syscall.Exec(path, args, env))
		},
	}
}
