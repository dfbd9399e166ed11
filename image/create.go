package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"hull/oci"
)

// LayerOptions for AddLayer.
type LayerOptions struct {
	// Compression of the blob that is kept, when the tar comes uncompressed.
	// The zero value keeps it as it is, which is the fastest to write, unpack
	// and save; a push compresses.
	Compression Compression
	Level       int
}

// AddLayer stores the layer tar r, compressed or not, and unpacks it above the
// layer parent ("" is the lowest) at the same time. The caller has a Hold
// until an image with the layer is created.
func (s *Store) AddLayer(ctx context.Context, parent oci.Digest, r io.Reader, o LayerOptions) (Layer, error) {
	w, err := s.blobs.Writer(ctx, "", -1)
	if err != nil {
		return Layer{}, err
	}
	defer w.Abort()
	in := &peekReader{r: contextReader{ctx, r}}
	compression, err := in.compression()
	if err != nil {
		return Layer{}, fmt.Errorf("read layer: %w", err)
	}
	var keep io.Reader = in
	packed := io.WriteCloser(nopWriteCloser{w})
	if compression == Uncompressed && o.Compression != Uncompressed {
		compression = o.Compression
		if packed, err = Compress(s.Codec, w, compression, o.Level); err != nil {
			return Layer{}, err
		}
	}
	keep = io.TeeReader(in, packed)
	z, _, err := Decompress(s.Codec, keep)
	if err != nil {
		return Layer{}, fmt.Errorf("read layer: %w", err)
	}
	defer z.Close()
	t := &hashReader{r: z, h: oci.Digest("sha256:").Hash()}
	l := Layer{}
	commit := func(oci.Digest) error { return nil }
	if s.snaps != nil {
		draft, err := s.snaps.NewDraft(ctx, parent)
		if err != nil {
			return Layer{}, err
		}
		defer draft.Abort()
		if err := draft.Unpack(ctx, t); err != nil {
			return Layer{}, err
		}
		commit = draft.Commit
	}
	// What follows the tar's end, and the compressed stream's, is kept too.
	if _, err := io.Copy(io.Discard, t); err != nil {
		return Layer{}, fmt.Errorf("read layer: %w", err)
	}
	if _, err := io.Copy(io.Discard, keep); err != nil {
		return Layer{}, fmt.Errorf("read layer: %w", err)
	}
	if err := packed.Close(); err != nil {
		return Layer{}, fmt.Errorf("store layer: %w", err)
	}
	d, size, err := w.Commit()
	if err != nil {
		return Layer{}, err
	}
	l.Diff, l.Size = t.digest("sha256"), t.n
	l.Chain = nextChain(parent, l.Diff)
	l.Blob = oci.Descriptor{MediaType: LayerType(compression, false), Digest: d, Size: size}
	s.noteSize(l.Diff, l.Size)
	return l, commit(l.Chain)
}

// peekReader looks at the first bytes before they are read.
type peekReader struct {
	r     io.Reader
	begin []byte
}

func (p *peekReader) compression() (Compression, error) {
	buf := make([]byte, 6)
	n, err := io.ReadFull(p.r, buf)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	p.begin = buf[:n]
	return DetectCompression(p.begin), nil
}

func (p *peekReader) Read(b []byte) (int, error) {
	if len(p.begin) > 0 {
		n := copy(b, p.begin)
		p.begin = p.begin[n:]
		return n, nil
	}
	return p.r.Read(b)
}

// CreateOptions for Create.
type CreateOptions struct {
	// Docker makes a manifest of docker's schema 2 instead of OCI's.
	Docker bool
	// Annotations of the manifest; docker's has none.
	Annotations map[string]string
	// Names that lead to it: as in PublishOptions.
	Names []oci.Reference
}

// Create makes an image of a config and layers that are in the store (see
// AddLayer); the config's diff IDs are set to theirs. The caller has a Hold.
func (s *Store) Create(ctx context.Context, config oci.Image, layers []Layer, o CreateOptions) (Image, error) {
	config.RootFS = oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Diff)
	}
	data, err := json.Marshal(config)
	if err != nil {
		return Image{}, fmt.Errorf("create image: %w", err)
	}
	return s.CreateRaw(ctx, data, layers, o)
}

// CreateRaw is Create with the exact bytes of the config.
func (s *Store) CreateRaw(ctx context.Context, config []byte, layers []Layer, o CreateOptions) (Image, error) {
	m, err := newManifest(config, layers, o)
	if err != nil {
		return Image{}, err
	}
	for _, l := range layers {
		s.noteSize(l.Diff, l.Size)
	}
	if img, ok := s.present(oci.FromBytes(config), oci.FromBytes(m)); ok {
		// Made before, byte for byte: at most it needs a name.
		if err := s.Tag(ctx, img.ID, o.Names...); err != nil {
			return Image{}, fmt.Errorf("create image: %w", err)
		}
		return s.Resolve(ctx, img.ID.Hex())
	}
	a, err := s.Assemble(ctx, m, config)
	if err != nil {
		return Image{}, fmt.Errorf("create image: %w", err)
	}
	defer a.Close()
	return a.Finish(ctx, PublishOptions{Names: o.Names})
}

// present returns the image of an ID if it is here whole and the manifest is
// the one that was stored last.
func (s *Store) present(id, manifest oci.Digest) (Image, bool) {
	r, err := s.readRecord(id)
	if err != nil || r.Manifests[len(r.Manifests)-1].Digest != manifest {
		return Image{}, false
	}
	img := r.image(nil)
	ok := true
	r.blobs(func(d oci.Digest) {
		if _, err := s.blobs.Stat(d); err != nil {
			ok = false
		}
	})
	return img, ok && s.complete(img)
}

// newManifest is the manifest of a config and layers.
func newManifest(config []byte, layers []Layer, o CreateOptions) ([]byte, error) {
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Layers: []oci.Descriptor{}, Annotations: o.Annotations}
	m.Config = oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: oci.FromBytes(config), Size: int64(len(config))}
	if o.Docker {
		m.MediaType, m.Config.MediaType, m.Annotations = oci.DockerManifest, oci.DockerConfig, nil
	}
	for _, l := range layers {
		c, ok := LayerCompression(l.Blob.MediaType)
		if !ok {
			return nil, fmt.Errorf("make manifest: layer type %q is not known", l.Blob.MediaType)
		}
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: LayerType(c, o.Docker), Digest: l.Blob.Digest, Size: l.Blob.Size})
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("make manifest: %w", err)
	}
	return data, nil
}
