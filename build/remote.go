package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"hull/codec"
	"hull/image"
	"hull/layer"
)

// A Cache keeps steps where other machines find them.
type Cache interface {
	// Name is for messages.
	Name() string
	// Get returns the step of a key, and its layer's blob, which may be
	// compressed; nil when the step has none. fs.ErrNotExist: it has no such step.
	Get(ctx context.Context, key string) (image.Step, io.ReadCloser, error)
	// Put keeps a step; open opens its layer's tar and may be nil. A step that
	// it has already is left as it is.
	Put(ctx context.Context, step image.Step, open func() (io.ReadCloser, error)) error
	// Mounts says whether directories of cache mounts are kept too.
	Mounts() bool
}

// fetch looks a step up in the caches of others, and keeps what it finds.
func (st *stage) fetch(ctx context.Context, k string) (image.Step, bool) {
	for _, c := range st.b.o.CacheFrom {
		step, blob, err := c.Get(ctx, k)
		if err == nil {
			step, err = st.adopt(ctx, k, step, blob)
		}
		if err == nil {
			return step, true
		}
		if !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			st.event(Event{Kind: Warning, Text: fmt.Sprintf("cache %s: %v", c.Name(), err)})
		}
	}
	return image.Step{}, false
}

// adopt stores a step that came from elsewhere. That its layer is what the step
// says is checked; that the step is what the key says is up to whoever keeps
// the cache.
func (st *stage) adopt(ctx context.Context, k string, step image.Step, blob io.ReadCloser) (image.Step, error) {
	if blob != nil {
		defer blob.Close()
	}
	own := image.Step{Key: k, Parent: st.chain(), Created: step.Created, Text: step.Text}
	if step.Layer != nil {
		if blob == nil {
			return own, errors.New("a step has a layer, and it is not there")
		}
		z, _, err := image.Decompress(codec.Codec{}, blob)
		if err != nil {
			return own, err
		}
		defer z.Close()
		l, err := st.b.Images.AddLayer(ctx, st.chain(), z, image.LayerOptions{})
		if err != nil {
			return own, err
		}
		if l.Diff != step.Layer.Diff {
			return own, fmt.Errorf("a layer is %s, its step says %s", l.Diff, step.Layer.Diff)
		}
		own.Layer = &l
	}
	return own, st.remember(own)
}

// export notes a step for the caches of others.
func (st *stage) export(step image.Step) {
	b := st.b
	if len(b.o.CacheTo) == 0 && !b.o.InlineCache {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exports = append(b.exports, step)
}

// sendCaches gives the caches of others what this build did.
func (b *building) sendCaches(ctx context.Context) error {
	for _, c := range b.o.CacheTo {
		b.Show(Event{Kind: Note, Text: "Pushing cache to " + c.Name()})
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(4)
		for _, step := range b.exports {
			g.Go(func() error {
				var open func() (io.ReadCloser, error)
				if l := step.Layer; l != nil {
					open = func() (io.ReadCloser, error) { return b.Blobs.Open(l.Blob.Digest) }
				}
				return c.Put(gctx, step, open)
			})
		}
		if c.Mounts() {
			for id, dir := range b.caches {
				g.Go(func() error { return b.sendMount(gctx, c, id, dir) })
			}
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("export the cache to %s: %w", c.Name(), err)
		}
	}
	return nil
}

// mountKey is the key under which a cache mount is kept elsewhere.
func mountKey(id string) string {
	h := sha256.Sum256([]byte(id))
	return "mount-" + hex.EncodeToString(h[:16])
}

func (b *building) sendMount(ctx context.Context, c Cache, id, dir string) error {
	file, err := b.temp("mount")
	if err != nil {
		return err
	}
	file = filepath.Join(file, "tar")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.Open(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer root.Close()
	if err := layer.WriteTree(ctx, f, root); err != nil {
		return err
	}
	return c.Put(ctx, image.Step{Key: mountKey(id), Created: time.Now().UTC(), Text: id, Layer: &image.Layer{}},
		func() (io.ReadCloser, error) { return os.Open(file) })
}

// fetchMount fills a new cache with what another machine had in it.
func (b *building) fetchMount(ctx context.Context, id, dir string) error {
	for _, c := range b.o.CacheFrom {
		if !c.Mounts() {
			continue
		}
		_, blob, err := c.Get(ctx, mountKey(id))
		if errors.Is(err, fs.ErrNotExist) || err == nil && blob == nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("import the cache mount %s from %s: %w", id, c.Name(), err)
		}
		defer blob.Close()
		z, _, err := image.Decompress(codec.Codec{}, blob)
		if err != nil {
			return err
		}
		defer z.Close()
		root, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return layer.Apply(ctx, root, z, layer.ApplyOptions{})
	}
	return nil
}
