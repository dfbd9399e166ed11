package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// always are the controllers whose hierarchies a group is made in whatever is
// limited: to pause, to count, to see memory and time, to keep devices away.
var always = []string{"pids", "freezer", "devices", "memory", "cpu", "cpuacct"}

func (h *Host) create1(path string, r *oci.LinuxResources, o Options) (g *Group, err error) {
	g = &Group{h: h, path: path, dirs: make(map[string]string)}
	made, group := false, g
	defer func() {
		if err != nil && made {
			group.Remove() // not g: an error has made it nil
		}
	}()
	list := settings1(r)
	if len(r.Unified) > 0 {
		return nil, errors.New("set unified cgroup files: invalid configuration: this host has cgroups of version 1")
	}
	wanted := always
	for _, s := range list {
		wanted = append(wanted[:len(wanted):len(wanted)], s.controller)
	}
	for _, c := range wanted {
		if err := g.extend(c); err != nil {
			if o.Rootless && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)) {
				continue
			}
			return nil, err
		}
		made = made || g.dirs[c] != ""
	}
	if o.Hybrid && h.hybrid != "" {
		dir, err := resolve(h.hybrid, h.own2, path)
		if err == nil && makeDir(dir, h.hybrid) == nil { // nothing depends on it
			g.dirs[unified] = dir
		}
	}
	if err := g.apply(list, o); err != nil {
		return nil, err
	}
	if err := g.devices1(r.Devices, o); err != nil {
		return nil, err
	}
	return g, nil
}

// extend makes the group in a controller's hierarchy, where the host has one and the
// group is not in it.
func (g *Group) extend(controller string) error {
	v := g.h.find(controller)
	if v == nil || g.dirs[controller] != "" {
		return nil
	}
	dir, err := resolve(v.dir, v.own, g.path)
	if err != nil {
		return err
	}
	if err := makeDir(dir, v.dir); err != nil {
		return err
	}
	for _, c := range v.controllers {
		g.dirs[c] = dir
	}
	if controller == "cpuset" {
		return inheritCpuset(dir, v.dir)
	}
	return nil
}

// enter makes the group in the hierarchies that settings need and moves its processes
// there: at its creation it was made in those that were needed then.
func (g *Group) enter(list []setting) error {
	for _, s := range list {
		if g.dirs[s.controller] != "" {
			continue
		}
		if err := g.extend(s.controller); err != nil {
			return err
		}
		dir := g.dirs[s.controller]
		if dir == "" {
			continue // the host has no such controller: the setting will say so
		}
		pids, err := g.Pids()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := write(dir, "cgroup.procs", n(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// makeDir makes dir and what is missing between it and the hierarchy's root.
func makeDir(dir, root string) error {
	err := unix.Mkdir(dir, 0o755)
	if err == unix.ENOENT && dir != root {
		if err := makeDir(filepath.Dir(dir), root); err != nil {
			return err
		}
		err = unix.Mkdir(dir, 0o755)
	}
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("make cgroup %s: %w", dir, err)
	}
	return nil
}

// inheritCpuset fills in what a new group of this controller begins without,
// from the group above: no process may enter before.
func inheritCpuset(dir, root string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := read(dir, file)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", file, dir, err)
		}
		if text != "" || dir == root {
			continue
		}
		if err := inheritCpuset(filepath.Dir(dir), root); err != nil {
			return err
		}
		above, err := read(filepath.Dir(dir), file)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", file, filepath.Dir(dir), err)
		}
		if err := write(dir, file, above); err != nil {
			return err
		}
	}
	return nil
}

// devices1 writes device rules, in order: "a" is everything.
func (g *Group) devices1(rules []oci.LinuxDeviceCgroup, o Options) error {
	dir, ok := g.dirs["devices"]
	if !ok || len(rules) == 0 {
		return nil
	}
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		err := write(dir, file, ruleText(r))
		if err != nil && (o.Rootless || os.Geteuid() != 0) && errors.Is(err, unix.EPERM) {
			return nil // in a user namespace no device can be made anyway
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ruleText is a rule as version 1 reads it: "c 1:3 rwm".
func ruleText(r oci.LinuxDeviceCgroup) string {
	if (r.Type == "" || r.Type == "a") && r.Major == nil && r.Minor == nil {
		return "a"
	}
	number := func(p *int64) string {
		if p == nil || *p < 0 {
			return "*"
		}
		return n(*p)
	}
	kind := r.Type
	if kind == "" {
		kind = "a"
	}
	access := deviceAccess(r.Access)
	if access == "" {
		access = "rwm"
	}
	return strings.Join([]string{kind, number(r.Major) + ":" + number(r.Minor), access}, " ")
}
