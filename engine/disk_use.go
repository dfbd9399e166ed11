package engine

import (
	"context"
	"time"

	"hull/oci"
)

// A DiskUse is one line of system df.
type DiskUse struct {
	Type        string
	Total       int
	Active      int
	RawSize     int64 `json:"RawSize"`
	Reclaimable int64 `json:"RawReclaimable"`
}

// DiskUsage adds up images, containers and volumes, and artifacts where there are any.
func (e *Engine) DiskUsage(ctx context.Context) ([]DiskUse, error) {
	images, err := e.Images()
	if err != nil {
		return nil, err
	}
	list, err := images.List(ctx)
	if err != nil {
		return nil, err
	}
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	containers := DiskUse{Type: "Containers", Total: len(all)}
	for _, r := range all {
		used[r.ImageID] = true
		s, err := e.state(r)
		if err != nil {
			continue
		}
		if z := e.size(ctx, r.ID); z != nil {
			containers.RawSize += z.RwSize
			if !s.running() {
				containers.Reclaimable += z.RwSize
			}
		}
		if s.running() {
			containers.Active++
		}
	}
	img := DiskUse{Type: "Images", Total: len(list)}
	seen := map[oci.Digest]bool{}
	for _, i := range list {
		if used[i.ID.Hex()] {
			img.Active++
		}
		for _, l := range i.Layers {
			if !seen[l.Chain] {
				seen[l.Chain] = true
				size := e.layerSize(ctx, l.Chain)
				img.RawSize += size
				if !used[i.ID.Hex()] {
					img.Reclaimable += size
				}
			}
		}
	}
	volumes, err := e.VolumeList(ctx, nil)
	if err != nil {
		return nil, err
	}
	users, err := e.volumeUsers()
	if err != nil {
		return nil, err
	}
	vol := DiskUse{Type: "Local Volumes", Total: len(volumes)}
	for _, v := range volumes {
		size := int64(treeSize(v.Mountpoint))
		vol.RawSize += size
		if len(users[v.Name]) > 0 {
			vol.Active++
		} else {
			vol.Reclaimable += size
		}
	}
	artifacts, err := e.artifactUse(ctx, images, all)
	return append([]DiskUse{img, containers, vol}, artifacts...), err
}

// A DiskDetail is what system df says in detail.
type DiskDetail struct {
	Images     []ImageUse
	Containers []ContainerUse
	Volumes    []VolumeUse
}

// An ImageUse is one name of an image. Of its size, what other images stand on
// too is shared: it stays when this one goes.
type ImageUse struct {
	Repository, Tag string
	ImageID         string
	Created         time.Time
	Size            int64
	SharedSize      int64
	UniqueSize      int64
	Containers      int
}

// A ContainerUse is a container's own layer.
type ContainerUse struct {
	ContainerID  string
	Image        string
	Command      []string
	LocalVolumes int
	Size         int64
	Created      time.Time
	Status       string
	Names        string
}

// A VolumeUse is a volume; Links are the containers that have it.
type VolumeUse struct {
	VolumeName string
	Links      int
	Size       int64
}

// DiskDetails lists every image, container and volume with its size.
func (e *Engine) DiskDetails(ctx context.Context) (*DiskDetail, error) {
	out := &DiskDetail{Images: []ImageUse{}, Containers: []ContainerUse{}, Volumes: []VolumeUse{}}
	users, err := e.volumeUsers()
	if err != nil {
		return nil, err
	}
	containers, err := e.List(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		return nil, err
	}
	inContainers, volumesOf := map[string]int{}, map[string]int{}
	for _, list := range users {
		for _, r := range list {
			volumesOf[r.ID]++
		}
	}
	for _, c := range containers {
		inContainers[c.ImageID]++
		u := ContainerUse{ContainerID: c.ID, Image: c.Image, Command: c.Command, LocalVolumes: volumesOf[c.ID], Created: time.Unix(c.Created, 0), Status: c.State}
		if len(c.Names) > 0 {
			u.Names = c.Names[0]
		}
		if c.Size != nil {
			u.Size = c.Size.RwSize
		}
		out.Containers = append(out.Containers, u)
	}
	if err := e.imageUses(ctx, out, inContainers); err != nil {
		return nil, err
	}
	volumes, err := e.VolumeList(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		out.Volumes = append(out.Volumes, VolumeUse{v.Name, len(users[v.Name]), int64(treeSize(v.Mountpoint))})
	}
	return out, nil
}

func (e *Engine) imageUses(ctx context.Context, out *DiskDetail, containers map[string]int) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	standing := map[oci.Digest]int{} // images on each layer
	for _, i := range list {
		for _, l := range i.Layers {
			standing[l.Chain]++
		}
	}
	for _, i := range list {
		u := ImageUse{Repository: "<none>", Tag: "<none>", ImageID: i.ID.Hex(), Created: i.Created, Containers: containers[i.ID.Hex()]}
		for _, l := range i.Layers {
			size := e.layerSize(ctx, l.Chain)
			u.Size += size
			if standing[l.Chain] > 1 {
				u.SharedSize += size
			} else {
				u.UniqueSize += size
			}
		}
		if len(i.Names) == 0 {
			out.Images = append(out.Images, u)
		}
		for _, n := range i.Names {
			u.Repository, u.Tag = n.Name(), n.Tag
			out.Images = append(out.Images, u)
		}
	}
	return nil
}
