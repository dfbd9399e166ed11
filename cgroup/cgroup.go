package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/systemd"
)

// Options for Create.
type Options struct {
	// Rootless accepts that a limit cannot be set where no hierarchy is delegated; Warn is told which.
	Rootless bool
	Warn     func(text string)
	// Lenient accepts it too where the group lies below processes.
	Lenient bool
	// Hybrid makes the group also in the version 2 hierarchy of a host of version 1,
	// which has no controllers: who looks there finds it.
	Hybrid bool
	// Manager is the connection that is asked for a group of systemd, where the path names a unit
	// (see SplitUnit); nil makes one. Description and Properties are the unit's, besides the limits.
	Manager     *systemd.Conn
	Description string
	Properties  []systemd.Property
	// Beside are units that are started with it.
	Beside []systemd.Unit
}

// unified is the key of a group's directory in the hierarchy of version 2 that stands
// beside those of version 1.
const unified = "unified"

// A Group is one container's cgroup: one directory in version 2, one a controller in version 1.
type Group struct {
	h    *Host
	path string
	dirs map[string]string // controller → directory; version 2 is ""
	unit string            // the unit of systemd whose group it is; "" for a plain one
	hold *holder           // is in a new scope until Release
}

// Create makes the group at path and sets its limits, devices included. What it made is removed on an error.
func (h *Host) Create(ctx context.Context, path string, r *oci.LinuxResources, o Options) (*Group, error) {
	if slice, unit, ok := SplitUnit(path); ok {
		if r == nil {
			r = &oci.LinuxResources{}
		}
		if !h.V2() {
			return nil, errors.New("make a cgroup by systemd: that needs cgroup version 2 alone")
		}
		return h.createUnit(ctx, slice, unit, r, o)
	}
	return h.create(path, r, o)
}

func (h *Host) create(path string, r *oci.LinuxResources, o Options) (*Group, error) {
	if r == nil {
		r = &oci.LinuxResources{}
	}
	if h.V2() {
		return h.create2(path, r, o)
	}
	return h.create1(path, r, o)
}

// Open returns an existing group, by the text that Group.String gave or by its
// path. The error of one that is not there satisfies errors.Is(err, fs.ErrNotExist).
func (h *Host) Open(text string) (*Group, error) {
	if slice, unit, ok := SplitUnit(text); ok && h.V2() {
		g, err := h.Open(unitDir(slice, unit))
		if err != nil {
			return nil, err
		}
		return g.OfUnit(unit), nil
	}
	g := &Group{h: h, path: text, dirs: make(map[string]string)}
	if h.V2() {
		dir, err := resolve(h.unified, h.own2, text)
		if err != nil {
			return nil, err
		}
		g.dirs[""] = dir
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		return g, nil
	}
	for _, v := range h.v1 {
		dir, err := resolve(v.dir, v.own, text)
		if err != nil {
			return nil, err
		}
		if there(dir) {
			for _, c := range v.controllers {
				g.dirs[c] = dir
			}
		}
	}
	if len(g.dirs) > 0 && h.hybrid != "" {
		if dir, err := resolve(h.hybrid, h.own2, text); err == nil {
			if there(dir) {
				g.dirs[unified] = dir
			}
		}
	}
	if len(g.dirs) == 0 {
		return nil, fmt.Errorf("open cgroup %s: %w", text, fs.ErrNotExist)
	}
	return g, nil
}

// there reports whether a hierarchy has a group. What could not be looked at is
// not taken for absent: its removal would forget it.
func there(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
}

// String is what Open takes: it is kept in a container's state. It is "" of a
// group that is nowhere, as a user's may be in version 1.
func (g *Group) String() string {
	if len(g.dirs) == 0 {
		return ""
	}
	return g.path
}

// each calls f for each of the group's directories once.
func (g *Group) each(f func(dir string) error) error {
	seen := make(map[string]bool)
	var errs []error
	for _, dir := range g.dirs {
		if !seen[dir] {
			seen[dir] = true
			if err := f(dir); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Procs are the files that a process of one thread writes "0" to, to be in the
// group. In version 1 that is tasks: a thread that moves itself does not wait
// for the lock that cgroup.procs takes against forks on the whole machine,
// which costs an RCU grace period, several milliseconds.
func (g *Group) Procs() []string {
	var out []string
	g.each(func(dir string) error {
		if dir == g.dirs[unified] {
			return nil // see Dir
		}
		if dir == g.dirs[""] {
			out = append(out, dir+"/cgroup.procs")
			return nil
		}
		out = append(out, dir+"/tasks")
		return nil
	})
	return out
}

// ProcsOf are Procs for a process that joins another of the group, pid. In
// version 2 the group itself takes nobody once the container has made groups
// with controllers below it, as systemd in it does; pid's own does.
func (g *Group) ProcsOf(pid int) []string {
	dir, ok := g.dirs[""]
	if !ok {
		return g.Procs()
	}
	if control, err := read(dir, "cgroup.subtree_control"); err != nil || control == "" {
		return g.Procs()
	}
	own, _, err := ownPaths("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if below := filepath.Join(g.h.unified, own[""]); err == nil && strings.HasPrefix(below, dir+"/") {
		return []string{below + "/cgroup.procs"}
	}
	return g.Procs()
}

// Dir opens the directory in version 2, to be born in by clone3; nil where there is none.
// Beside version 1, whose groups are entered by Procs, it is the only way into it: its
// cgroup.procs has the same lock as theirs.
func (g *Group) Dir() (*os.File, error) {
	dir, ok := g.dirs[""]
	if !ok {
		dir, ok = g.dirs[unified]
	}
	if !ok {
		return nil, nil
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// Pids returns all processes of the group and those below it.
func (g *Group) Pids() ([]int, error) {
	dir := g.counting()
	if dir == "" {
		return nil, nil
	}
	var out []int
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p + "/cgroup.procs")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, w := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(w); err == nil {
				out = append(out, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %s: %w", g.path, err)
	}
	return out, nil
}

// counting is a directory that every process of the group is in.
func (g *Group) counting() string {
	for _, c := range []string{"", "pids", "freezer", "devices", "memory"} {
		if dir, ok := g.dirs[c]; ok {
			return dir
		}
	}
	for _, dir := range g.dirs {
		return dir
	}
	return ""
}

// Kill kills all of them, at once where the kernel can.
func (g *Group) Kill() error {
	if dir, ok := g.dirs[""]; ok {
		if err := write(dir, "cgroup.kill", "1"); err == nil {
			return nil
		}
	}
	// One that forks meanwhile is met in the next round.
	for range 50 {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return fmt.Errorf("kill process %d of cgroup %s: %w", pid, g.path, err)
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// Remove removes the group and those below it; it waits a moment for its last process. One that is gone is no error.
func (g *Group) Remove() error {
	g.Release()
	var err error
	if g.unit != "" {
		err = g.stopUnit()
	}
	return errors.Join(err, g.each(removeTree))
}

// RemoveEmpty removes a group that nobody is in and that has no group below it; another stays.
func (g *Group) RemoveEmpty() {
	g.each(func(dir string) error { return unix.Rmdir(dir) })
}

// removeTree removes a directory and what is below it, the lowest first.
func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	for wait := 100 * time.Microsecond; err == unix.EBUSY && wait < 400*time.Millisecond; wait *= 2 {
		entries, rerr := os.ReadDir(dir)
		if rerr != nil {
			break
		}
		for _, e := range entries {
			if e.IsDir() {
				removeTree(filepath.Join(dir, e.Name()))
			}
		}
		// A process that has ended may not have left yet.
		time.Sleep(wait)
		err = unix.Rmdir(dir)
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// write sets one file of a group.
func write(dir, file, value string) error {
	fd, err := unix.Open(dir+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("set %s to %q in %s: %w", file, value, dir, err)
	}
	return nil
}

// read returns a file's text, trimmed.
func read(dir, file string) (string, error) {
	data, err := os.ReadFile(dir + "/" + file)
	return strings.TrimSpace(string(data)), err
}

// number reads a file of one number; "max", and a file that is not there, are 0.
func number(dir, file string) uint64 {
	text, _ := read(dir, file)
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// keyed reads a file of lines KEY VALUE.
func keyed(dir, file string) map[string]uint64 {
	text, _ := read(dir, file)
	out := make(map[string]uint64)
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(v, 10, 64); err == nil {
			out[k] = n
		}
	}
	return out
}
