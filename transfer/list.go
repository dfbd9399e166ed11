package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"hull/blob"
	"hull/image"
	"hull/oci"
	"hull/registry"
)

// AddOptions say how an image becomes part of a manifest list.
type AddOptions struct {
	// All adds every image of a list, instead of the one for this machine.
	All bool
	// Platform replaces, field by field, what the image says of itself.
	Platform    oci.Platform
	Annotations map[string]string
}

// AddToList adds an image to a manifest list. A name without a transport is
// looked for in the store first, then in its registry, from which only
// manifests are read: the layers stay there.
func (t *Transfer) AddToList(ctx context.Context, list, name string, o AddOptions) (image.Image, error) {
	l, err := t.Images.FindList(ctx, list)
	if err != nil {
		return image.Image{}, err
	}
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return image.Image{}, err
	}
	defer hold.Release()
	entries, err := t.entries(ctx, name, o)
	if err != nil {
		return image.Image{}, fmt.Errorf("add %s to %s: %w", name, list, err)
	}
	for i := range entries {
		d := &entries[i].Descriptor
		d.Platform = OverridePlatform(d.Platform, o.Platform)
		if len(o.Annotations) > 0 {
			d.Annotations = maps.Clone(d.Annotations)
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			maps.Copy(d.Annotations, o.Annotations)
		}
	}
	return t.Images.ChangeList(ctx, l.ID, func(l *image.List) error {
		for _, e := range entries {
			l.Put(e)
		}
		return nil
	})
}

// CreateList makes a manifest list of images, which AddToList would take; with
// amend it adds them to one that is there. Without all of them none is made.
func (t *Transfer) CreateList(ctx context.Context, name string, images []string, amend bool, o AddOptions) (image.Image, error) {
	ref, err := image.ParseName(name)
	if err != nil {
		return image.Image{}, err
	}
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return image.Image{}, err
	}
	defer hold.Release()
	l := image.List{Annotations: o.Annotations}
	for _, n := range images {
		entries, err := t.entries(ctx, n, AddOptions{All: o.All})
		if err != nil {
			return image.Image{}, fmt.Errorf("add %s to %s: %w", n, name, err)
		}
		for _, e := range entries {
			l.Put(e)
		}
	}
	if old, err := t.Images.FindList(ctx, ref.String()); amend && err == nil {
		return t.Images.ChangeList(ctx, old.ID, func(have *image.List) error {
			for _, e := range l.Entries {
				have.Put(e)
			}
			if have.Annotations == nil {
				have.Annotations = map[string]string{}
			}
			maps.Copy(have.Annotations, l.Annotations)
			return nil
		})
	}
	return t.Images.CreateList(ctx, ref, l)
}

// OverridePlatform is p with what o says.
func OverridePlatform(p *oci.Platform, o oci.Platform) *oci.Platform {
	var n oci.Platform
	if p != nil {
		n = *p
	}
	for _, f := range []struct{ to, from *string }{
		{&n.OS, &o.OS}, {&n.Architecture, &o.Architecture}, {&n.Variant, &o.Variant}, {&n.OSVersion, &o.OSVersion},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if o.OSFeatures != nil {
		n.OSFeatures = o.OSFeatures
	}
	if o.Features != nil {
		n.Features = o.Features
	}
	return &n
}

// entries are what name adds to a list.
func (t *Transfer) entries(ctx context.Context, name string, o AddOptions) ([]image.ListEntry, error) {
	if rest, ok := strings.CutPrefix(name, storeTransport); ok {
		return t.storeEntries(ctx, rest, o)
	}
	transport, rest := splitTransport(name)
	switch {
	case transport != "docker":
		pulled, err := t.Pull(ctx, name, PullOptions{})
		if err != nil {
			return nil, err
		}
		return t.storeEntries(ctx, pulled[0].Image.ID.Hex(), o)
	case rest == name:
		entries, err := t.storeEntries(ctx, name, o)
		if !errors.Is(err, image.ErrNotFound) {
			return entries, err
		}
	}
	ref, err := oci.ParseReference(rest)
	if err != nil {
		return nil, err
	}
	return t.registryEntries(ctx, ref, o)
}

// storeTransport begins the name of what is here.
const storeTransport = "containers-storage:"

func (t *Transfer) storeEntries(ctx context.Context, name string, o AddOptions) ([]image.ListEntry, error) {
	img, _, err := t.Images.ResolveAny(ctx, name)
	if err != nil {
		return nil, err
	}
	if img.List != nil && o.All {
		return img.List.Entries, nil
	}
	if img.List != nil {
		if img, err = t.Images.Instance(ctx, img, oci.HostPlatform()); err != nil {
			return nil, err
		}
	}
	e, err := t.Images.LocalEntry(img)
	return []image.ListEntry{e}, err
}

// registryEntries reads the manifests of a name from its registry.
func (t *Transfer) registryEntries(ctx context.Context, ref oci.Reference, o AddOptions) ([]image.ListEntry, error) {
	repo, top, full, err := t.look(ctx, ref)
	if err != nil {
		return nil, err
	}
	index, err := isIndex(top)
	if err != nil {
		return nil, err
	}
	var list []oci.Descriptor
	if index {
		x, err := oci.DecodeIndex(top.Data)
		if err != nil {
			return nil, err
		}
		if list = x.Manifests; !o.All {
			d, err := image.ChoosePlatform(list, complete(oci.Platform{OS: o.Platform.OS, Architecture: o.Platform.Architecture, Variant: o.Platform.Variant}))
			if err != nil {
				return nil, err
			}
			list = []oci.Descriptor{d}
		}
	} else {
		list = []oci.Descriptor{{MediaType: manifestType(top), Digest: top.Digest, Size: int64(len(top.Data))}}
	}
	var entries []image.ListEntry
	for _, d := range list {
		m := top
		if index {
			if m, err = child(ctx, repo, d); err != nil {
				return nil, err
			}
		}
		if d.Platform == nil {
			if d.Platform, err = platformOf(ctx, repo, m); err != nil {
				return nil, err
			}
		}
		if err := t.Images.AddManifest(ctx, d.Digest, m.Data); err != nil {
			return nil, err
		}
		entries = append(entries, image.ListEntry{Descriptor: d, Source: full.Name()})
	}
	return entries, nil
}

// child reads a manifest that an index refers to.
func child(ctx context.Context, repo *registry.Repository, d oci.Descriptor) (*registry.Manifest, error) {
	m, err := repo.Manifest(ctx, string(d.Digest))
	if err != nil {
		return nil, err
	}
	if int64(len(m.Data)) != d.Size {
		return nil, fmt.Errorf("read manifest %s: %d bytes, the index says %d: %w", d.Digest, len(m.Data), d.Size, blob.ErrSize)
	}
	return m, nil
}

// manifestType is the media type of a manifest, by what it says of itself.
func manifestType(m *registry.Manifest) string {
	if x, err := oci.DecodeManifest(m.Data); err == nil {
		if x.MediaType != "" {
			return x.MediaType
		}
		if isDocker(x) {
			return oci.DockerManifest
		}
	}
	return oci.MediaTypeManifest
}

// platformOf is what the config says; an artifact's says nothing.
func platformOf(ctx context.Context, repo *registry.Repository, m *registry.Manifest) (*oci.Platform, error) {
	x, err := oci.DecodeManifest(m.Data)
	if err != nil {
		return nil, err
	}
	if checkImage(x) != nil {
		return &oci.Platform{}, nil
	}
	data, err := readConfig(ctx, repo, x.Config)
	if err != nil {
		return nil, err
	}
	c, err := oci.DecodeImage(data)
	if err != nil {
		return nil, err
	}
	return &oci.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion}, nil
}

// look reads the manifest of a name from the first place that has it, and
// returns that place and the full name.
func (t *Transfer) look(ctx context.Context, ref oci.Reference) (*registry.Repository, *registry.Manifest, oci.Reference, error) {
	candidates, _, err := t.Registry.Resolve(ref)
	if err != nil {
		return nil, nil, ref, err
	}
	var errs []error
	for _, c := range candidates {
		sources, err := t.Registry.Sources(ctx, c.Reference)
		if err != nil {
			return nil, nil, ref, err
		}
		want := c.Reference.Tag
		if c.Reference.Digest != "" {
			want = string(c.Reference.Digest)
		}
		for _, repo := range sources {
			m, err := repo.Manifest(ctx, want)
			if err == nil {
				return repo, m, c.Reference, nil
			}
			errs = append(errs, err)
			if ctx.Err() != nil {
				return nil, nil, ref, errors.Join(errs...)
			}
		}
	}
	return nil, nil, ref, errors.Join(errs...)
}

// Inspect returns the document that a name stands for: that of a manifest list
// of the store, else what a registry has, else an image's of the store.
func (t *Transfer) Inspect(ctx context.Context, name string) ([]byte, error) {
	bare := strings.TrimPrefix(name, storeTransport)
	img, found, lerr := t.Images.ResolveAny(ctx, bare)
	if lerr == nil && img.List != nil {
		data, _, err := img.List.Index(img.List.Docker())
		return data, err
	}
	local := func() ([]byte, error) {
		_, data, err := t.Images.ReadManifest(img)
		return data, err
	}
	if lerr == nil && (bare != name || found.Domain == "localhost" || found.Path == "") {
		return local()
	}
	transport, rest := splitTransport(name)
	if transport != "docker" {
		return nil, fmt.Errorf("inspect %s: only names in the store and in registries can be inspected", name)
	}
	ref, err := oci.ParseReference(rest)
	if err != nil {
		return nil, err
	}
	_, m, _, err := t.look(ctx, ref)
	if err == nil {
		_, err = isIndex(m)
	}
	if err != nil && lerr == nil {
		return local()
	}
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", name, err)
	}
	return m.Data, nil
}

// Platforms are those that a name has an image for: in its registry, since of
// those only one need be here, else in the store.
func (t *Transfer) Platforms(ctx context.Context, name string) ([]oci.Platform, error) {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return nil, err
	}
	entries, err := t.registryEntries(ctx, ref, AddOptions{All: true})
	if err != nil {
		local, lerr := t.storeEntries(ctx, name, AddOptions{All: true})
		if lerr != nil {
			return nil, fmt.Errorf("find the platforms of %s: %w", name, errors.Join(err, lerr))
		}
		entries = local
	}
	var all []oci.Platform
	for _, e := range entries {
		if p := e.Descriptor.Platform; p != nil && p.OS != "" && p.OS != "unknown" {
			all = append(all, *p)
		}
	}
	return all, nil
}
