package depot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"hull/oci"
)

// An apiError is an answer of the distribution API that is an error.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.message }

var (
	errName     = &apiError{http.StatusBadRequest, "NAME_INVALID", "invalid repository name"}
	errNoName   = &apiError{http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry"}
	errDigest   = &apiError{http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content"}
	errNoBlob   = &apiError{http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry"}
	errNoUpload = &apiError{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"}
	errUpload   = &apiError{http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "blob upload invalid"}
	errRange    = &apiError{http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "the upload does not go on there"}
	errNoManif  = &apiError{http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown"}
	errMethod   = &apiError{http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported"}
	errOrigin   = &apiError{http.StatusForbidden, "DENIED", "requests of web pages are not answered"}
)

// Handler serves the registry.
func (s *Store) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		err := s.serve(w, r)
		var a *apiError
		switch {
		case err == nil:
			return
		case errors.As(err, &a):
		case errors.Is(err, fs.ErrNotExist):
			a = errNoBlob
		default:
			a = &apiError{http.StatusInternalServerError, "UNKNOWN", err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		if r.Method != http.MethodHead {
			json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": a.code, "message": a.message}}})
		}
	})
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request) error {
	// A page in the user's browser must not push to a registry on loopback.
	if r.Header.Get("Origin") != "" {
		return errOrigin
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		return &apiError{http.StatusNotFound, "NOT_FOUND", "not found"}
	}
	switch {
	case path == "":
		return reply(w, struct{}{})
	case path == "_catalog":
		names, err := s.repositories()
		if err != nil {
			return err
		}
		page := cut(w, r, names)
		return reply(w, map[string]any{"repositories": page})
	}
	return s.route(w, r, path)
}

// route takes NAME/KIND/REST apart from the right, since a name may have any
// number of parts.
func (s *Store) route(w http.ResponseWriter, r *http.Request, path string) error {
	for _, kind := range []struct {
		infix string
		serve func(w http.ResponseWriter, r *http.Request, name, rest string) error
	}{
		{"/blobs/uploads/", s.serveUpload}, {"/blobs/", s.serveBlob}, {"/manifests/", s.serveManifest},
		{"/referrers/", s.serveReferrers}, {"/tags/list", s.serveTags},
	} {
		i := strings.LastIndex(path, kind.infix)
		if i < 0 {
			continue
		}
		name, rest := path[:i], path[i+len(kind.infix):]
		if strings.Contains(rest, "/") {
			continue
		}
		if !validName(name) {
			return errName
		}
		return kind.serve(w, r, name, rest)
	}
	return &apiError{http.StatusNotFound, "NOT_FOUND", "not found"}
}

func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// cut returns the part of a sorted list that ?n= and ?last= ask for, and says
// where the next one is.
func cut(w http.ResponseWriter, r *http.Request, all []string) []string {
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		i := 0
		for i < len(all) && all[i] <= last {
			i++
		}
		all = all[i:]
	}
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil || n < 0 || n >= len(all) {
		return append([]string{}, all...)
	}
	if n > 0 {
		next := url.Values{"n": {q.Get("n")}, "last": {all[n-1]}}
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", r.URL.Path, next.Encode()))
	}
	return append([]string{}, all[:n]...)
}

func (s *Store) serveTags(w http.ResponseWriter, r *http.Request, name, _ string) error {
	if r.Method != http.MethodGet {
		return errMethod
	}
	if _, err := os.Stat(s.repo(name, "manifests")); err != nil {
		return errNoName
	}
	tags, err := s.list(s.repo(name, "tags"))
	if err != nil {
		return err
	}
	return reply(w, map[string]any{"name": name, "tags": cut(w, r, tags)})
}

func (s *Store) serveBlob(w http.ResponseWriter, r *http.Request, name, rest string) error {
	d := oci.Digest(rest)
	if d.Validate() != nil {
		return errDigest
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.hasBlob(name, d) {
			return errNoBlob
		}
		if err := s.dropBlob(name, d); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	default:
		return errMethod
	}
	if !s.hasBlob(name, d) {
		return errNoBlob
	}
	f, err := s.blobs.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", `"`+string(d)+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}
