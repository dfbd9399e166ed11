package clifull

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hull/build"
	"hull/image"
	"hull/oci"
)

// buildAll builds for each platform that was asked for. Several make a
// manifest list, and so does --manifest; the names are the list's then.
func (s *session) buildAll(ctx context.Context, bd *build.Builder, b *buildFlags, show *buildProgress, o build.Options) (build.Result, error) {
	platforms, err := b.platformList(o)
	if err != nil {
		return build.Result{}, err
	}
	if len(platforms) == 1 && b.manifest == "" {
		o.Platform = platforms[0]
		return bd.Build(ctx, o)
	}
	name, err := b.listName(o)
	if err != nil {
		return build.Result{}, err
	}
	names := o.Names
	o.Names = nil
	if len(platforms) > 1 && (o.Context == "-" || len(o.Files) > 0 && o.Files[0] == "-") {
		return build.Result{}, errors.New("build for several platforms: standard input can be read once only; use a file")
	}
	hold, err := bd.Images.Hold(ctx)
	if err != nil {
		return build.Result{}, err
	}
	defer hold.Release()
	var last build.Result
	var entries []image.ListEntry
	for _, p := range platforms {
		o.Platform = p
		if b.logSplit && b.logFile != "" {
			if err := show.logTo(b.logFile + "_" + strings.ReplaceAll(p.String(), "/", "_")); err != nil {
				return last, err
			}
		}
		res, err := bd.Build(ctx, o)
		if err != nil {
			return res, fmt.Errorf("build for %s: %w", p, err)
		}
		e, err := listEntry(bd.Images, res.Image, p)
		if err != nil {
			return res, err
		}
		entries = append(entries, e)
		res.Steps += last.Steps
		res.Cached += last.Cached
		last = res
	}
	list, err := putEntries(ctx, bd.Images, name, entries)
	if err != nil {
		return last, err
	}
	if err := bd.Images.Tag(ctx, list.ID, names...); err != nil {
		return last, err
	}
	last.Image = list
	return last, nil
}

// platformList is what --platform and its parts say.
func (b *buildFlags) platformList(o build.Options) ([]oci.Platform, error) {
	if len(b.platforms) == 0 {
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
		return oci.Reference{}, errors.New("build for several platforms: the list needs a name: give one with --manifest or --tag")
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
// name. One for the same platform is replaced.
func putEntries(ctx context.Context, images *image.Store, name oci.Reference, entries []image.ListEntry) (image.Image, error) {
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
		for _, e := range entries {
			for i := range l.Entries {
				if q := l.Entries[i].Descriptor.Platform; q != nil && q.String() == e.Descriptor.Platform.String() {
					l.Entries = append(l.Entries[:i], l.Entries[i+1:]...)
					break
				}
			}
			l.Put(e)
		}
		return nil
	})
}
