package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"hull/state"
)

// A lock is held by a verb that changes an object. Its file is there only
// while it is held: a file that nobody holds was left by a holder that was
// killed, and so Recover knows what to look at without looking at everything.
type lock struct {
	held *state.Lock
	left *sync.Map // see leave
}

// leave keeps the file of a lock, of this kind and name, that this process
// holds: what the verb could not do to the end is the next command's, as if it
// had been killed.
func (e *Engine) leave(kind, name string) { e.left.Store(kind+"-"+name, true) }

func (e *Engine) newLock(held *state.Lock) *lock { return &lock{held, &e.left} }

// Release gives the lock back. A nil lock and one released twice do no harm.
func (l *lock) Release() {
	if l == nil || l.held == nil {
		return
	}
	if _, left := l.left.LoadAndDelete(filepath.Base(l.held.File().Name())); left {
		l.held.Release()
	} else {
		_ = l.held.Remove() // a file that stays says of itself that it was released
	}
	l.held = nil
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

// lock takes the exclusive lock of an object. What a killed holder left of it
// is completed or taken back first.
func (e *Engine) lock(ctx context.Context, kind, name string) (*lock, error) {
	l, err := e.lockAsLeft(ctx, kind, name)
	if err != nil || !l.held.Found() {
		return l, err
	}
	if err := e.recoverAs(ctx, kind+"-"+name); err != nil {
		l.abandon()
		return nil, err
	}
	return l, nil
}

// lockAsLeft is lock for who takes the object away, whatever it is.
func (e *Engine) lockAsLeft(ctx context.Context, kind, name string) (*lock, error) {
	l, err := state.Acquire(ctx, filepath.Join(e.locksDir(), kind+"-"+name))
	if err != nil {
		return nil, fmt.Errorf("lock %s %s: %w", kind, name, err)
	}
	return e.newLock(l), nil
}

// unlockGone gives back the lock of a container that was not made after all.
func (e *Engine) unlockGone(l *lock, id string) { l.Release() }
