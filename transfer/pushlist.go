package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"hull/image"
	"hull/oci"
	"hull/registry"
)

// PushListOptions say how to push a manifest list.
type PushListOptions struct {
	PushOptions
	// ListOnly sends only the list: the images must be there already.
	ListOnly bool
	// AddCompression sends each image once more for each of these, and adds that
	// to what the registry's list says.
	AddCompression []image.Compression
}

// PushList sends a manifest list and its images to a registry.
func (t *Transfer) PushList(ctx context.Context, name, dest string, o PushListOptions) (Pushed, error) {
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return Pushed{}, err
	}
	defer hold.Release()
	list, err := t.Images.FindList(ctx, name)
	if err != nil {
		return Pushed{}, err
	}
	return t.pushList(ctx, list, dest, o)
}

func (t *Transfer) pushList(ctx context.Context, list image.Image, dest string, o PushListOptions) (Pushed, error) {
	transport, rest := splitTransport(dest)
	if transport != "docker" {
		return Pushed{}, fmt.Errorf("push manifest list to %s: only a registry takes a list", dest)
	}
	ref, repo, err := t.destination(ctx, rest)
	if err != nil {
		return Pushed{}, err
	}
	l := image.List{Entries: slices.Clone(list.List.Entries), Annotations: list.List.Annotations, Subject: list.List.Subject}
	if !o.ListOnly {
		if err := t.pushEntries(ctx, repo, ref, &l, o); err != nil {
			return Pushed{}, fmt.Errorf("push to %s: %w", ref, err)
		}
	}
	docker := l.Docker()
	if o.Format != "" {
		docker = o.Format != "oci"
	}
	data, mediaType, err := l.Index(docker)
	if err != nil {
		return Pushed{}, err
	}
	t.notify(Event{Kind: Manifest, Text: "list"})
	err = repo.PutManifest(ctx, ref.Tag, mediaType, data)
	if err == nil {
		err = t.sign(ctx, repo, ref, oci.FromBytes(data), o.Sign)
	}
	if err != nil {
		return Pushed{}, fmt.Errorf("push to %s: %w", ref, err)
	}
	return Pushed{ref, oci.FromBytes(data), int64(len(data))}, nil
}

// pushEntries sends what a list refers to. Artifacts go last: an image that one
// is about has another digest when its layers were compressed.
func (t *Transfer) pushEntries(ctx context.Context, repo *registry.Repository, ref oci.Reference, l *image.List, o PushListOptions) error {
	sent := map[oci.Digest]oci.Descriptor{}
	stored := slices.Clone(l.Entries)
	for _, artifacts := range []bool{false, true} {
		for i := range l.Entries {
			e := &l.Entries[i]
			old := e.Descriptor.Digest
			if (len(e.Blobs) > 0) != artifacts {
				continue
			}
			var err error
			if artifacts {
				err = t.readdress(ctx, e, sent)
			}
			if err == nil {
				err = t.pushEntry(ctx, repo, ref, e, i, len(l.Entries), o.PushOptions)
			}
			if err != nil {
				return fmt.Errorf("image %s: %w", old, err)
			}
			sent[old] = e.Descriptor
		}
	}
	return t.pushCompressed(ctx, repo, ref, l, stored, o)
}

// compressionNote marks an image whose layers are compressed by zstd, so that
// who does not know the note takes the other one, which stands before it.
const compressionNote = "io.github.containers.compression.zstd"

// pushCompressed sends the images of a list, as the store has them, in other
// compressions too.
func (t *Transfer) pushCompressed(ctx context.Context, repo *registry.Repository, ref oci.Reference, l *image.List, stored []image.ListEntry, o PushListOptions) error {
	images := slices.DeleteFunc(stored, func(e image.ListEntry) bool { return len(e.Blobs) > 0 })
	for _, c := range o.AddCompression {
		po := o.PushOptions
		po.Compression, po.Level, po.Force = c, 0, true
		for i, e := range images {
			e.Descriptor.Annotations = maps.Clone(e.Descriptor.Annotations)
			if err := t.pushEntry(ctx, repo, ref, &e, i, len(images), po); err != nil {
				return fmt.Errorf("image %s by %s: %w", e.Descriptor.Digest, c, err)
			}
			if c == image.Zstd || c == image.ZstdChunked {
				if e.Descriptor.Annotations == nil {
					e.Descriptor.Annotations = map[string]string{}
				}
				e.Descriptor.Annotations[compressionNote] = "true"
			}
			l.Put(e)
		}
	}
	return nil
}

// pushEntry sends one image of a list and notes how it is called now.
func (t *Transfer) pushEntry(ctx context.Context, repo *registry.Repository, ref oci.Reference, e *image.ListEntry, i, n int, o PushOptions) error {
	t.notify(Event{Kind: Instance, Blob: e.Descriptor.Digest, Text: fmt.Sprintf("%d/%d", i+1, n)})
	p := &push{t: t, repo: repo, ref: ref, o: o, byDigest: true}
	if len(e.Blobs) > 0 {
		_, err := p.manifest(ctx, e.Descriptor.Digest, e.Descriptor.MediaType, "")
		return err
	}
	img, err := t.Images.ByManifest(ctx, e.Descriptor.Digest)
	if err == nil {
		// The image may have come in several forms: the list says which.
		img.Manifest = e.Descriptor.Digest
	}
	if errors.Is(err, image.ErrNotFound) && e.Source != "" {
		img, err = p.remote(ctx, e)
	}
	if err != nil {
		return err
	}
	p.img = img
	d, size, err := p.run(ctx)
	if err != nil {
		return err
	}
	e.Descriptor.Digest, e.Descriptor.Size = d, size
	e.Descriptor.MediaType = p.mediaType
	return nil
}

// manifest sends what is no image as it is stored, with what it refers to, and
// returns the manifest's size.
func (p *push) manifest(ctx context.Context, d oci.Digest, mediaType, tag string) (int64, error) {
	m, data, err := p.t.Images.ReadManifest(image.Image{Manifest: d})
	if err != nil {
		return 0, err
	}
	for _, l := range m.Layers {
		if err := p.blob(ctx, l, p.stored(ctx, l), p.mountable(l.Digest), Blob); err != nil {
			return 0, err
		}
	}
	if err := p.blob(ctx, m.Config, p.stored(ctx, m.Config), nil, Config); err != nil {
		return 0, err
	}
	p.t.notify(Event{Kind: Manifest})
	return int64(len(data)), p.repo.PutManifest(ctx, tag, mediaType, data)
}

// remote makes the push read from the registry that the entry came from.
func (p *push) remote(ctx context.Context, e *image.ListEntry) (image.Image, error) {
	ref, err := oci.ParseReference(e.Source)
	if err != nil {
		return image.Image{}, err
	}
	ref.Digest = e.Descriptor.Digest
	sources, err := p.t.Registry.Sources(ctx, ref)
	if err != nil {
		return image.Image{}, err
	}
	p.from = sources[len(sources)-1]
	if ref.Domain == p.ref.Domain {
		p.sibling = ref.Path
	}
	img := image.Image{Manifest: e.Descriptor.Digest}
	m, _, err := p.t.Images.ReadManifest(img)
	if err != nil {
		return image.Image{}, err
	}
	for _, l := range m.Layers {
		img.Layers = append(img.Layers, image.Layer{Blob: l})
	}
	img.ID = m.Config.Digest
	return img, nil
}
