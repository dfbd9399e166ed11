package depot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hull/blob"
	"hull/oci"
	"hull/state"
)

// A Store is a registry's directory. One server has it at a time.
type Store struct {
	root  string
	blobs *blob.Store

	mu sync.RWMutex // writers of links, tags and manifests hold it alone
}

// Open opens or makes the registry in a directory.
func Open(root string) (*Store, error) {
	for _, d := range []string{"uploads", "repos"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			return nil, fmt.Errorf("open registry: %w", err)
		}
	}
	b, err := blob.Open(root)
	if err != nil {
		return nil, err
	}
	return &Store{root: root, blobs: b}, nil
}

// maxName keeps a repository's name within a file's.
const maxName = 200

// validName reports whether name is a repository's.
func validName(name string) bool {
	ref, err := oci.ParseReference("r.invalid/" + name)
	return err == nil && ref.Path == name && len(name) <= maxName
}

func validTag(tag string) bool {
	ref, err := oci.ParseReference("x:" + tag)
	return err == nil && ref.Tag == tag
}

// repo is the directory of a repository; the name is valid.
func (s *Store) repo(name string, below ...string) string {
	return filepath.Join(append([]string{s.root, "repos", strings.ReplaceAll(name, "/", "+")}, below...)...)
}

// link notes that a repository has something, with a text.
func (s *Store) link(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return state.WriteFile(dir, name, []byte(text), 0o600, true)
}

func (s *Store) hasBlob(name string, d oci.Digest) bool {
	_, err := os.Lstat(s.repo(name, "blobs", d.Hex()))
	return err == nil
}

// mediaType is what a manifest of the repository is; "" when it has it not.
func (s *Store) mediaType(name string, d oci.Digest) string {
	data, err := state.ReadFile(s.repo(name, "manifests", d.Hex()))
	if err != nil {
		return ""
	}
	return string(data)
}

// digest is what a tag leads to, or the digest that ref is.
func (s *Store) digest(name, ref string) (oci.Digest, bool) {
	if strings.Contains(ref, ":") {
		d := oci.Digest(ref)
		return d, d.Validate() == nil
	}
	if !validTag(ref) {
		return "", false
	}
	data, err := state.ReadFile(s.repo(name, "tags", ref))
	if err != nil {
		return "", false
	}
	d := oci.Digest(data)
	return d, d.Validate() == nil
}

// list returns the names in a directory of a repository, sorted.
func (s *Store) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if !state.IsTemp(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// repositories are the names of those that have a manifest.
func (s *Store) repositories() ([]string, error) {
	dirs, err := s.list(filepath.Join(s.root, "repos"))
	var names []string
	for _, d := range dirs {
		name := strings.ReplaceAll(d, "+", "/")
		if m, merr := s.list(s.repo(name, "manifests")); merr == nil && len(m) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// dropBlob takes a blob from a repository, and removes it with its last link.
func (s *Store) dropBlob(name string, d oci.Digest) error {
	for _, kind := range []string{"blobs", "manifests"} {
		if err := os.Remove(s.repo(name, kind, d.Hex())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.dropUnlinked(d)
}

func (s *Store) dropUnlinked(d oci.Digest) error {
	dirs, err := s.list(filepath.Join(s.root, "repos"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		for _, kind := range []string{"blobs", "manifests"} {
			if _, err := os.Lstat(filepath.Join(s.root, "repos", dir, kind, d.Hex())); err == nil {
				return nil
			}
		}
	}
	return s.blobs.Remove(d)
}

// dropManifest removes a manifest with the tags that lead to it.
func (s *Store) dropManifest(name string, d oci.Digest) error {
	tags, err := s.list(s.repo(name, "tags"))
	if err != nil {
		return err
	}
	for _, t := range tags {
		if at, ok := s.digest(name, t); ok && at == d {
			if err := os.Remove(s.repo(name, "tags", t)); err != nil {
				return err
			}
		}
	}
	if data, err := s.blobs.Read(d); err == nil {
		if r, err := read(data); err == nil && r.subject != nil {
			_ = os.Remove(s.repo(name, "subjects", r.subject.Digest.Hex(), d.Hex()))
		}
	}
	return s.dropBlob(name, d)
}

// Collect removes what was pushed before a time and no manifest refers to, and
// uploads that have not gone on since then.
func (s *Store) Collect(before time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := func(path string) bool {
		fi, err := os.Lstat(path)
		return err == nil && fi.ModTime().Before(before)
	}
	uploads, err := s.list(filepath.Join(s.root, "uploads"))
	if err != nil {
		return err
	}
	for _, u := range uploads {
		if path := filepath.Join(s.root, "uploads", u); old(path) {
			os.Remove(path)
		}
	}
	dirs, err := s.list(filepath.Join(s.root, "repos"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		name := strings.ReplaceAll(dir, "+", "/")
		used, err := s.used(name)
		if err != nil {
			return err
		}
		links, err := s.list(s.repo(name, "blobs"))
		if err != nil {
			return err
		}
		for _, hex := range links {
			if path := s.repo(name, "blobs", hex); !used[hex] && old(path) {
				if err := s.dropBlob(name, digestOf(hex)); err != nil {
					return err
				}
			}
		}
	}
	_, err = s.blobs.Tidy(before)
	return err
}

// used are the blobs that the manifests of a repository refer to.
func (s *Store) used(name string) (map[string]bool, error) {
	used := map[string]bool{}
	manifests, err := s.list(s.repo(name, "manifests"))
	if err != nil {
		return nil, err
	}
	for _, hex := range manifests {
		data, err := s.blobs.Read(digestOf(hex))
		if err != nil {
			return nil, err
		}
		r, err := read(data)
		if err != nil {
			return nil, err
		}
		for _, d := range r.blobs {
			used[d.Digest.Hex()] = true
		}
	}
	return used, nil
}

// digestOf is the digest whose hex this is: the length tells the algorithm.
func digestOf(hex string) oci.Digest {
	if len(hex) > 64 {
		return oci.Digest("sha512:" + hex)
	}
	return oci.Digest("sha256:" + hex)
}
