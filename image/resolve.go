package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hull/oci"
)

// List returns all images, those created last first. A record that cannot be
// read is in the error, beside the images that can.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	records, rerr := s.records()
	names, nerr := s.names()
	images := make([]Image, 0, len(records))
	for _, r := range records {
		images = append(images, r.image(names[r.ID]))
	}
	slices.SortFunc(images, func(a, b Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return images, errors.Join(rerr, nerr)
}

// Get returns the image with an ID.
func (s *Store) Get(ctx context.Context, id oci.Digest) (Image, error) {
	if err := id.Validate(); err != nil {
		return Image{}, fmt.Errorf("find image: %w", err)
	}
	r, err := s.readRecord(id)
	if err != nil {
		return Image{}, err
	}
	names, err := s.namesOf(id)
	if err != nil {
		return Image{}, err
	}
	return r.image(names), nil
}

// Resolve finds an image by name, short name, ID, ID prefix or digest:
//
//	NAME[:TAG]          a full name; the tag is latest when there is none
//	NAME@DIGEST         an image of that repository which has the digest
//	SHORT[:TAG]         localhost/SHORT, then the registries of Search, then any
//	                    stored name that ends so
//	[sha256:]HEX        an ID, or its beginning
//	sha256:HEX          also the digest of a manifest
//
// The error is ErrNotFound or ErrAmbiguous.
func (s *Store) Resolve(ctx context.Context, name string) (Image, error) {
	img, _, err := s.ResolveName(ctx, name)
	return img, err
}

// Find is Resolve for one who starts a container: of an image that is found by
// a full name, Names holds only that one, and the other names are not read.
func (s *Store) Find(ctx context.Context, name string) (Image, error) {
	if ref, err := oci.ParseReference(name); err == nil && !strings.HasPrefix(name, "sha256:") {
		for _, full := range s.candidates(ref) {
			id, err := s.readName(full)
			if err != nil || id == "" {
				continue
			}
			r, err := s.readRecord(id)
			if err != nil || r.List != nil {
				break
			}
			return r.image([]oci.Reference{full}), nil
		}
	}
	return s.Resolve(ctx, name)
}

// ResolveName is Resolve; it also returns the stored name that was meant,
// which is zero when the image was found by its ID or digest.
func (s *Store) ResolveName(ctx context.Context, name string) (Image, oci.Reference, error) {
	img, ref, err := s.ResolveAny(ctx, name)
	if err == nil && img.List != nil {
		img, err = s.Instance(ctx, img, oci.HostPlatform())
	}
	return img, ref, err
}

// ResolveAny is ResolveName, but a manifest list stays one.
func (s *Store) ResolveAny(ctx context.Context, name string) (Image, oci.Reference, error) {
	img, ref, err := s.lookup(ctx, name)
	if errors.Is(err, ErrNotFound) {
		if found, berr := s.loadBuiltin(ctx, name); berr != nil {
			return Image{}, ref, berr
		} else if found {
			return s.lookup(ctx, name)
		}
	}
	return img, ref, err
}

func (s *Store) lookup(ctx context.Context, name string) (Image, oci.Reference, error) {
	none := oci.Reference{}
	if name == "" {
		return Image{}, none, fmt.Errorf("find image: the name is empty: %w", ErrNotFound)
	}
	if hex, ok := strings.CutPrefix(name, "sha256:"); ok {
		img, err := s.byPrefix(ctx, name, hex)
		return img, none, err
	}
	// A name that is exactly there wins over an ID that begins so: who can
	// choose an image's content must not choose what another's name means.
	ref, perr := oci.ParseReference(name)
	if perr == nil {
		for _, full := range s.candidates(ref) {
			img, err := s.byName(ctx, full)
			if !errors.Is(err, ErrNotFound) {
				return img, full, err
			}
		}
	}
	img, err := s.byPrefix(ctx, name, name)
	if !errors.Is(err, ErrNotFound) {
		return img, none, err
	}
	if perr != nil {
		if strings.ToLower(name) != name || strings.ContainsAny(name, " @") {
			return Image{}, none, fmt.Errorf("%w: %w", perr, ErrNotFound)
		}
		return Image{}, none, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return s.bySearch(ctx, name, ref)
}

// candidates are the full names that ref may mean, the likeliest first.
func (s *Store) candidates(ref oci.Reference) []oci.Reference {
	ref = ref.Tagged()
	if ref.Digest != "" {
		ref.Tag = "" // the digest says more
	}
	if !ref.IsShort() {
		if ref.Domain == oci.DefaultDomain || ref.Domain == "index.docker.io" {
			return []oci.Reference{ref.Normalized()}
		}
		return []oci.Reference{ref}
	}
	all := []oci.Reference{ref.In("localhost")}
	search := s.Search
	if len(search) == 0 {
		search = []string{oci.DefaultDomain}
	}
	for _, domain := range search {
		all = append(all, inDomain(ref, domain))
	}
	return all
}

// inDomain is ref in a registry, or in a part of it: "host/team".
func inDomain(ref oci.Reference, domain string) oci.Reference {
	host, path, ok := strings.Cut(domain, "/")
	if ok {
		ref.Path = path + "/" + ref.Path
	}
	return ref.In(host)
}

// byName finds an image by a full name with tag or digest.
func (s *Store) byName(ctx context.Context, ref oci.Reference) (Image, error) {
	id, err := s.readName(ref)
	if err != nil {
		return Image{}, err
	}
	if id != "" {
		return s.Get(ctx, id)
	}
	return Image{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
}

// bySearch looks through all images: for a repository with that digest, or for
// a name that ends like the short one.
func (s *Store) bySearch(ctx context.Context, name string, ref oci.Reference) (Image, oci.Reference, error) {
	images, err := s.List(ctx)
	if err != nil && len(images) == 0 {
		return Image{}, oci.Reference{}, err
	}
	type hit struct {
		img Image
		ref oci.Reference
	}
	var hits []hit
	for _, img := range images {
		if ref.Digest != "" && !slices.Contains(img.digests, ref.Digest) {
			continue
		}
		for _, n := range img.Names {
			if means(ref, n) {
				hits = append(hits, hit{img, n})
			}
		}
	}
	if len(hits) == 0 {
		return Image{}, oci.Reference{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	slices.SortFunc(hits, func(a, b hit) int { return compareRefs(a.ref, b.ref) })
	return hits[0].img, hits[0].ref, nil
}

// means reports whether the stored name n is what ref asks for: the same
// repository, or one whose path ends with the short name; and the same tag,
// which with a digest does not matter.
func means(ref, n oci.Reference) bool {
	if ref.Digest == "" && ref.Tagged().Tag != n.Tag {
		return false
	}
	if ref.IsShort() {
		return n.Path == ref.Path || strings.HasSuffix(n.Path, "/"+ref.Path)
	}
	return n.Name() == ref.Normalized().Name()
}

// Tags lists the names with a tag in a repository, sorted; of a short name, in
// the first repository that it may mean and that has any. The error is
// ErrNotFound when there is none.
func (s *Store) Tags(ctx context.Context, repository oci.Reference) ([]oci.Reference, error) {
	all, err := s.names()
	if err != nil {
		return nil, err
	}
	for _, full := range s.candidates(repository) {
		var tags []oci.Reference
		for _, names := range all {
			for _, n := range names {
				if n.Tag != "" && n.Name() == full.Name() {
					tags = append(tags, n)
				}
			}
		}
		if len(tags) > 0 {
			slices.SortFunc(tags, compareRefs)
			return tags, nil
		}
	}
	return nil, fmt.Errorf("%s: no tag of it is here: %w", repository, ErrNotFound)
}

// minPrefix is how short an ID may be given: podman takes even one digit, and
// scripts rely on it.
const minPrefix = 1

// byPrefix finds an image whose ID, or manifest's digest when it is whole, is
// or begins with hex.
func (s *Store) byPrefix(ctx context.Context, name, hex string) (Image, error) {
	if len(hex) < minPrefix || len(hex) > 128 || strings.Trim(hex, "0123456789abcdef") != "" {
		return Image{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	ids, err := s.ids()
	if err != nil {
		return Image{}, err
	}
	var hits []oci.Digest
	for _, id := range ids {
		if strings.HasPrefix(id.Hex(), hex) {
			hits = append(hits, id)
		}
	}
	switch {
	case len(hits) == 1:
		return s.Get(ctx, hits[0])
	case len(hits) > 1:
		return Image{}, fmt.Errorf("%s: %w", name, ErrAmbiguous)
	}
	if len(hex) == 64 {
		images, err := s.List(ctx)
		for _, img := range images {
			if slices.Contains(img.digests, oci.Digest("sha256:"+hex)) {
				return img, nil
			}
		}
		if err != nil {
			return Image{}, err
		}
	}
	return Image{}, fmt.Errorf("%s: %w", name, ErrNotFound)
}
