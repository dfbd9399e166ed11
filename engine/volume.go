package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/format"
	"hull/layer"
	"hull/snapshot"
	"hull/state"
)

// validVolume accepts the names that volumes may have: they become directories.
func validVolume(name string) bool { return validName(name) && len(name) <= 255 }

// loadVolume reads a volume's record.
func (e *Engine) loadVolume(name string) (*Volume, error) {
	if !validVolume(name) {
		return nil, fmt.Errorf("no such volume %q: %w", name, ErrNotFound)
	}
	data, err := state.ReadFile(filepath.Join(e.volumeDir(name), "volume.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no volume with name %q found: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read volume %s: %w", name, err)
	}
	v := new(Volume)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("read volume %s: %w", name, err)
	}
	v.Name, v.Mountpoint = name, filepath.Join(e.volumeDir(name), "_data")
	v.MountCount = len(e.volumeHolds(name))
	return v, nil
}

// findVolume is loadVolume by a name or the beginning of one.
func (e *Engine) findVolume(name string) (*Volume, error) {
	v, err := e.loadVolume(name)
	if err == nil || !errors.Is(err, ErrNotFound) || name == "" {
		return v, err
	}
	names, lerr := e.volumeNames()
	if lerr != nil {
		return nil, lerr
	}
	found := ""
	for _, n := range names {
		if strings.HasPrefix(n, name) {
			if found != "" {
				return nil, fmt.Errorf("volume %q: %w", name, ErrAmbiguous)
			}
			found = n
		}
	}
	if found == "" {
		return nil, err
	}
	return e.loadVolume(found)
}

// openVolume is findVolume with the volume's lock held; the record is read
// under the lock.
func (e *Engine) openVolume(ctx context.Context, name string) (*Volume, *lock, error) {
	v, err := e.findVolume(name)
	if err != nil {
		return nil, nil, err
	}
	l, err := e.lock(ctx, "volume", v.Name)
	if err != nil {
		return nil, nil, err
	}
	if v, err = e.loadVolume(v.Name); err != nil {
		l.Release()
		return nil, nil, err
	}
	return v, l, nil
}

func (e *Engine) volumeNames() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(e.o.Root, "volumes"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var out []string
	for _, d := range entries {
		if validVolume(d.Name()) {
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// VolumeCreate makes a volume and returns its name.
func (e *Engine) VolumeCreate(ctx context.Context, o VolumeCreateOptions) (string, error) {
	if o.Name == "" {
		o.Name = newID()
	}
	if !validVolume(o.Name) {
		return "", fmt.Errorf("volume name %q: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*", o.Name)
	}
	if err := e.prepareRoot(); err != nil {
		return "", err
	}
	l, err := e.lock(ctx, "volume", o.Name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if _, err := e.loadVolume(o.Name); err == nil {
		if o.Ignore {
			return o.Name, nil
		}
		return "", fmt.Errorf("volume with name %s already exists: %w", o.Name, ErrExists)
	}
	return o.Name, e.makeVolume(ctx, o, false, l)
}

// makeVolume makes a volume whose lock is held and that does not exist. What
// fails is taken back; if that fails too, the next command tries.
func (e *Engine) makeVolume(ctx context.Context, o VolumeCreateOptions, anonymous bool, l *lock) error {
	err := e.buildVolume(ctx, o, anonymous)
	if err != nil && !fileExists(filepath.Join(e.volumeDir(o.Name), "volume.json")) && e.dropUnfinished(context.WithoutCancel(ctx), o.Name) != nil {
		l.abandon()
	}
	return err
}

func (e *Engine) buildVolume(ctx context.Context, o VolumeCreateOptions, anonymous bool) error {
	v := Volume{Name: o.Name, Driver: firstOf(o.Driver, "local"), CreatedAt: time.Now(), Labels: o.Labels, Options: o.Options,
		Scope: "local", Anonymous: anonymous, NeedsCopyUp: true, NeedsChown: true}
	if err := e.checkVolume(ctx, &v); err != nil {
		return fmt.Errorf("create volume %s: %w", o.Name, err)
	}
	for _, id := range []struct {
		said *int
		kept *int
	}{{o.UID, &v.UID}, {o.GID, &v.GID}} {
		if id.said != nil {
			*id.kept, v.NeedsChown = *id.said, false
		}
	}
	if fileExists(e.volumeDir(o.Name)) {
		// What is left of one that is not wholly gone is not the new one's.
		if err := e.dropUnfinished(ctx, o.Name); err != nil {
			return fmt.Errorf("create volume %s: %w", o.Name, err)
		}
	}
	data := filepath.Join(e.volumeDir(o.Name), "_data")
	if v.limit != (snapshot.Limit{}) {
		if err := e.limitVolume(&v); err != nil {
			return fmt.Errorf("create volume %s: %w", o.Name, err)
		}
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("create volume %s: %w", o.Name, err)
	}
	if err := e.labelShared(data); err != nil {
		return fmt.Errorf("create volume %s: %w", o.Name, err)
	}
	if !v.NeedsChown {
		if err := os.Chown(data, v.UID, v.GID); err != nil {
			return fmt.Errorf("create volume %s: %w", o.Name, err)
		}
	}
	if err := e.saveVolume(&v); err != nil {
		return err
	}
	e.volumeEvent("create", v.Name)
	return nil
}

// limitVolume makes the volume's directory with a limit, which what is made in
// it inherits.
func (e *Engine) limitVolume(v *Volume) error {
	dir := e.volumeDir(v.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := snapshot.LimitDirectory(dir, "volume "+v.Name, v.limit)
	if err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return nil
}

func (e *Engine) saveVolume(v *Volume) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := state.WriteFile(e.volumeDir(v.Name), "volume.json", data, 0o600, !v.Anonymous); err != nil {
		return fmt.Errorf("write volume %s: %w", v.Name, err)
	}
	return nil
}

func (e *Engine) volumeEvent(action, name string) {
	e.appendEvent(eventRecord{Time: time.Now(), Type: "volume", Action: action, Name: name})
}

// VolumeList returns volumes, sorted by name.
func (e *Engine) VolumeList(ctx context.Context, f Filters) ([]*Volume, error) {
	match, err := e.volumeFilter(f)
	if err != nil {
		return nil, err
	}
	names, err := e.volumeNames()
	if err != nil {
		return nil, err
	}
	var out []*Volume
	for _, n := range names {
		v, err := e.loadVolume(n)
		if errors.Is(err, ErrNotFound) {
			continue // being made or removed
		}
		if err != nil {
			e.warn("%v", err)
			continue
		}
		if match(v) {
			out = append(out, v)
		}
	}
	return out, nil
}

func (e *Engine) volumeFilter(f Filters) (func(*Volume) bool, error) {
	var tests []func(*Volume) bool
	add := func(values []string, one func(v *Volume, value string) bool) {
		tests = append(tests, func(v *Volume) bool {
			return slices.ContainsFunc(values, func(value string) bool { return one(v, value) })
		})
	}
	for key, values := range f {
		switch key {
		case "name":
			add(values, func(v *Volume, s string) bool { return nameMatches(v.Name, s) })
		case "driver":
			add(values, func(v *Volume, s string) bool { return v.Driver == s })
		case "scope":
			add(values, func(v *Volume, s string) bool { return v.Scope == s })
		case "label":
			for _, s := range values {
				tests = append(tests, func(v *Volume) bool { return hasLabel(v.Labels, s) })
			}
		case "label!":
			for _, s := range values {
				tests = append(tests, func(v *Volume) bool { return !hasLabel(v.Labels, s) })
			}
		case "opt":
			add(values, func(v *Volume, s string) bool { return hasLabel(v.Options, s) })
		case "anonymous":
			add(values, func(v *Volume, s string) bool { return v.Anonymous == (s == "true" || s == "1") })
		case "all":
		case "dangling":
			users, err := e.volumeUsers()
			if err != nil {
				return nil, err
			}
			add(values, func(v *Volume, s string) bool { return (len(users[v.Name]) == 0) == (s == "true" || s == "1") })
		case "since", "after", "until":
			for _, s := range values {
				t, err := format.ParseTime(time.Now(), s)
				if err != nil && key != "until" {
					other, verr := e.findVolume(s)
					if verr != nil {
						return nil, verr
					}
					t, err = other.CreatedAt, nil
				}
				if err != nil {
					return nil, err
				}
				tests = append(tests, func(v *Volume) bool { return v.CreatedAt.Before(t) == (key == "until") })
			}
		default:
			return nil, fmt.Errorf("%q is an invalid volume filter", key)
		}
	}
	return func(v *Volume) bool {
		for _, t := range tests {
			if !t(v) {
				return false
			}
		}
		return true
	}, nil
}

// volumeUsers are the containers by the volumes they have.
func (e *Engine) volumeUsers() (map[string][]*record, error) {
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	out := make(map[string][]*record)
	for _, r := range all {
		for _, m := range r.Mounts {
			if m.Type == "volume" {
				out[m.Source] = append(out[m.Source], r)
			}
		}
	}
	return out, nil
}

// VolumeInspect returns one volume.
func (e *Engine) VolumeInspect(ctx context.Context, name string) (*Volume, error) {
	v, err := e.findVolume(name)
	if err != nil {
		return nil, err
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	if v.Options == nil {
		v.Options = map[string]string{}
	}
	users, err := e.volumeUsers()
	if err != nil {
		return nil, err
	}
	v.MountCount = 0
	for _, r := range users[v.Name] {
		if s, err := e.state(r); err == nil && s.running() {
			v.MountCount++
		}
	}
	return v, nil
}

// VolumeExists reports whether a volume has exactly that name.
func (e *Engine) VolumeExists(ctx context.Context, name string) (bool, error) {
	_, err := e.loadVolume(name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// VolumeRemove removes a volume that no container has; with force such
// containers are removed first.
func (e *Engine) VolumeRemove(ctx context.Context, name string, force bool, timeout *uint) (string, error) {
	if err := e.Recover(ctx); err != nil {
		e.warn("%v", err)
	}
	v, err := e.findVolume(name)
	if err != nil {
		return "", err
	}
	users, err := e.volumeUsers()
	if err != nil {
		return "", err
	}
	for _, r := range users[v.Name] {
		if !force {
			return "", fmt.Errorf("volume %s is being used by the container %s: %w", v.Name, r.ID[:12], ErrInUse)
		}
		if _, err := e.Remove(ctx, r.ID, RemoveOptions{Force: true, Timeout: timeout}); err != nil && !errors.Is(err, ErrNotFound) {
			return "", err
		}
	}
	l, err := e.lock(ctx, "volume", v.Name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	// The record goes first: what is left is no volume.
	dir := e.volumeDir(v.Name)
	if err := hideVolume(dir); err != nil {
		return "", fmt.Errorf("remove volume %s: %w", v.Name, err)
	}
	if err := e.dropVolume(ctx, v.Name); err != nil {
		l.abandon() // the next command goes on
		return "", err
	}
	if !v.Anonymous {
		if err := syncIfThere(filepath.Dir(dir)); err != nil {
			return "", fmt.Errorf("remove volume %s: %w", v.Name, err)
		}
	}
	e.volumeEvent("remove", v.Name)
	return v.Name, nil
}

// hideVolume makes what is in a volume's directory one that is being removed.
func hideVolume(dir string) error {
	name := filepath.Join(dir, "volume.json")
	err := os.Rename(name, filepath.Join(dir, unfinishedFile))
	if noRoom(err) {
		// A file system that copies what it changes wants room for a name, and
		// none for another mode or to remove.
		if os.Chmod(dir, 0o700|goingMode) == nil && os.Remove(name) == nil {
			return nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// goingMode says of the directory of a volume without a record what
// unfinishedFile says, for which there was no room.
const goingMode = fs.ModeSticky

// VolumePrune removes volumes that no container has: those without a name, or
// with all every one.
func (e *Engine) VolumePrune(ctx context.Context, all, dry bool, f Filters) ([]Removed, error) {
	f = maps.Clone(f)
	if f == nil {
		f = Filters{}
	}
	if slices.Contains(f["all"], "true") {
		all = true
	}
	if !all && len(f["anonymous"]) == 0 {
		f["anonymous"] = []string{"true"}
	}
	f["dangling"] = []string{"true"}
	volumes, err := e.VolumeList(ctx, f)
	if err != nil {
		return nil, err
	}
	var out []Removed
	for _, v := range volumes {
		size := treeSize(v.Mountpoint)
		if dry {
			out = append(out, Removed{ID: v.Name, Size: size})
			continue
		}
		if _, err := e.VolumeRemove(ctx, v.Name, false, nil); err != nil {
			out = append(out, Removed{ID: v.Name, Err: err})
			continue
		}
		out = append(out, Removed{ID: v.Name, Size: size})
	}
	return out, nil
}

// treeSize adds up the files of a directory; what cannot be read counts nothing.
func treeSize(dir string) uint64 {
	var n uint64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			n += uint64(fi.Size())
		}
		return nil
	})
	return n
}

// VolumeExport writes a volume's content as a tar archive.
func (e *Engine) VolumeExport(ctx context.Context, name string, w io.Writer) error {
	v, err := e.findVolume(name)
	if err != nil {
		return err
	}
	root, err := os.Open(v.Mountpoint)
	if err != nil {
		return fmt.Errorf("export volume %s: %w", v.Name, err)
	}
	defer root.Close()
	return layer.WriteTree(ctx, w, root)
}
