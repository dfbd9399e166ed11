package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"hull/image"
	"hull/oci"
)

// ImageRemoveOptions say how to remove images.
type ImageRemoveOptions struct {
	Force    bool // also one with several names, by ID; with the containers that use it
	AllNames bool // also one with several names, by ID
	NoPrune  bool // keep parents without a name
}

// RemoveImage takes a name away from an image, and with the last one the
// image. The errors are image.ErrNotFound and image.ErrInUse.
func (e *Engine) RemoveImage(ctx context.Context, name string, o ImageRemoveOptions) (image.Removed, error) {
	store, err := e.Images()
	if err != nil {
		return image.Removed{}, err
	}
	r, err := store.Remove(ctx, name, e.imageRemoveOptions(o))
	e.imageEvents(r)
	return r, err
}

// imageRemoveOptions are the rules that the store cannot know: a container
// and a mount use an image.
func (e *Engine) imageRemoveOptions(o ImageRemoveOptions) image.RemoveOptions {
	return image.RemoveOptions{
		Force: o.Force, AllNames: o.AllNames, NoPrune: o.NoPrune,
		Users: func(_ context.Context, img image.Image) ([]string, error) {
			users, err := e.imageUsers()
			return users[img.ID.Hex()], err
		},
		Evict: func(ctx context.Context, containers []string) error {
			for _, id := range containers {
				if _, err := e.Remove(ctx, id, RemoveOptions{Force: true, Volumes: true, Depend: true}); err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
			}
			return nil
		},
	}
}

func (e *Engine) imageEvents(r image.Removed) {
	for _, n := range r.Untagged {
		e.imageEvent("untag", "", n.String())
	}
	for _, id := range r.Deleted {
		e.imageEvent("remove", id, "")
	}
}

func (e *Engine) imageEvent(action string, id oci.Digest, name string) {
	e.appendEvent(eventRecord{Time: time.Now(), Type: "image", Action: action, ID: id.Hex(), Name: name})
}

// PruneImages removes images that nobody can want: those without a name that
// nothing is built upon, with all those that no container uses. Of filters,
// only until, label and label! make sense.
func (e *Engine) PruneImages(ctx context.Context, all bool, o ImageListOptions) (image.Removed, error) {
	store, err := e.Images()
	if err != nil {
		return image.Removed{}, err
	}
	images, err := store.List(ctx)
	if err != nil && len(images) == 0 {
		return image.Removed{}, err
	}
	f, err := e.imageFilter(ctx, store, images, o)
	if err != nil {
		return image.Removed{}, err
	}
	p := image.PruneOptions{RemoveOptions: e.imageRemoveOptions(ImageRemoveOptions{}), All: all}
	p.Keep = func(img *image.Image) bool { return !f.keeps(&ImageEntry{Image: *img}) }
	r, err := store.Prune(ctx, p)
	e.imageEvents(r)
	return r, err
}

// TagImage gives an image more names.
func (e *Engine) TagImage(ctx context.Context, name string, names []string) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	var refs []oci.Reference
	for _, n := range names {
		ref, err := oci.ParseReference(n)
		if err != nil {
			return err
		}
		refs = append(refs, ref)
	}
	img, _, err := store.ResolveAny(ctx, name)
	if err != nil {
		return err
	}
	if err := store.Tag(ctx, img.ID, refs...); err != nil {
		return err
	}
	for _, r := range refs {
		e.imageEvent("tag", img.ID, image.LocalName(r).String())
	}
	return nil
}

// UntagImage takes names away from an image, all when none are given. The
// image stays.
func (e *Engine) UntagImage(ctx context.Context, name string, names []string) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	img, _, err := store.ResolveAny(ctx, name)
	if err != nil {
		return err
	}
	var refs []oci.Reference
	for _, n := range names {
		ref, err := oci.ParseReference(n)
		if err != nil {
			return err
		}
		full, ok := store.HasName(img, ref)
		if !ok {
			full = image.LocalName(ref) // Untag says that it is not there
		}
		if !slices.Contains(refs, full) {
			refs = append(refs, full)
		}
	}
	gone, err := store.Untag(ctx, img.ID, refs...)
	for _, n := range gone {
		e.imageEvent("untag", img.ID, n.String())
	}
	return err
}

// LoadImages loads an archive or a directory.
func (e *Engine) LoadImages(ctx context.Context, src image.Source, o image.LoadOptions) ([]image.Loaded, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	loaded, err := store.Load(ctx, src, o)
	for _, l := range loaded {
		e.imageEvent("loadfromarchive", l.Image.ID, src.Path)
	}
	return loaded, err
}

// ImportImage makes an image of a tar of a file system.
func (e *Engine) ImportImage(ctx context.Context, r io.Reader, o image.ImportOptions) (image.Image, error) {
	store, err := e.Images()
	if err != nil {
		return image.Image{}, err
	}
	img, err := store.Import(ctx, r, o)
	if err == nil {
		e.imageEvent("import", img.ID, o.Source)
	}
	return img, err
}

// SaveItems resolves what save was asked for. Several names of one image
// become one item.
func (e *Engine) SaveItems(ctx context.Context, names []string) ([]image.SaveItem, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	var items []image.SaveItem
	for _, n := range names {
		img, ref, err := store.ResolveName(ctx, n)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(items, func(it image.SaveItem) bool { return it.Image.ID == img.ID })
		if i < 0 {
			i = len(items)
			items = append(items, image.SaveItem{Image: img})
		}
		if ref.Tag != "" && !slices.Contains(items[i].Names, ref) {
			items[i].Names = append(items[i].Names, ref)
		}
	}
	return items, nil
}

// SaveImages writes images to an archive, or one to the directory dir when w is nil.
func (e *Engine) SaveImages(ctx context.Context, w io.Writer, dir string, items []image.SaveItem, o image.SaveOptions) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	if w == nil {
		err = store.SaveDir(ctx, dir, items[0], o)
	} else {
		err = store.Save(ctx, w, items, o)
	}
	if err == nil {
		for _, it := range items {
			e.imageEvent("save", it.Image.ID, dir)
		}
	}
	return err
}
