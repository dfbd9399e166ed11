package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/network"
	"hull/state"
)

// The rule. A verb that changes an object holds its lock, and the lock's file
// is there only while it is held: a file that nobody holds is the intent of a
// command that was killed. Whoever takes that lock next (lock), or looks at all
// of them (Recover), first brings the object to a state that a whole command
// would have left, and only then goes on. What a verb does must therefore be
// such that the object's files say, at each moment, whether it is to be
// completed or taken back:
//
//   - a container or volume without a record is not there: it was being made or
//     removed, and what is left of it goes;
//   - the record says which name, networks and volumes are the object's; what
//     else bears its ID goes.
//
// Temporary files of dead writers go on the way.

// Recover completes or undoes what killed commands left behind. Every command
// that makes or removes something calls it; with nothing to do it reads one
// directory.
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
		l := e.newLock(held)
		if err := e.recoverAs(ctx, d.Name()); err != nil {
			errs = append(errs, err)
			l.abandon()
			continue
		}
		l.Release()
	}
	return errors.Join(errs...)
}

// recoverAs recovers the object whose lock, of this name, is held.
func (e *Engine) recoverAs(ctx context.Context, file string) error {
	kind, name, _ := strings.Cut(file, "-")
	do := map[string]func(context.Context, string) error{
		"container": e.recoverContainer, "pod": e.recoverPod, "volume": e.recoverVolume, "secrets": e.recoverSecrets,
	}[kind]
	if do == nil {
		return nil
	}
	if err := do(ctx, name); err != nil {
		return fmt.Errorf("recover %s %s: %w", kind, name, err)
	}
	return nil
}

// cleanTemp removes what dead writers left in directories, which need not be there.
func cleanTemp(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		if err := state.CleanTemp(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
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
	case r.builders():
		return nil
	}
	err = errors.Join(cleanTemp(e.containerDir(id), e.containerRun(id)), e.dropClaims(id, r.Name))
	if err != nil {
		return err
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
		if r.Options.AutoRemove && (r.ByRun || s.Started) {
			return e.discard(ctx, r)
		}
		return nil
	}
	s, err = e.settle(ctx, r)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && s.running() {
		err = e.recoverNetworks(ctx, r, s)
	}
	return err
}

// recoverNetworks takes back a join to a network, or completes a leave, that
// was cut off: the record says in which networks the container is to be.
func (e *Engine) recoverNetworks(ctx context.Context, r *record, s *runState) error {
	if !e.bridged(r) || s.Pid == 0 {
		return nil
	}
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.Pid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has ended this moment
	}
	if err != nil {
		return err
	}
	defer netns.Close()
	m, err := e.Networks()
	if err != nil {
		return err
	}
	o := network.SettleOptions{ContainerID: r.ID, Netns: netns}
	for _, a := range r.networks() {
		o.Networks = append(o.Networks, a.Name)
	}
	joined, err := m.Settle(ctx, o)
	if err != nil {
		return err
	}
	named := answersNames(s.Pid)
	same := func(a, b network.Joined) bool { return a.Network == b.Network }
	if named == s.Named && slices.EqualFunc(joined, s.Networks, same) {
		return nil
	}
	s.Networks, s.Named = joined, named
	return errors.Join(e.rewriteResolv(r, s), e.saveState(r, s))
}

// answersNames says whether somebody listens where the name server of the
// process's network namespace does.
func answersNames(pid int) bool {
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", pid))
	return err == nil && strings.Contains(string(sockets), ": 0B00007F:0035 ")
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
		return e.dropClaims(r.ID, "")
	}
	return nil
}

// dropClaims removes the names of a container or pod but for one: those of a
// rename that was cut off, or of what left no record.
func (e *Engine) dropClaims(id, but string) error {
	for _, dir := range e.nameDirs() {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, d := range entries {
			file := filepath.Join(dir, d.Name())
			if d.Name() == but {
				continue
			}
			if owner, err := os.Readlink(file); err == nil && owner == id {
				e.dropClaim(file, id)
			}
		}
	}
	return nil
}
