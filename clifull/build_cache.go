package clifull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"hull/build"
	"hull/codec"
	"hull/image"
	"hull/oci"
	"hull/registry"
	"hull/state"
)

// isInline says whether a --cache-to asks for the cache to be in the image.
func isInline(spec string) bool {
	return spec == "inline" || slices.Contains(strings.Split(spec, ","), "type=inline")
}

// caches reads --cache-from or --cache-to: REPOSITORY, or
// type=registry,ref=REPOSITORY or type=local,src=DIR (dest=DIR); with
// mounts=true also the directories of cache mounts. What an image says of its
// own steps is found by type=registry,ref=IMAGE.
func (s *session) caches(ctx context.Context, flag string, specs []string, r registryFlags) ([]build.Cache, error) {
	var all []build.Cache
	for _, spec := range specs {
		if flag == "cache-to" && isInline(spec) {
			continue
		}
		kind, where, mounts := "registry", spec, false
		if strings.Contains(spec, "=") {
			kind, where = "", ""
			for word := range strings.SplitSeq(spec, ",") {
				k, v, _ := strings.Cut(word, "=")
				switch k {
				case "type":
					kind = v
				case "ref", "src", "dest":
					where = v
				case "mounts":
					mounts = v == "true"
				case "mode": // all steps are kept anyway
				default:
					return nil, fmt.Errorf("--%s %s: key %q is not known", flag, spec, k)
				}
			}
		}
		if where == "" {
			return nil, fmt.Errorf("--%s %s: it does not say where", flag, spec)
		}
		switch kind {
		case "local":
			all = append(all, &dirCache{where, mounts})
		case "registry":
			c, err := s.registryCache(ctx, where, mounts, r)
			if err != nil {
				return nil, fmt.Errorf("--%s %s: %w", flag, spec, err)
			}
			all = append(all, c)
		case "inline":
			return nil, fmt.Errorf("--%s %s: name the image that has it: type=registry,ref=IMAGE", flag, spec)
		default:
			return nil, fmt.Errorf("--%s %s: type %q is not one of registry, local, inline", flag, spec, kind)
		}
	}
	return all, nil
}

// A dirCache keeps each step as two files: KEY, its description, and
// KEY.tar.zst, its layer.
type dirCache struct {
	dir    string
	mounts bool
}

func (c *dirCache) Name() string { return c.dir }
func (c *dirCache) Mounts() bool { return c.mounts }

func (c *dirCache) Get(_ context.Context, key string) (image.Step, io.ReadCloser, error) {
	var st image.Step
	data, err := os.ReadFile(filepath.Join(c.dir, key))
	if err != nil {
		return st, nil, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, nil, err
	}
	if st.Layer == nil {
		return st, nil, nil
	}
	f, err := os.Open(filepath.Join(c.dir, key+".tar.zst"))
	return st, f, err
}

func (c *dirCache) Put(_ context.Context, st image.Step, open func() (io.ReadCloser, error)) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	replace := strings.HasPrefix(st.Key, "mount-") // one that lives on
	if _, err := os.Stat(filepath.Join(c.dir, st.Key)); err == nil && !replace {
		return nil
	}
	if open != nil {
		tmp, _, _, err := packed(c.dir, open)
		if err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(c.dir, st.Key+".tar.zst")); err != nil {
			return err
		}
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return state.WriteFile(c.dir, st.Key, data, 0o644, true)
}

// packed compresses a layer into a new file of dir.
func packed(dir string, open func() (io.ReadCloser, error)) (name string, d oci.Digest, size int64, err error) {
	in, err := open()
	if err != nil {
		return "", "", 0, err
	}
	defer in.Close()
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return "", "", 0, err
	}
	defer f.Close()
	h := oci.Digest("sha256:").Hash()
	z, err := image.Compress(codec.Codec{}, io.MultiWriter(f, h), image.Zstd, 0)
	if err == nil {
		if _, err = io.Copy(z, in); err == nil {
			err = z.Close()
		}
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		os.Remove(f.Name())
		return "", "", 0, err
	}
	return f.Name(), oci.NewDigest(h.Sum(nil)), size, nil
}

// stepConfig is the media type of a step's description.
const stepConfig = "application/vnd.hull.build.step.v1+json"

// A registryCache keeps each step as a manifest of one layer, under its key as
// the tag.
type registryCache struct {
	repo   *registry.Repository
	name   string
	mounts bool
	inline func() (*inlineCache, error) // what the image of that name says
}

// An inlineCache are the steps that an image tells of.
type inlineCache struct {
	steps  map[string]image.Step
	index  map[string]int
	layers []oci.Descriptor
}

// readInline reads what the image of a reference says of its steps.
func readInline(ctx context.Context, repo *registry.Repository, ref oci.Reference) (*inlineCache, error) {
	name := ref.Tag
	if ref.Digest != "" {
		name = string(ref.Digest)
	}
	m, err := repo.Manifest(ctx, name)
	if err != nil {
		return &inlineCache{}, notThere(err)
	}
	if x, err := oci.DecodeIndex(m.Data); err == nil && len(x.Manifests) > 0 {
		d, err := image.ChoosePlatform(x.Manifests, oci.HostPlatform())
		if err != nil {
			return &inlineCache{}, nil
		}
		if m, err = repo.Manifest(ctx, string(d.Digest)); err != nil {
			return nil, err
		}
	}
	d, err := oci.DecodeManifest(m.Data)
	if err != nil {
		return nil, err
	}
	r, err := repo.Blob(ctx, d.Config, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, oci.MaxManifestSize))
	if err != nil {
		return nil, err
	}
	config, err := oci.DecodeImage(data)
	if err != nil {
		return &inlineCache{}, nil // no image: a repository of steps only
	}
	c := &inlineCache{layers: d.Layers}
	c.steps, c.index, err = build.InlineSteps(*config)
	return c, err
}

func (s *session) registryCache(ctx context.Context, name string, mounts bool, r registryFlags) (build.Cache, error) {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return nil, err
	}
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	repo, err := c.Destination(ctx, ref.Normalized())
	if err != nil {
		return nil, err
	}
	at := ref.Normalized().Tagged()
	inline := sync.OnceValues(func() (*inlineCache, error) { return readInline(ctx, repo, at) })
	return &registryCache{repo, name, mounts, inline}, nil
}

func (c *registryCache) Name() string { return c.name }
func (c *registryCache) Mounts() bool { return c.mounts }

func (c *registryCache) Get(ctx context.Context, key string) (image.Step, io.ReadCloser, error) {
	in, err := c.inline()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return image.Step{}, nil, err
	}
	st, found := in.steps[key]
	if found && st.Layer == nil {
		return st, nil, nil
	}
	if found && in.index[key] < len(in.layers) {
		blob, err := c.repo.Blob(ctx, in.layers[in.index[key]], 0)
		return st, blob, err
	}
	m, err := c.repo.Manifest(ctx, key)
	if err != nil {
		return st, nil, notThere(err)
	}
	d, err := oci.DecodeManifest(m.Data)
	if err != nil {
		return st, nil, err
	}
	r, err := c.repo.Blob(ctx, d.Config, 0)
	if err != nil {
		return st, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, oci.MaxManifestSize))
	r.Close()
	if err != nil {
		return st, nil, err
	}
	if got := oci.FromBytes(data); got != d.Config.Digest {
		return st, nil, fmt.Errorf("the description of step %s has digest %s, its manifest says %s", key, got, d.Config.Digest)
	}
	if err := json.Unmarshal(data, &st); err != nil || len(d.Layers) == 0 {
		return st, nil, err
	}
	blob, err := c.repo.Blob(ctx, d.Layers[0], 0)
	return st, blob, err
}

// notThere makes a registry's "no" the error of a missing file.
func notThere(err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return fs.ErrNotExist
	}
	return err
}

func (c *registryCache) Put(ctx context.Context, st image.Step, open func() (io.ReadCloser, error)) error {
	if _, err := c.repo.Head(ctx, st.Key); err == nil && !strings.HasPrefix(st.Key, "mount-") {
		return nil
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Layers: []oci.Descriptor{},
		Config: oci.Descriptor{MediaType: stepConfig, Digest: oci.FromBytes(data), Size: int64(len(data))}}
	err = c.repo.Upload(ctx, m.Config, func(offset int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data[offset:])), nil })
	if err != nil {
		return err
	}
	if open != nil {
		file, d, size, err := packed("", open)
		if err != nil {
			return err
		}
		defer os.Remove(file)
		l := oci.Descriptor{MediaType: oci.MediaTypeLayerZstd, Digest: d, Size: size}
		err = c.repo.Upload(ctx, l, func(offset int64) (io.ReadCloser, error) {
			f, err := os.Open(file)
			if err == nil {
				_, err = f.Seek(offset, io.SeekStart)
			}
			return f, err
		})
		if err != nil {
			return err
		}
		m.Layers = append(m.Layers, l)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.repo.PutManifest(ctx, st.Key, m.MediaType, text)
}
