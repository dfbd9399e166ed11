package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// AutoUpdateLabel is on containers that auto-update looks at: registry (or
// image) asks the registry, local the store.
const AutoUpdateLabel = "io.containers.autoupdate"

// unitLabel names the systemd service that a container is of.
const unitLabel = "PODMAN_SYSTEMD_UNIT"

// An AutoUpdate is a running container that wants to follow its image's name.
type AutoUpdate struct {
	ID, Name string
	Image    string // the name
	ImageID  string // what it was made of
	Policy   string // registry, local
	Unit     string // of systemd; "" when it stands alone
}

// AutoUpdates lists the running containers with a policy, by name. Problems are
// of those whose label cannot be meant.
func (e *Engine) AutoUpdates(ctx context.Context) (out []AutoUpdate, problems []error, err error) {
	all, err := e.records()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		policy := r.Options.Labels[AutoUpdateLabel]
		s, err := e.state(r)
		if policy == "" || policy == "disabled" || err != nil || !s.running() || r.Infra {
			continue
		}
		if policy == "image" {
			policy = "registry"
		}
		if policy != "registry" && policy != "local" {
			problems = append(problems, fmt.Errorf("auto-update container %s: policy %q is not one of registry, local", r.Name, policy))
			continue
		}
		if r.ImageName == "" || strings.HasPrefix(r.ImageName, r.ImageID[:min(12, len(r.ImageID))]) {
			problems = append(problems, fmt.Errorf("auto-update container %s: its image has no name to follow", r.Name))
			continue
		}
		out = append(out, AutoUpdate{r.ID, r.Name, r.ImageName, r.ImageID, policy, e.unitOf(r)})
	}
	slices.SortFunc(out, func(a, b AutoUpdate) int { return strings.Compare(a.Name, b.Name) })
	return out, problems, nil
}

// unitOf is the service of a container, or of its pod.
func (e *Engine) unitOf(r *record) string {
	if u := r.Options.Labels[unitLabel]; u != "" || r.Pod == "" {
		return u
	}
	p, err := e.loadPod(r.Pod)
	if err != nil {
		return ""
	}
	return p.Options.Labels[unitLabel]
}

// ErrRolledBack reports an update that did not work; the container of before
// runs again.
var ErrRolledBack = errors.New("rolled back")

// Recreate replaces a running container by one of the same options and of the
// image that its name means now. The new one must start, and be healthy if it
// has a health check, or, with rollback, the old one runs again: then the error
// is ErrRolledBack. Named and anonymous volumes are the same ones.
func (e *Engine) Recreate(ctx context.Context, name string, rollback bool) error {
	r, _, err := e.open(ctx, name)
	if err != nil {
		return err
	}
	users, err := e.dependents(r.ID)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return hint(fmt.Errorf("recreate container %s: container %s depends on it", r.Name, users[0].Name), "put them into services of systemd, which restart together")
	}
	o := r.Options
	o.Image, o.Name, o.Pull, o.CIDFile = r.ImageName, r.Name+"-new-"+newID()[:8], "never", ""
	o.Mounts = slices.Clone(o.Mounts)
	for _, m := range r.Mounts {
		if i := slices.IndexFunc(o.Mounts, func(x Mount) bool { return x.Destination == m.Destination }); i >= 0 {
			o.Mounts[i] = m
		} else if m.Type == "volume" && m.Anonymous {
			o.Mounts = append(o.Mounts, m)
		}
	}
	if r.Pod != "" {
		r.leavePod(&o, r.Pod)
	}
	id, err := e.Create(ctx, o)
	if err != nil {
		return fmt.Errorf("recreate container %s: %w", r.Name, err)
	}
	undo := func(cause error) error {
		ctx := context.WithoutCancel(ctx)
		zero := uint(0)
		_, err := e.Remove(ctx, id, RemoveOptions{Force: true, Timeout: &zero})
		if !rollback {
			return errors.Join(cause, err)
		}
		if old, _, lerr := e.open(ctx, r.ID); lerr == nil && old.Name != r.Name {
			err = errors.Join(err, e.Rename(ctx, r.ID, r.Name))
		}
		if err = errors.Join(err, e.Start(ctx, r.ID)); err != nil {
			return errors.Join(cause, err)
		}
		return fmt.Errorf("%w: %w", ErrRolledBack, cause)
	}
	// Stopped, not removed: with --rm it would be gone before the new one is seen to work.
	if r.Options.AutoRemove {
		rollback = false
	}
	if err := e.Stop(ctx, r.ID, StopOptions{}); err != nil {
		return undo(err)
	}
	if !r.Options.AutoRemove {
		if err := e.Rename(ctx, r.ID, r.Name+"-old-"+r.ID[:8]); err != nil {
			return undo(err)
		}
	}
	if err := e.Rename(ctx, id, r.Name); err != nil {
		return undo(err)
	}
	if err := e.Start(ctx, id); err != nil {
		return undo(err)
	}
	if err := e.AwaitHealthy(ctx, id); err != nil {
		return undo(err)
	}
	if _, err := e.Remove(ctx, r.ID, RemoveOptions{Force: true}); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// settleTime is how long a container without a health check must run to count
// as one that works.
const settleTime = 2 * time.Second

// AwaitHealthy waits until a container's health check passes; without one, until
// it has run for a little. It fails when the check does, or the container ends.
func (e *Engine) AwaitHealthy(ctx context.Context, name string) error {
	begin := time.Now()
	for {
		r, s, err := e.open(ctx, name)
		if err != nil {
			return err
		}
		switch {
		case s.unsaid:
		case !s.running():
			return fmt.Errorf("container %s: it ended with exit code %d", r.Name, s.ExitCode)
		case s.Restarts > 0:
			return fmt.Errorf("container %s: it was restarted", r.Name)
		case s.Health == "healthy":
			return nil
		case s.Health == "unhealthy":
			return fmt.Errorf("container %s: it is unhealthy", r.Name)
		case s.Health == "" && time.Since(begin) > settleTime:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serviceContainer finds the container of a service again, which has a new one
// after a restart.
func (e *Engine) serviceContainer(unit, name string) (string, error) {
	all, err := e.records()
	if err != nil {
		return "", err
	}
	for _, r := range all {
		if !r.Infra && r.Name == name && e.unitOf(r) == unit {
			return r.ID, nil
		}
	}
	return "", fmt.Errorf("service %s has no container %s: %w", filepath.Base(unit), name, ErrNotFound)
}

// AwaitService waits until the container of a restarted service is well.
func (e *Engine) AwaitService(ctx context.Context, u AutoUpdate) error {
	id, err := e.serviceContainer(u.Unit, u.Name)
	if err != nil {
		return err
	}
	return e.AwaitHealthy(ctx, id)
}
