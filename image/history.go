package image

import (
	"context"
	"slices"
	"time"

	"hull/oci"
)

// A HistoryEntry is one step of how an image came about, the last step first.
type HistoryEntry struct {
	ID        oci.Digest // of the image that the step made, "" when it is not here
	Created   time.Time
	CreatedBy string
	Size      int64
	Comment   string
	Author    string
	Tags      []oci.Reference
}

// History returns the steps of an image.
func (s *Store) History(ctx context.Context, img Image) ([]HistoryEntry, error) {
	images, err := s.List(ctx)
	if err != nil && len(images) == 0 {
		return nil, err
	}
	family := NewFamily(images)
	list := img.Config.History
	if len(list) == 0 {
		for range img.Layers {
			list = append(list, oci.History{})
		}
	}
	all := make([]HistoryEntry, 0, len(list))
	id, layer := img.ID, len(img.Layers)-1
	for _, h := range slices.Backward(list) {
		e := HistoryEntry{ID: id, CreatedBy: h.CreatedBy, Comment: h.Comment, Author: h.Author}
		if h.Created != nil {
			e.Created = *h.Created
		}
		if i := family.get(id); id != "" && i != nil {
			e.Tags = i.Names
		}
		if !h.EmptyLayer && layer >= 0 {
			e.Size = img.Layers[layer].Size
			layer--
		}
		all = append(all, e)
		if id != "" {
			id = family.Parent(id)
		}
	}
	return all, nil
}

// A TreeLayer is one layer in an image's tree, with the images that end there.
type TreeLayer struct {
	Chain oci.Digest
	Size  int64
	Tags  []oci.Reference
	Above []*TreeLayer
}

// Tree returns the layers of an image, the lowest first.
func (s *Store) Tree(ctx context.Context, img Image) ([]TreeLayer, error) {
	images, err := s.List(ctx)
	if err != nil && len(images) == 0 {
		return nil, err
	}
	tops := topNames(images)
	var all []TreeLayer
	for _, l := range img.Layers {
		all = append(all, TreeLayer{Chain: l.Chain, Size: l.Size, Tags: tops[l.Chain]})
	}
	return all, nil
}

// WhatRequires returns the image's top layer with all layers of other images
// that stand on it.
func (s *Store) WhatRequires(ctx context.Context, img Image) (*TreeLayer, error) {
	images, err := s.List(ctx)
	if err != nil && len(images) == 0 {
		return nil, err
	}
	tops := topNames(images)
	top := img.TopLayer()
	nodes := map[oci.Digest]*TreeLayer{top: {Chain: top, Tags: tops[top]}}
	if n := len(img.Layers); n > 0 {
		nodes[top].Size = img.Layers[n-1].Size
	}
	for _, other := range images {
		parent := nodes[""]
		for _, l := range other.Layers {
			n := nodes[l.Chain]
			if n == nil && parent != nil {
				n = &TreeLayer{Chain: l.Chain, Size: l.Size, Tags: tops[l.Chain]}
				nodes[l.Chain] = n
				parent.Above = append(parent.Above, n)
			}
			parent = n
		}
	}
	return nodes[top], nil
}

// topNames lists the names of the images by their top layer.
func topNames(images []Image) map[oci.Digest][]oci.Reference {
	tops := map[oci.Digest][]oci.Reference{}
	for i := range images {
		top := images[i].TopLayer()
		tops[top] = append(tops[top], images[i].Names...)
	}
	return tops
}
