package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"hull/oci"
)

// A dockerItem is one image in the manifest.json of docker save.
type dockerItem struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// decodeDockerManifest decodes manifest.json of docker save.
func decodeDockerManifest(data []byte) ([]dockerItem, error) {
	var items []dockerItem
	if err := oci.Decode("manifest.json", data, &items); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("read manifest.json: it lists no image")
	}
	for i, it := range items {
		if it.Config == "" {
			return nil, fmt.Errorf("read manifest.json: image %d has no config", i)
		}
	}
	return items, nil
}

// names are the item's names. Docker means its own registry by short ones.
func (it *dockerItem) names() ([]oci.Reference, error) {
	var names []oci.Reference
	for _, t := range it.RepoTags {
		n, err := oci.ParseReference(t)
		if err != nil {
			return nil, fmt.Errorf("read manifest.json: %w", err)
		}
		names = append(names, n.Normalized().Tagged())
	}
	return names, nil
}

// dockerCandidates lists the images of a docker-archive.
func dockerCandidates(a files, data []byte) ([]candidate, error) {
	items, err := decodeDockerManifest(data)
	if err != nil {
		return nil, err
	}
	var all []candidate
	for _, it := range items {
		c, err := it.candidate(a)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// candidate makes a manifest of what the archive has: the archive's own says
// nothing about digests. Nothing in it is believed: neither an ID that a file
// is named by, nor that a layer is the one of the config.
func (it *dockerItem) candidate(a files) (candidate, error) {
	names, err := it.names()
	if err != nil {
		return candidate{}, err
	}
	config, err := readSmall(a, it.Config)
	if err != nil {
		return candidate{}, err
	}
	if err := checkClaim(it.Config, oci.FromBytes(config)); err != nil {
		return candidate{}, err
	}
	img, err := oci.DecodeImage(config)
	if err != nil {
		return candidate{}, err
	}
	if len(img.RootFS.DiffIDs) != len(it.Layers) {
		return candidate{}, fmt.Errorf("read manifest.json: %d layers, but the config has %d: %w", len(it.Layers), len(img.RootFS.DiffIDs), ErrMismatch)
	}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.DockerManifest, Layers: []oci.Descriptor{},
		Config: oci.Descriptor{MediaType: oci.DockerConfig, Digest: oci.FromBytes(config), Size: int64(len(config))}}
	sources := map[oci.Digest]string{}
	for i, name := range it.Layers {
		d, err := describeLayer(a, name, img.RootFS.DiffIDs[i])
		if err != nil {
			return candidate{}, err
		}
		m.Layers = append(m.Layers, d)
		sources[d.Digest] = name
	}
	data, err := json.Marshal(m)
	if err != nil {
		return candidate{}, fmt.Errorf("make manifest: %w", err)
	}
	return candidate{names: names, manifest: data, config: config, sources: sources}, nil
}

// describeLayer makes the descriptor of a layer's file. An uncompressed one
// has the digest that the config says, or proves wrong while it is stored; a
// compressed one is hashed first.
func describeLayer(a files, name string, diff oci.Digest) (oci.Descriptor, error) {
	f, err := a.open(name)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer f.Close()
	begin := make([]byte, 6)
	n, err := io.ReadFull(f, begin)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return oci.Descriptor{}, fmt.Errorf("read layer %q: %w", name, err)
	}
	c := DetectCompression(begin[:n])
	d := oci.Descriptor{MediaType: LayerType(c, true), Digest: diff, Size: f.size}
	switch c {
	case Uncompressed:
	case Gzip, Zstd:
		h := oci.Digest("sha256:").Hash()
		if _, err := io.Copy(h, io.MultiReader(bytes.NewReader(begin[:n]), f)); err != nil {
			return oci.Descriptor{}, fmt.Errorf("read layer %q: %w", name, err)
		}
		d.Digest = oci.NewDigest(h.Sum(nil))
	default:
		return oci.Descriptor{}, fmt.Errorf("read layer %q: compression %s is not one of layers", name, c)
	}
	if strings.HasPrefix(clean(name), "blobs/") || path.Ext(name) == ".tar" && path.Base(name) != "layer.tar" {
		if err := checkClaim(name, d.Digest); err != nil && checkClaim(name, diff) != nil {
			return oci.Descriptor{}, err
		}
	}
	return d, nil
}

// checkClaim compares a digest with the one that a file is named by, if its
// name is one.
func checkClaim(name string, d oci.Digest) error {
	base := path.Base(clean(name))
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".json"), ".tar")
	claim := oci.Digest("sha256:" + base)
	if claim.Validate() == nil && claim != d && d.Algorithm() == "sha256" {
		return fmt.Errorf("read archive: %q has the digest %s: %w", name, d, ErrMismatch)
	}
	return nil
}

// A candidate is an image in an archive, described but not yet stored.
type candidate struct {
	names            []oci.Reference
	manifest, config []byte
	index            []byte                // that it was chosen from; nil none
	sources          map[oci.Digest]string // where the layers' files are
}

// assemble stores the candidate's content.
func (c *candidate) assemble(ctx context.Context, s *Store, a files) (*Assembly, error) {
	asm, err := s.Assemble(ctx, c.manifest, c.config)
	if err != nil {
		return nil, err
	}
	if err := c.fill(ctx, s, a, asm); err != nil {
		return nil, errors.Join(err, asm.Discard(ctx))
	}
	return asm, nil
}

func (c *candidate) fill(ctx context.Context, s *Store, a files, asm *Assembly) error {
	if c.index != nil {
		if err := s.putBlob(oci.FromBytes(c.index), c.index, asm.came); err != nil {
			return err
		}
	}
	for _, i := range asm.Missing() {
		d := asm.Descriptor(i)
		if err := copyLayer(ctx, a, c.sources[d.Digest], asm, i); err != nil {
			return fmt.Errorf("load layer %s: %w", d.Digest, err)
		}
	}
	return nil
}
