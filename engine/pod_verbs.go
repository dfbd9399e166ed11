package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// PodStart starts a pod: the infra container, then the init containers one
// after the other, then the rest, each after those that it needs.
func (e *Engine) PodStart(ctx context.Context, name string) (string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return "", err
	}
	if p.Infra == "" {
		err = e.runInitContainers(ctx, p.ID)
	} else {
		err = e.ensurePod(ctx, p.ID)
	}
	if err != nil {
		return p.ID, fmt.Errorf("start pod %s: %w", p.Name, err)
	}
	list, err := e.members(p.ID)
	if err != nil {
		return p.ID, err
	}
	var errs []error
	for _, m := range list {
		if m.r.Infra || m.r.Options.InitCtr != "" {
			continue
		}
		if m.s.Status == StatusPaused {
			continue
		}
		if err := e.Start(ctx, m.r.ID); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, fmt.Errorf("start container %s of pod %s: %w", m.r.Name, p.Name, err))
		}
	}
	e.podEvent("start", p)
	return p.ID, errors.Join(errs...)
}

// ensurePod starts a pod's infra container and, when it did not run, the init
// containers. Others that start a member meanwhile wait until they have ended.
func (e *Engine) ensurePod(ctx context.Context, id string) error {
	p, err := e.loadPod(id)
	if err != nil || p.Infra == "" {
		return err
	}
	l, err := e.lock(ctx, "start", id)
	if err != nil {
		return err
	}
	defer l.Release()
	r, err := e.loadRecord(p.Infra)
	if err != nil {
		return err
	}
	s, err := e.state(r)
	if err != nil || s.running() {
		return err
	}
	if err := e.startNeeded(ctx, p.Infra); err != nil {
		return err
	}
	return e.runInitContainers(ctx, id)
}

// runInitContainers runs a pod's init containers to their ends, in the order
// of creation.
func (e *Engine) runInitContainers(ctx context.Context, pod string) error {
	list, err := e.members(pod)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.r.Options.InitCtr == "" || m.s.running() {
			continue
		}
		if err := e.startNeeded(ctx, m.r.ID); err != nil {
			return fmt.Errorf("init container %s: %w", m.r.Name, err)
		}
		code, err := e.Wait(ctx, m.r.ID, WaitOptions{Interval: 5 * time.Millisecond})
		if err != nil {
			return fmt.Errorf("init container %s: %w", m.r.Name, err)
		}
		if code > 0 {
			return fmt.Errorf("init container %s exited with code %d", m.r.Name, code)
		}
		if m.r.Options.InitCtr == "once" {
			if _, err := e.Remove(ctx, m.r.ID, RemoveOptions{Force: true}); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// waves are the members in groups such that each needs only those of earlier
// groups: the infra container is alone in the first.
func waves(list []member) [][]member {
	var out [][]member
	done := map[string]bool{}
	for len(done) < len(list) {
		var now []member
		for _, m := range list {
			ready := !done[m.r.ID]
			for _, id := range m.r.Depends {
				if !done[id] && slices.ContainsFunc(list, func(o member) bool { return o.r.ID == id }) {
					ready = false
				}
			}
			if ready {
				now = append(now, m)
			}
		}
		if len(now) == 0 {
			return out // a circle, which nothing makes
		}
		for _, m := range now {
			done[m.r.ID] = true
		}
		out = append(out, now)
	}
	return out
}

// backwards does something to all members, those first that others do not
// need; the members of a wave at once.
func backwards(list []member, do func(m member) error) error {
	var errs []error
	for _, wave := range slices.Backward(waves(list)) {
		failed := make([]error, len(wave))
		var wg sync.WaitGroup
		for i, m := range wave {
			wg.Go(func() { failed[i] = do(m) })
		}
		wg.Wait()
		errs = append(errs, failed...)
	}
	return errors.Join(errs...)
}

// PodStop stops all containers of a pod.
func (e *Engine) PodStop(ctx context.Context, name string, o StopOptions) (string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return "", err
	}
	list, err := e.members(p.ID)
	if err != nil {
		return p.ID, err
	}
	err = backwards(list, func(m member) error {
		if err := e.Stop(ctx, m.r.ID, o); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	})
	e.podEvent("stop", p)
	return p.ID, err
}

// PodRestart stops what runs and starts all.
func (e *Engine) PodRestart(ctx context.Context, name string) (string, error) {
	id, err := e.PodStop(ctx, name, StopOptions{})
	if err != nil {
		return id, err
	}
	return e.PodStart(ctx, id)
}

// PodKill sends a signal to all running containers of a pod.
func (e *Engine) PodKill(ctx context.Context, name, signal string) (string, error) {
	return e.onRunning(ctx, name, "kill", []string{StatusRunning, StatusPaused, StatusInitialized}, func(id string) error { return e.Kill(ctx, id, signal) })
}

// PodPause freezes all running containers of a pod.
func (e *Engine) PodPause(ctx context.Context, name string) (string, error) {
	return e.onRunning(ctx, name, "pause", []string{StatusRunning}, func(id string) error { return e.Pause(ctx, id) })
}

// PodUnpause continues them.
func (e *Engine) PodUnpause(ctx context.Context, name string) (string, error) {
	return e.onRunning(ctx, name, "unpause", []string{StatusPaused}, func(id string) error { return e.Unpause(ctx, id) })
}

// onRunning does something to the members that are in one of the states.
func (e *Engine) onRunning(ctx context.Context, name, what string, states []string, do func(id string) error) (string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return "", err
	}
	list, err := e.members(p.ID)
	if err != nil {
		return p.ID, err
	}
	err = backwards(list, func(m member) error {
		if !slices.Contains(states, m.s.Status) {
			return nil
		}
		if err := do(m.r.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	})
	e.podEvent(what, p)
	return p.ID, err
}

// PodRemoveOptions say how to remove a pod.
type PodRemoveOptions struct {
	Force   bool  // running containers are stopped
	Timeout *uint // seconds; nil is each container's own
}

// PodRemove removes a pod with its containers.
func (e *Engine) PodRemove(ctx context.Context, name string, o PodRemoveOptions) (string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return "", err
	}
	l, err := e.lock(ctx, "pod", p.ID)
	if err != nil {
		return p.ID, err
	}
	defer l.Release()
	list, err := e.members(p.ID)
	if err != nil {
		return p.ID, err
	}
	for _, m := range list {
		if m.s.running() && !o.Force {
			return p.ID, hint(fmt.Errorf("pod %s has containers that are not ready to be removed: container %s is %s: %w", p.Name, m.r.Name, m.s.Status, ErrState), "stop the pod first, or use --force")
		}
	}
	err = backwards(list, func(m member) error {
		_, err := e.Remove(ctx, m.r.ID, RemoveOptions{Force: o.Force, Volumes: true, Depend: true, Timeout: o.Timeout, withPod: true})
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return p.ID, err
	}
	if err := e.dropPod(p); err != nil {
		return p.ID, err
	}
	e.podEvent("remove", p)
	return p.ID, nil
}

// PodPrune removes the pods of which nothing runs.
func (e *Engine) PodPrune(ctx context.Context) ([]Removed, error) {
	all, err := e.pods()
	if err != nil {
		return nil, err
	}
	var out []Removed
	for _, p := range all {
		list, err := e.members(p.ID)
		if err != nil {
			return out, err
		}
		if s := podState(list); s != PodExited && s != PodStopped {
			continue
		}
		_, err = e.PodRemove(ctx, p.ID, PodRemoveOptions{})
		out = append(out, Removed{ID: p.ID, Err: err})
	}
	return out, nil
}

// podSettled is called when a container of a pod has ended: with the exit
// policy stop, the last of them takes the pod along.
func (e *Engine) podSettled(ctx context.Context, pod string) error {
	if pod == "" {
		return nil
	}
	p, err := e.loadPod(pod)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || p.Options.ExitPolicy != "stop" || p.Infra == "" {
		return err
	}
	list, err := e.members(pod)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.r.Infra {
			if !m.s.running() {
				return nil
			}
			continue
		}
		if m.s.running() || m.s.Status == StatusStopped || m.r.again(m.s) >= 0 && m.s.Status != StatusCreated {
			return nil
		}
	}
	_, err = e.stopOne(ctx, p.Infra, StopOptions{})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
