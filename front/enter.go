package front

import (
	"context"
	"fmt"
	"os"

	"hull/userns"
)

// Enter makes this process root of the user's namespace, in which it begins
// anew with the same arguments; for root it does nothing. A command calls it
// before it touches the store, and does nothing before it that must not
// happen twice.
func Enter(ctx context.Context) error {
	if !userns.Needed() {
		return nil
	}
	run, err := RunRoot()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own executable: %w", err)
	}
	return userns.Enter(ctx, run, self, os.Args, os.Environ())
}
