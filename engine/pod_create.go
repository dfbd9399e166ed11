package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hull/state"
)

// PodCreate makes a pod, and the container that is to hold its namespaces, and
// returns the pod's ID. Nothing is started.
func (e *Engine) PodCreate(ctx context.Context, o PodOptions) (string, error) {
	if err := errors.Join(o.validate(), e.checkParent(o.CgroupParent)); err != nil {
		return "", err
	}
	if err := e.Recover(ctx); err != nil {
		e.warn("%v", err)
	}
	if o.Replace && o.Name != "" {
		if _, err := e.PodRemove(ctx, o.Name, PodRemoveOptions{Force: true}); err != nil && !errors.Is(err, ErrNotFound) {
			return "", fmt.Errorf("replace pod %s: %w", o.Name, err)
		}
	}
	p := &podRecord{Version: recordVersion, ID: newID(), Name: o.Name, Created: time.Now(), Options: o, Incomplete: true}
	l, err := e.lock(ctx, "pod", p.ID)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if err := e.claimPodName(p); err != nil {
		return "", err
	}
	err = e.savePod(p)
	if err == nil && !o.NoInfra {
		p.Infra, err = e.createInfra(ctx, p)
	}
	if err == nil {
		p.Incomplete = false
		err = e.savePod(p)
	}
	if err != nil {
		if uerr := e.unbuildPod(context.WithoutCancel(ctx), p); uerr != nil {
			e.warn("undo the creation of pod %s: %v", p.Name, uerr)
		}
		return "", err
	}
	e.podEvent("create", p)
	return p.ID, nil
}

// validate refuses what cannot be meant of a pod.
func (o *PodOptions) validate() error {
	if o.Name != "" && !validName(o.Name) {
		return fmt.Errorf("pod name %q: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*", o.Name)
	}
	switch o.ExitPolicy {
	case "", "continue", "stop":
	default:
		return fmt.Errorf("exit policy %q is neither continue nor stop", o.ExitPolicy)
	}
	if _, _, err := parseRestart(o.Restart); err != nil {
		return err
	}
	for _, s := range o.Share {
		if s != "none" && s != "" && !slices.Contains(podNamespaces, s) {
			return fmt.Errorf("share %q: a pod shares %s, or none", s, strings.Join(podNamespaces, ", "))
		}
	}
	in := &o.Infra
	if o.NoInfra {
		switch {
		case len(in.Publish) > 0:
			return errors.New("you must have an infra container to publish port bindings to the host")
		case in.NetworkMode != "" || len(in.Networks) > 0 || in.IP != "" || in.IP6 != "" || in.MAC != "":
			return errors.New("cannot set a network without an infra container")
		case in.Image != "" || in.Entrypoint != nil || len(in.Command) > 0 || in.Name != "":
			return errors.New("cannot say what the infra container is without one")
		}
		return nil
	}
	if in.Image == "" && (in.Entrypoint != nil || len(in.Command) > 0) {
		return hint(errors.New("--infra-command needs an image: the built-in infra process executes no program"), "give --infra-image as well, or neither")
	}
	if in.NetworkMode == "host" && len(in.Publish) > 0 {
		in.Publish = nil // as for a container: there is nothing to publish
	}
	return in.validate()
}

// claimPodName reserves the pod's name among those of containers and pods.
func (e *Engine) claimPodName(p *podRecord) error {
	claim := func() error {
		return e.claimName(&record{ID: p.ID, Name: p.Name})
	}
	if p.Name != "" {
		if err := claim(); errors.Is(err, ErrExists) {
			return hint(fmt.Errorf("pod name %q is in use: pod already exists: %w", p.Name, ErrExists), "remove that pod (hull pod rm %s), or use --replace", p.Name)
		} else if err != nil {
			return err
		}
		return nil
	}
	var err error
	for i := range 32 {
		p.Name = randomName()
		if i > 8 {
			p.Name += "_" + newID()[:4]
		}
		if err = claim(); !errors.Is(err, ErrExists) {
			return err
		}
	}
	return err
}

// createInfra makes the container that holds the pod's namespaces.
func (e *Engine) createInfra(ctx context.Context, p *podRecord) (string, error) {
	o := p.Options.Infra
	o.infraOf = p
	o.Name = firstOf(o.Name, p.ID[:12]+"-infra")
	if o.Image == "" {
		o.LogDriver = "none"
	}
	shares := p.shares()
	if o.Hostname == "" && slices.Contains(shares, "uts") && o.UtsNS == "" && len(p.Name) <= 64 {
		o.Hostname = p.Name
	}
	// What the network's members ask by the pod's name is answered.
	if o.NetworkMode == "" || o.NetworkMode == "bridge" {
		o.NetworkAliases = append(slices.Clone(o.NetworkAliases), p.Name)
	}
	if !slices.Contains(shares, "net") {
		if len(o.Publish) > 0 || len(o.Networks) > 0 {
			return "", errors.New("ports and networks need a pod that shares its network namespace")
		}
		o.NetworkMode, o.NetworkAliases = "none", nil
	}
	if slices.Contains(shares, "ipc") && o.IpcNS == "" {
		o.IpcNS = "shareable"
	}
	id, err := e.Create(ctx, o)
	if err != nil {
		return "", fmt.Errorf("create the infra container of pod %s: %w", p.Name, err)
	}
	return id, nil
}

// unbuildPod removes a pod that is not whole, with what was made for it.
func (e *Engine) unbuildPod(ctx context.Context, p *podRecord) error {
	list, err := e.members(p.ID)
	if err != nil {
		return err
	}
	now := uint(0)
	for _, m := range slices.Backward(list) {
		if _, err := e.Remove(ctx, m.r.ID, RemoveOptions{Force: true, Timeout: &now, withPod: true}); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return e.dropPod(p)
}

// dropPod removes the record and gives the name free.
func (e *Engine) dropPod(p *podRecord) error {
	e.removePodGroup(p)
	err := state.Remove(e.podFile(p.ID), true)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = e.releaseName(&record{ID: p.ID, Name: p.Name})
	}
	if err != nil {
		e.leave("pod", p.ID)
		return fmt.Errorf("remove pod %s: %w", p.Name, err)
	}
	return nil
}

// recoverPod removes a pod whose creation was cut off.
func (e *Engine) recoverPod(ctx context.Context, id string) error {
	if err := cleanTemp(e.podsDir()); err != nil {
		return err
	}
	p, err := e.loadPod(id)
	if errors.Is(err, ErrNotFound) {
		return e.dropClaims(id, "")
	}
	if err != nil || !p.Incomplete {
		return err
	}
	return e.unbuildPod(ctx, p)
}
