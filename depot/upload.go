package depot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hull/oci"
)

func (s *Store) serveUpload(w http.ResponseWriter, r *http.Request, name, id string) error {
	switch {
	case id == "" && r.Method == http.MethodPost:
		return s.begin(w, r, name)
	case len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "":
		return errNoUpload
	}
	path := filepath.Join(s.root, "uploads", id)
	if r.Method == http.MethodDelete {
		if err := os.Remove(path); err != nil {
			return errNoUpload
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return errNoUpload
	}
	defer f.Close()
	switch r.Method {
	case http.MethodGet:
		return progress(w, f, name, id, http.StatusNoContent)
	case http.MethodPatch:
		if err := appendBody(w, r, f, name, id); err != nil {
			return err
		}
		return progress(w, f, name, id, http.StatusAccepted)
	case http.MethodPut:
		if err := appendBody(w, r, f, name, id); err != nil {
			return err
		}
		return s.finish(w, r, f, name)
	}
	return errMethod
}

// begin begins an upload, or takes a blob from another repository, or all of a
// small one at once.
func (s *Store) begin(w http.ResponseWriter, r *http.Request, name string) error {
	q := r.URL.Query()
	if d := oci.Digest(q.Get("mount")); d.Validate() == nil && validName(q.Get("from")) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hasBlob(q.Get("from"), d) {
			return s.have(w, name, d)
		}
	}
	var b [16]byte
	rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	f, err := os.OpenFile(filepath.Join(s.root, "uploads", id), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if q.Get("digest") == "" {
		return progress(w, f, name, id, http.StatusAccepted)
	}
	if _, err := io.Copy(f, r.Body); err != nil {
		os.Remove(f.Name())
		return err
	}
	return s.finish(w, r, f, name)
}

// progress says how much of an upload is here and where it goes on.
func progress(w http.ResponseWriter, f *os.File, name, id string, status int) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(fi.Size()-1, 0)))
	w.WriteHeader(status)
	return nil
}

// appendBody adds what a request brings, which must begin where the upload is.
func appendBody(w http.ResponseWriter, r *http.Request, f *os.File, name, id string) error {
	if span := r.Header.Get("Content-Range"); span != "" {
		first, _, _ := strings.Cut(strings.TrimPrefix(span, "bytes "), "-")
		at, err := strconv.ParseInt(first, 10, 64)
		fi, serr := f.Stat()
		if err != nil {
			return errUpload
		}
		if serr != nil || at != fi.Size() {
			w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
			return errRange
		}
	}
	_, err := io.Copy(f, r.Body)
	return err
}

// finish makes a blob of an upload, if it has the digest that is claimed.
func (s *Store) finish(w http.ResponseWriter, r *http.Request, f *os.File, name string) error {
	d := oci.Digest(r.URL.Query().Get("digest"))
	if d.Validate() != nil {
		return errDigest
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in, err := s.blobs.Writer(r.Context(), d, fi.Size())
	if errors.Is(err, fs.ErrExist) {
		// It is here: the bytes must be the same all the same, or knowing a
		// digest would be enough to read the blob.
		h := d.Hash()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		if fmt.Sprintf("%x", h.Sum(nil)) != d.Hex() {
			os.Remove(f.Name())
			return errDigest
		}
	} else if err != nil {
		return err
	} else {
		defer in.Abort()
		if err := in.Restart(); err != nil {
			return err
		}
		if _, err := io.Copy(in, f); err != nil {
			return err
		}
		if _, _, err := in.Commit(); err != nil {
			os.Remove(f.Name())
			return errDigest
		}
	}
	os.Remove(f.Name())
	if err := s.blobs.Sync(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have(w, name, d)
}

// have links a blob to a repository and says so; the lock is held.
func (s *Store) have(w http.ResponseWriter, name string, d oci.Digest) error {
	if _, err := s.blobs.Stat(d); err != nil {
		return errNoBlob
	}
	if err := s.link(s.repo(name, "blobs"), d.Hex(), ""); err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
	return nil
}
