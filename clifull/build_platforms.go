package clifull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hull/build"
	"hull/image"
	"hull/oci"
	"hull/transfer"
)

// buildAll builds for each platform that was asked for. Several make a
// manifest list, and so do --manifest and attestations; the names are the
// list's then.
func (s *session) buildAll(ctx context.Context, bd *build.Builder, t *transfer.Transfer, b *buildFlags, show *buildProgress, o build.Options) (build.Result, error) {
	platforms, err := b.platformList(o)
	if err == nil && b.allPlatforms {
		platforms, err = s.allPlatforms(ctx, t, b.registry, o)
	}
	if err != nil {
		return build.Result{}, err
	}
	if len(platforms) == 1 && b.manifest == "" && !o.Attest.Wanted() {
		o.Platform = platforms[0]
		return bd.Build(ctx, o)
	}
	name, err := b.listName(o)
	if err != nil {
		return build.Result{}, err
	}
	names := o.Names
	o.Names, o.AttestNames = nil, names
	if len(platforms) > 1 && (o.Context == "-" || len(o.Files) > 0 && o.Files[0] == "-") {
		return build.Result{}, errors.New("build for several platforms: standard input can be read once only; use a file")
	}
	hold, err := bd.Images.Hold(ctx)
	if err != nil {
		return build.Result{}, err
	}
	defer hold.Release()
	last, entries, err := s.buildEach(ctx, bd, b, show, o, platforms)
	if err != nil {
		return last, err
	}
	list, err := putEntries(ctx, bd.Images, name, entries, b.manifest == "")
	if err != nil {
		return last, err
	}
	if err := bd.Images.Tag(ctx, list.ID, names...); err != nil {
		return last, err
	}
	if len(platforms) > 1 || b.manifest != "" {
		last.Image = list
	}
	return last, nil
}

// buildEach builds for one platform after the other.
func (s *session) buildEach(ctx context.Context, bd *build.Builder, b *buildFlags, show *buildProgress, o build.Options, platforms []oci.Platform) (last build.Result, entries []image.ListEntry, err error) {
	for _, p := range platforms {
		o.Platform = p
		if b.logSplit && b.logFile != "" {
			if err := show.logTo(b.logFile + "_" + strings.ReplaceAll(p.String(), "/", "_")); err != nil {
				return last, nil, err
			}
		}
		res, err := bd.Build(ctx, o)
		if err != nil {
			if len(platforms) > 1 {
				err = fmt.Errorf("build for %s: %w", p, err)
			}
			return res, nil, err
		}
		e, err := listEntry(bd.Images, res.Image, p)
		if err != nil {
			return res, nil, err
		}
		if entries = append(entries, e); res.Statements != nil {
			entries = append(entries, *res.Statements)
		}
		res.Steps += last.Steps
		res.Cached += last.Cached
		last = res
	}
	return last, entries, nil
}

// platformList is what --platform and its parts say.
func (b *buildFlags) platformList(o build.Options) ([]oci.Platform, error) {
	if len(b.platforms) == 0 {
		if o.Platform.OS == "" && o.Platform.Architecture == "" {
			o.Platform = oci.HostPlatform()
		}
		return []oci.Platform{o.Platform}, nil
	}
	host := oci.HostPlatform()
	var all []oci.Platform
	for _, text := range b.platforms {
		p, err := parsePlatform(text)
		if err != nil {
			return nil, err
		}
		if p.Architecture == "" {
			p.Architecture = host.Architecture
		}
		all = append(all, p)
	}
	return all, nil
}

// allPlatforms are those that every base image has.
func (s *session) allPlatforms(ctx context.Context, t *transfer.Transfer, r registryFlags, o build.Options) ([]oci.Platform, error) {
	bases, err := build.Bases(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := s.reach(t, r); err != nil {
		return nil, err
	}
	var all []oci.Platform
	for i, base := range bases {
		have, err := t.Platforms(ctx, base)
		if err != nil {
			return nil, fmt.Errorf("--all-platforms: %w", err)
		}
		if i == 0 {
			all = have
			continue
		}
		all = slices.DeleteFunc(all, func(p oci.Platform) bool {
			return !slices.ContainsFunc(have, func(q oci.Platform) bool { return q.String() == p.String() })
		})
	}
	if len(all) == 0 {
		return nil, errors.New("--all-platforms: there is no platform that all base images have")
	}
	return all, nil
}

// listName is the name of the list: --manifest, or the first --tag.
func (b *buildFlags) listName(o build.Options) (oci.Reference, error) {
	if b.manifest != "" {
		ref, err := oci.ParseReference(b.manifest)
		if err != nil {
			return ref, fmt.Errorf("--manifest %s: %w", b.manifest, err)
		}
		return image.LocalName(ref), nil
	}
	if len(o.Names) == 0 {
		return oci.Reference{}, errors.New("the list of images for several platforms, or with attestations, needs a name: give one with --manifest or --tag")
	}
	return o.Names[0], nil
}

func listEntry(images *image.Store, img image.Image, p oci.Platform) (image.ListEntry, error) {
	m, data, err := images.ReadManifest(img)
	if err != nil {
		return image.ListEntry{}, err
	}
	return image.ListEntry{Descriptor: oci.Descriptor{MediaType: m.MediaType, Digest: img.Manifest, Size: int64(len(data)), Platform: &p}}, nil
}

// putEntries adds images to a list, which is made if there is none of that
// name. One for the same platform is replaced, and all are if fresh.
func putEntries(ctx context.Context, images *image.Store, name oci.Reference, entries []image.ListEntry, fresh bool) (image.Image, error) {
	list, err := images.FindList(ctx, name.String())
	if errors.Is(err, image.ErrNoList) {
		// The name was an image's until now.
		old, rerr := images.Resolve(ctx, name.String())
		if rerr != nil {
			return list, rerr
		}
		if _, uerr := images.Untag(ctx, old.ID, name); uerr != nil {
			return list, uerr
		}
	}
	if errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrNoList) {
		return images.CreateList(ctx, name, image.List{Entries: entries})
	}
	if err != nil {
		return list, err
	}
	return images.ChangeList(ctx, list.ID, func(l *image.List) error {
		if fresh {
			l.Entries = nil
		}
		for _, e := range entries {
			if !isStatement(e) {
				l.Entries = slices.DeleteFunc(l.Entries, func(old image.ListEntry) bool {
					q := old.Descriptor.Platform
					return !isStatement(old) && q != nil && q.String() == e.Descriptor.Platform.String()
				})
			}
			l.Put(e)
		}
		// What was stated about an image that was replaced goes with it.
		l.Entries = slices.DeleteFunc(l.Entries, func(e image.ListEntry) bool {
			return isStatement(e) && l.Find(oci.Digest(e.Descriptor.Annotations[oci.AnnotationReferenceDigest])) < 0
		})
		return nil
	})
}

// isStatement tells attestations from images.
func isStatement(e image.ListEntry) bool {
	return e.Descriptor.Annotations[oci.AnnotationReferenceDigest] != ""
}
