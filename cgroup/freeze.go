package cgroup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errFreezer reports a group that cannot be frozen.
var errFreezer = errors.New("no freezer")

// Freeze and Thaw stop and continue all processes. They wait until it is so.
func (g *Group) Freeze(ctx context.Context) error { return g.freeze(ctx, true) }

// Thaw is the opposite of Freeze.
func (g *Group) Thaw(ctx context.Context) error { return g.freeze(ctx, false) }

func (g *Group) freeze(ctx context.Context, frozen bool) error {
	dir, file, value := g.freezer(frozen)
	if dir == "" {
		return fmt.Errorf("freeze cgroup %s: %w", g.path, errFreezer)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		// Version 1 needs to be told again when a process forked meanwhile.
		if err := write(dir, file, value); err != nil {
			return err
		}
		now, err := g.Frozen()
		if err != nil || now == frozen {
			return err
		}
		select {
		case <-ctx.Done():
			if frozen {
				_, file, value = g.freezer(false)
				write(dir, file, value) // half frozen is worse than not at all
			}
			return fmt.Errorf("freeze cgroup %s: %w", g.path, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func (g *Group) freezer(frozen bool) (dir, file, value string) {
	if dir, ok := g.dirs[""]; ok {
		if frozen {
			return dir, "cgroup.freeze", "1"
		}
		return dir, "cgroup.freeze", "0"
	}
	if frozen {
		return g.dirs["freezer"], "freezer.state", "FROZEN"
	}
	return g.dirs["freezer"], "freezer.state", "THAWED"
}

// Frozen reports whether the group is frozen.
func (g *Group) Frozen() (bool, error) {
	if dir, ok := g.dirs[""]; ok {
		return keyed(dir, "cgroup.events")["frozen"] == 1, nil
	}
	dir, ok := g.dirs["freezer"]
	if !ok {
		return false, nil
	}
	state, err := read(dir, "freezer.state")
	if err != nil {
		return false, fmt.Errorf("read state of cgroup %s: %w", g.path, err)
	}
	return state == "FROZEN", nil
}
