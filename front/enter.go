package front

import (
	"context"
	"fmt"
	"os"

	"hull/userns"
)

// enter makes this process root of the user's namespace, in which it begins
// anew with the same arguments; for root it does nothing. Begin calls it
// before it touches the store, and does nothing before it that must not
// happen twice.
func enter(ctx context.Context) error {
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

// Outside is a path of the user's namespace as it can be used from outside of
// it: mounts are there only. It is good as long as that namespace is.
func Outside(path string) string {
	if !InUserNamespace() {
		return path
	}
	run, err := RunRoot()
	if err != nil {
		return path
	}
	h, err := userns.FindHolder(run)
	if err != nil {
		return path // the caller is in a namespace of his own, and sees it
	}
	return fmt.Sprintf("/proc/%d/root%s", h.Pid, path)
}

// NetNS is the path of the network namespace that holds the user's bridges;
// "" is the caller's own, as for root.
func NetNS() string {
	if !InUserNamespace() {
		return ""
	}
	run, err := RunRoot()
	if err != nil {
		return ""
	}
	h, err := userns.FindHolder(run)
	if err != nil {
		return "" // root of a namespace that somebody else made
	}
	return fmt.Sprintf("/proc/%d/ns/net", h.Pid)
}
