package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"hull/oci"
)

// A layer that is mounted by itself, without a container's own above, is pinned
// in the store meanwhile: else it would be removed with the image, under those
// who read it. These are the pins' names.

func imagePin(id oci.Digest) string { return "image-" + id.Hex() }

func volumePin(name string) string { return "volume-" + name }

// mountPin is for the image that a container's mount number i shows.
func mountPin(r *record, i int) string { return fmt.Sprintf("%s-mount-%d", r.ID, i) }

// isHostPin reports a pin of a mount that a reboot ends.
func isHostPin(name string) bool {
	return strings.HasPrefix(name, "image-") || strings.HasPrefix(name, "volume-")
}

func (e *Engine) pin(ctx context.Context, name string, chain oci.Digest) error {
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	return snaps.Pin(ctx, name, chain)
}

// unpin is no error for a pin that is not there.
func (e *Engine) unpin(ctx context.Context, name string) error {
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	if err := snaps.Remove(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unpinMounts takes the pins of a container's image mounts away.
func (e *Engine) unpinMounts(ctx context.Context, r *record) error {
	var errs []error
	for i := range r.Mounts {
		if r.Mounts[i].Type == "image" {
			errs = append(errs, e.unpin(ctx, mountPin(r, i)))
		}
	}
	return errors.Join(errs...)
}
