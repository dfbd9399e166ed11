package engine

import (
	"context"
	"path/filepath"
	"reflect"
	"strings"

	"hull/cgroup"
)

// limits makes the cgroup.
func (t *starting) limits(ctx context.Context) error {
	if t.facts.Cgroup == "" || t.r.Runtime != "" {
		return nil
	}
	if err := t.e.limitPod(ctx, t.r); err != nil {
		return err
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return err
	}
	if firstOf(t.r.Options.Cgroups, t.e.o.Defaults.Cgroups) == "split" {
		if host, err = host.StepAside(t.e.o.Rootless); err != nil {
			return err
		}
	}
	t.group, err = host.Create(ctx, t.facts.Cgroup, t.spec.Linux.Resources, t.e.cgroupOptions(t.r))
	if err != nil {
		return err
	}
	t.s.Cgroup = t.group.String()
	return nil
}

// cgroupOptions: a user whose groups are not delegated hears of the limits
// that he asked for, not of the built-in ones.
func (e *Engine) cgroupOptions(r *record) cgroup.Options {
	o := cgroup.Options{Rootless: e.o.Rootless, Lenient: firstOf(r.Options.Cgroups, e.o.Defaults.Cgroups) == "split", Warn: e.o.Warn}
	if reflect.ValueOf(r.Options.Resources).IsZero() {
		o.Warn = nil
	}
	return o
}

// cgroupPath is where the container's group is, "" for none.
func (e *Engine) cgroupPath(r *record) string {
	o := &r.Options
	mode := firstOf(o.Cgroups, e.o.Defaults.Cgroups)
	parent := o.CgroupParent
	switch {
	case mode == "disabled":
		return ""
	case r.PodGroup != "":
		return filepath.Join(r.PodGroup, "hull-"+r.ID)
	case mode == "split":
		return "hull-" + r.ID // below the engine's own
	case parent == "" && e.o.Rootless:
		return "hull-" + r.ID
	case parent == "":
		parent = "/hull"
	case !strings.HasPrefix(parent, "/"):
		parent = "/" + parent
	}
	return filepath.Join(parent, "hull-"+r.ID)
}
