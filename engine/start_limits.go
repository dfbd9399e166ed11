package engine

import (
	"context"
	"reflect"
	"slices"

	"hull/cgroup"
)

// limits makes the cgroup.
func (t *starting) limits(ctx context.Context) error {
	if t.facts.Cgroup == "" {
		return nil
	}
	if t.r.Runtime != "" {
		return t.foreignLimits(ctx)
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
	o := t.e.cgroupOptions(t.r)
	if _, _, ok := cgroup.SplitUnit(t.facts.Cgroup); ok {
		err := t.byManager(ctx, host, &o)
		defer o.Manager.Close()
		if err != nil {
			return err
		}
	}
	t.group, err = host.Create(ctx, t.facts.Cgroup, t.spec.Linux.Resources, o)
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

// foreignLimits leaves the group to another runtime, and takes care of the monitor alone.
func (t *starting) foreignLimits(ctx context.Context) error {
	if _, _, ok := cgroup.SplitUnit(t.facts.Cgroup); !ok {
		return nil
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return err
	}
	var o cgroup.Options
	err = t.byManager(ctx, host, &o)
	defer o.Manager.Close()
	if err != nil || len(o.Beside) == 0 {
		return err
	}
	return o.Manager.Start(ctx, o.Beside...)
}

// preserved are the numbers of the files that are passed on.
func preserved(count int, list []int) []int {
	fds := slices.Clone(list)
	for fd := 3; fd < 3+count; fd++ {
		fds = append(fds, fd)
	}
	slices.Sort(fds)
	return slices.Compact(fds)
}
