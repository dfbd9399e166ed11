package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hull/inroot"
)

// storeEntries are what the engine keeps below its root. Reset removes these
// and nothing else: a root that was named by mistake keeps its other files.
var storeEntries = []string{"cache", "containers", "container-names", "images", "networks", "partial", "pods", "secrets", "sha256", "snapshots", "volumes"}

// Reset removes every container, image, volume, network and secret. Running
// containers are killed.
func (e *Engine) Reset(ctx context.Context) error {
	ids, err := e.containerIDs()
	if err != nil {
		return err
	}
	now := uint(0)
	for _, id := range ids {
		if _, err := e.Remove(ctx, id, RemoveOptions{Force: true, Volumes: true, Depend: true, Timeout: &now}); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if _, err := e.UnmountImages(ctx, true); err != nil {
		return err
	}
	names, err := e.volumeNames()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := e.detachVolume(n); err != nil {
			return err
		}
	}
	root, err := os.Open(e.o.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reset store: %w", err)
	}
	defer root.Close()
	for _, name := range storeEntries {
		// Not through a mount: what lies there is not the store's.
		if err := inroot.RemoveAll(root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reset store: %w", err)
		}
	}
	for _, name := range []string{"volumes", "container-names", "image-mounts", "container-mounts"} {
		os.RemoveAll(filepath.Join(e.o.RunRoot, name))
	}
	e.resetRuntimes()
	return nil
}
