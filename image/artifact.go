package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/oci"
	"hull/state"
)

// An Artifact is a manifest of files that are no file system, under a name: the
// store keeps it as it keeps images, but no container can be made of it.
type Artifact struct {
	// Name is what it was called when it came, with a tag or digest; nothing is
	// added to a name without a registry.
	Name     oci.Reference
	Manifest oci.Manifest
	// Digest is the manifest's; Type its media type.
	Digest oci.Digest
	Type   string
	Stored time.Time
}

// Size is what the artifact's files have, in bytes.
func (a *Artifact) Size() int64 {
	n := int64(0)
	for _, l := range a.Manifest.Layers {
		n += l.Size
	}
	return n
}

// Created is when the artifact was made, as it says itself, else when it came.
func (a *Artifact) Created() time.Time {
	if t, err := time.Parse(time.RFC3339Nano, a.Manifest.Annotations[oci.AnnotationCreated]); err == nil {
		return t
	}
	return a.Stored
}

// The errors of artifacts.
var (
	ErrNoArtifact     = errors.New("artifact does not exist")
	ErrArtifactExists = errors.New("artifact already exists")
	ErrArtifactFile   = errors.New("file already exists in artifact")
)

// unknownArtifact is the type of an artifact that nobody gave one: with an empty
// config there must be some (image-spec, manifest.md).
const unknownArtifact = "application/vnd.unknown.artifact.v1"

// An artifactRecord is what stands in ROOT/images/artifacts.
type artifactRecord struct {
	Version  int            `json:"version"`
	Name     string         `json:"name"`
	Manifest oci.Descriptor `json:"manifest"`
	Blobs    []oci.Digest   `json:"blobs"` // what the manifest refers to
	Stored   time.Time      `json:"stored"`
}

func (r *artifactRecord) check() error {
	if r.Version != recordVersion {
		return fmt.Errorf("version %d is not known", r.Version)
	}
	if err := r.Manifest.Validate(); err != nil {
		return err
	}
	for _, d := range r.Blobs {
		if err := d.Validate(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) artifactsDir() string { return filepath.Join(s.dir, "artifacts") }

// ArtifactName is the name that an artifact is kept under: tagged latest when it
// has no tag.
func ArtifactName(name string) (oci.Reference, error) {
	if name == "" {
		return oci.Reference{}, errors.New("artifact name cannot be empty")
	}
	n, err := oci.ParseReference(name)
	return n.Tagged(), err
}

func (s *Store) readArtifact(file string) (*artifactRecord, error) {
	data, err := state.ReadFile(filepath.Join(s.artifactsDir(), file))
	if err != nil {
		return nil, err
	}
	r := new(artifactRecord)
	if err = state.Unmarshal(data, r); err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, fmt.Errorf("read record of artifact %s: %w: %w", file, err, ErrDamaged)
	}
	return r, nil
}

// artifactRecords reads all records, as records does.
func (s *Store) artifactRecords() ([]*artifactRecord, error) {
	entries, err := state.ReadDir(s.artifactsDir())
	if err != nil && !errors.Is(err, state.ErrNotExist) {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	var all []*artifactRecord
	var bad []error
	for _, e := range entries {
		r, err := s.readArtifact(e.Name())
		if errors.Is(err, state.ErrNotExist) {
			continue
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		all = append(all, r)
	}
	return all, errors.Join(bad...)
}

// artifact reads the manifest that a record leads to.
func (s *Store) artifact(r *artifactRecord) (Artifact, error) {
	a := Artifact{Digest: r.Manifest.Digest, Type: r.Manifest.MediaType, Stored: r.Stored}
	var err error
	if a.Name, err = oci.ParseReference(r.Name); err != nil {
		return a, err
	}
	m, _, err := s.ReadManifest(Image{Manifest: r.Manifest.Digest})
	if err != nil {
		return a, fmt.Errorf("artifact %s: %w", r.Name, err)
	}
	a.Manifest = *m
	return a, nil
}

// Artifacts lists all artifacts by their names. Those that cannot be read are in
// the error, beside the others.
func (s *Store) Artifacts(context.Context) ([]Artifact, error) {
	records, err := s.artifactRecords()
	bad := []error{err}
	var all []Artifact
	for _, r := range records {
		a, err := s.artifact(r)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b Artifact) int { return compareRefs(a.Name, b.Name) })
	return all, errors.Join(bad...)
}

// FindArtifact finds an artifact by its name, or by its digest or the beginning
// of that. The error is ErrNoArtifact when there is none.
func (s *Store) FindArtifact(ctx context.Context, name string) (Artifact, error) {
	r, err := s.findArtifact(name)
	if err != nil {
		return Artifact{}, err
	}
	return s.artifact(r)
}

func (s *Store) findArtifact(name string) (*artifactRecord, error) {
	n, nerr := ArtifactName(name)
	if nerr == nil {
		r, err := s.readArtifact(nameFile(n))
		if err == nil || !errors.Is(err, state.ErrNotExist) {
			return r, err
		}
	}
	if hex := strings.TrimPrefix(name, "sha256:"); hex != "" && strings.Trim(hex, "0123456789abcdef") == "" {
		all, err := s.artifactRecords()
		var found []*artifactRecord
		for _, r := range all {
			if strings.HasPrefix(r.Manifest.Digest.Hex(), hex) {
				found = append(found, r)
			}
		}
		// Several names may have the same content: then one is as good as another.
		for _, r := range found[min(1, len(found)):] {
			if r.Manifest.Digest != found[0].Manifest.Digest {
				return nil, fmt.Errorf("%s: several artifacts have a digest that begins so", name)
			}
		}
		if len(found) > 0 {
			return found[0], nil
		}
		if err != nil {
			return nil, err
		}
	} else if nerr != nil {
		return nil, nerr
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNoArtifact)
}

// AddArtifactOptions for AddArtifact.
type AddArtifactOptions struct {
	// Type is the artifact's; "" is unknownArtifact.
	Type string
	// Append adds files to an artifact that is there, Replace takes the place of
	// one; with neither the name must be free.
	Append, Replace bool
}

// AddArtifact makes an artifact of files, or adds files to one.
func (s *Store) AddArtifact(ctx context.Context, name string, files []ArtifactFile, o AddArtifactOptions) (Artifact, error) {
	n, err := ArtifactName(name)
	if err != nil {
		return Artifact{}, err
	}
	hold, err := s.Hold(ctx)
	if err != nil {
		return Artifact{}, err
	}
	defer hold.Release()
	l, err := s.lockArtifact(ctx, n)
	if err != nil {
		return Artifact{}, err
	}
	defer l.Release()
	m := oci.Manifest{ArtifactType: o.Type, Annotations: map[string]string{oci.AnnotationCreated: time.Now().UTC().Format(time.RFC3339Nano)}}
	if m.ArtifactType == "" {
		m.ArtifactType = unknownArtifact
	}
	old, err := s.readArtifact(nameFile(n))
	switch {
	case errors.Is(err, state.ErrNotExist) && o.Append:
		return Artifact{}, fmt.Errorf("%s: %w", n, ErrNoArtifact)
	case errors.Is(err, state.ErrNotExist):
	case err != nil && !o.Replace:
		return Artifact{}, err
	case o.Append:
		a, err := s.artifact(old)
		if err != nil {
			return a, err
		}
		m = a.Manifest
	case !o.Replace:
		return Artifact{}, fmt.Errorf("%s: %w", n, ErrArtifactExists)
	}
	if err := checkTitles(m.Layers, files); err != nil {
		return Artifact{}, err
	}
	e, err := s.putArtifact(ctx, m, old, files, o.Append)
	if err != nil {
		return Artifact{}, err
	}
	return s.saveArtifact(n, e)
}

// putArtifact stores the files, and a manifest of them after those that m has.
func (s *Store) putArtifact(ctx context.Context, m oci.Manifest, old *artifactRecord, files []ArtifactFile, more bool) (ListEntry, error) {
	if !more {
		return s.PutArtifact(ctx, m, nil, files)
	}
	e := ListEntry{Blobs: old.Blobs}
	for _, f := range files {
		d, err := s.putArtifactFile(ctx, f)
		if err != nil {
			return e, err
		}
		m.Layers, e.Blobs = append(m.Layers, d), append(e.Blobs, d.Digest)
	}
	var err error
	e.Descriptor, err = s.putManifest(m)
	return e, err
}

// checkTitles refuses a file of a name that is there already.
func checkTitles(have []oci.Descriptor, files []ArtifactFile) error {
	seen := map[string]bool{}
	for _, l := range have {
		seen[l.Annotations[oci.AnnotationTitle]] = true
	}
	for _, f := range files {
		t := f.Annotations[oci.AnnotationTitle]
		if t != "" && seen[t] {
			return fmt.Errorf("%s: %w", t, ErrArtifactFile)
		}
		seen[t] = true
	}
	return nil
}

// SetArtifact lets a name lead to a manifest of the store, whose bytes are data,
// with all that it refers to. The caller has a Hold.
func (s *Store) SetArtifact(ctx context.Context, n oci.Reference, d oci.Descriptor, m *oci.Manifest, data []byte) (Artifact, error) {
	if err := s.AddManifest(ctx, d.Digest, data); err != nil {
		return Artifact{}, err
	}
	e := ListEntry{Descriptor: d, Blobs: []oci.Digest{m.Config.Digest}}
	for _, l := range m.Layers {
		e.Blobs = append(e.Blobs, l.Digest)
	}
	for _, b := range e.Blobs {
		if _, err := s.blobs.Stat(b); err != nil {
			return Artifact{}, fmt.Errorf("store artifact %s: %w", n, err)
		}
	}
	l, err := s.lockArtifact(ctx, n)
	if err != nil {
		return Artifact{}, err
	}
	defer l.Release()
	return s.saveArtifact(n, e)
}

func (s *Store) lockArtifact(ctx context.Context, n oci.Reference) (*state.Lock, error) {
	l, err := state.Acquire(ctx, s.lockPath("artifact", lockName(nameFile(n))))
	if err != nil {
		return nil, fmt.Errorf("lock artifact %s: %w", n, err)
	}
	return l, nil
}

// saveArtifact writes the record of a name, whose lock is held, when its content
// is on the disk. What it led to before is garbage then.
func (s *Store) saveArtifact(n oci.Reference, e ListEntry) (Artifact, error) {
	if err := s.blobs.Sync(); err != nil {
		return Artifact{}, err
	}
	r := &artifactRecord{Version: recordVersion, Name: n.String(), Manifest: e.Descriptor, Blobs: e.Blobs, Stored: time.Now().UTC()}
	data, err := state.Marshal(r)
	if err != nil {
		return Artifact{}, fmt.Errorf("write record of artifact %s: %w", n, err)
	}
	if err := s.MarkGarbage(); err != nil {
		return Artifact{}, err
	}
	if err := s.write(s.artifactsDir(), nameFile(n), data); err != nil {
		return Artifact{}, fmt.Errorf("write record of artifact %s: %w", n, err)
	}
	return s.artifact(r)
}

// RemoveArtifact removes an artifact by its name or digest, and what no other
// artifact or image has of its content. It returns the manifest's digest.
func (s *Store) RemoveArtifact(ctx context.Context, name string) (oci.Digest, error) {
	r, err := s.findArtifact(name)
	if errors.Is(err, ErrDamaged) {
		r, err = s.damagedArtifact(name)
	}
	if err != nil {
		return "", err
	}
	n, err := oci.ParseReference(r.Name)
	if err != nil {
		return "", err
	}
	l, err := s.lockArtifact(ctx, n)
	if err != nil {
		return "", err
	}
	defer l.Release()
	if err := s.MarkGarbage(); err != nil {
		return "", err
	}
	err = state.Remove(filepath.Join(s.artifactsDir(), nameFile(n)), true)
	if errors.Is(err, state.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", name, ErrNoArtifact)
	}
	if err != nil {
		return "", fmt.Errorf("remove artifact %s: %w", n, err)
	}
	_ = l.Remove() // an empty file that stays is no harm
	only := newContent()
	only.addArtifact(r)
	// It is gone, whether its content could be removed or not (see dropRecord).
	_, err = s.collect(context.WithoutCancel(ctx), only)
	if errors.Is(err, ErrDamaged) {
		err = nil
	}
	return r.Manifest.Digest, err
}

// damagedArtifact stands for a record that cannot be read, so that it can be
// removed.
func (s *Store) damagedArtifact(name string) (*artifactRecord, error) {
	n, err := ArtifactName(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(s.artifactsDir(), nameFile(n))); err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNoArtifact)
	}
	return &artifactRecord{Name: n.String()}, nil
}

// addArtifact makes an artifact's content count as in use.
func (c *content) addArtifact(r *artifactRecord) {
	if r.Manifest.Digest != "" {
		c.blobs[r.Manifest.Digest] = true
	}
	for _, d := range r.Blobs {
		c.blobs[d] = true
	}
}

// MissingBlobs lists what an artifact refers to and the store has not.
func (s *Store) MissingBlobs(a Artifact) []oci.Digest {
	need := map[oci.Digest]bool{a.Manifest.Config.Digest: true}
	for _, l := range a.Manifest.Layers {
		need[l.Digest] = true
	}
	maps.DeleteFunc(need, func(d oci.Digest, _ bool) bool {
		_, err := s.blobs.Stat(d)
		return err == nil
	})
	return slices.Sorted(maps.Keys(need))
}
