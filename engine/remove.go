package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hull/monitor"
	"hull/state"
)

// Remove removes a container, and with Depend those that need it; the IDs of
// all that went come back.
func (e *Engine) Remove(ctx context.Context, name string, o RemoveOptions) ([]string, error) {
	if err := e.Recover(ctx); err != nil {
		e.warn("%v", err)
	}
	id, err := e.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if pod, err := e.podOfInfra(id, o); err != nil {
		return nil, err
	} else if pod != "" {
		ids, err := e.PodContainers(ctx, pod, true)
		if err == nil {
			_, err = e.PodRemove(ctx, pod, PodRemoveOptions{Force: o.Force, Timeout: o.Timeout})
		}
		return ids, err
	}
	var removed []string
	dependents, err := e.dependents(id)
	if err != nil {
		return nil, err
	}
	if len(dependents) > 0 && !o.Depend {
		return nil, hint(fmt.Errorf("remove container %s: %d containers need it, the first %s: %w", name, len(dependents), dependents[0].Name, ErrInUse),
			"remove them first, or all with --depend")
	}
	for _, r := range dependents {
		more, err := e.Remove(ctx, r.ID, o)
		removed = append(removed, more...)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return removed, err
		}
	}
	pod := ""
	if r, err := e.loadRecord(id); err == nil && !o.withPod {
		pod = r.Pod
	}
	if err := e.removeOne(ctx, id, o); err != nil {
		return removed, err
	}
	return append(removed, id), e.podSettled(ctx, pod)
}

// dependents are the containers that join or require another.
func (e *Engine) dependents(id string) ([]*record, error) {
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r *record) bool { return !slices.Contains(r.Depends, id) }), nil
}

func (e *Engine) removeOne(ctx context.Context, id string, o RemoveOptions) error {
	r, s, l, err := e.openLocked(ctx, id)
	if err != nil {
		if o.Force && !errors.Is(err, ErrNotFound) {
			return e.removeBroken(ctx, id, err)
		}
		return err
	}
	defer l.Release()
	if s.running() {
		if !o.Force {
			return hint(fmt.Errorf("remove container %s: it is %s: %w", r.Name, s.Status, ErrState), "stop it first, or use --force")
		}
		timeout := o.Timeout
		if timeout == nil && s.Status == StatusInitialized {
			timeout = new(uint)
		}
		rm := r.Options.AutoRemove
		r.Options.AutoRemove = false // it is removed below, once
		err := e.stop(ctx, r, s, StopOptions{Timeout: timeout})
		r.Options.AutoRemove = rm
		if err != nil {
			return err
		}
	}
	// Anonymous volumes go with a container of --rm in any case.
	if err := e.unbuild(ctx, r, o.Volumes || r.Options.AutoRemove); err != nil {
		return err
	}
	e.event(ctx, "container", "remove", r, nil)
	return nil
}

// removeBroken removes a container whose record cannot be read.
func (e *Engine) removeBroken(ctx context.Context, id string, cause error) error {
	l, err := e.lockAsLeft(ctx, "container", id)
	if err != nil {
		return errors.Join(cause, err)
	}
	defer l.Release()
	if _, err := e.loadRecord(id); err == nil {
		return cause
	}
	e.warn("%v", cause)
	return e.discard(ctx, &record{ID: id})
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, name, to string) error {
	if !validName(to) {
		return fmt.Errorf("container name %q: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*", to)
	}
	r, _, l, err := e.openLocked(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if r.Name == to {
		return fmt.Errorf("rename container %s: it is its name: %w", to, ErrExists)
	}
	old := r.Name
	r.Name = to
	if err := e.claimName(r); err != nil {
		return err
	}
	// Whatever fails from here on, the record says which name is the container's.
	gone := *r
	gone.Name = old
	err = e.saveRecord(r)
	if err == nil {
		err = e.releaseName(&gone)
	}
	if err == nil && !r.transient {
		err = state.SyncDir(e.nameDirs()[1])
	}
	if err != nil {
		e.leave("container", r.ID)
		return fmt.Errorf("rename container %s: %w", old, err)
	}
	e.event(ctx, "container", "rename", r, map[string]string{"oldName": old})
	return nil
}

const defaultWaitInterval = 250 * time.Millisecond

// Wait waits until a container is in one of the conditions, and returns its
// exit code; -1 when it has none.
func (e *Engine) Wait(ctx context.Context, name string, o WaitOptions) (int, error) {
	for _, c := range o.Conditions {
		if !slices.Contains(waitConditions, c) {
			return 0, fmt.Errorf("wait for container %s: condition %q is not known", name, c)
		}
	}
	id, err := e.Lookup(ctx, name)
	if err != nil {
		return 0, err
	}
	interval := o.Interval
	if interval <= 0 {
		interval = defaultWaitInterval
	}
	last := -1
	for {
		r, err := e.loadRecord(id)
		if errors.Is(err, ErrNotFound) {
			// A container of --rm: the exit record went with it.
			if len(o.Conditions) == 0 || slices.Contains(o.Conditions, StatusRemoving) || slices.Contains(o.Conditions, StatusExited) || slices.Contains(o.Conditions, StatusStopped) {
				return last, nil
			}
			return 0, err
		}
		if err != nil {
			return 0, err
		}
		s, err := e.state(r)
		if err != nil {
			return 0, err
		}
		if s.ended() {
			last = s.ExitCode
		}
		if s.meets(o.Conditions) {
			return s.ExitCode, nil
		}
		if err := e.waitChange(ctx, r, s, interval, &last); err != nil {
			return 0, err
		}
	}
}

var waitConditions = []string{"configured", "created", "exited", "healthy", "initialized", "paused", "removing", "running", "stopped", "stopping", "unhealthy"}

// ended says that the container has ended, and that it is known how.
func (s *runState) ended() bool {
	return s.Status == StatusExited || s.Status == StatusStopped && !s.unsaid
}

func (s *runState) meets(conditions []string) bool {
	if s.unsaid {
		return false
	}
	if len(conditions) == 0 {
		return s.ended() || s.Status == StatusCreated && s.Error != ""
	}
	for _, c := range conditions {
		switch c {
		case s.Status, s.Health:
			return true
		case StatusStopped, StatusExited:
			if s.ended() {
				return true
			}
		case StatusConfigured:
			if s.Status == StatusCreated {
				return true
			}
		}
	}
	return false
}

// waitChange waits for the interval, or for the end of the container's
// process and its monitor's record of it, which may come at any time.
func (e *Engine) waitChange(ctx context.Context, r *record, s *runState, interval time.Duration, last *int) error {
	if s.Pid > 0 && s.running() {
		code, ended, err := e.followExit(ctx, r, s, interval)
		if ended {
			*last = code
		}
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(min(interval, 20*time.Millisecond)):
	}
	return nil
}

// followExit waits at the container's monitor for its exit.
func (e *Engine) followExit(ctx context.Context, r *record, s *runState, interval time.Duration) (code int, ended bool, err error) {
	conn, err := monitor.Dial(e.containerRun(r.ID), 0)
	if err != nil {
		time.Sleep(time.Millisecond) // it has ended, or its monitor was killed
		return 0, false, nil
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(interval))
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { conn.Close() })()
	}
	code, err = conn.Copy(nil, nil, nil)
	if ctx.Err() != nil {
		return 0, false, context.Cause(ctx)
	}
	return code, err == nil, nil
}
