package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A place is a cgroup for the containers of all contenders: one elsewhere would
// have another share of a busy machine, and nobody would count its processor
// time. The contenders are in another beside it, since podman ends all that is
// in the parent of its containers.
type place struct {
	name string   // as --cgroup-parent takes it
	dirs []string // those that must be removed, the lowest first
	join string   // cgroup.procs of where the contenders are
	busy func() (time.Duration, error)
}

// newPlace makes a cgroup, or takes the one there is; the bench removes it.
func (b *bench) newPlace() (*place, error) {
	const root = "/sys/fs/cgroup"
	top := fmt.Sprintf("/hull-bench-%d", os.Getpid())
	p := &place{name: top + "/containers"}
	tree, hierarchies := filepath.Join(root, "cpuacct", top), []string{root}
	p.busy = func() (time.Duration, error) { return usage(filepath.Join(tree, "cpuacct.usage"), "", time.Nanosecond) }
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		tree = filepath.Join(root, top)
		p.busy = func() (time.Duration, error) {
			return usage(filepath.Join(tree, "cpu.stat"), "usage_usec ", time.Microsecond)
		}
	} else if hierarchies, err = filepath.Glob(root + "/*"); err != nil {
		return nil, err
	}
	self := filepath.Join(tree, "self")
	p.join = filepath.Join(self, "cgroup.procs")
	p.dirs = append(p.dirs, self)
	for _, h := range hierarchies {
		p.dirs = append(p.dirs, filepath.Join(h, p.name), filepath.Join(h, top))
	}
	if err := os.MkdirAll(self, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	b.undo = append(b.undo, p.remove)
	return p, nil
}

// beside is a parent for the containers of a contender whose daemon is still
// there when podman ends all that is in its own.
func (p *place) beside(name string) string { return filepath.Join(filepath.Dir(p.name), name) }

func (p *place) remove() {
	for _, dir := range p.dirs {
		below, _ := filepath.Glob(dir + "/*/cgroup.procs") // what a peer left
		for _, f := range below {
			os.Remove(filepath.Dir(f))
		}
		os.Remove(dir)
	}
}

// in is a command line that runs argv in the place.
func (p *place) in(argv []string) []string {
	return append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, p.join}, argv...)
}

// usage reads a number of a file of the kernel's: what follows key in a line.
func usage(file, key string, unit time.Duration) (time.Duration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(n) * unit, err
		}
	}
	return 0, errors.New(file + ": no " + key)
}
