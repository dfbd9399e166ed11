package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"hull/blob"
	"hull/oci"
	"hull/snapshot"
)

// unpackAll starts a goroutine for each layer whose snapshot is missing. Each
// waits for its blob's first bytes, unpacks, and then, when the layer below is
// committed, commits its own.
func (a *Assembly) unpackAll(ctx context.Context) error {
	if a.s.snaps == nil {
		return nil
	}
	below := closedChan()
	var parent oci.Digest
	for i, diff := range a.p.config.RootFS.DiffIDs {
		chain := nextChain(parent, diff)
		if a.s.snaps.Exists(chain) {
			parent, below = chain, closedChan()
			continue
		}
		j := &unpackJob{s: a.s, st: a.streams[a.p.manifest.Layers[i].Digest], parent: parent, chain: chain, diff: diff, below: below, done: make(chan struct{})}
		a.wg.Go(func() {
			if err := j.run(ctx); err != nil {
				a.fail(fmt.Errorf("unpack layer %s: %w", j.diff, err))
				return
			}
			close(j.done)
		})
		parent, below = chain, j.done
	}
	return nil
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// An unpackJob makes one snapshot of one blob.
type unpackJob struct {
	s                   *Store
	st                  *stream
	parent, chain, diff oci.Digest
	below               <-chan struct{} // closed when parent is committed
	done                chan struct{}
}

func (j *unpackJob) run(ctx context.Context) error {
	if err := j.st.begun(); err != nil {
		return err
	}
	if !j.s.snaps.Parallel() {
		if err := wait(ctx, j.below); err != nil {
			return err
		}
	}
	draft, err := j.fill(ctx)
	if err != nil {
		return err
	}
	defer draft.Abort()
	if err := wait(ctx, j.below); err != nil {
		return err
	}
	return draft.Commit(j.chain)
}

// fill unpacks the blob into a draft and compares it with the config (REG-02).
func (j *unpackJob) fill(ctx context.Context) (*snapshot.Draft, error) {
	select {
	case j.s.slots <- struct{}{}:
		defer func() { <-j.s.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	draft, err := j.s.snaps.NewDraft(ctx, j.parent)
	if err != nil {
		return nil, err
	}
	size, err := j.s.unpack(ctx, draft, j.st.reader(), j.diff)
	if err != nil {
		draft.Abort()
		return nil, err
	}
	j.s.noteSize(j.diff, size)
	return draft, nil
}

// unpack applies r, compressed or not, to draft, and makes sure that the tar
// has the digest diff. It returns the tar's size.
func (s *Store) unpack(ctx context.Context, draft *snapshot.Draft, r io.Reader, diff oci.Digest) (int64, error) {
	z, _, err := Decompress(s.Codec, contextReader{ctx, r})
	if err != nil {
		return 0, err
	}
	defer z.Close()
	t := &hashReader{r: z, h: diff.Hash()}
	if err := draft.Unpack(ctx, t); err != nil {
		return 0, err
	}
	// A tar ends before its file does; the digest is of all of it.
	if _, err := io.Copy(io.Discard, t); err != nil {
		return 0, err
	}
	if got := t.digest(diff.Algorithm()); got != diff {
		return 0, fmt.Errorf("the layer is %s, the config says %s: %w", got, diff, blob.ErrDigest)
	}
	return t.n, nil
}

// hashReader hashes and counts what is read through it.
type hashReader struct {
	r io.Reader
	h hash.Hash
	n int64
}

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	h.n += int64(n)
	return n, err
}

func (h *hashReader) digest(alg string) oci.Digest {
	return oci.Digest(fmt.Sprintf("%s:%x", alg, h.h.Sum(nil)))
}

func wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Store) noteSize(diff oci.Digest, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[diff] = size
}

// layerSize is the size of a layer's uncompressed tar: as seen while it was
// unpacked, or of the blob itself when it is not compressed, or in another
// image's record, or else counted.
func (s *Store) layerSize(ctx context.Context, diff oci.Digest, l oci.Descriptor) (int64, error) {
	s.mu.Lock()
	size, ok := s.sizes[diff]
	s.mu.Unlock()
	if ok {
		return size, nil
	}
	if l.Digest == diff {
		return l.Size, nil
	}
	records, _ := s.records()
	for _, r := range records {
		for _, other := range r.Layers {
			if other.Diff == diff {
				return other.Size, nil
			}
		}
	}
	f, err := s.blobs.Open(l.Digest)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	z, _, err := Decompress(s.Codec, contextReader{ctx, f})
	if err != nil {
		return 0, err
	}
	defer z.Close()
	t := &hashReader{r: z, h: diff.Hash()}
	if _, err := io.Copy(io.Discard, t); err != nil {
		return 0, fmt.Errorf("measure layer %s: %w", l.Digest, err)
	}
	if got := t.digest(diff.Algorithm()); got != diff {
		return 0, fmt.Errorf("layer %s is %s uncompressed, the config says %s: %w", l.Digest, got, diff, blob.ErrDigest)
	}
	return t.n, nil
}

// EnsureLayers makes those snapshots of the image that are missing, from its
// blobs. ErrDamaged: a blob is missing too.
func (s *Store) EnsureLayers(ctx context.Context, img Image) error {
	if s.complete(img) {
		return nil
	}
	manifest, err := s.blobs.Read(img.Manifest)
	var config []byte
	if err == nil {
		config, err = s.blobs.Read(img.ID)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return pullAgain(fmt.Errorf("unpack image %s: %w: %w", img.ID.Hex(), ErrDamaged, err))
	}
	if err != nil {
		return fmt.Errorf("unpack image %s: %w", img.ID.Hex(), err)
	}
	a, err := s.Assemble(ctx, manifest, config)
	if err != nil {
		return err
	}
	defer a.Close()
	if missing := a.Missing(); len(missing) > 0 {
		return pullAgain(fmt.Errorf("unpack image %s: its layer %s is not in the store: %w", img.ID.Hex(), a.Descriptor(missing[0]).Digest, ErrDamaged))
	}
	a.wg.Wait()
	if err := a.failure(); err != nil {
		return err
	}
	return s.sync(true)
}

// pullAgain is the hint for an image that cannot be mended from what is here.
func pullAgain(err error) error { return &hintError{err, "pull or load the image again"} }

// complete reports whether all layers of the image are unpacked. A layer that
// is there stands on those below it.
func (s *Store) complete(img Image) bool {
	top := img.TopLayer()
	return top == "" || s.snaps == nil || s.snaps.Exists(top)
}
