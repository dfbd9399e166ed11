package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"hull/blob"
	"hull/oci"
	"hull/snapshot"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrNotFound  = errors.New("image not known")
	ErrAmbiguous = errors.New("more than one image begins so")
	ErrInUse     = errors.New("image is in use")
	// ErrReadOnly reports an image of a store that is only read.
	ErrReadOnly = errors.New("image is in a read-only store")
	// ErrDamaged reports an image whose content is incomplete; pulling or
	// loading it again repairs it.
	ErrDamaged = errors.New("image is damaged")
	// ErrMismatch reports content that contradicts itself: layers that are not
	// those of the config, files that do not have the digest in their name.
	ErrMismatch = errors.New("content does not match")
)

// An Image is one image of one platform in the store.
type Image struct {
	ID       oci.Digest      // of its configuration
	Manifest oci.Digest      // the one stored last, when it came in several
	Index    oci.Digest      // that the manifest was chosen from; "" none
	Names    []oci.Reference // sorted; with a tag, or with a digest when it was pulled so
	Digests  []oci.Reference // NAME@DIGEST for each repository it has a name in
	Config   oci.Image
	Layers   []Layer
	Created  time.Time // by its config; zero when that does not say
	Stored   time.Time // when it came into this store
	Size     int64     // bytes of its layers, unpacked
	ReadOnly bool
	List     *List // of a manifest list, which has neither config nor layers; nil of an image

	digests []oci.Digest // of all its manifests and indexes
}

// A Layer of an image, the lowest first.
type Layer struct {
	Blob  oci.Descriptor // as stored: the manifest's descriptor
	Diff  oci.Digest     // of the uncompressed tar
	Chain oci.Digest
	Size  int64 // bytes of the uncompressed tar
}

// TopLayer is the chain ID of the whole image, "" of one without layers.
func (i *Image) TopLayer() oci.Digest {
	if len(i.Layers) == 0 {
		return ""
	}
	return i.Layers[len(i.Layers)-1].Chain
}

// ManifestDigests lists the digests of the image's manifests and of the
// indexes that they were chosen from.
func (i *Image) ManifestDigests() []oci.Digest { return i.digests }

// A Builtin is an image that the program carries in itself. It is loaded when
// somebody asks for its name and the store has none of that name.
type Builtin struct {
	Name oci.Reference // with domain and tag
	// Open returns an archive as Load takes it.
	Open func() (io.ReadCloser, error)
}

// A Store keeps image records over blobs and snapshots. Any number of
// processes and goroutines may use it.
type Store struct {
	// Search are the registries in which a short name is looked for, after
	// localhost; empty is docker.io.
	Search []string
	// Builtins are the images that need not be pulled.
	Builtins []Builtin
	// Also are the roots of further stores, whose images are here too, but only
	// to be read. The stores of blobs and snapshots have them as well.
	Also []string
	// Codec reads and writes what is compressed; nil fails at it.
	Codec Codec

	dir   string
	blobs *blob.Store
	snaps *snapshot.Store
	slots chan struct{} // one for each layer that may be unpacked at once

	mu    sync.Mutex
	sizes map[oci.Digest]int64 // of uncompressed tars that this process has seen; guarded by mu
}

// parallelUnpacks is how many layers are unpacked at once. More does not help:
// one inflate keeps a core busy and the disk gets the rest.
const parallelUnpacks = 2

// Open opens the records below root/images. It makes nothing until something
// is stored. snaps may be nil for a store that only keeps blobs.
func Open(root string, blobs *blob.Store, snaps *snapshot.Store) (*Store, error) {
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("open image store: root %q is not an absolute path", root)
	}
	return &Store{
		dir: filepath.Join(root, "images"), blobs: blobs, snaps: snaps,
		slots: make(chan struct{}, parallelUnpacks), sizes: map[oci.Digest]int64{},
	}, nil
}

// Blobs returns the blob store under the images.
func (s *Store) Blobs() *blob.Store { return s.blobs }

// ReadManifest returns the manifest of an image and its exact bytes.
func (s *Store) ReadManifest(img Image) (*oci.Manifest, []byte, error) {
	data, err := s.blobs.Read(img.Manifest)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest of image %s: %w", img.ID, err)
	}
	m, err := oci.DecodeManifest(data)
	if err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", img.ID, err)
	}
	return m, data, nil
}

// ReadConfig returns the exact bytes of an image's configuration.
func (s *Store) ReadConfig(img Image) ([]byte, error) {
	data, err := s.blobs.Read(img.ID)
	if err != nil {
		return nil, fmt.Errorf("read config of image %s: %w", img.ID, err)
	}
	return data, nil
}

// Exists reports whether ResolveAny finds the name.
func (s *Store) Exists(ctx context.Context, name string) (bool, error) {
	_, _, err := s.ResolveAny(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
