package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/monitor"
	"hull/oci"
	"hull/ociruntime"
	"hull/state"
)

// A StepBase is what a step of a build runs upon, in the place of an image.
type StepBase struct {
	Chain  oci.Digest // the layers below, "" for none
	Config oci.ImageConfig
	Name   string // of the image that the stage began with, for people
	Arch   string // "" is the host's
}

// StepOptions say how RunStep runs.
type StepOptions struct {
	Base    StepBase
	Create  CreateOptions // its Image is not used
	Streams Streams
	// SecretEnv are variables that must be in no record.
	SecretEnv []string
	// Mounts are mounted as they are.
	Mounts []oci.Mount
	// Open are directories that are open already, by the Source of one of Mounts:
	// what is mounted is the open one, wherever its path leads by then.
	Open map[string]*os.File

	view *os.File // the layers below, while the step lasts; nil of none
}

// A StepEnd is a step whose program has ended, while its file system is there.
type StepEnd struct {
	Code int
	// Snapshot is the name of its writable layer.
	Snapshot string
	// Changes are what the program changed; Made what only the start made:
	// the places of mounts, and directories above them.
	Changes, Made []layer.Change
}

// RunStep runs a program as a container of its own above a base that need be
// no image, and has keep look at what it changed before it is removed. keep
// is not called when the program could not be started. A program that fails is
// no error here: StepEnd says how it ended.
func (e *Engine) RunStep(ctx context.Context, o StepOptions, keep func(StepEnd) error) error {
	c := o.Create
	c.AutoRemove, c.Image = true, ""
	if err := c.validate(); err != nil {
		return err
	}
	for _, m := range o.Mounts {
		if err := refuseDestination(&Mount{Type: "step", Destination: m.Destination}); err != nil {
			return err
		}
	}
	so := e.watching(&c, false, o.Streams)
	spare, err := monitor.Spawn(e.spawnOptions(so))
	if err != nil {
		return err
	}
	so.spare = spare
	defer spare.Close()
	if o.Base.Chain != "" {
		snaps, err := e.Snapshots()
		if err != nil {
			return err
		}
		if o.view, err = snaps.ViewTree(o.Base.Chain); err != nil {
			return err
		}
		defer o.view.Close()
	}
	r, l, err := e.createOf(ctx, c, true, func(r *record) error {
		r.step = &o
		r.fromStep()
		return nil
	})
	if err != nil {
		return err
	}
	defer l.Release()
	so.lock = l
	s := &runState{Status: StatusCreated}
	session, err := e.start(ctx, r, s, so)
	if err != nil {
		return fmt.Errorf("%w", joinUndo(err, e.failed(context.WithoutCancel(ctx), r, err)))
	}
	l.Release()
	defer session.Conn.Close()
	result, err := e.follow(ctx, r, session.Conn, s.process(), o.Streams, so.signals)
	if err == nil {
		err = e.stepEnd(ctx, r, result.Code, keep)
	} else {
		e.killLeft(context.WithoutCancel(ctx), r.ID)
	}
	if cerr := e.Cleanup(context.WithoutCancel(ctx), r.ID); err == nil {
		err = cerr
	}
	session.Conn.Cleaned(nil)
	return err
}

// builders says that the container is a step of another process, which lives and
// sees to it: once its program has ended, that looks at what it has changed. The
// step's lock is free then, so who comes by may hold it.
func (r *record) builders() bool {
	return r.Step && r.Builder != state.Self() && r.Builder.Alive()
}

func joinUndo(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%w (and its undoing: %w)", err, undo)
}

// fromStep fills in what findImage reads from an image.
func (r *record) fromStep() {
	b := &r.step.Base
	r.Image, r.Chain, r.ImageName, r.Arch, r.Step = b.Config, b.Chain, b.Name, b.Arch, true
	r.Builder = state.Self()
}

// SweepSteps ends and removes the steps of builds that were killed: nobody
// waits for them, and no list shows them.
func (e *Engine) SweepSteps(ctx context.Context) error {
	all, err := e.records()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range all {
		if !r.Step || r.Builder.Alive() {
			continue
		}
		if _, err := e.Remove(ctx, r.ID, RemoveOptions{Force: true, Timeout: new(uint)}); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// takeTrees has the runtime mount what is open already, and not what its path
// leads to by then.
func (t *starting) takeTrees(o *ociruntime.CompileOptions, open map[string]*os.File) error {
	for source, f := range open {
		fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("take %s: %w", f.Name(), os.NewSyscallError("open_tree", err))
		}
		o.Trees = append(o.Trees, ociruntime.Tree{Source: source, File: t.keep(os.NewFile(uintptr(fd), f.Name()))})
	}
	return nil
}

// stepEnd sorts what a step changed.
func (e *Engine) stepEnd(ctx context.Context, r *record, code int, keep func(StepEnd) error) error {
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	end := StepEnd{Code: code, Snapshot: r.ID}
	all, err := snaps.ChangesAbove(ctx, r.ID, r.step.view)
	if err != nil {
		return err
	}
	places := make(map[string]bool, len(r.Mounts)+len(enginePaths))
	for p := range enginePaths {
		places[p] = true
	}
	for _, m := range r.Mounts {
		places[m.Destination] = true
	}
	for _, m := range r.step.Mounts {
		places[m.Destination] = true
	}
	upper, err := snaps.Upper(r.ID)
	if err != nil {
		return err
	}
	defer upper.Close()
	var same func(string) bool
	if base := r.step.view; base != nil {
		same = func(path string) bool { return layer.SameDirectory(base, upper, path) }
	}
	end.Changes, end.Made = sortChanges(all, places, same)
	return keep(end)
}

// sortChanges tells what a start made from what the program did. all is sorted
// by path, so what a directory holds follows it: it is gone through from the
// end. same says whether a directory is as it was below.
func sortChanges(all []layer.Change, places map[string]bool, same func(string) bool) (changes, made []layer.Change) {
	above := map[string]bool{} // directories that lead to a place
	for p := range places {
		for d := parentOf(p); d != "/"; d = parentOf(d) {
			above[d] = true
		}
	}
	kept := map[string]bool{} // directories that hold a change of the program's
	drop := make([]bool, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		c := all[i]
		switch {
		case places[c.Path] && c.Kind != layer.Deleted && !kept[c.Path]:
			drop[i] = c.Kind == layer.Added || same == nil || same(c.Path)
		case above[c.Path] && !kept[c.Path]:
			drop[i] = c.Kind == layer.Added || c.Kind == layer.Modified && same != nil && same(c.Path)
		}
		if !drop[i] {
			kept[parentOf(c.Path)] = true
		}
	}
	for i, c := range all {
		if drop[i] {
			made = append(made, c)
		} else {
			changes = append(changes, c)
		}
	}
	return changes, made
}

func parentOf(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return "/"
	}
	return p[:i]
}
