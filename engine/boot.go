package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hull/state"
)

// bootedFile says in the run directory, which a boot empties, that Boot has
// done its work.
const bootedFile = "booted"

// longestStop is how long a shutdown waits for a container beyond its timeout.
const longestStop = 45 * time.Second

// startsAtBoot says whether a container's policy starts it after a boot: one
// that its user has stopped stays so unless the policy is "always".
func (r *record) startsAtBoot(s *runState) bool {
	switch policy, _, _ := parseRestart(r.Options.Restart); policy {
	case "always":
		return true
	case "unless-stopped":
		return !s.Stopped || s.Shutdown
	}
	return false
}

// bootMembers are the containers with such a policy, and what they need is
// started with them.
func (e *Engine) bootMembers(want func(*record, *runState) bool) ([]member, error) {
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	var list []member
	for _, r := range all {
		s, err := e.state(r)
		if err != nil {
			return nil, err
		}
		if want(r, s) {
			list = append(list, member{r, s})
		}
	}
	return list, nil
}

// Boot starts the containers that are to run after a boot, each after those
// that it needs. Those of --rm
// that ended unseen go. It does so once a boot: what a user stops later stays
// stopped when it is called again. It returns the names of those it started.
func (e *Engine) Boot(ctx context.Context) ([]string, error) {
	l, err := e.lock(ctx, "boot", "boot")
	if err != nil {
		return nil, err
	}
	defer l.Release()
	if b, err := os.ReadFile(filepath.Join(e.o.RunRoot, bootedFile)); err == nil && string(b) == state.BootID() {
		return nil, nil
	}
	list, err := e.bootMembers(func(r *record, s *runState) bool { return r.startsAtBoot(s) && !s.running() })
	if err != nil {
		return nil, err
	}
	var started []string
	errs := []error{e.dropEnded(ctx)}
	for _, wave := range waves(list) {
		for _, m := range wave {
			if ctx.Err() != nil {
				return started, errors.Join(append(errs, context.Cause(ctx))...)
			}
			if err := e.Start(ctx, m.r.ID); err != nil && !errors.Is(err, ErrNotFound) {
				errs = append(errs, fmt.Errorf("start container %s: %w", m.r.Name, err))
				continue
			}
			started = append(started, m.r.Name)
		}
	}
	if err := os.MkdirAll(e.o.RunRoot, 0o700); err != nil {
		errs = append(errs, fmt.Errorf("note the boot: %w", err))
	} else {
		errs = append(errs, state.WriteFile(e.o.RunRoot, bootedFile, []byte(state.BootID()), 0o600, false))
	}
	return started, errors.Join(errs...)
}

// dropEnded removes the containers of --rm that ended with nobody there to do
// it: a reboot of user space kills their monitors and keeps the run directory.
func (e *Engine) dropEnded(ctx context.Context) error {
	all, err := e.records()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range all {
		if r.Options.AutoRemove {
			if _, err := e.cleanup(ctx, r.ID); err != nil {
				errs = append(errs, fmt.Errorf("remove container %s: %w", r.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Shutdown stops the containers that Boot is to start again, those first that
// others do not need. It is no user's stop, so "unless-stopped" holds. It
// returns the names of those it stopped.
func (e *Engine) Shutdown(ctx context.Context, o StopOptions) ([]string, error) {
	l, err := e.lock(ctx, "boot", "boot")
	if err != nil {
		return nil, err
	}
	defer l.Release()
	// First, so that one that is cut short, as by systemd's patience, does not
	// keep the next Boot from its work.
	if err := os.Remove(filepath.Join(e.o.RunRoot, bootedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("note the shutdown: %w", err)
	}
	list, err := e.bootMembers(func(r *record, s *runState) bool { return r.startsAtBoot(s) && s.running() })
	if err != nil {
		return nil, err
	}
	o.shutdown = true
	var stopped []string
	for _, m := range list {
		stopped = append(stopped, m.r.Name)
	}
	err = backwards(list, func(m member) error {
		// One that its policy starts just now has its lock, and waits for the
		// manager, which waits for this shutdown (systemd.Lasting).
		wait := m.r.stopTimeout(e)
		if o.Timeout != nil {
			wait = *o.Timeout
		}
		ctx, cancel := context.WithTimeout(ctx, time.Duration(min(wait, 1<<32))*time.Second+longestStop)
		defer cancel()
		if err := e.Stop(ctx, m.r.ID, o); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	})
	return stopped, err
}
