package image

import (
	"slices"

	"hull/oci"
)

// A Family knows which images of a list were built upon which.
type Family struct {
	images   []Image
	parent   map[oci.Digest]oci.Digest
	children map[oci.Digest][]oci.Digest
	listed   map[oci.Digest]bool // manifests that are in a list
}

// NewFamily finds the parents among images. An image is the parent of another
// whose config has its layers, perhaps one more, and its history and one
// entry more: that is what each step of a build makes.
func NewFamily(images []Image) *Family {
	f := &Family{images: images, parent: map[oci.Digest]oci.Digest{}, children: map[oci.Digest][]oci.Digest{}, listed: map[oci.Digest]bool{}}
	// Only images whose history is one shorter can be parents.
	byLength := map[int][]*Image{}
	for i := range images {
		if l := images[i].List; l != nil {
			for _, e := range l.Entries {
				f.listed[e.Descriptor.Digest] = true
			}
		}
		n := len(images[i].Config.History)
		byLength[n] = append(byLength[n], &images[i])
	}
	for i := range images {
		child := &images[i]
		for _, p := range byLength[len(child.Config.History)-1] {
			if isParent(&p.Config, &child.Config) {
				f.parent[child.ID] = p.ID
				f.children[p.ID] = append(f.children[p.ID], child.ID)
				break
			}
		}
	}
	return f
}

func isParent(p, c *oci.Image) bool {
	pd, cd := p.RootFS.DiffIDs, c.RootFS.DiffIDs
	if len(p.History) == 0 || len(pd) > len(cd) || len(cd) > len(pd)+1 || !slices.Equal(pd, cd[:len(pd)]) {
		return false
	}
	for i, h := range p.History {
		g := c.History[i]
		if h.CreatedBy != g.CreatedBy || h.Comment != g.Comment || h.Author != g.Author || h.EmptyLayer != g.EmptyLayer ||
			(h.Created == nil) != (g.Created == nil) || h.Created != nil && !h.Created.Equal(*g.Created) {
			return false
		}
	}
	return true
}

// Parent is the image that id was built upon, "" when it is not in the store.
func (f *Family) Parent(id oci.Digest) oci.Digest { return f.parent[id] }

// Children are the images built directly upon id.
func (f *Family) Children(id oci.Digest) []oci.Digest { return f.children[id] }

// Dangling reports that an image has neither a name nor a child, and is in no
// list: nobody can want it.
func (f *Family) Dangling(img *Image) bool {
	return len(img.Names) == 0 && len(f.children[img.ID]) == 0 && !f.Listed(img)
}

// Listed reports that a manifest list of the store refers to the image.
func (f *Family) Listed(img *Image) bool {
	return slices.ContainsFunc(img.digests, func(d oci.Digest) bool { return f.listed[d] })
}

// Intermediate reports that an image has no name, but others are built upon it.
func (f *Family) Intermediate(img *Image) bool {
	return len(img.Names) == 0 && len(f.children[img.ID]) > 0
}

// get returns an image of the family, nil when it has none of that ID.
func (f *Family) get(id oci.Digest) *Image {
	for i := range f.images {
		if f.images[i].ID == id {
			return &f.images[i]
		}
	}
	return nil
}
