package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/oci"
)

// ErrNoBlob reports an artifact that has no such file.
var ErrNoBlob = errors.New("no such blob")

// BlobFilter chooses files of an artifact: all, or the one of a digest or title.
type BlobFilter struct {
	Digest, Title string
}

// Set reports that one file is chosen.
func (f BlobFilter) Set() bool { return f.Digest+f.Title != "" }

// An ArtifactBlob is one file of an artifact.
type ArtifactBlob struct {
	oci.Descriptor
	// Title is what the artifact calls it; who makes a path of it uses FileName.
	Title    string
	byDigest bool
}

// Choose returns the files of an artifact that a filter means.
func (a *Artifact) Choose(f BlobFilter) ([]ArtifactBlob, error) {
	if f.Digest != "" && f.Title != "" {
		return nil, errors.New("cannot specify both digest and title")
	}
	if len(a.Manifest.Layers) == 0 {
		return nil, errors.New("the artifact has no blobs, nothing to extract")
	}
	var all []ArtifactBlob
	for _, l := range a.Manifest.Layers {
		b := ArtifactBlob{Descriptor: l, Title: l.Annotations[oci.AnnotationTitle], byDigest: f.Digest != ""}
		if f.Digest != "" && string(l.Digest) != f.Digest || f.Title != "" && b.Title != f.Title {
			continue
		}
		if f.Set() {
			return []ArtifactBlob{b}, nil
		}
		all = append(all, b)
	}
	switch {
	case f.Digest != "":
		return nil, fmt.Errorf("no blob with the digest %q: %w", f.Digest, ErrNoBlob)
	case f.Title != "":
		return nil, fmt.Errorf("no blob with the title %q: %w", f.Title, ErrNoBlob)
	}
	return all, nil
}

// FileName is what the file is called in a directory: its title, or its digest
// when it has none or was asked for by that. A title that would lead elsewhere
// is an error.
func (b *ArtifactBlob) FileName() (string, error) {
	if b.Title == "" || b.byDigest {
		return strings.ReplaceAll(string(b.Digest), ":", "-"), nil
	}
	switch {
	case strings.Contains(b.Title, "/"):
		return "", fmt.Errorf("invalid name: %q cannot contain /", b.Title)
	case b.Title == "." || b.Title == ".." || strings.ContainsRune(b.Title, 0):
		return "", fmt.Errorf("invalid name: %q is no file's name", b.Title)
	}
	return b.Title, nil
}

// Extract copies files of an artifact to target: into a directory that is there,
// else one file to that path. What is there is overwritten.
func (s *Store) Extract(a Artifact, target string, f BlobFilter) error {
	blobs, err := a.Choose(f)
	if err != nil {
		return err
	}
	if fi, err := os.Stat(target); err == nil && fi.IsDir() {
		dir, err := os.Open(target)
		if err != nil {
			return fmt.Errorf("extract artifact: %w", err)
		}
		defer dir.Close()
		for _, b := range blobs {
			name, err := b.FileName()
			if err != nil {
				return err
			}
			// No link in the directory leads out of it.
			out, err := inroot.Open(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
			if err != nil {
				return fmt.Errorf("extract artifact: %w", err)
			}
			if err := s.copyBlob(out, b); err != nil {
				return fmt.Errorf("extract %s: %w", filepath.Join(target, name), err)
			}
		}
		return nil
	}
	if len(blobs) > 1 {
		return fmt.Errorf("the artifact consists of several blobs and the target %q is not a directory and neither digest or title was specified to only copy a single blob", target)
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("extract artifact: %w", err)
	}
	if err := s.copyBlob(out, blobs[0]); err != nil {
		return fmt.Errorf("extract %s: %w", target, err)
	}
	return nil
}

// copyBlob writes a file's bytes, verified, to out and closes it.
func (s *Store) copyBlob(out *os.File, b ArtifactBlob) error {
	defer out.Close()
	in, err := s.blobs.Open(b.Digest)
	if err != nil {
		return err
	}
	defer in.Close()
	h := b.Digest.Hash()
	if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
		return err
	}
	if got := fmt.Sprintf("%s:%x", b.Digest.Algorithm(), h.Sum(nil)); got != string(b.Digest) {
		return fmt.Errorf("blob %s has the digest %s: %w", b.Digest, got, ErrDamaged)
	}
	return out.Close()
}

// FilePath is where a file of an artifact lies in the store, to be mounted: who
// is in a container may read it, whoever he is there. The store's directories
// keep everybody else away.
func (s *Store) FilePath(b ArtifactBlob) (string, error) {
	f, err := s.blobs.Open(b.Digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := fi.Mode().Perm(); mode&0o444 != 0o444 {
		if err := f.Chmod(mode | 0o444); err != nil {
			return "", fmt.Errorf("make blob %s readable: %w", b.Digest, err)
		}
	}
	return f.Name(), nil
}
