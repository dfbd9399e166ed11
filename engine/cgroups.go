package engine

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hull/cgroup"
	"hull/monitor"
	"hull/systemd"
)

// The managers of cgroups.
const (
	ManagerSystemd  = "systemd"
	ManagerCgroupfs = "cgroupfs"
)

// A groupManager is who makes cgroups, found out once.
type groupManager struct {
	once sync.Once
	name string
	// conn is the connection by which it was found out; nil when it was used.
	mu   sync.Mutex
	conn *systemd.Conn
	// helpers are processes of the container at hand that go where its monitor goes.
	helpers []uint32
}

// CgroupManager is who makes cgroups: what the user said, or systemd where it
// answers and cgroups are those of version 2.
func (e *Engine) CgroupManager() string {
	m := &e.groups
	m.once.Do(func() {
		m.name = e.o.CgroupManager
		if m.name != "" {
			return
		}
		m.name = ManagerCgroupfs
		host, err := cgroup.LookUp()
		if err != nil || !host.HasManager() {
			return
		}
		if m.conn, err = cgroup.DialManager(); err == nil {
			m.name = ManagerSystemd
		}
	})
	return m.name
}

// manager is a connection to systemd, that the caller closes.
func (e *Engine) manager() (*systemd.Conn, error) {
	e.groups.mu.Lock()
	conn := e.groups.conn
	e.groups.conn = nil
	e.groups.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	return cgroup.DialManager()
}

// defaultSlice is where the units of containers are that name no parent.
func (e *Engine) defaultSlice() string {
	if e.o.Rootless {
		return "user.slice"
	}
	return "machine.slice"
}

// cgroupPath is where the container's group is, "" for none: a path, or what
// systemd is asked for (see cgroup.SplitUnit).
func (e *Engine) cgroupPath(r *record) string {
	o := &r.Options
	mode := firstOf(o.Cgroups, e.o.Defaults.Cgroups)
	parent := o.CgroupParent
	switch {
	case mode == "disabled":
		return ""
	case strings.HasSuffix(r.PodGroup, ".slice"):
		return cgroup.UnitPath(r.PodGroup, "hull", r.ID)
	case r.PodGroup != "":
		return filepath.Join(r.PodGroup, "hull-"+r.ID)
	case mode == "split":
		return "hull-" + r.ID // below the engine's own
	case e.CgroupManager() == ManagerSystemd:
		return cgroup.UnitPath(firstOf(sliceName(parent), e.defaultSlice()), "hull", r.ID)
	}
	return e.belowParent(parent, "hull-"+r.ID)
}

// belowParent is the path of a group that is made without systemd. A user's
// that names no parent is below the engine's own.
func (e *Engine) belowParent(parent, name string) string {
	switch {
	case parent != "":
		return filepath.Join("/"+parent, name)
	case e.o.Rootless:
		return name
	}
	return filepath.Join("/hull", name)
}

// sliceName is the slice that a parent names, by its unit or its path.
func sliceName(parent string) string {
	if parent == "" {
		return ""
	}
	return path.Base(parent)
}

// checkParent: what systemd is to make a unit in is a slice.
func (e *Engine) checkParent(parent string) error {
	if parent == "" || e.CgroupManager() != ManagerSystemd || strings.HasSuffix(parent, ".slice") && len(path.Base(parent)) > len(".slice") {
		return nil
	}
	return hint(fmt.Errorf("cgroup parent %q is no slice, which is what systemd takes", parent), "name a slice, such as machine.slice, or use --cgroup-manager=cgroupfs")
}

// podGroup is the cgroup that is the parent of the members', "" for none: a
// path, or the name of a slice.
func (e *Engine) podGroup(p *podRecord) string {
	name := "hull-pod-" + p.ID
	parent := p.Options.CgroupParent
	switch {
	case p.Options.NoShareParent || e.o.Defaults.Cgroups == "disabled":
		return ""
	case e.CgroupManager() == ManagerSystemd:
		stem := strings.TrimSuffix(firstOf(sliceName(parent), e.defaultSlice()), ".slice")
		return stem + "-hull_pod_" + p.ID + ".slice"
	}
	return e.belowParent(parent, name)
}

// podGroupPath is podGroup as cgroup.Create and Open take it.
func podGroupPath(group string) string {
	if strings.HasSuffix(group, ".slice") && !strings.Contains(group, "/") {
		return cgroup.UnitPath("", "", group)
	}
	return group
}

// shownPodGroup is podGroup as a path.
func (e *Engine) shownPodGroup(p *podRecord) string {
	group := e.podGroup(p)
	if podGroupPath(group) != group {
		return strings.TrimPrefix(cgroup.SliceDir(group), "/")
	}
	return group
}

// unitOf is the unit of a container's group; "" when systemd did not make it.
func unitOf(group string) string {
	if name := path.Base(group); strings.HasPrefix(name, "hull-") && strings.HasSuffix(name, ".scope") {
		return name
	}
	return ""
}

// monitorScopes begin the names of the scopes in which monitors are.
const monitorScopes = "hull-monitor-"

// byManager fills in what systemd is asked for besides the container's group:
// a scope for the monitor where it may not stay with its caller. The
// connection is closed by the caller.
func (t *starting) byManager(ctx context.Context, host *cgroup.Host, o *cgroup.Options) (err error) {
	if o.Manager, err = t.e.manager(); err != nil {
		return err
	}
	o.Description = "hull container " + t.r.Name
	o.Properties = systemd.Lasting(time.Duration(min(t.r.stopTimeout(t.e), 1<<32)) * time.Second)
	helpers := t.e.takeHelpers()
	leaves, err := t.monitorLeaves(ctx, host, o.Manager)
	if err != nil || !leaves {
		return err
	}
	if t.o.spare == nil {
		// Its number must be known before it has something to do.
		if t.o.spare, err = monitor.Spawn(t.e.spawnOptions(t.o)); err != nil {
			return err
		}
		t.spare = t.o.spare
	}
	pid := t.o.spare.Pid()
	o.Beside = []systemd.Unit{{
		Name: fmt.Sprintf("%s%s-%d.scope", monitorScopes, t.r.ID, pid), Description: "monitor of hull container " + t.r.Name,
		Slice: t.e.defaultSlice(), Pids: append([]uint32{uint32(pid)}, helpers...), Properties: systemd.Lasting(tidyTime),
	}}
	// It sees how the container ends, and is told to end itself after that.
	o.Properties = append(o.Properties, systemd.Property{Name: "After", Value: []string{o.Beside[0].Name}})
	return nil
}

// tidyTime is how long a shutdown waits for those who stay for the containers'
// sake, when these have ended.
const tidyTime = 10 * time.Second

// monitorLeaves says whether the monitor must leave its caller's group: a
// user's in a session of a login could not start anything in his manager's
// groups, and one that nobody stays with would be killed with the session or
// at the end of the service. In a service that lives on, and one that is told
// of the container's readiness, it stays: systemd watches it there.
func (t *starting) monitorLeaves(ctx context.Context, host *cgroup.Host, conn *systemd.Conn) (bool, error) {
	switch {
	case !host.Mine():
		return true, nil
	case t.o.attach, t.r.step != nil, firstOf(t.r.Options.Cgroups, t.e.o.Defaults.Cgroups) == "no-conmon",
		os.Getenv("NOTIFY_SOCKET") != "", strings.HasPrefix(path.Base(host.Own()), monitorScopes):
		return false, nil
	}
	service := host.Service()
	if service == "" || !inService() {
		return true, nil
	}
	kind, err := conn.ServiceType(ctx, service)
	if err != nil {
		return false, nil // what is not known is left as it is
	}
	switch kind {
	case "simple", "exec", "oneshot", "idle":
		return true, nil
	}
	return false, nil
}

// lasting takes note of a process that is to outlive this one. One that others
// share must not end with the service or the session that was the first to
// need it: it has a scope of its own.
func (e *Engine) lasting(pid int, shared bool) {
	if !shared {
		e.groups.mu.Lock()
		e.groups.helpers = append(e.groups.helpers, uint32(pid))
		e.groups.mu.Unlock()
		return
	}
	if e.CgroupManager() != ManagerSystemd {
		return
	}
	conn, err := e.manager()
	if err == nil {
		err = conn.Start(context.Background(), systemd.Unit{Name: fmt.Sprintf("hull-net-%d.scope", pid), Description: "network of hull containers",
			Slice: e.defaultSlice(), Pids: []uint32{uint32(pid)}, Properties: systemd.Lasting(tidyTime)})
		conn.Close()
	}
	if err != nil {
		e.warn("%v", err)
	}
}

// takeHelpers are those noted since the last call.
func (e *Engine) takeHelpers() []uint32 {
	e.groups.mu.Lock()
	defer e.groups.mu.Unlock()
	list := e.groups.helpers
	e.groups.helpers = nil
	return list
}

// reachGroup moves this process to where it may enter the container's group.
func (e *Engine) reachGroup(ctx context.Context, s *runState) error {
	if unitOf(s.Cgroup) == "" {
		return nil
	}
	host, err := cgroup.LookUp()
	if err != nil || host.Mine() {
		return err
	}
	return host.EnterScope(ctx, fmt.Sprintf("hull-exec-%d.scope", os.Getpid()))
}
