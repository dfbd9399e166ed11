package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"

	"hull/oci"
)

// createSystemd asks systemd for a scope SLICE/PREFIX-NAME.scope, delegated to
// this process, and sets the limits in it. A scope must begin with a process:
// the caller is in it until the container's process moves on.
func (h *Host) createSystemd(ctx context.Context, path string, r *oci.LinuxResources, o Options) (*Group, error) {
	if !h.V2() {
		return nil, errors.New("make cgroup by systemd: it needs cgroups of version 2; use --cgroup-manager=cgroupfs")
	}
	slice, unit, err := parseSystemd(path)
	if err != nil {
		return nil, err
	}
	connect := dbus.ConnectSystemBus
	if o.Rootless {
		connect = dbus.ConnectSessionBus
	}
	conn, err := connect(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("make cgroup by systemd: %w", err)
	}
	defer conn.Close()
	done := make(chan *dbus.Signal, 16)
	conn.Signal(done)
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface("org.freedesktop.systemd1.Manager"), dbus.WithMatchMember("JobRemoved")); err != nil {
		return nil, fmt.Errorf("make cgroup by systemd: %w", err)
	}
	manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	var job dbus.ObjectPath
	if err := manager.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.StartTransientUnit", 0,
		unit, "replace", scopeProperties(slice, os.Getpid()), []struct {
			Name       string
			Properties []property
		}{}).Store(&job); err != nil {
		return nil, fmt.Errorf("make cgroup by systemd: start %s: %w", unit, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("make cgroup by systemd: start %s: %w", unit, context.Cause(ctx))
		case s := <-done:
			if s == nil || len(s.Body) < 4 || s.Body[1] != job {
				continue
			}
			if s.Body[3] != "done" {
				return nil, fmt.Errorf("make cgroup by systemd: start %s: %v", unit, s.Body[3])
			}
			group, err := ownPaths("/proc/self/cgroup")
			if err != nil {
				return nil, fmt.Errorf("make cgroup by systemd: %w", err)
			}
			return h.create2(group[""], r, o)
		}
	}
}

type property struct {
	Name  string
	Value dbus.Variant
}

// scopeProperties are those of a container's scope.
func scopeProperties(slice string, pid int) []property {
	p := func(name string, value any) property { return property{name, dbus.MakeVariant(value)} }
	return []property{
		p("Description", "container"), p("Slice", slice), p("PIDs", []uint32{uint32(pid)}), p("Delegate", true),
		p("DefaultDependencies", false), p("CollectMode", "inactive-or-failed"),
		p("MemoryAccounting", true), p("CPUAccounting", true), p("TasksAccounting", true), p("IOAccounting", true),
	}
}

// parseSystemd takes SLICE:PREFIX:NAME apart. See runtime-spec
// config-linux.md#cgroups-path and systemd.slice(5).
func parseSystemd(path string) (slice, unit string, err error) {
	w := strings.Split(path, ":")
	if len(w) != 3 || w[2] == "" || strings.ContainsAny(path, "/\x00\n") {
		return "", "", fmt.Errorf("cgroup %q: want SLICE:PREFIX:NAME", path)
	}
	slice = w[0]
	if slice == "" {
		slice = "system.slice"
	}
	if !strings.HasSuffix(slice, ".slice") {
		return "", "", fmt.Errorf("cgroup %q: %q is not the name of a slice", path, slice)
	}
	unit = w[2]
	if w[1] != "" {
		unit = w[1] + "-" + unit
	}
	if !strings.HasSuffix(unit, ".slice") && !strings.HasSuffix(unit, ".scope") {
		unit += ".scope"
	}
	return slice, unit, nil
}
