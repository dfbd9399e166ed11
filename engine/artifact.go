package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/oci"
)

// Artifacts lists the artifacts of the store.
func (e *Engine) Artifacts(ctx context.Context) ([]image.Artifact, error) {
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	return store.Artifacts(ctx)
}

// Artifact finds one by its name or digest; image.ErrNoArtifact when there is none.
func (e *Engine) Artifact(ctx context.Context, name string) (image.Artifact, error) {
	store, err := e.Images()
	if err != nil {
		return image.Artifact{}, err
	}
	return store.FindArtifact(ctx, name)
}

// AddArtifact makes an artifact of files, or adds files to one.
func (e *Engine) AddArtifact(ctx context.Context, name string, files []image.ArtifactFile, o image.AddArtifactOptions) (image.Artifact, error) {
	store, err := e.Images()
	if err != nil {
		return image.Artifact{}, err
	}
	a, err := store.AddArtifact(ctx, name, files, o)
	if err == nil {
		e.ArtifactEvent("add", a.Digest, a.Name.String())
	}
	return a, err
}

// RemoveArtifact removes one and returns its digest. Containers that have it
// mounted keep what they see until they stop.
func (e *Engine) RemoveArtifact(ctx context.Context, name string) (oci.Digest, error) {
	store, err := e.Images()
	if err != nil {
		return "", err
	}
	d, err := store.RemoveArtifact(ctx, name)
	if err == nil {
		e.ArtifactEvent("remove", d, name)
	}
	return d, err
}

// ExtractArtifact copies files of an artifact to target (see image.Store.Extract).
func (e *Engine) ExtractArtifact(ctx context.Context, name, target string, f image.BlobFilter) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	hold, err := store.Hold(ctx)
	if err != nil {
		return err
	}
	defer hold.Release()
	a, err := store.FindArtifact(ctx, name)
	if err != nil {
		return err
	}
	if err := store.Extract(a, target, f); err != nil {
		return err
	}
	e.ArtifactEvent("extract", a.Digest, a.Name.String())
	return nil
}

// ArtifactEvent notes what was done with an artifact.
func (e *Engine) ArtifactEvent(action string, d oci.Digest, name string) {
	e.appendEvent(eventRecord{Time: time.Now(), Type: "artifact", Action: action, ID: d.Hex(), Name: name})
}

// artifactBlobs are the files that a mount is to show.
func (e *Engine) artifactBlobs(ctx context.Context, m *Mount) ([]image.ArtifactBlob, *image.Store, error) {
	store, err := e.Images()
	if err != nil {
		return nil, nil, err
	}
	a, err := store.FindArtifact(ctx, m.Source)
	if err != nil {
		if errors.Is(err, image.ErrNoArtifact) {
			err = hint(err, "hull artifact pull %s", m.Source)
		}
		return nil, nil, err
	}
	var f image.BlobFilter
	f.Digest, _ = m.option("digest")
	f.Title, _ = m.option("title")
	blobs, err := a.Choose(f)
	return blobs, store, err
}

// artifactMounts mounts an artifact's files read-only: one takes the place of
// what is no directory of the image, else each lies in the directory, under its
// title or the name that the user chose.
func (e *Engine) artifactMounts(ctx context.Context, r *record, m *Mount) ([]oci.Mount, error) {
	blobs, store, err := e.artifactBlobs(ctx, m)
	if err != nil {
		return nil, err
	}
	dir, file, err := e.imageHas(r, m.Destination)
	if err != nil {
		return nil, err
	}
	if file && len(blobs) > 1 {
		return nil, fmt.Errorf("artifact %q contains more than one blob and container path %q is a file", m.Source, m.Destination)
	}
	name, _ := m.option("name")
	var out []oci.Mount
	for i, b := range blobs {
		src, err := store.FilePath(b)
		if err != nil {
			return nil, err
		}
		if err := e.labelShared(src); err != nil {
			return nil, err
		}
		dst := m.Destination
		if dir || len(blobs) > 1 {
			base, err := b.FileName()
			if name != "" {
				base, err = name, nil
				if len(blobs) > 1 {
					base = fmt.Sprintf("%s-%d", name, i)
				}
			}
			if err != nil {
				return nil, err
			}
			dst = path.Join(dst, base)
		}
		out = append(out, oci.Mount{Destination: dst, Type: "bind", Source: src, Options: []string{"bind", "rprivate", "ro", "nosuid", "nodev"}})
	}
	return out, nil
}

// imageHas says whether the container's image has a directory, or something
// else, at a path.
func (e *Engine) imageHas(r *record, name string) (dir, other bool, err error) {
	f, err := e.imagePath(r, name, unix.O_PATH)
	if f == nil || err != nil {
		return false, false, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, false, err
	}
	dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	return dir, !dir, nil
}

// checkArtifacts reports artifacts whose content is not all there.
func (e *Engine) checkArtifacts(ctx context.Context, store *image.Store) []Problem {
	all, err := store.Artifacts(ctx)
	var found []Problem
	if err != nil {
		found = append(found, Problem{Subject: "artifacts", Err: err})
	}
	for _, a := range all {
		for _, d := range store.MissingBlobs(a) {
			found = append(found, Problem{Subject: "artifact " + a.Name.String(), Err: fmt.Errorf("blob %s is missing: pull or add it again", d)})
		}
	}
	return found
}

// artifactUse is the line of system df on artifacts; none of none.
func (e *Engine) artifactUse(ctx context.Context, store *image.Store, all []*record) ([]DiskUse, error) {
	list, err := store.Artifacts(ctx)
	if len(list) == 0 {
		return nil, err
	}
	used := map[oci.Digest]bool{}
	for _, r := range all {
		for _, m := range r.Mounts {
			if m.Type != "artifact" {
				continue
			}
			if a, err := store.FindArtifact(ctx, m.Source); err == nil {
				used[a.Digest] = true
			}
		}
	}
	use := DiskUse{Type: "Artifacts", Total: len(list)}
	seen := map[oci.Digest]bool{}
	for _, active := range []bool{true, false} { // what an active one has too is not reclaimable
		for _, a := range list {
			if used[a.Digest] != active {
				continue
			}
			if active {
				use.Active++
			}
			for _, l := range a.Manifest.Layers {
				if seen[l.Digest] {
					continue
				}
				seen[l.Digest] = true
				use.RawSize += l.Size
				if !active {
					use.Reclaimable += l.Size
				}
			}
		}
	}
	return []DiskUse{use}, nil
}
