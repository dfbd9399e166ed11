package cli

import (
	"context"

	"hull/command"
)

// ociBundle makes a directory for an OCI runtime of an image.
func (s *session) ociBundle() *command.Command {
	c := createFlags{}
	return &command.Command{
		Usage: "[options] IMAGE DIR [COMMAND [ARG...]]",
		Long: "Makes an OCI runtime bundle of an image: DIR/rootfs with its files and DIR/config.json.\n" +
			"The options are those of create; any OCI runtime can run the result.",
		Examples:     []string{"oci bundle busybox /tmp/b", "oci bundle --read-only busybox /tmp/b sleep 100"},
		Args:         command.AtLeast(2),
		ArgsEndFlags: true,
		Complete:     s.completeImages,
		Flags:        func(f *command.Flags) { c.declare(f) },
		Run: func(ctx context.Context, args []string) error {
			o, err := c.options(s.commandLine(), append([]string{args[0]}, args[2:]...))
			if err != nil {
				return err
			}
			e, err := s.openPulling(ctx, c.pull)
			if err != nil {
				return err
			}
			return e.Bundle(ctx, args[1], o)
		},
	}
}
