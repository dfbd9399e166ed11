package engine

import (
	"context"
	"strings"
	"time"

	"hull/image"
	"hull/layer"
	"hull/oci"
)

// An ImageInspect is what inspect shows of an image: podman's names, which
// are docker's and a few more.
type ImageInspect struct {
	ID           string `json:"Id"`
	Digest       oci.Digest
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      *time.Time
	Config       *oci.ImageConfig
	Version      string
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	VirtualSize  int64
	GraphDriver  ImageDriver
	RootFS       ImageRootFS
	Labels       map[string]string
	Annotations  map[string]string
	ManifestType string
	User         string
	History      []oci.History
	NamesHistory []string
}

// Id is ID, as docker's templates name it.
func (i ImageInspect) Id() string { return i.ID }

// ImageDriver is where the unpacked layers are.
type ImageDriver struct {
	Name string
	Data map[string]string
}

// ImageRootFS are the layers' digests.
type ImageRootFS struct {
	Type   string
	Layers []oci.Digest
}

// InspectImage looks an image up and tells everything about it.
func (e *Engine) InspectImage(ctx context.Context, name string) (*ImageInspect, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	img, err := store.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	return e.inspectImage(ctx, store, img)
}

func (e *Engine) inspectImage(ctx context.Context, store *image.Store, img image.Image) (*ImageInspect, error) {
	m, _, err := store.ReadManifest(img)
	if err != nil {
		return nil, err
	}
	images, _ := store.List(ctx)
	c := img.Config
	v := &ImageInspect{
		ID: img.ID.Hex(), Digest: img.Manifest, RepoTags: refStrings(tagged(img.Names)), RepoDigests: refStrings(img.Digests),
		Parent: image.NewFamily(images).Parent(img.ID).Hex(), Created: c.Created, Config: &c.Config, Author: c.Author,
		Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, Size: img.Size, VirtualSize: img.Size,
		RootFS: ImageRootFS{"layers", c.RootFS.DiffIDs}, Labels: c.Config.Labels, Annotations: m.Annotations,
		ManifestType: m.MediaType, User: c.Config.User, History: c.History, NamesHistory: refStrings(img.Names),
	}
	if v.ManifestType == "" {
		v.ManifestType = oci.MediaTypeManifest
	}
	if v.Annotations == nil {
		v.Annotations = map[string]string{}
	}
	if n := len(c.History); n > 0 {
		v.Comment = c.History[n-1].Comment
	}
	v.GraphDriver, err = e.imageDriver(img)
	return v, err
}

// imageDriver tells where the layers are; those of an image that is not
// unpacked are nowhere.
func (e *Engine) imageDriver(img image.Image) (ImageDriver, error) {
	snaps, err := e.Snapshots()
	if err != nil {
		return ImageDriver{}, err
	}
	d := ImageDriver{Name: snaps.Driver(), Data: map[string]string{}}
	if top := img.TopLayer(); top != "" && snaps.Exists(top) {
		mounts, err := snaps.ViewMounts(top)
		if err != nil {
			return d, err
		}
		for _, m := range mounts {
			for _, o := range m.Options {
				if lower, ok := strings.CutPrefix(o, "lowerdir="); ok {
					upper, rest, _ := strings.Cut(lower, ":")
					d.Data["UpperDir"] = upper
					if rest != "" {
						d.Data["LowerDir"] = rest
					}
				}
			}
			if m.Type != "overlay" {
				d.Data["UpperDir"] = m.Source
			}
		}
	}
	return d, nil
}

// tagged are the names that have a tag.
func tagged(names []oci.Reference) []oci.Reference {
	var out []oci.Reference
	for _, n := range names {
		if n.Tag != "" {
			out = append(out, n)
		}
	}
	return out
}

func refStrings(refs []oci.Reference) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.String()
	}
	return out
}

// DiffImages lists what differs between the image base and the image name;
// with base empty, what the top layer of name changed.
func (e *Engine) DiffImages(ctx context.Context, base, name string) ([]layer.Change, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	img, err := store.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	var from oci.Digest
	if base != "" {
		b, err := store.Resolve(ctx, base)
		if err != nil {
			return nil, err
		}
		if err := store.EnsureLayers(ctx, b); err != nil {
			return nil, err
		}
		from = b.TopLayer()
	} else if n := len(img.Layers); n > 1 {
		from = img.Layers[n-2].Chain
	}
	if err := store.EnsureLayers(ctx, img); err != nil {
		return nil, err
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return nil, err
	}
	return snaps.Diff(ctx, from, img.TopLayer())
}
