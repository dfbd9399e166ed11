package cli

import (
	"context"
	"errors"
	"fmt"

	"hull/command"
	"hull/engine"
)

// boot is what the machine's init calls when it has started.
func (s *session) boot() *command.Command {
	var shutdown bool
	var o engine.StopOptions
	return &command.Command{
		Usage: "[options]", Args: command.NoArgs,
		Long: "Starts the containers whose restart policy says so: \"always\", and \"unless-stopped\" when their user has not stopped them.\n" +
			"Each is started after those that it requires. That happens once after a boot: called again, it does nothing.\n" +
			"The service hull-restart calls it; without systemd, a line of the init's own or \"@reboot hull boot\" in a crontab.",
		Examples: []string{"boot", "boot --shutdown"},
		Flags: func(f *command.Flags) {
			f.BoolVar(&shutdown, "shutdown", false, "Stop these containers, so that the next boot starts them")
			command.Optional(f, &o.Timeout, "time", "t", "uint", "With --shutdown, seconds to wait for stop before killing a container", parseUint)
		},
		Run: func(ctx context.Context, _ []string) error {
			if o.Timeout != nil && !shutdown {
				return errors.New("--time needs --shutdown")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			var names []string
			if shutdown {
				names, err = e.Shutdown(ctx, o)
			} else {
				names, err = e.Boot(ctx)
			}
			for _, n := range names {
				fmt.Fprintln(s.stdout, n)
			}
			return err
		},
	}
}
