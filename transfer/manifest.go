package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"hull/blob"
	"hull/oci"
	"hull/registry"
)

// isIndex tells an index from a manifest by the bytes and by what the registry
// called them, which must agree: a document that can be read both ways would be
// another image for another reader (REG-03, CVE-2021-41190).
func isIndex(m *registry.Manifest) (bool, error) {
	var shape struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     json.RawMessage   `json:"manifests"`
		Config        json.RawMessage   `json:"config"`
		Layers        json.RawMessage   `json:"layers"`
		FSLayers      []json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(m.Data, &shape); err != nil {
		return false, fmt.Errorf("read manifest %s: %w", m.Digest, err)
	}
	if shape.SchemaVersion == 1 || len(shape.FSLayers) > 0 {
		return false, fmt.Errorf("read manifest %s: docker's manifest schema 1 is not supported, for its layers are not under a digest of the image", m.Digest)
	}
	index, image := shape.Manifests != nil, shape.Config != nil || shape.Layers != nil
	if index == image {
		return false, fmt.Errorf("read manifest %s: it is neither an image nor an index, or both", m.Digest)
	}
	for _, t := range []string{shape.MediaType, m.MediaType} {
		known := oci.IsIndex(t) || t == oci.MediaTypeManifest || t == oci.DockerManifest
		if known && oci.IsIndex(t) != index {
			return false, fmt.Errorf("read manifest %s: it is called %s and is not one", m.Digest, t)
		}
	}
	return index, nil
}

// readConfig reads the config of a manifest, verified.
func readConfig(ctx context.Context, repo *registry.Repository, d oci.Descriptor) ([]byte, error) {
	if d.Size > oci.MaxManifestSize {
		return nil, fmt.Errorf("read config %s: %d bytes are more than %d", d.Digest, d.Size, oci.MaxManifestSize)
	}
	r, err := repo.Blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	h := d.Digest.Hash()
	h.Write(data)
	if got := fmt.Sprintf("%s:%x", d.Digest.Algorithm(), h.Sum(nil)); got != string(d.Digest) {
		return nil, fmt.Errorf("read config: got %s, the manifest says %s: %w", got, d.Digest, blob.ErrDigest)
	}
	return data, nil
}

// errNoImage reports an artifact that no container can be made of.
var errNoImage = errors.New("this is no container image")

// checkImage refuses manifests of other things than images.
func checkImage(m *oci.Manifest) error {
	switch m.Config.MediaType {
	case oci.MediaTypeConfig, oci.DockerConfig, "":
	default:
		return fmt.Errorf("%w: its config is %q", errNoImage, m.Config.MediaType)
	}
	for _, l := range m.Layers {
		if !oci.IsLayer(l.MediaType) {
			return fmt.Errorf("%w: a layer is %q", errNoImage, l.MediaType)
		}
	}
	return nil
}
