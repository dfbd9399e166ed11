package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"hull/oci"
	"hull/state"
)

// PublishOptions say how an image becomes known.
type PublishOptions struct {
	// Names that shall lead to it; each needs a domain and a tag or a digest.
	// A name that another image had is taken from it.
	Names []oci.Reference
	// Index is the digest of the index that the manifest was chosen from; its
	// blob is kept when it is there.
	Index oci.Digest
}

// parts are a manifest and its config, checked against each other.
type parts struct {
	digest   oci.Digest
	manifest *oci.Manifest
	config   *oci.Image
}

// checkParts decodes the exact bytes of a manifest and its config. Those of
// config must have the digest that the manifest says.
func checkParts(manifest, config []byte) (*parts, error) {
	m, err := oci.DecodeManifest(manifest)
	if err != nil {
		return nil, err
	}
	if err := checkConfigType(m); err != nil {
		return nil, err
	}
	if !sameDigest(m.Config.Digest, config) {
		return nil, fmt.Errorf("read image config: it does not have the digest %s of the manifest: %w", m.Config.Digest, ErrMismatch)
	}
	c, err := oci.DecodeImage(config)
	if err != nil {
		return nil, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("read manifest: %d layers, but the config has %d: %w", len(m.Layers), len(c.RootFS.DiffIDs), ErrMismatch)
	}
	for _, l := range m.Layers {
		if !oci.IsLayer(l.MediaType) {
			return nil, fmt.Errorf("read manifest: layer %s of type %q cannot be unpacked", l.Digest, l.MediaType)
		}
	}
	return &parts{oci.FromBytes(manifest), m, c}, nil
}

// checkConfigType refuses what is no image: an artifact has nothing to run.
func checkConfigType(m *oci.Manifest) error {
	switch m.Config.MediaType {
	case oci.MediaTypeConfig, oci.DockerConfig, "":
		return nil
	}
	return fmt.Errorf("read manifest: its config is of type %q: it is no container image", m.Config.MediaType)
}

func sameDigest(d oci.Digest, data []byte) bool {
	h := d.Hash()
	h.Write(data)
	return fmt.Sprintf("%s:%x", d.Algorithm(), h.Sum(nil)) == string(d)
}

// Publish makes an image of a manifest whose blobs are all in the blob store;
// layers that are not unpacked yet are unpacked. The caller must have had a
// Hold since before it stored the first blob.
func (s *Store) Publish(ctx context.Context, manifest oci.Digest, o PublishOptions) (Image, error) {
	data, err := s.blobs.Read(manifest)
	if err != nil {
		return Image{}, fmt.Errorf("publish image: %w", err)
	}
	m, err := oci.DecodeManifest(data)
	if err != nil {
		return Image{}, fmt.Errorf("publish image: %w", err)
	}
	config, err := s.blobs.Read(m.Config.Digest)
	if err != nil {
		return Image{}, fmt.Errorf("publish image: %w", err)
	}
	a, err := s.Assemble(ctx, data, config)
	if err != nil {
		return Image{}, err
	}
	defer a.Close()
	a.p.digest = manifest
	return a.Finish(ctx, o)
}

// publish writes the record of parts whose content is there, then the names.
func (s *Store) publish(ctx context.Context, p *parts, o PublishOptions) (Image, error) {
	for _, n := range o.Names {
		if err := checkName(n); err != nil {
			return Image{}, err
		}
	}
	sizes, err := s.checkContent(ctx, p)
	if err != nil {
		return Image{}, err
	}
	if err := s.sync(len(p.manifest.Layers) > 0); err != nil {
		return Image{}, err
	}
	id := p.manifest.Config.Digest
	l, err := s.lockRecord(ctx, id)
	if err != nil {
		return Image{}, err
	}
	defer l.Release()
	r, err := s.readRecord(id)
	if err != nil {
		// New, or damaged: what is published now is whole.
		r = &record{Version: recordVersion, ID: id, Stored: time.Now().UTC()}
	}
	r.Config = *p.config
	r.Layers = r.Layers[:0]
	for i, d := range p.config.RootFS.DiffIDs {
		r.Layers = append(r.Layers, layerRef{d, sizes[i]})
	}
	ref := manifestRef{Digest: p.digest, Index: o.Index, Layers: slimLayers(p.manifest.Layers)}
	r.Manifests = slices.DeleteFunc(r.Manifests, func(m manifestRef) bool {
		if m.Digest == ref.Digest && ref.Index == "" {
			ref.Index = m.Index
		}
		return m.Digest == ref.Digest
	})
	r.Manifests = append(r.Manifests, ref)
	if err := s.writeRecord(r); err != nil {
		return Image{}, err
	}
	for _, n := range o.Names {
		if err := s.setName(ctx, n, id); err != nil {
			return Image{}, err
		}
	}
	names, err := s.namesOf(id)
	if err != nil {
		return Image{}, err
	}
	return r.image(names), nil
}

// slimLayers is what of the layers' descriptors a record needs.
func slimLayers(layers []oci.Descriptor) []oci.Descriptor {
	slim := make([]oci.Descriptor, len(layers))
	for i, l := range layers {
		slim[i] = oci.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size, Annotations: l.Annotations}
	}
	return slim
}

// checkContent makes sure that everything the parts refer to is there, and
// returns the sizes of the uncompressed layers.
func (s *Store) checkContent(ctx context.Context, p *parts) ([]int64, error) {
	for _, d := range append([]oci.Descriptor{{Digest: p.digest, Size: -1}, p.manifest.Config}, p.manifest.Layers...) {
		size, err := s.blobs.Stat(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("publish image: %w", err)
		}
		if d.Size >= 0 && size != d.Size {
			return nil, fmt.Errorf("publish image: blob %s has %d bytes, its manifest says %d: %w", d.Digest, size, d.Size, ErrMismatch)
		}
	}
	sizes := make([]int64, len(p.manifest.Layers))
	var chain oci.Digest
	for i, diff := range p.config.RootFS.DiffIDs {
		chain = nextChain(chain, diff)
		if s.snaps != nil && !s.snaps.Exists(chain) {
			return nil, fmt.Errorf("publish image: layer %s is not unpacked: %w", chain, fs.ErrNotExist)
		}
		var err error
		if sizes[i], err = s.layerSize(ctx, diff, p.manifest.Layers[i]); err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// sync waits until the disk has all blobs, and all layers when there are any.
func (s *Store) sync(layers bool) error {
	if err := s.blobs.Sync(); err != nil {
		if layers && s.snaps != nil { // no other sync would tell of them: the kernel says it once
			err = errors.Join(err, s.snaps.DropUnsynced(context.Background()))
		}
		return err
	}
	if layers && s.snaps != nil {
		return s.snaps.Sync()
	}
	return nil
}

func (s *Store) lockRecord(ctx context.Context, id oci.Digest) (*state.Lock, error) {
	l, err := state.Acquire(ctx, s.lockPath("image", recordName(id)))
	if err != nil {
		return nil, fmt.Errorf("lock image %s: %w", id.Hex(), err)
	}
	return l, nil
}

// checkName refuses a name that could not be found again.
func checkName(n oci.Reference) error {
	if n.IsShort() || n.Tag == "" && n.Digest == "" {
		return fmt.Errorf("image name %q: it needs a registry and a tag", n)
	}
	if _, err := oci.ParseReference(n.String()); err != nil {
		return err
	}
	return nil
}

// setName lets a name lead to an image.
func (s *Store) setName(ctx context.Context, n oci.Reference, id oci.Digest) error {
	file := nameFile(n)
	l, err := state.Acquire(ctx, s.lockPath("name", lockName(file)))
	if err != nil {
		return fmt.Errorf("lock image name %s: %w", n, err)
	}
	defer l.Release()
	if old, err := s.readOwnName(n); err == nil && old == id {
		return nil
	}
	if err := s.write(s.namesDir(), file, nameJSON(n, id)); err != nil {
		return fmt.Errorf("name image %s: %w", n, err)
	}
	return nil
}

// dropName takes a name away if it still leads to the image.
func (s *Store) dropName(ctx context.Context, n oci.Reference, id oci.Digest) (bool, error) {
	file := nameFile(n)
	l, err := state.Acquire(ctx, s.lockPath("name", lockName(file)))
	if err != nil {
		return false, fmt.Errorf("lock image name %s: %w", n, err)
	}
	defer l.Release()
	old, err := s.readOwnName(n)
	if err != nil || old != id {
		return false, err
	}
	if err := state.Remove(filepath.Join(s.namesDir(), file), true); err != nil && !errors.Is(err, state.ErrNotExist) {
		return false, fmt.Errorf("untag image %s: %w", n, err)
	}
	_ = l.Remove() // an empty file that stays is no harm
	return true, nil
}

// lockName keeps the lock's file name within what a directory takes.
func lockName(file string) string {
	if len(file) > 200 {
		return oci.FromBytes([]byte(file)).Hex()
	}
	return file
}

// Tag gives an image more names. A name that another image had is taken from
// it; short names are in localhost.
func (s *Store) Tag(ctx context.Context, id oci.Digest, names ...oci.Reference) error {
	l, err := s.lockRecord(ctx, id)
	if err != nil {
		return err
	}
	defer l.Release()
	r, err := s.readRecord(id)
	if err != nil {
		return fmt.Errorf("tag image: %w", err)
	}
	if err := s.own(r); err != nil {
		return err
	}
	for _, n := range names {
		n = LocalName(n)
		if n.Digest != "" {
			return fmt.Errorf("tag image %s: %q: tag by digest not supported", id.Hex(), n)
		}
		if err := checkName(n); err != nil {
			return err
		}
		if err := s.setName(ctx, n, id); err != nil {
			return err
		}
	}
	return nil
}

// LocalName is what a name means that is given to a local image: in localhost
// when it is short, and tagged latest when it has no tag.
func LocalName(n oci.Reference) oci.Reference {
	if n.IsShort() {
		n = n.In("localhost")
	} else if n.Domain == oci.DefaultDomain || n.Domain == "index.docker.io" {
		n = n.Normalized()
	}
	return n.Tagged()
}

// ParseName parses a name that is given to a local image (see LocalName).
func ParseName(s string) (oci.Reference, error) {
	n, err := oci.ParseReference(s)
	if err != nil {
		return n, err
	}
	return LocalName(n), nil
}

// Untag takes names away from an image; all of them when none are given. The
// image stays. The error of a name that the image has not is ErrNotFound.
func (s *Store) Untag(ctx context.Context, id oci.Digest, names ...oci.Reference) ([]oci.Reference, error) {
	l, err := s.lockRecord(ctx, id)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	have, err := s.namesOf(id)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = have
	}
	var gone []oci.Reference
	for _, n := range names {
		ok, err := s.dropName(ctx, n, id)
		if err != nil {
			return gone, err
		}
		if !ok {
			return gone, fmt.Errorf("%s: tag not known: %w", n, ErrNotFound)
		}
		gone = append(gone, n)
	}
	return gone, nil
}
