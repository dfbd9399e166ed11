package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hull/state"
)

// A lock is held by a verb that changes an object. Its file is there only
// while it is held: a file that nobody holds was left by a holder that was
// killed, and so Recover knows what to look at without looking at everything.
type lock struct{ held *state.Lock }

// Release gives the lock back. A nil lock and one released twice do no harm.
func (l *lock) Release() {
	if l != nil && l.held != nil {
		l.held.Remove()
		l.held = nil
	}
}

// abandon ends the hold and leaves the file, as a kill would: what is
// unfinished is the next command's.
func (l *lock) abandon() {
	if l != nil {
		l.held.Release()
		l.held = nil
	}
}

// file is what holds the lock; nil without one.
func (l *lock) file() *os.File {
	if l == nil || l.held == nil {
		return nil
	}
	return l.held.File()
}

func (e *Engine) locksDir() string { return filepath.Join(e.o.RunRoot, "locks") }

// lock takes the exclusive lock of an object.
func (e *Engine) lock(ctx context.Context, kind, name string) (*lock, error) {
	l, err := state.Acquire(ctx, filepath.Join(e.locksDir(), kind+"-"+name))
	if err != nil {
		return nil, fmt.Errorf("lock %s %s: %w", kind, name, err)
	}
	return &lock{l}, nil
}

// unlockGone gives back the lock of a container that was not made after all.
func (e *Engine) unlockGone(l *lock, id string) { l.Release() }

// Recover completes or undoes what killed commands left behind. Every command
// that changes something calls it; with nothing to do it reads one directory.
func (e *Engine) Recover(ctx context.Context) error {
	entries, err := os.ReadDir(e.locksDir())
	if errors.Is(err, os.ErrNotExist) {
		return e.recoverBoot(ctx)
	}
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	var errs []error
	for _, d := range entries {
		held, ok, err := state.TryAcquire(filepath.Join(e.locksDir(), d.Name()))
		if err != nil || !ok {
			continue // somebody is at work on it
		}
		l := &lock{held}
		if id, is := strings.CutPrefix(d.Name(), "pod-"); is {
			if err := e.recoverPod(ctx, id); err != nil {
				errs = append(errs, fmt.Errorf("recover pod %s: %w", id, err))
				l.abandon()
				continue
			}
		}
		if id, is := strings.CutPrefix(d.Name(), "container-"); is {
			if err := e.recoverContainer(ctx, id); err != nil {
				errs = append(errs, fmt.Errorf("recover container %s: %w", id, err))
				l.abandon()
				continue
			}
		}
		if name, is := strings.CutPrefix(d.Name(), "volume-"); is {
			if err := e.recoverVolume(ctx, name); err != nil {
				errs = append(errs, fmt.Errorf("recover volume %s: %w", name, err))
				l.abandon()
				continue
			}
		}
		if d.Name() == "secrets-all" {
			_ = state.CleanTemp(e.secretsDir()) // what stays is removed by the next list
		}
		l.Release()
	}
	return errors.Join(errs...)
}

// recoverFound recovers a container whose lock was left by a killed command.
func (e *Engine) recoverFound(ctx context.Context, l *lock, id string) error {
	if !l.held.Found() {
		return nil
	}
	if err := e.recoverContainer(ctx, id); err != nil {
		return fmt.Errorf("recover container %s: %w", id, err)
	}
	return nil
}

// recoverContainer brings one container, whose lock is held, to a state that a
// whole command would have left.
func (e *Engine) recoverContainer(ctx context.Context, id string) error {
	if len(id) != 64 || !isHex(id) {
		return nil
	}
	r, err := e.loadRecord(id)
	switch {
	case errors.Is(err, ErrNotFound):
		return e.discard(ctx, e.unfinished(id))
	case err != nil:
		return err
	case r.Incomplete:
		return e.discard(ctx, r)
	}
	s, err := e.loadState(r)
	if err != nil {
		return err
	}
	if !s.running() {
		// A start was under way: its program runs already, or what was made
		// for it is taken away.
		if adopted, err := e.adopt(r, s); err != nil || adopted {
			return err
		}
		if err := e.giveBack(ctx, r, s); err != nil {
			return err
		}
		if r.Options.AutoRemove {
			return e.discard(ctx, r)
		}
		return nil
	}
	_, err = e.settle(ctx, r)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// discard takes away a container that was being created, started for the
// first time or removed when its command was killed.
func (e *Engine) discard(ctx context.Context, r *record) error {
	e.killLeft(ctx, r.ID)
	if err := e.giveBack(ctx, r, &runState{}); err != nil {
		return err
	}
	if err := e.unbuild(ctx, r, true); err != nil {
		return err
	}
	if r.Name == "" {
		return e.dropClaims(r.ID)
	}
	return nil
}

// dropClaims removes the name of a container that left no record of it.
func (e *Engine) dropClaims(id string) error {
	for _, dir := range e.nameDirs() {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, d := range entries {
			file := filepath.Join(dir, d.Name())
			if owner, err := os.Readlink(file); err == nil && owner == id {
				e.dropClaim(file, id)
			}
		}
	}
	return nil
}
