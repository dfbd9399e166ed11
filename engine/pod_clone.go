package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// PodCloneOptions make a pod like another. What is set in Said replaces what
// was said of the original.
type PodCloneOptions struct {
	Said    PodOptions
	Destroy bool // remove the original
	Start   bool
}

// PodClone makes a pod like another, with containers like its own, and returns
// its ID. Static addresses stay the original's.
func (e *Engine) PodClone(ctx context.Context, name string, o PodCloneOptions) (string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return "", err
	}
	list, err := e.members(p.ID)
	if err != nil {
		return "", err
	}
	made := clonedPod(p, &o.Said)
	if made.Name == "" {
		if made.Name, err = e.cloneName(ctx, p.Name); err != nil {
			return "", err
		}
	}
	id, err := e.PodCreate(ctx, made)
	if err != nil {
		return "", err
	}
	for _, m := range list {
		if m.r.Infra {
			continue
		}
		if _, err := e.Clone(ctx, m.r.ID, CloneOptions{Pod: id}); err != nil {
			e.removeNewPod(ctx, id)
			return "", fmt.Errorf("clone pod %s: %w", p.Name, err)
		}
	}
	if o.Destroy {
		if _, err := e.PodRemove(ctx, p.ID, PodRemoveOptions{Force: true}); err != nil {
			return id, err
		}
	}
	if o.Start {
		_, err = e.PodStart(ctx, id)
	}
	return id, err
}

// clonedPod are the options of a clone.
func clonedPod(p *podRecord, said *PodOptions) PodOptions {
	made := p.Options
	made.Name, made.CreateCommand = said.Name, said.CreateCommand
	made.Restart, made.CgroupParent = firstOf(said.Restart, made.Restart), firstOf(said.CgroupParent, made.CgroupParent)
	made.Labels = maps.Clone(made.Labels)
	for k, v := range said.Labels {
		if made.Labels == nil {
			made.Labels = map[string]string{}
		}
		made.Labels[k] = v
	}
	mergeResources(&made.Resources, &said.Resources)
	in, over := &made.Infra, &said.Infra
	in.Name, in.ConmonPidFile = over.Name, over.ConmonPidFile
	in.IP, in.IP6, in.MAC = "", "", ""
	in.Networks = slices.Clone(in.Networks)
	for i := range in.Networks {
		in.Networks[i].IPs, in.Networks[i].MAC = nil, ""
	}
	in.Hostname, in.UserNS, in.PidNS, in.UtsNS = firstOf(over.Hostname, in.Hostname), firstOf(over.UserNS, in.UserNS), firstOf(over.PidNS, in.PidNS), firstOf(over.UtsNS, in.UtsNS)
	in.SubUIDName, in.SubGIDName = firstOf(over.SubUIDName, in.SubUIDName), firstOf(over.SubGIDName, in.SubGIDName)
	if over.Entrypoint != nil {
		in.Entrypoint = over.Entrypoint
	}
	if over.ShmSize != 0 {
		in.ShmSize = over.ShmSize
	}
	if over.ShmSizeSystemd != 0 {
		in.ShmSizeSystemd = over.ShmSizeSystemd
	}
	in.Mounts = slices.Clone(in.Mounts)
	for _, m := range over.Mounts {
		in.Mounts = slices.DeleteFunc(in.Mounts, func(old Mount) bool { return old.Destination == m.Destination })
		in.Mounts = append(in.Mounts, m)
	}
	for _, l := range []struct{ to, from *[]string }{
		{&in.UIDMap, &over.UIDMap}, {&in.GIDMap, &over.GIDMap}, {&in.SecurityOpt, &over.SecurityOpt}, {&in.Sysctls, &over.Sysctls},
		{&in.VolumesFrom, &over.VolumesFrom}, {&in.GPUs, &over.GPUs},
	} {
		*l.to = append(slices.Clone(*l.to), *l.from...)
	}
	in.Devices = append(slices.Clone(in.Devices), over.Devices...)
	return made
}
