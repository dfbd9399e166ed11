package clifull

import (
	"context"

	"hull/command"
	"hull/transfer"
)

// fetch is what load and import of a URL run as a child: hull itself does not
// speak HTTP.
func (s *session) fetch() *command.Command {
	return &command.Command{
		Usage: "URL",
		Args:  command.Exactly(1),
		Run: func(ctx context.Context, args []string) error {
			return transfer.Fetch(ctx, args[0], s.stdout)
		},
	}
}
