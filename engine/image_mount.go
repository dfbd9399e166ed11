package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/oci"
)

// An ImageMount is an image whose files can be read at a path.
type ImageMount struct {
	Image image.Image
	Path  string
}

// imageMounts is where images are mounted, each at its ID. A reboot ends mounts
// and the run directory alike.
func (e *Engine) imageMounts() string { return filepath.Join(e.o.RunRoot, "image-mounts") }

// MountImage mounts an image read-only; one that is mounted stays where it is.
func (e *Engine) MountImage(ctx context.Context, name string) (ImageMount, error) {
	store, err := e.Images()
	if err != nil {
		return ImageMount{}, err
	}
	img, err := store.Resolve(ctx, name)
	if err != nil {
		return ImageMount{}, err
	}
	l, err := e.lock(ctx, "image-mount", img.ID.Hex())
	if err != nil {
		return ImageMount{}, err
	}
	defer l.Release()
	m := ImageMount{img, filepath.Join(e.imageMounts(), img.ID.Hex())}
	if mounted(m.Path) {
		return m, nil
	}
	if img.TopLayer() == "" {
		return m, fmt.Errorf("mount image %s: it has no layers", name)
	}
	if err := store.EnsureLayers(ctx, img); err != nil {
		return m, err
	}
	if err := e.pin(ctx, imagePin(img.ID), img.TopLayer()); err != nil {
		return m, err
	}
	if err := e.attachImage(img, m.Path); err != nil {
		return m, errors.Join(err, e.unpin(ctx, imagePin(img.ID)))
	}
	return m, nil
}

// attachImage attaches the image's tree to the path.
func (e *Engine) attachImage(img image.Image, path string) error {
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("mount image: %w", err)
	}
	if err := snaps.AttachView(img.TopLayer(), path); err != nil {
		os.Remove(path)
		return fmt.Errorf("mount image %s: %w", img.ID.Hex(), err)
	}
	return nil
}

// mounted reports whether path is the root of a mount.
func mounted(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// MountedImages lists the images that are mounted.
func (e *Engine) MountedImages(ctx context.Context) ([]ImageMount, error) {
	entries, err := os.ReadDir(e.imageMounts())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list image mounts: %w", err)
	}
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	var list []ImageMount
	for _, entry := range entries {
		path := filepath.Join(e.imageMounts(), entry.Name())
		if !mounted(path) {
			continue
		}
		id := oci.Digest("sha256:" + entry.Name())
		img, err := store.Get(ctx, id)
		if errors.Is(err, image.ErrNotFound) {
			img, err = image.Image{ID: id}, nil // removed under the mount; it can still be unmounted
		}
		if err != nil {
			return nil, err
		}
		list = append(list, ImageMount{img, path})
	}
	return list, nil
}

// UnmountImage takes an image's mount away. It is an error when there is none,
// unless force is set.
func (e *Engine) UnmountImage(ctx context.Context, name string, force bool) (oci.Digest, error) {
	store, err := e.Images()
	if err != nil {
		return "", err
	}
	img, err := store.Resolve(ctx, name)
	if err != nil {
		return "", err
	}
	return img.ID, e.unmountImage(ctx, img.ID, force)
}

// UnmountImages takes all of them away.
func (e *Engine) UnmountImages(ctx context.Context, force bool) ([]oci.Digest, error) {
	list, err := e.MountedImages(ctx)
	if err != nil {
		return nil, err
	}
	var gone []oci.Digest
	var errs []error
	for _, m := range list {
		if err := e.unmountImage(ctx, m.Image.ID, force); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, m.Image.ID)
	}
	return gone, errors.Join(errs...)
}

func (e *Engine) unmountImage(ctx context.Context, id oci.Digest, force bool) error {
	l, err := e.lock(ctx, "image-mount", id.Hex())
	if err != nil {
		return err
	}
	defer l.Release()
	path := filepath.Join(e.imageMounts(), id.Hex())
	if !mounted(path) {
		if force {
			return nil
		}
		return fmt.Errorf("unmount image %s: it is not mounted", id.Hex())
	}
	flags := unix.UMOUNT_NOFOLLOW
	if force {
		flags |= unix.MNT_DETACH
	}
	if err := unix.Unmount(path, flags); err != nil {
		if err == unix.EBUSY {
			return hint(fmt.Errorf("unmount image %s: %w", id.Hex(), err), "a process works in %s; --force takes it away nevertheless", path)
		}
		return fmt.Errorf("unmount image %s: %w", id.Hex(), err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("unmount image %s: %w", id.Hex(), err)
	}
	return e.unpin(ctx, imagePin(id))
}
