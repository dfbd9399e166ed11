package image

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"hull/oci"
)

// layoutVersion is the only one there is (image-spec image-layout.md).
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// maxNesting is how deep an index may lie in indexes.
const maxNesting = 4

// blobName is the file of a blob in an OCI layout.
func blobName(d oci.Digest) string { return "blobs/" + d.Algorithm() + "/" + d.Hex() }

// dirBlobName is the file of a blob in the dir format.
func dirBlobName(d oci.Digest) string { return d.Hex() }

// readBlob reads a small blob and verifies it.
func readBlob(a files, d oci.Descriptor, name func(oci.Digest) string) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if d.Size > oci.MaxManifestSize {
		return nil, fmt.Errorf("read blob %s: %d bytes are more than %d", d.Digest, d.Size, oci.MaxManifestSize)
	}
	data, err := readSmall(a, name(d.Digest))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size || !sameDigest(d.Digest, data) {
		return nil, fmt.Errorf("read blob %s: %w", d.Digest, ErrMismatch)
	}
	return data, nil
}

// ociCandidates lists the images of an OCI layout: each name once, of the
// platform that fits best.
func ociCandidates(a files, data []byte, want oci.Platform) ([]candidate, error) {
	x, err := oci.DecodeIndex(data)
	if err != nil {
		return nil, err
	}
	var order []string
	groups := map[string][]oci.Descriptor{}
	for _, d := range x.Manifests {
		if !isImage(d) {
			continue
		}
		name := layoutName(d)
		if groups[name] == nil {
			order = append(order, name)
		}
		groups[name] = append(groups[name], d)
	}
	if len(order) == 0 {
		return nil, errors.New("read index.json: it lists no image")
	}
	// An image with several names is listed several times: it is one image.
	var all []candidate
	seen := map[oci.Digest]int{}
	for _, name := range order {
		c, err := ociCandidate(a, groups[name], want)
		if err != nil {
			return nil, err
		}
		var names []oci.Reference
		if name != "" {
			n, err := ParseName(name)
			if err != nil {
				return nil, fmt.Errorf("read index.json: %w", err)
			}
			names = append(names, n)
		}
		d := oci.FromBytes(c.manifest)
		if i, ok := seen[d]; ok {
			all[i].names = append(all[i].names, names...)
			continue
		}
		seen[d] = len(all)
		c.names = names
		all = append(all, c)
	}
	return all, nil
}

// isImage tells images from what lies beside them: attestations, artifacts.
func isImage(d oci.Descriptor) bool {
	return d.ArtifactType == "" && d.Annotations["vnd.docker.reference.type"] == "" &&
		(d.Platform == nil || d.Platform.OS != "unknown")
}

// layoutName is the name that a layout's index gives an image.
func layoutName(d oci.Descriptor) string {
	if n := d.Annotations[oci.AnnotationImageName]; n != "" {
		return n
	}
	return d.Annotations[oci.AnnotationRefName]
}

// ociCandidate picks of one image's manifests and indexes the one for want.
func ociCandidate(a files, list []oci.Descriptor, want oci.Platform) (candidate, error) {
	var index []byte
	for range maxNesting {
		d, err := ChoosePlatform(list, want)
		if err != nil {
			return candidate{}, err
		}
		data, err := readBlob(a, d, blobName)
		if err != nil {
			return candidate{}, err
		}
		if !oci.IsIndex(d.MediaType) {
			c, err := manifestCandidate(a, data, blobName)
			c.index = index
			return c, err
		}
		x, err := oci.DecodeIndex(data)
		if err != nil {
			return candidate{}, err
		}
		if index == nil {
			index = data
		}
		list = x.Manifests
	}
	return candidate{}, errors.New("read index: indexes are nested too deeply")
}

// ChoosePlatform returns the descriptor that fits want best. One without a
// platform fits any; the only one is taken whatever it is for.
func ChoosePlatform(list []oci.Descriptor, want oci.Platform) (oci.Descriptor, error) {
	var images []oci.Descriptor
	for _, d := range list {
		if isImage(d) {
			images = append(images, d)
		}
	}
	best, score := -1, 0
	for i, d := range images {
		if n := fits(d.Platform, want); n > score {
			best, score = i, n
		}
	}
	if best < 0 && len(images) == 1 {
		best = 0
	}
	if best < 0 {
		return oci.Descriptor{}, fmt.Errorf("choose image for platform %s: there is none: %w", want, fs.ErrNotExist)
	}
	return images[best], nil
}

// fits scores a platform: 0 no, more is better.
func fits(p *oci.Platform, want oci.Platform) int {
	switch {
	case p == nil:
		return 1
	case p.OS != want.OS || p.Architecture != want.Architecture:
		return 0
	case p.Variant == want.Variant:
		return 5
	case p.Variant == "":
		return 4
	case want.Variant == "":
		return 3
	case strings.Compare(p.Variant, want.Variant) < 0:
		return 2 // an older variant runs on a newer machine
	}
	return 0
}

// manifestCandidate reads a manifest's config; layers are found by their digests.
func manifestCandidate(a files, data []byte, name func(oci.Digest) string) (candidate, error) {
	m, err := oci.DecodeManifest(data)
	if err != nil {
		return candidate{}, err
	}
	if err := checkConfigType(m); err != nil {
		return candidate{}, err
	}
	config, err := readBlob(a, m.Config, name)
	if err != nil {
		return candidate{}, err
	}
	c := candidate{manifest: data, config: config, sources: map[oci.Digest]string{}}
	for _, l := range m.Layers {
		c.sources[l.Digest] = name(l.Digest)
	}
	return c, nil
}
