package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

func (h *Host) create2(path string, r *oci.LinuxResources, o Options) (g *Group, err error) {
	list, err := settings2(r)
	if err != nil {
		return nil, err
	}
	if o.Rootless {
		path = h.delegated(path)
	}
	path = h.fromOwn(path)
	dir, err := resolve(h.unified, h.own2, path)
	if err != nil {
		return nil, err
	}
	g = &Group{h: h, path: path, dirs: map[string]string{"": dir}}
	if err := makeDir(dir, h.unified); err != nil {
		if o.Rootless && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)) {
			if len(list) > 0 {
				o.warn("limits are not set: no cgroup is delegated to this user")
			}
			return &Group{h: h, path: path, dirs: map[string]string{}}, nil
		}
		return nil, err
	}
	group := g
	defer func() {
		if err != nil {
			group.Remove() // not g: an error has made it nil
		}
	}()
	wanted := []string{"cpu", "memory", "pids"}
	for _, s := range list {
		wanted = append(wanted, s.controller)
	}
	if err := enable(filepath.Dir(dir), h.unified, wanted); err != nil && !o.Rootless {
		return nil, err
	}
	if err := g.apply(list, o); err != nil {
		return nil, err
	}
	if len(r.Devices) > 0 && !o.Rootless {
		return g, g.devices2(r.Devices)
	}
	return g, nil
}

// delegated is where a user's group is: a relative path begins at the nearest
// group, from the own one upwards, in which he may make groups and into which
// he may move processes, and that has none itself, since only below such a one
// there are limits. Under systemd that is his app.slice; in a session of a
// login nothing is his, and the path stays as it is.
func (h *Host) delegated(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	for own := filepath.Clean("/" + h.own2); own != "/"; own = filepath.Dir(own) {
		dir := filepath.Join(h.unified, own)
		for _, f := range []string{dir, dir + "/cgroup.procs", dir + "/cgroup.subtree_control"} {
			if unix.Faccessat(unix.AT_FDCWD, f, unix.W_OK, unix.AT_EACCESS) != nil {
				return path
			}
		}
		if procs, err := read(dir, "cgroup.procs"); err == nil && procs == "" {
			return own + "/" + path
		}
	}
	return path
}

// enable lets the groups below dir use controllers, from the root down. One
// that is not there is found out when a limit of it is set.
func enable(dir, root string, controllers []string) error {
	if !strings.HasPrefix(dir, root) {
		return nil
	}
	if dir != root {
		// What is above a group that is delegated is another's.
		if err := enable(filepath.Dir(dir), root, controllers); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		// Below processes no controller but those of threads can be had, and
		// with these nothing could enter the groups below any more.
		if procs, _ := read(dir, "cgroup.procs"); procs != "" {
			return nil
		}
	}
	have, err := read(dir, "cgroup.subtree_control")
	if err != nil {
		return fmt.Errorf("read controllers of cgroup %s: %w", dir, err)
	}
	there, _ := read(dir, "cgroup.controllers")
	for _, c := range controllers {
		if hasWord(have, c) || !hasWord(there, c) {
			continue
		}
		if err := write(dir, "cgroup.subtree_control", "+"+c); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func hasWord(text, word string) bool {
	for _, w := range strings.Fields(text) {
		if w == word {
			return true
		}
	}
	return false
}

// devices2 attaches the rules' program to the group in place of an earlier one.
func (g *Group) devices2(rules []oci.LinuxDeviceCgroup) error {
	prog, err := deviceProgram(rules)
	if err != nil {
		return err
	}
	dir, err := os.Open(g.dirs[""])
	if err != nil {
		return fmt.Errorf("set device rules: %w", err)
	}
	defer dir.Close()
	if err := attachDevices(int(dir.Fd()), prog); err != nil {
		return fmt.Errorf("set device rules of cgroup %s: %w", g.path, err)
	}
	return nil
}
