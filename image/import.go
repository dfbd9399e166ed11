package image

import (
	"context"
	"fmt"
	"io"
	"time"

	"hull/oci"
)

// ImportOptions for Import.
type ImportOptions struct {
	Names []oci.Reference
	// Changes are Containerfile instructions that set the config, such as
	// `ENV A=1` (see Change).
	Changes []string
	// Message is the comment in the history.
	Message string
	// Platform of the image; empty fields are this machine's.
	Platform oci.Platform
	// Source is noted in the history, as what the tar was.
	Source string
	// Created is the image's time; zero is now.
	Created time.Time
}

// Import makes an image of one layer: the file system in the tar r, which may
// be compressed in any way that Decompress knows.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (Image, error) {
	host := oci.HostPlatform()
	c := oci.Image{Architecture: o.Platform.Architecture, OS: o.Platform.OS, Variant: o.Platform.Variant}
	if c.OS == "" {
		c.OS = host.OS
	}
	if c.Architecture == "" {
		c.Architecture, c.Variant = host.Architecture, orElse(c.Variant, host.Variant)
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	created := o.Created.UTC()
	c.Created = &created
	if err := Change(&c, o.Changes); err != nil {
		return Image{}, err
	}
	c.History = []oci.History{{Created: &created, CreatedBy: "/bin/sh -c #(nop) ADD file:" + o.Source + " in / ", Comment: o.Message}}
	hold, err := s.Hold(ctx)
	if err != nil {
		return Image{}, err
	}
	defer hold.Release()
	z, _, err := Decompress(s.Codec, r)
	if err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	defer z.Close()
	l, err := s.AddLayer(ctx, "", z, LayerOptions{})
	if err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	return s.Create(ctx, c, []Layer{l}, CreateOptions{Names: o.Names})
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
