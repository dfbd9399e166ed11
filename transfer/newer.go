package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hull/oci"
)

// Newer says whether the registry has another image under a full name than the
// store. Nothing is stored.
func (t *Transfer) Newer(ctx context.Context, name string) (bool, error) {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return false, err
	}
	img, err := t.Images.Find(ctx, name)
	if err != nil {
		return false, err
	}
	sources, err := t.Registry.Sources(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	want := ref.Tag
	if ref.Digest != "" {
		want = string(ref.Digest)
	}
	var errs []error
	for _, repo := range sources {
		d, err := repo.Head(ctx, want)
		if err == nil {
			return !slices.Contains(img.ManifestDigests(), d), nil
		}
		errs = append(errs, err)
	}
	return false, fmt.Errorf("look for %s: %w", name, errors.Join(errs...))
}
