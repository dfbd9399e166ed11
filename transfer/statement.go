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

// readdress makes an artifact that is about an image, by its subject or as
// BuildKit's attestations are, say the digest under which that was sent. Such
// statements are not signed: who signs, signs what is in the registry.
func (t *Transfer) readdress(ctx context.Context, e *image.ListEntry, sent map[oci.Digest]oci.Descriptor) error {
	m, _, err := t.Images.ReadManifest(image.Image{Manifest: e.Descriptor.Digest})
	if err != nil {
		return err
	}
	about := oci.Digest(e.Descriptor.Annotations[oci.AnnotationReferenceDigest])
	now := sent[about].Digest
	statement := now != "" && now != about
	changed := statement
	if s := m.Subject; s != nil {
		if d, ok := sent[s.Digest]; ok && d.Digest != s.Digest {
			s.MediaType, s.Digest, s.Size, changed = d.MediaType, d.Digest, d.Size, true
		}
	}
	if !changed {
		return nil
	}
	config, err := t.Images.Blobs().Read(m.Config.Digest)
	if err != nil {
		return err
	}
	var files []image.ArtifactFile
	for _, l := range m.Layers {
		f := image.ArtifactFile{Descriptor: l, Open: func() (io.ReadCloser, error) { return t.Images.Blobs().Open(l.Digest) }}
		if statement && l.MediaType == oci.MediaTypeInToto {
			if f, config, err = t.restate(f, config, now); err != nil {
				return fmt.Errorf("read statement %s: %w", l.Digest, err)
			}
		}
		files = append(files, f)
	}
	n, err := t.Images.PutArtifact(ctx, *m, config, files)
	if err != nil {
		return err
	}
	n.Descriptor.Platform, n.Descriptor.Annotations = e.Descriptor.Platform, maps.Clone(e.Descriptor.Annotations)
	if statement {
		n.Descriptor.Annotations[oci.AnnotationReferenceDigest] = string(now)
	}
	*e = n
	return t.Images.MarkGarbage() // this form of it is in no list here
}

// restate is a statement about another digest, and the config that names it.
func (t *Transfer) restate(f image.ArtifactFile, config []byte, now oci.Digest) (image.ArtifactFile, []byte, error) {
	text, err := t.Images.Blobs().Read(f.Digest)
	if err == nil {
		text, err = withSubject(text, now)
	}
	f.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	return f, bytes.ReplaceAll(config, []byte(f.Digest), []byte(oci.FromBytes(text))), err
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
