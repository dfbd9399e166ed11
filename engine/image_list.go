package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/image"
	"hull/oci"
)

// ImageListOptions choose images.
type ImageListOptions struct {
	// All shows also images without a name that others are built upon.
	All bool
	// Filters are KEY → values; values of one key are alternatives (labels:
	// all must hold). Keys are podman's: dangling reference label label! before
	// since until readonly intermediate containers id digest manifest, each
	// also as KEY! for the opposite.
	Filters Filters
	// ParseTime reads the value of until; the front door knows the formats.
	ParseTime func(string) (time.Time, error)
}

// An ImageEntry is one image in a list.
type ImageEntry struct {
	image.Image
	Parent     oci.Digest // "" when it is not here
	Containers []string   // IDs that use it
	Dangling   bool
}

// ListImages lists images, those created last first. An image whose record
// cannot be read is in the error, beside the others.
func (e *Engine) ListImages(ctx context.Context, o ImageListOptions) ([]ImageEntry, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	images, lerr := store.List(ctx)
	f, err := e.imageFilter(ctx, store, images, o)
	if err != nil {
		return nil, err
	}
	containers, err := e.records() // one that cannot be read is no reason to show no image
	if err != nil {
		return nil, err
	}
	users := usersOfImages(containers)
	var list []ImageEntry
	for i := range images {
		img := &images[i]
		entry := ImageEntry{*img, f.family.Parent(img.ID), users[img.ID.Hex()], f.family.Dangling(img)}
		if !o.All && f.family.Intermediate(img) && !f.wantsIntermediate() {
			continue
		}
		if f.keeps(&entry) {
			list = append(list, entry)
		}
	}
	return list, lerr
}

// usersOfImages lists containers by the hex ID of their image.
func usersOfImages(containers []*record) map[string][]string {
	users := map[string][]string{}
	for _, r := range containers {
		if r.ImageID != "" {
			users[r.ImageID] = append(users[r.ImageID], r.ID)
		}
	}
	return users
}

// imageUsers is who uses which image, for a removal: a container that cannot
// be read may use any.
func (e *Engine) imageUsers() (map[string][]string, error) {
	ids, err := e.containerIDs()
	if err != nil {
		return nil, err
	}
	var all []*record
	for _, id := range ids {
		r, err := e.loadRecord(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, hint(fmt.Errorf("who uses the image: %w", err), "remove the damaged container: hull rm %s", id)
		}
		all = append(all, r)
	}
	return usersOfImages(all), nil
}

// An imageFilter is the filters, understood.
type imageFilter struct {
	family *image.Family
	keys   Filters
	tests  map[string]func(*ImageEntry) bool // by key; of several values one must hold
}

func (f *imageFilter) wantsIntermediate() bool { return len(f.keys["intermediate"]) > 0 }

// keeps applies the filters; reference also drops the names that do not match.
func (f *imageFilter) keeps(entry *ImageEntry) bool {
	for _, test := range f.tests {
		if !test(entry) {
			return false
		}
	}
	patterns := f.keys["reference"]
	if len(patterns) == 0 {
		return true
	}
	entry.Names = slices.DeleteFunc(slices.Clone(entry.Names), func(n oci.Reference) bool {
		return !slices.ContainsFunc(patterns, func(p string) bool { return image.MatchesReference(n, p) })
	})
	return len(entry.Names) > 0
}

func (e *Engine) imageFilter(ctx context.Context, store *image.Store, images []image.Image, o ImageListOptions) (*imageFilter, error) {
	f := &imageFilter{image.NewFamily(images), o.Filters, map[string]func(*ImageEntry) bool{}}
	for key, values := range o.Filters {
		name, negated := strings.CutSuffix(key, "!")
		if name == "reference" && !negated {
			continue // see keeps
		}
		var tests []func(*ImageEntry) bool
		for _, v := range values {
			t, err := e.imageTest(ctx, store, f.family, name, v, o.ParseTime)
			if err != nil {
				return nil, err
			}
			tests = append(tests, t)
		}
		all := name == "label"
		f.tests[key] = func(entry *ImageEntry) bool {
			n := 0
			for _, t := range tests {
				if t(entry) {
					n++
				}
			}
			if negated {
				return n == 0
			}
			return n == len(tests) || !all && n > 0
		}
	}
	return f, nil
}

// imageTest is one filter with one value.
func (e *Engine) imageTest(ctx context.Context, store *image.Store, family *image.Family, key, v string, parseTime func(string) (time.Time, error)) (func(*ImageEntry) bool, error) {
	flag := func(has func(*ImageEntry) bool) (func(*ImageEntry) bool, error) {
		want, err := strconv.ParseBool(v)
		if err != nil {
			return nil, fmt.Errorf("filter %s=%s: want true or false", key, v)
		}
		return func(i *ImageEntry) bool { return has(i) == want }, nil
	}
	switch key {
	case "dangling":
		return flag(func(i *ImageEntry) bool { return i.Dangling })
	case "intermediate":
		return flag(func(i *ImageEntry) bool { return family.Intermediate(&i.Image) })
	case "readonly":
		return flag(func(i *ImageEntry) bool { return i.ReadOnly })
	case "manifest":
		return flag(func(i *ImageEntry) bool { return i.List != nil })
	case "containers":
		if v == "external" {
			return func(*ImageEntry) bool { return false }, nil
		}
		return flag(func(i *ImageEntry) bool { return len(i.Containers) > 0 })
	case "reference":
		return func(i *ImageEntry) bool {
			return slices.ContainsFunc(i.Names, func(n oci.Reference) bool { return image.MatchesReference(n, v) })
		}, nil
	case "label":
		return func(i *ImageEntry) bool { return image.MatchesLabel(i.Config.Config.Labels, v) }, nil
	case "id":
		return func(i *ImageEntry) bool { return strings.HasPrefix(i.ID.Hex(), strings.TrimPrefix(v, "sha256:")) }, nil
	case "digest":
		return func(i *ImageEntry) bool {
			return slices.ContainsFunc(i.ManifestDigests(), func(d oci.Digest) bool { return strings.HasPrefix(string(d), v) || strings.HasPrefix(d.Hex(), v) })
		}, nil
	case "before", "since", "after":
		img, err := store.Resolve(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("filter %s=%s: %w", key, v, err)
		}
		if key == "before" {
			return func(i *ImageEntry) bool { return i.Created.Before(img.Created) }, nil
		}
		return func(i *ImageEntry) bool { return i.Created.After(img.Created) }, nil
	case "until":
		if parseTime == nil {
			parseTime = func(s string) (time.Time, error) { return time.Parse(time.RFC3339Nano, s) }
		}
		t, err := parseTime(v)
		if err != nil {
			return nil, fmt.Errorf("filter until=%s: %w", v, err)
		}
		return func(i *ImageEntry) bool { return !i.Created.After(t) }, nil
	}
	return nil, fmt.Errorf("unsupported image filter %q", key)
}
