package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/layer"
	"hull/oci"
)

// tree opens the container's root as it is seen now: that of its process when
// it runs, mounts and all, else its writable layer over the image.
func (e *Engine) tree(r *record, s *runState) (*os.File, error) {
	if s.running() && s.Pid != 0 {
		// The container's own root; what lies below is opened inside it only.
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", s.Pid), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, fmt.Errorf("open the root of %s: %w", r.Name, err)
		}
		if !s.process().Alive() {
			f.Close()
			return nil, fmt.Errorf("open the root of %s: %w: it ended just now", r.Name, ErrState)
		}
		return f, nil
	}
	if r.Options.Rootfs != "" && !r.Options.RootfsOverlay {
		f, err := os.Open(r.Options.Rootfs)
		if err != nil {
			return nil, fmt.Errorf("open the root of %s: %w", r.Name, err)
		}
		return f, nil
	}
	return e.ownedTree(r)
}

// enginePaths are files that the engine itself mounts in every container: no
// change of the user's.
var enginePaths = map[string]bool{
	"/etc/hosts": true, "/etc/resolv.conf": true, "/etc/hostname": true, "/run/.containerenv": true, "/dev": true, "/proc": true, "/sys": true,
	"/dev/console": true, "/dev/pts": true, "/dev/shm": true, "/dev/mqueue": true, "/run/secrets": true, "/.dockerenv": true, initPath: true, "/etc/mtab": true,
}

// Diff lists what a container changed above its image. Mount points that a
// start made are left out.
func (e *Engine) Diff(ctx context.Context, name string) ([]layer.Change, error) {
	r, _, err := e.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return e.changes(ctx, r)
}

func (e *Engine) changes(ctx context.Context, r *record) ([]layer.Change, error) {
	if r.Options.Rootfs != "" {
		return nil, fmt.Errorf("list changes of %s: a container of a --rootfs has no image below it", r.Name)
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return nil, err
	}
	all, err := snaps.Changes(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	own := make(map[string]bool, len(r.Mounts))
	for _, m := range r.Mounts {
		own[m.Destination] = true
	}
	var out []layer.Change
	for i, c := range all {
		if enginePaths[c.Path] || own[c.Path] {
			continue
		}
		// A directory that is there only for what was just left out.
		if c.Kind == layer.Modified && onlyEngines(all[i+1:], c.Path, own) {
			continue
		}
		out = append(out, c)
	}
	return out, nil
}

// onlyEngines reports whether rest, sorted by path, has something below dir,
// and only what the engine made.
func onlyEngines(rest []layer.Change, dir string, own map[string]bool) bool {
	some := false
	for _, c := range rest {
		if !strings.HasPrefix(c.Path, dir+"/") {
			break
		}
		if !enginePaths[c.Path] && !own[c.Path] {
			return false
		}
		some = true
	}
	return some
}

// Export writes the container's file system as a tar archive, without what is
// mounted in it.
func (e *Engine) Export(ctx context.Context, name string, w io.Writer) error {
	r, _, err := e.open(ctx, name)
	if err != nil {
		return err
	}
	var root *os.File
	if r.Options.Rootfs != "" && !r.Options.RootfsOverlay {
		root, err = os.Open(r.Options.Rootfs)
	} else {
		root, err = e.ownedTree(r)
	}
	if err != nil {
		return fmt.Errorf("export container %s: %w", r.Name, err)
	}
	defer root.Close()
	return r.writeLayer(w, func(w io.Writer) error { return layer.WriteTree(ctx, w, root) })
}

// Commit makes an image of a container, and returns its ID.
func (e *Engine) Commit(ctx context.Context, name string, o CommitOptions) (oci.Digest, error) {
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if r.Options.Rootfs != "" {
		return "", fmt.Errorf("commit container %s: a container of a --rootfs has no image below it", r.Name)
	}
	if o.Pause && s.Status == StatusRunning {
		if g := e.group(s); g != nil {
			if err := g.Freeze(ctx); err != nil {
				return "", fmt.Errorf("commit container %s: pause: %w", r.Name, err)
			}
			defer g.Thaw(context.WithoutCancel(ctx))
		}
	}
	store, err := e.Images()
	if err != nil {
		return "", err
	}
	hold, err := store.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer hold.Release()
	base, err := store.Resolve(ctx, r.ImageID)
	if err != nil {
		return "", fmt.Errorf("commit container %s: its image: %w", r.Name, err)
	}
	config, layers, err := e.commitLayers(ctx, store, r, base, o)
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", r.Name, err)
	}
	var names []oci.Reference
	if o.Name != "" {
		ref, err := oci.ParseReference(o.Name)
		if err != nil {
			return "", err
		}
		if ref.IsShort() {
			ref = ref.In("localhost")
		}
		names = append(names, ref.Tagged())
	}
	img, err := store.Create(ctx, config, layers, image.CreateOptions{Docker: o.Docker, Names: names})
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", r.Name, err)
	}
	e.event(ctx, "container", "commit", r, map[string]string{"image": img.ID.Hex()})
	return img.ID, nil
}

// commitLayers stores the container's changes and makes the new config.
func (e *Engine) commitLayers(ctx context.Context, store *image.Store, r *record, base image.Image, o CommitOptions) (oci.Image, []image.Layer, error) {
	config := commitConfig(r, base, o)
	if o.Config != nil {
		image.MergeConfig(&config.Config, o.Config)
	}
	if err := image.Change(&config, o.Changes); err != nil {
		return config, nil, err
	}
	changes, err := e.changes(ctx, r)
	if err != nil {
		return config, nil, err
	}
	parent, layers := r.Chain, base.Layers
	if o.Squash {
		parent, layers, config.History = "", nil, nil
	}
	root, err := e.ownedTree(r)
	if err != nil {
		return config, nil, err
	}
	defer root.Close()
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(r.writeLayer(pw, func(w io.Writer) error {
			if o.Squash {
				return layer.WriteTree(ctx, w, root)
			}
			return layer.WriteChanges(ctx, w, root, changes)
		}))
	}()
	added, err := store.AddLayer(ctx, parent, pr, image.LayerOptions{})
	pr.CloseWithError(errors.New("the layer was not stored"))
	if err != nil {
		return config, nil, err
	}
	return config, append(layers[:len(layers):len(layers)], added), nil
}

// commitConfig is the base's configuration with what the container was made with.
func commitConfig(r *record, base image.Image, o CommitOptions) oci.Image {
	c := base.Config
	now := time.Now().UTC()
	c.Created, c.Author = &now, firstOf(o.Author, c.Author)
	run := &r.Options
	cc := &c.Config
	if run.Entrypoint != nil {
		cc.Entrypoint, cc.Cmd = *run.Entrypoint, nil
	}
	if len(run.Command) > 0 {
		cc.Cmd = run.Command
	}
	var env envList
	for _, kv := range cc.Env {
		env.set(kv)
	}
	for _, kv := range run.Env {
		env.set(kv)
	}
	cc.Env = env
	cc.User, cc.WorkingDir = firstOf(run.User, cc.User), firstOf(run.WorkingDir, cc.WorkingDir)
	cc.StopSignal = firstOf(run.StopSignal, cc.StopSignal)
	if len(run.Labels) > 0 {
		labels := make(map[string]string)
		for k, v := range cc.Labels {
			labels[k] = v
		}
		for k, v := range run.Labels {
			labels[k] = v
		}
		cc.Labels = labels
	}
	if o.IncludeVolumes {
		volumes := make(map[string]struct{})
		for v := range cc.Volumes {
			volumes[v] = struct{}{}
		}
		for _, m := range r.Mounts {
			volumes[m.Destination] = struct{}{}
		}
		cc.Volumes = volumes
	}
	args, _ := commandLine(r)
	c.History = append(c.History[:len(c.History):len(c.History)], oci.History{Created: &now, CreatedBy: strings.Join(args, " "), Author: o.Author, Comment: o.Message})
	return c
}
