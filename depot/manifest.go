package depot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strconv"

	"hull/oci"
)

// refs are what a manifest or an index refers to.
type refs struct {
	mediaType, artifactType string
	blobs, manifests        []oci.Descriptor
	subject                 *oci.Descriptor
	annotations             map[string]string
}

// read reads a manifest or an index; a document that could be both is neither.
func read(data []byte) (*refs, error) {
	var shape struct{ Manifests, Layers, Config json.RawMessage }
	if err := oci.Decode("manifest", data, &json.RawMessage{}); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &shape); err != nil {
		return nil, err
	}
	index, image := shape.Manifests != nil, shape.Layers != nil || shape.Config != nil
	if index == image {
		return nil, errors.New("it is neither an image nor an index, or both")
	}
	if index {
		x, err := oci.DecodeIndex(data)
		if err != nil {
			return nil, err
		}
		return &refs{cmp.Or(x.MediaType, oci.MediaTypeIndex), x.ArtifactType, nil, x.Manifests, x.Subject, x.Annotations}, nil
	}
	m, err := oci.DecodeManifest(data)
	if err != nil {
		return nil, err
	}
	r := &refs{cmp.Or(m.MediaType, oci.MediaTypeManifest), cmp.Or(m.ArtifactType, m.Config.MediaType), []oci.Descriptor{m.Config}, nil, m.Subject, m.Annotations}
	for _, l := range m.Layers {
		if len(l.URLs) == 0 {
			r.blobs = append(r.blobs, l)
		}
	}
	return r, nil
}

func (s *Store) serveManifest(w http.ResponseWriter, r *http.Request, name, ref string) error {
	switch r.Method {
	case http.MethodPut:
		return s.putManifest(w, r, name, ref)
	case http.MethodDelete:
		s.mu.Lock()
		defer s.mu.Unlock()
		d, ok := s.digest(name, ref)
		if !ok || s.mediaType(name, d) == "" {
			return errNoManif
		}
		var err error
		if string(d) == ref {
			err = s.dropManifest(name, d)
		} else {
			err = os.Remove(s.repo(name, "tags", ref))
		}
		if err == nil {
			w.WriteHeader(http.StatusAccepted)
		}
		return err
	case http.MethodGet, http.MethodHead:
	default:
		return errMethod
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, ok := s.digest(name, ref)
	if !ok {
		return errNoManif
	}
	mediaType := s.mediaType(name, d)
	if mediaType == "" {
		return errNoManif
	}
	data, err := s.blobs.Read(d)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Etag", `"`+string(d)+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, err = w.Write(data)
	}
	return err
}

func (s *Store) putManifest(w http.ResponseWriter, r *http.Request, name, ref string) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, oci.MaxManifestSize+1))
	if err != nil {
		return err
	}
	bad := func(why string) error {
		return &apiError{http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid: " + why}
	}
	if int64(len(data)) > oci.MaxManifestSize {
		return &apiError{http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the manifest is too large"}
	}
	m, err := read(data)
	if err != nil {
		return bad(err.Error())
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && t != m.mediaType && t != "application/json" {
		return bad(fmt.Sprintf("it is called %s and is %s", t, m.mediaType))
	}
	d, byDigest := oci.Digest(ref), oci.Digest(ref).Validate() == nil
	if !byDigest {
		if d = oci.FromBytes(data); !validTag(ref) {
			return &apiError{http.StatusBadRequest, "TAG_INVALID", "invalid tag"}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range m.blobs {
		if !s.hasBlob(name, b.Digest) {
			return &apiError{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry: " + string(b.Digest)}
		}
	}
	for _, c := range m.manifests {
		if s.mediaType(name, c.Digest) == "" {
			return &apiError{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "manifest unknown: " + string(c.Digest)}
		}
	}
	if err := s.keepManifest(r.Context(), name, d, m, data); err != nil {
		return err
	}
	if !byDigest {
		if err := s.link(s.repo(name, "tags"), ref, string(d)); err != nil {
			return err
		}
	}
	if m.subject != nil {
		w.Header().Set("OCI-Subject", string(m.subject.Digest))
	}
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+string(d))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// keepManifest stores a manifest under its digest and notes what it refers to.
func (s *Store) keepManifest(ctx context.Context, name string, d oci.Digest, m *refs, data []byte) error {
	w, err := s.blobs.Writer(ctx, d, int64(len(data)))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err == nil {
		defer w.Abort()
		if err := w.Restart(); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		if _, _, err := w.Commit(); err != nil {
			return errDigest
		}
	}
	if err := s.blobs.Sync(); err != nil {
		return err
	}
	if m.subject != nil {
		if err := s.link(s.repo(name, "subjects", m.subject.Digest.Hex()), d.Hex(), ""); err != nil {
			return err
		}
	}
	return s.link(s.repo(name, "manifests"), d.Hex(), m.mediaType)
}

// serveReferrers lists the manifests whose subject a digest is.
func (s *Store) serveReferrers(w http.ResponseWriter, r *http.Request, name, rest string) error {
	if r.Method != http.MethodGet {
		return errMethod
	}
	subject := oci.Digest(rest)
	if subject.Validate() != nil {
		return errDigest
	}
	want := r.URL.Query().Get("artifactType")
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{}}
	list, err := s.list(s.repo(name, "subjects", subject.Hex()))
	if err != nil {
		return err
	}
	for _, hex := range list {
		d := digestOf(hex)
		data, err := s.blobs.Read(d)
		if err != nil {
			continue // removed meanwhile
		}
		m, err := read(data)
		if err != nil || want != "" && m.artifactType != want {
			continue
		}
		x.Manifests = append(x.Manifests, oci.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(data)), ArtifactType: m.artifactType, Annotations: m.annotations})
	}
	if want != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", oci.MediaTypeIndex)
	return json.NewEncoder(w).Encode(x)
}
