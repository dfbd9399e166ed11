package engine

import (
	"context"
	"reflect"
	"slices"

	"hull/cgroup"
	"hull/oci"
)

// limitsAhead begins to make the cgroup, which in version 1 is one in each of six
// trees, while the container's networks and files are made.
func (t *starting) limitsAhead(ctx context.Context) error {
	if t.facts.Cgroup == "" {
		return nil
	}
	if t.r.Runtime != "" {
		return t.foreignLimits(ctx)
	}
	if err := t.e.limitPod(ctx, t.r); err != nil {
		return err
	}
	res, err := resources(&t.r.Options, &t.facts)
	if err != nil {
		return err
	}
	t.limited = begin(func() error { return t.makeGroup(ctx, res) })
	return nil
}

// limits waits until the cgroup is there.
func (t *starting) limits(context.Context) error {
	err := t.limited.wait()
	for _, text := range t.unlimited {
		t.e.warn("%s", text)
	}
	t.unlimited = nil
	return err
}

func (t *starting) makeGroup(ctx context.Context, res *oci.LinuxResources) error {
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
	if o.Warn != nil {
		o.Warn = func(text string) { t.unlimited = append(t.unlimited, text) }
	}
	if _, _, ok := cgroup.SplitUnit(t.facts.Cgroup); ok {
		err := t.byManager(ctx, host, &o)
		defer o.Manager.Close()
		if err != nil {
			return err
		}
	}
	if t.group, err = host.Create(ctx, t.facts.Cgroup, res, o); err != nil {
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
