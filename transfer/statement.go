package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"

	"hull/image"
	"hull/oci"
)

// restate makes the statements about an image say its digest of now. They are
// not signed: who signs, signs what is in the registry.
func (t *Transfer) restate(ctx context.Context, e *image.ListEntry, now oci.Digest) error {
	m, _, err := t.Images.ReadManifest(image.Image{Manifest: e.Descriptor.Digest})
	if err != nil {
		return err
	}
	var config oci.Image
	data, err := t.Images.Blobs().Read(m.Config.Digest)
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		return err
	}
	config.RootFS.DiffIDs = nil
	var files []image.ArtifactFile
	for _, l := range m.Layers {
		text, err := t.Images.Blobs().Read(l.Digest)
		if err == nil && l.MediaType == oci.MediaTypeInToto {
			text, err = withSubject(text, now)
		}
		if err != nil {
			return fmt.Errorf("read statement %s: %w", l.Digest, err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, oci.FromBytes(text))
		files = append(files, image.ArtifactFile{Descriptor: l, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }})
	}
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	n, err := t.Images.PutArtifact(ctx, *m, data, files)
	if err != nil {
		return err
	}
	n.Descriptor.Platform, n.Descriptor.Annotations = e.Descriptor.Platform, maps.Clone(e.Descriptor.Annotations)
	n.Descriptor.Annotations[oci.AnnotationReferenceDigest] = string(now)
	*e = n
	return t.Images.MarkGarbage() // this form of them is in no list here
}

// withSubject is a statement about another digest.
func withSubject(text []byte, d oci.Digest) ([]byte, error) {
	var s map[string]json.RawMessage
	var subjects []map[string]any
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(s["subject"], &subjects); err != nil {
		return nil, err
	}
	for _, x := range subjects {
		x["digest"] = map[string]string{d.Algorithm(): d.Hex()}
	}
	var err error
	if s["subject"], err = json.Marshal(subjects); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}
