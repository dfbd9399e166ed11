package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Clone makes a container like another, with a file system of its own that
// begins as the image, and returns its ID. The original's name, addresses and
// anonymous volumes stay the original's.
func (e *Engine) Clone(ctx context.Context, name string, o CloneOptions) (string, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return "", err
	}
	if o.Destroy && s.running() && !o.Force {
		return "", hint(fmt.Errorf("clone container %s: it runs and is to be destroyed: %w", r.Name, ErrState), "stop it first, or use --force")
	}
	c := r.Options
	c.Name, c.CIDFile, c.PidFile = o.Name, "", ""
	c.Image = firstOf(o.Image, r.ImageID)
	if r.Infra {
		return "", fmt.Errorf("clone container %s: it is the infra container of a pod, which is cloned as a whole", r.Name)
	}
	r.leavePod(&c, o.Pod)
	if c.Rootfs != "" {
		if o.Image != "" {
			return "", fmt.Errorf("clone container %s: it has a root file system instead of an image", r.Name)
		}
		c.Image = ""
	}
	c.IP, c.IP6, c.MAC = "", "", ""
	c.Networks = slices.Clone(c.Networks)
	for i := range c.Networks {
		c.Networks[i].IPs, c.Networks[i].MAC = nil, ""
	}
	if o.Resources != nil {
		mergeResources(&c.Resources, o.Resources)
	}
	if c.Name == "" {
		if c.Name, err = e.cloneName(ctx, r.Name); err != nil {
			return "", err
		}
	}
	id, err := e.Create(ctx, c)
	if err != nil {
		return "", err
	}
	if o.Destroy {
		if _, err := e.Remove(ctx, r.ID, RemoveOptions{Force: o.Force}); err != nil {
			return id, err
		}
	}
	if o.Run {
		return id, e.Start(ctx, id)
	}
	return id, nil
}

// cloneName is the original's with -clone, and a number when that is taken.
func (e *Engine) cloneName(ctx context.Context, name string) (string, error) {
	for i := range 1000 {
		n := name + "-clone"
		if i > 0 {
			n = fmt.Sprintf("%s%d", n, i)
		}
		_, err := e.Lookup(ctx, n)
		if errors.Is(err, ErrNotFound) {
			return n, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("name the clone of %s: %w", name, ErrExists)
}
