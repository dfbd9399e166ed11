package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hull/inroot"
	"hull/state"
)

func (e *Engine) volumeDir(name string) string { return filepath.Join(e.o.Root, "volumes", name) }

// ensureVolume makes the volume of a mount unless it exists, and returns its name.
func (e *Engine) ensureVolume(ctx context.Context, m Mount, r *record) (string, error) {
	dir := e.volumeDir(m.Source)
	l, err := e.lock(ctx, "volume", m.Source)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if _, err := os.Stat(filepath.Join(dir, "volume.json")); err == nil {
		return m.Source, nil
	}
	if m.has("nocreate") {
		return "", fmt.Errorf("volume %s: %w", m.Source, ErrNotFound)
	}
	if err := os.MkdirAll(filepath.Join(dir, "_data"), 0o755); err != nil {
		return "", fmt.Errorf("make volume %s: %w", m.Source, err)
	}
	v := Volume{Name: m.Source, Driver: firstOf(m.VolumeDriver, "local"), CreatedAt: time.Now(), Labels: m.VolumeLabels,
		Options: m.VolumeOptions, Scope: "local", Anonymous: m.Anonymous, NeedsCopyUp: true, NeedsChown: true}
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return m.Source, state.WriteFile(dir, "volume.json", data, 0o600, !m.Anonymous)
}

// mountVolume returns the directory of a volume, or of the part that is asked
// for.
func (e *Engine) mountVolume(ctx context.Context, name string, m *Mount, r *record) (string, error) {
	dir := filepath.Join(e.volumeDir(name), "_data")
	if m.SubPath == "" {
		return dir, nil
	}
	root, err := os.Open(dir)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	defer root.Close()
	f, err := inroot.Open(root, m.SubPath, os.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	defer f.Close()
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// unmountVolume ends a container's use of a volume.
func (e *Engine) unmountVolume(ctx context.Context, name string, r *record) error { return nil }

// removeAnonymous removes a volume that was made for the container alone.
func (e *Engine) removeAnonymous(ctx context.Context, name, container string) error {
	root, err := os.Open(filepath.Join(e.o.Root, "volumes"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	defer root.Close()
	if err := inroot.RemoveAll(root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}
