package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	// longRun is how long a run must be for the next delay to begin anew.
	longRun = 10 * time.Second
)

// again says after how long an exited container is started anew by its
// policy, or a value below 0.
func (r *record) again(s *runState) time.Duration {
	policy, retries, err := parseRestart(r.Options.Restart)
	if err != nil || s.Stopped {
		return -1
	}
	switch policy {
	case "always", "unless-stopped":
	case "on-failure":
		if s.ExitCode == 0 || retries > 0 && s.Restarts >= retries {
			return -1
		}
	default:
		return -1
	}
	if s.FinishedAt.Sub(s.StartedAt) >= longRun {
		return firstBackoff
	}
	return min(firstBackoff<<min(s.Restarts, 20), maxBackoff)
}

// restartLater starts a container anew after d, unless somebody has started,
// stopped or removed it meanwhile. A start that fails is tried again as an
// exit would be.
func (e *Engine) restartLater(ctx context.Context, id string, d time.Duration) error {
	for d >= 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(d):
		}
		next, err := e.restartOnce(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil && next < 0 {
			return err
		}
		d = next
	}
	return nil
}

func (e *Engine) restartOnce(ctx context.Context, id string) (time.Duration, error) {
	r, s, l, err := e.openLocked(ctx, id)
	if err != nil {
		return -1, err
	}
	defer l.Release()
	if s.Status != StatusExited || r.again(s) < 0 {
		return -1, nil
	}
	s.Restarts++
	failed := *s
	_, err = e.start(ctx, r, s, startOptions{lock: l})
	if err == nil {
		e.event(ctx, "container", "restart", r, nil)
		return -1, nil
	}
	failed.Error, failed.ExitCode = err.Error(), ExitCode(err)
	failed.StartedAt, failed.FinishedAt = time.Now(), time.Now()
	if serr := e.saveState(r, &failed); serr != nil {
		return -1, errors.Join(err, serr)
	}
	return r.again(&failed), fmt.Errorf("restart container %s: %w", r.Name, err)
}
