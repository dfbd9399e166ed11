package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"hull/oci"
)

// Formats of archives, by the names that --format and transports have.
const (
	DockerArchive = "docker-archive"
	OCIArchive    = "oci-archive"
	OCIDir        = "oci-dir"
	DockerDir     = "docker-dir"
)

// LoadOptions for Load.
type LoadOptions struct {
	// Format is one of the four, or "" for what it proves to be.
	Format string
	// Only loads the image of that name, or "@N" the one at index N, of an
	// archive with several; "" loads all.
	Only string
	// Name is given to the images instead of the names in the archive.
	Name oci.Reference
	// Platform to take of an index; the zero value is this machine's.
	Platform oci.Platform
}

// A Loaded is one image of an archive and the names it had there.
type Loaded struct {
	Image Image
	Names []oci.Reference
}

// Load stores the images of an archive: docker save's, an OCI layout in a tar
// or a directory, or containers' dir format; a tar may be compressed. Either
// all of its images are stored or none, and nothing in it is believed unless
// its digest is right.
func (s *Store) Load(ctx context.Context, src Source, o LoadOptions) ([]Loaded, error) {
	if o.Platform.OS == "" {
		o.Platform = oci.HostPlatform()
	}
	a, err := s.openSource(ctx, src)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	list, err := candidates(a, src, o)
	if err != nil {
		return nil, err
	}
	return s.loadAll(ctx, a, list, o)
}

// loadAll stores all candidates before it publishes the first.
func (s *Store) loadAll(ctx context.Context, a files, list []candidate, o LoadOptions) (loaded []Loaded, err error) {
	var all []*Assembly
	defer func() {
		for _, asm := range all {
			if derr := asm.Discard(ctx); err == nil {
				err = derr
			}
		}
	}()
	for i := range list {
		asm, err := list[i].assemble(ctx, s, a)
		if err != nil {
			return nil, err
		}
		all = append(all, asm)
	}
	for _, asm := range all {
		asm.wg.Wait()
		if err := asm.failure(); err != nil {
			return nil, err
		}
	}
	for i, asm := range all {
		p := PublishOptions{Names: list[i].names}
		if list[i].index != nil {
			p.Index = oci.FromBytes(list[i].index)
		}
		img, err := asm.Finish(ctx, p)
		if err != nil {
			return loaded, err
		}
		loaded = append(loaded, Loaded{img, list[i].names})
	}
	return loaded, nil
}

// candidates finds out what the archive is and lists its images.
func candidates(a files, src Source, o LoadOptions) ([]candidate, error) {
	list, err := readArchive(a, src, o)
	if err != nil {
		return nil, err
	}
	if o.Only != "" {
		if list, err = selectCandidate(list, o.Only); err != nil {
			return nil, err
		}
	}
	if o.Name.Path != "" {
		for i := range list {
			list[i].names = []oci.Reference{o.Name}
		}
	}
	return list, nil
}

func readArchive(a files, src Source, o LoadOptions) ([]candidate, error) {
	if o.Format == "" || o.Format == OCIArchive || o.Format == OCIDir {
		data, err := readSmall(a, "index.json")
		if err == nil {
			return ociCandidates(a, data, o.Platform)
		}
		if o.Format != "" || !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	data, err := readSmall(a, "manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoArchive
	}
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) && o.Format != DockerDir {
		return dockerCandidates(a, data)
	}
	c, err := manifestCandidate(a, data, dirBlobName)
	if err != nil {
		return nil, err
	}
	// A dir has no name inside: it is called by its path, as podman does.
	if abs, err := filepath.Abs(src.Path); err == nil && src.Path != "" {
		if n, err := oci.ParseReference("localhost/" + strings.TrimPrefix(abs, "/")); err == nil {
			c.names = []oci.Reference{n.Tagged()}
		}
	}
	return []candidate{c}, nil
}

// selectCandidate picks one image of several.
func selectCandidate(list []candidate, only string) ([]candidate, error) {
	if n, ok := strings.CutPrefix(only, "@"); ok {
		var i int
		if _, err := fmt.Sscanf(n, "%d", &i); err != nil || i < 0 || i >= len(list) {
			return nil, fmt.Errorf("choose image %s of archive: it has %d", only, len(list))
		}
		return list[i : i+1], nil
	}
	want, err := oci.ParseReference(only)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		for _, n := range c.names {
			if n == want.Normalized().Tagged() || n == LocalName(want) {
				c.names = []oci.Reference{n}
				return []candidate{c}, nil
			}
		}
	}
	return nil, fmt.Errorf("choose image %s of archive: %w", only, ErrNotFound)
}

// copyLayer copies a layer's file to the assembly.
func copyLayer(ctx context.Context, a files, name string, asm *Assembly, i int) error {
	f, err := a.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if want := asm.Descriptor(i).Size; f.size != want {
		return fmt.Errorf("%q has %d bytes, not %d: %w", name, f.size, want, ErrMismatch)
	}
	k, err := asm.Layer(ctx, i)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := f.Seek(k.Offset(), 0); err != nil {
		return err
	}
	return k.Copy(ctx, f)
}

// loadBuiltin loads the built-in image that name means, and reports whether
// there is one.
func (s *Store) loadBuiltin(ctx context.Context, name string) (bool, error) {
	if len(s.Builtins) == 0 {
		return false, nil
	}
	ref, err := oci.ParseReference(name)
	if err != nil || ref.Digest != "" {
		return false, nil
	}
	ref = ref.Tagged()
	for _, b := range s.Builtins {
		if ref != b.Name && !(ref.IsShort() && ref.Path == b.Name.Path && ref.Tag == b.Name.Tag) {
			continue
		}
		r, err := b.Open()
		if err != nil {
			return false, fmt.Errorf("load built-in image %s: %w", b.Name, err)
		}
		defer r.Close()
		images, err := s.Load(ctx, Source{Reader: r}, LoadOptions{Name: b.Name})
		if err != nil {
			return false, fmt.Errorf("load built-in image %s: %w", b.Name, err)
		}
		return len(images) > 0, nil
	}
	return false, nil
}
