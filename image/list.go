package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"hull/oci"
)

// A List is an index that the user puts together: a manifest list. It is a
// record of its own, with an ID and names as an image has; a name that leads to
// it means, where an image is wanted, the one for this machine.
type List struct {
	Entries     []ListEntry       `json:"entries"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Subject     *oci.Descriptor   `json:"subject,omitempty"`
}

// A ListEntry is one image of a list. Its manifest is in the store; its layers
// are there too, or in the registry it was added from.
type ListEntry struct {
	Descriptor oci.Descriptor `json:"descriptor"`
	// Source is the repository that the image was added from; "" is this store.
	Source string `json:"source,omitempty"`
	// Blobs are what the manifest refers to when it is no image of the store but
	// an artifact: the list keeps them.
	Blobs []oci.Digest `json:"blobs,omitempty"`
}

// ErrNoList reports an image where a list is wanted, ErrNameInUse a name that
// leads to something already.
var (
	ErrNoList    = errors.New("image is not a manifest list")
	ErrNameInUse = errors.New("that name is already in use")
)

// Find returns the index of the entry with that digest, -1 when there is none.
func (l *List) Find(d oci.Digest) int {
	return slices.IndexFunc(l.Entries, func(e ListEntry) bool { return e.Descriptor.Digest == d })
}

// Put adds an entry, in place of one with the same digest.
func (l *List) Put(e ListEntry) {
	if i := l.Find(e.Descriptor.Digest); i >= 0 {
		l.Entries[i] = e
		return
	}
	l.Entries = append(l.Entries, e)
}

// Index returns the bytes of the list as a document, of docker's kind or OCI's,
// and its media type.
func (l *List) Index(docker bool) ([]byte, string, error) {
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{}, Annotations: l.Annotations, Subject: l.Subject}
	for _, e := range l.Entries {
		x.Manifests = append(x.Manifests, e.Descriptor)
	}
	if docker {
		x.MediaType, x.Annotations, x.Subject = oci.DockerManifestList, nil, nil
		for i := range x.Manifests {
			x.Manifests[i].Annotations = nil
		}
	}
	data, err := json.Marshal(x)
	if err != nil {
		return nil, "", fmt.Errorf("encode manifest list: %w", err)
	}
	return data, x.MediaType, nil
}

// Docker reports that all images of the list are of docker's schema 2, so that
// the list is docker's too.
func (l *List) Docker() bool {
	for _, e := range l.Entries {
		if e.Descriptor.MediaType != oci.DockerManifest || len(e.Descriptor.Annotations) > 0 {
			return false
		}
	}
	return len(l.Entries) > 0 && len(l.Annotations) == 0 && l.Subject == nil
}

// CreateList makes a list under a name that is free.
func (s *Store) CreateList(ctx context.Context, name oci.Reference, l List) (Image, error) {
	if err := checkName(name); err != nil {
		return Image{}, err
	}
	if old, _, err := s.ResolveAny(ctx, name.String()); err == nil && slices.Contains(old.Names, name) {
		return Image{}, fmt.Errorf("create manifest list: image name %q is already associated with image %q: %w", name, old.ID.Hex(), ErrNameInUse)
	}
	var b [32]byte
	rand.Read(b[:])
	r := &record{Version: recordVersion, ID: oci.NewDigest(b[:]), Stored: time.Now().UTC(), List: &l}
	hold, err := s.Hold(ctx)
	if err != nil {
		return Image{}, err
	}
	defer hold.Release()
	lock, err := s.lockRecord(ctx, r.ID)
	if err != nil {
		return Image{}, err
	}
	defer lock.Release()
	if err := s.blobs.Sync(); err != nil {
		return Image{}, err
	}
	if err := s.writeRecord(r); err != nil {
		return Image{}, err
	}
	if err := s.setName(ctx, name, r.ID); err != nil {
		return Image{}, err
	}
	return r.image([]oci.Reference{name}), nil
}

// FindList finds a list by its name or ID: ErrNoList when it is an image.
func (s *Store) FindList(ctx context.Context, name string) (Image, error) {
	img, _, err := s.ResolveAny(ctx, name)
	if err != nil {
		return Image{}, err
	}
	if img.List == nil {
		shown := name
		if ref, err := oci.ParseReference(name); err == nil {
			shown = LocalName(ref).String()
		}
		return Image{}, fmt.Errorf("%s: %w", shown, ErrNoList)
	}
	return img, nil
}

// ChangeList lets change work on a list and keeps the result. The caller has a
// Hold where change adds entries whose manifests it stored.
func (s *Store) ChangeList(ctx context.Context, id oci.Digest, change func(*List) error) (Image, error) {
	lock, err := s.lockRecord(ctx, id)
	if err != nil {
		return Image{}, err
	}
	defer lock.Release()
	r, err := s.readRecord(id)
	if err != nil {
		return Image{}, err
	}
	if r.List == nil {
		return Image{}, fmt.Errorf("%s: %w", id.Hex(), ErrNoList)
	}
	if err := change(r.List); err != nil {
		return Image{}, err
	}
	if err := s.blobs.Sync(); err != nil {
		return Image{}, err
	}
	r.readOnly = ""
	if err := s.writeRecord(r); err != nil {
		return Image{}, err
	}
	names, err := s.namesOf(id)
	if err != nil {
		return Image{}, err
	}
	return r.image(names), nil
}

// AddManifest stores a manifest that a list shall refer to.
func (s *Store) AddManifest(ctx context.Context, d oci.Digest, data []byte) error {
	if !sameDigest(d, data) {
		return fmt.Errorf("store manifest: it does not have the digest %s: %w", d, ErrMismatch)
	}
	return s.putBlob(d, data, func(oci.Digest) {})
}

// An ArtifactFile is one file of an artifact; its Descriptor's digest and size
// are filled in.
type ArtifactFile struct {
	oci.Descriptor
	Open func() (io.ReadCloser, error)
}

// PutArtifact stores a manifest and the files it refers to, for a list. A nil
// config is the empty one. The caller has a Hold until the list is changed.
func (s *Store) PutArtifact(ctx context.Context, m oci.Manifest, config []byte, files []ArtifactFile) (ListEntry, error) {
	m.SchemaVersion = 2
	if m.MediaType == "" {
		m.MediaType = oci.MediaTypeManifest
	}
	if config == nil {
		config = []byte("{}")
		if m.Config.MediaType == "" {
			m.Config.MediaType = oci.MediaTypeEmpty
		}
	}
	m.Config.Digest, m.Config.Size = oci.FromBytes(config), int64(len(config))
	kept := []oci.Digest{m.Config.Digest}
	if err := s.putBlob(m.Config.Digest, config, func(oci.Digest) {}); err != nil {
		return ListEntry{}, err
	}
	m.Layers = []oci.Descriptor{}
	for _, f := range files {
		d, err := s.putArtifactFile(ctx, f)
		if err != nil {
			return ListEntry{}, err
		}
		m.Layers, kept = append(m.Layers, d), append(kept, d.Digest)
	}
	d, err := s.putManifest(m)
	return ListEntry{Blobs: kept, Descriptor: d}, err
}

// putArtifactFile stores one file.
func (s *Store) putArtifactFile(ctx context.Context, f ArtifactFile) (oci.Descriptor, error) {
	var err error
	if f.Digest, f.Size, err = s.putFile(ctx, f.Open); err != nil {
		return f.Descriptor, fmt.Errorf("store artifact: %w", err)
	}
	return f.Descriptor, nil
}

// putManifest stores a manifest that was made here.
func (s *Store) putManifest(m oci.Manifest) (oci.Descriptor, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("make manifest: %w", err)
	}
	d := oci.FromBytes(data)
	return oci.Descriptor{MediaType: m.MediaType, ArtifactType: m.ArtifactType, Digest: d, Size: int64(len(data))},
		s.putBlob(d, data, func(oci.Digest) {})
}

// putFile stores a file of unknown digest, which is read twice.
func (s *Store) putFile(ctx context.Context, open func() (io.ReadCloser, error)) (oci.Digest, int64, error) {
	pass := func(w io.Writer) (int64, error) {
		r, err := open()
		if err != nil {
			return 0, err
		}
		defer r.Close()
		return io.Copy(w, r)
	}
	h := sha256.New()
	size, err := pass(h)
	if err != nil {
		return "", 0, err
	}
	d := oci.NewDigest(h.Sum(nil))
	w, err := s.blobs.Writer(ctx, d, size)
	if errors.Is(err, fs.ErrExist) {
		return d, size, nil
	}
	if err != nil {
		return "", 0, err
	}
	defer w.Close()
	if _, err := pass(w); err != nil {
		return "", 0, err
	}
	_, _, err = w.Commit()
	return d, size, err
}

// LocalEntry is an image of the store as an entry of a list.
func (s *Store) LocalEntry(img Image) (ListEntry, error) {
	m, data, err := s.ReadManifest(img)
	if err != nil {
		return ListEntry{}, err
	}
	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = oci.MediaTypeManifest
	}
	c := img.Config
	return ListEntry{Descriptor: oci.Descriptor{
		MediaType: mediaType, Digest: img.Manifest, Size: int64(len(data)),
		Platform: &oci.Platform{Architecture: c.Architecture, OS: c.OS, OSVersion: c.OSVersion, Variant: c.Variant},
	}}, nil
}

// Instance returns the image of the store that a list means for a platform; the
// error is ErrNotFound when the list has none, or only elsewhere.
func (s *Store) Instance(ctx context.Context, list Image, p oci.Platform) (Image, error) {
	var all []oci.Descriptor
	for _, e := range list.List.Entries {
		all = append(all, e.Descriptor)
	}
	d, err := ChoosePlatform(all, p)
	if err != nil {
		return Image{}, fmt.Errorf("choose image of manifest list %s: %w: %w", listName(list), err, ErrNotFound)
	}
	img, err := s.ByManifest(ctx, d.Digest)
	if err != nil {
		return Image{}, fmt.Errorf("manifest list %s: its image for %s is not in the store: %w", listName(list), p, err)
	}
	return img, nil
}

// ByManifest finds the image that has a manifest of that digest.
func (s *Store) ByManifest(ctx context.Context, d oci.Digest) (Image, error) {
	images, err := s.List(ctx)
	for _, img := range images {
		if img.List == nil && slices.Contains(img.digests, d) {
			return img, nil
		}
	}
	if err != nil {
		return Image{}, err
	}
	return Image{}, fmt.Errorf("%s: %w", d, ErrNotFound)
}

func listName(list Image) string {
	if len(list.Names) > 0 {
		return list.Names[0].String()
	}
	return list.ID.Hex()
}

// RemoveList removes a list with its names; the images in it stay.
func (s *Store) RemoveList(ctx context.Context, name string) (Removed, error) {
	img, err := s.FindList(ctx, name)
	if err != nil {
		return Removed{}, err
	}
	return s.remove(ctx, img.ID)
}

// listImage is a list's record as others see it.
func (r *record) listImage(names []oci.Reference) Image {
	img := Image{ID: r.ID, Names: names, Created: r.Stored, Stored: r.Stored, List: r.List, ReadOnly: r.readOnly != ""}
	if data, _, err := r.List.Index(r.List.Docker()); err == nil {
		img.Manifest, img.Size = oci.FromBytes(data), int64(len(data))
		img.digests = []oci.Digest{img.Manifest}
		img.Digests = repoDigests(names, img.digests)
	}
	return img
}

// checkList checks what the rest relies on.
func (l *List) check() error {
	for _, e := range l.Entries {
		if err := e.Descriptor.Validate(); err != nil {
			return err
		}
		if e.Source == "" {
			continue
		}
		if _, err := oci.ParseReference(e.Source); err != nil {
			return err
		}
	}
	return nil
}
