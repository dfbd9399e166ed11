package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hull/oci"
	"hull/systemd"
	"hull/userns"
)

// ErrUnitPath is a path that names no unit of systemd.
var ErrUnitPath = errors.New(`expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups`)

// UnitPath is the path of a group that systemd makes, in runtimes' form
// SLICE:PREFIX:NAME: the scope PREFIX-NAME.scope in SLICE.
func UnitPath(slice, prefix, name string) string { return slice + ":" + prefix + ":" + name }

// SplitUnit takes such a path apart; ok is false for one of a directory. A
// name that ends in .slice is a unit by itself, one without a prefix a scope.
func SplitUnit(path string) (slice, unit string, ok bool) {
	parts := strings.Split(path, ":")
	if len(parts) != 3 || strings.Contains(path, "/") || parts[2] == "" {
		return "", "", false
	}
	switch slice, unit = parts[0], parts[2]; {
	case slice != "" && !strings.HasSuffix(slice, ".slice"):
		return "", "", false
	case strings.HasSuffix(unit, ".slice"):
	case parts[1] == "":
		unit += ".scope"
	default:
		unit = parts[1] + "-" + unit + ".scope"
	}
	return slice, unit, true
}

// managerUser is who this process is to the kernel's first user namespace, as
// far as its own one tells: in a user's namespace he is root.
func managerUser() int { return userns.HostUID() }

// DialManager connects to the service manager whose groups this user may make:
// the system's for root, otherwise his own.
func DialManager() (*systemd.Conn, error) {
	uid := managerUser()
	return systemd.Dial(systemd.Socket(uid != 0, os.Getenv("XDG_RUNTIME_DIR"), uid))
}

// HasManager says cheaply whether there is a manager to ask: version 2, and its socket.
func (h *Host) HasManager() bool {
	if !h.V2() {
		return false
	}
	uid := managerUser()
	_, err := os.Stat(systemd.Socket(uid != 0, os.Getenv("XDG_RUNTIME_DIR"), uid))
	return err == nil
}

// SliceDir is a slice's path: each dash in its name is a step down.
func SliceDir(slice string) string {
	name := strings.TrimSuffix(slice, ".slice")
	if name == "-" || name == "" {
		return "/"
	}
	dir := "/"
	for i, c := range name {
		if c == '-' {
			dir = filepath.Join(dir, name[:i]+".slice")
		}
	}
	return filepath.Join(dir, name+".slice")
}

// managerDir is the group of the user's manager, "/" is the system's.
func managerDir() string {
	uid := managerUser()
	if uid == 0 {
		return "/"
	}
	return fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service", uid, uid)
}

// unitDir is where a unit's group is, if it is.
func unitDir(slice, unit string) string {
	if strings.HasSuffix(unit, ".slice") {
		return filepath.Join(managerDir(), SliceDir(unit))
	}
	return filepath.Join(managerDir(), SliceDir(slice), unit)
}

// createUnit has systemd make the group, and sets what it knows no property for.
func (h *Host) createUnit(ctx context.Context, slice, unit string, r *oci.LinuxResources, o Options) (*Group, error) {
	list, err := settings2(r)
	if err != nil {
		return nil, err
	}
	conn := o.Manager
	if conn == nil {
		if conn, err = DialManager(); err != nil {
			return nil, err
		}
		defer conn.Close()
	}
	u := systemd.Unit{Name: unit, Description: o.Description, Slice: slice, Properties: append(properties(list), o.Properties...)}
	if u.Description == "" {
		u.Description = "container " + unit
	}
	g := &Group{h: h, unit: unit, path: unitDir(slice, unit)}
	if strings.HasSuffix(unit, ".slice") {
		u.Slice = "" // its name says where it is
	} else {
		if g.hold, err = newHolder(); err != nil {
			return nil, err
		}
		u.Pids = []uint32{uint32(g.hold.pid)}
	}
	if err := conn.Start(ctx, append([]systemd.Unit{u}, o.Beside...)...); err != nil {
		g.Release()
		return nil, err
	}
	if g.hold != nil {
		own, _, err := ownPaths(fmt.Sprintf("/proc/%d/cgroup", g.hold.pid))
		if err != nil {
			g.Release()
			return nil, fmt.Errorf("find the group of unit %s: %w", unit, err)
		}
		g.path = own[""]
	}
	g.dirs = map[string]string{"": filepath.Join(h.unified, g.path)}
	if err := g.finishUnit(list, r, o); err != nil {
		g.Release()
		_ = conn.Stop(context.WithoutCancel(ctx), unit)
		return nil, err
	}
	return g, nil
}

// finishUnit writes all limits: some have no property, and of others systemd
// knows rounder numbers than the kernel.
func (g *Group) finishUnit(list []setting, r *oci.LinuxResources, o Options) error {
	if err := g.apply(list, o); err != nil {
		return err
	}
	if len(r.Devices) > 0 && !o.Rootless {
		return g.devices2(r.Devices)
	}
	return nil
}

// OfUnit says that the group is a unit of systemd: Set and Remove go by way of it.
func (g *Group) OfUnit(name string) *Group {
	g.unit = name
	return g
}

// Unit is the unit of systemd whose group it is; "" for a plain one.
func (g *Group) Unit() string { return g.unit }

// Events is the path of a file of a group of version 2.
func (g *Group) Events(name string) string { return filepath.Join(g.dirs[""], name) }

// Host is where the group is.
func (g *Group) Host() *Host { return g.h }

// Release lets the process go that held a new scope until the container's first
// one was in it. Nothing is to be done for other groups.
func (g *Group) Release() {
	if g != nil && g.hold != nil {
		g.hold.end()
		g.hold = nil
	}
}

// stopUnit ends the group's unit.
func (g *Group) stopUnit() error {
	conn, err := DialManager()
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Stop(context.Background(), g.unit)
}

// setUnit tells systemd of changed limits, so that it does not change them back.
func (g *Group) setUnit(list []setting) error {
	conn, err := DialManager()
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Set(context.Background(), g.unit, properties(list))
}

// StopUnit ends the unit of a path in SplitUnit's form, and what is in it.
func StopUnit(path string) error {
	_, unit, ok := SplitUnit(path)
	if !ok {
		return fmt.Errorf("%w, got %q instead", ErrUnitPath, path)
	}
	return (&Group{unit: unit}).stopUnit()
}

// Mine says whether this process may move others from its own group to those
// of its user's manager: nobody else's group is on the way. In a session of a
// login that is not so.
func (h *Host) Mine() bool {
	if managerUser() == 0 {
		return true
	}
	return strings.HasPrefix(filepath.Clean("/"+h.own2)+"/", managerDir()+"/")
}

// EnterScope moves this process, with all its threads, into a scope of its own
// under the user's manager, from which it may enter the groups of containers.
func (h *Host) EnterScope(ctx context.Context, name string) error {
	conn, err := DialManager()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Start(ctx, systemd.Unit{Name: name, Description: name, Slice: "user.slice", Pids: []uint32{uint32(os.Getpid())}}); err != nil {
		return err
	}
	own, _, err := ownPaths("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("look up cgroups: %w", err)
	}
	h.own2 = own[""]
	return nil
}

// Own is this process's group in version 2.
func (h *Host) Own() string { return h.own2 }

// Service is the service that this process belongs to; "" for none.
func (h *Host) Service() string {
	for own := filepath.Clean("/" + h.own2); own != "/"; own = filepath.Dir(own) {
		if name := filepath.Base(own); strings.HasSuffix(name, ".service") {
			if strings.HasPrefix(name, "user@") {
				return ""
			}
			return name
		}
	}
	return ""
}
