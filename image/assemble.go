package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"hull/blob"
	"hull/oci"
)

// An Assembly is an image that comes in: a pull, a load, an import.
//
//	a, err := store.Assemble(ctx, manifest, config)
//	defer a.Close()
//	for _, i := range a.Missing() {          // any number at once
//		k, err := a.Layer(ctx, i)
//		fetch from k.Offset() on, write to k
//		k.Commit()
//	}
//	img, err := a.Finish(ctx, names)
//
// Layers are unpacked while they come, two at a time, in any order where the
// snapshot driver can. A layer whose blob cannot be fetched now may be tried
// again with another Sink.
type Assembly struct {
	s    *Store
	p    *parts
	hold *Hold

	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	streams map[oci.Digest]*stream

	mu    sync.Mutex
	err   error        // of the first layer that failed; guarded by mu
	fresh []oci.Digest // blobs that this assembly stored; guarded by mu
	ended bool         // by Finish or Close; guarded by mu
}

// Assemble begins an image of the exact bytes of its manifest and config,
// which it checks against each other and stores. Layers whose blobs are here
// begin to be unpacked. ctx ends everything that goes on behind.
func (s *Store) Assemble(ctx context.Context, manifest, config []byte) (*Assembly, error) {
	p, err := checkParts(manifest, config)
	if err != nil {
		return nil, err
	}
	hold, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a := &Assembly{s: s, p: p, hold: hold, cancel: cancel, streams: map[oci.Digest]*stream{}}
	if err := a.putParts(manifest, config); err != nil {
		a.Close()
		return nil, err
	}
	if err := a.openStreams(); err != nil {
		a.Close()
		return nil, err
	}
	if err := a.unpackAll(ctx); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// putParts stores manifest and config.
func (a *Assembly) putParts(manifest, config []byte) error {
	for _, x := range []struct {
		d    oci.Digest
		data []byte
	}{{a.p.digest, manifest}, {a.p.manifest.Config.Digest, config}} {
		if err := a.s.putBlob(x.d, x.data, a.came); err != nil {
			return err
		}
	}
	return nil
}

// putBlob stores data under its digest, which may be of any algorithm, and
// tells came if it was not there.
func (s *Store) putBlob(d oci.Digest, data []byte, came func(oci.Digest)) error {
	if _, err := s.blobs.Stat(d); err == nil {
		return nil
	}
	if d.Algorithm() == "sha256" {
		if _, err := s.blobs.Put(data); err != nil {
			return err
		}
		came(d)
		return nil
	}
	w, err := s.blobs.Writer(context.Background(), d, int64(len(data)))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	_, _, err = w.Commit()
	came(d)
	return err
}

// openStreams makes a stream of each distinct layer blob; those of stored
// blobs are whole.
func (a *Assembly) openStreams() error {
	for _, l := range a.p.manifest.Layers {
		if a.streams[l.Digest] != nil {
			continue
		}
		st := newStream(l.Digest)
		a.streams[l.Digest] = st
		if size, err := a.s.blobs.Stat(l.Digest); err != nil || size != l.Size {
			continue
		}
		f, err := a.s.blobs.Open(l.Digest)
		if err != nil {
			return err
		}
		st.whole(f, l.Size)
	}
	return nil
}

// ID is the image's.
func (a *Assembly) ID() oci.Digest { return a.p.manifest.Config.Digest }

// Config is the image's, decoded.
func (a *Assembly) Config() *oci.Image { return a.p.config }

// Descriptor is the one of layer i.
func (a *Assembly) Descriptor(i int) oci.Descriptor { return a.p.manifest.Layers[i] }

// Missing lists the layers, by index, whose blobs are not here; of several
// with the same blob, the first.
func (a *Assembly) Missing() []int {
	var missing []int
	seen := map[oci.Digest]bool{}
	for i, l := range a.p.manifest.Layers {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		st := a.streams[l.Digest]
		st.mu.Lock()
		done := st.done
		st.mu.Unlock()
		if !done {
			missing = append(missing, i)
		}
	}
	return missing
}

// Layer returns the sink for the blob of layer i. The error is fs.ErrExist
// when the blob has come in the meantime, from another process perhaps.
func (a *Assembly) Layer(ctx context.Context, i int) (*Sink, error) {
	l := a.p.manifest.Layers[i]
	st := a.streams[l.Digest]
	if err := a.failure(); err != nil {
		return nil, err
	}
	w, err := a.s.blobs.Writer(ctx, l.Digest, l.Size)
	if errors.Is(err, fs.ErrExist) {
		size, serr := a.s.blobs.Stat(l.Digest)
		if serr != nil || size != l.Size {
			return nil, fmt.Errorf("layer %s: the stored blob has %d bytes, not %d: %w", l.Digest, size, l.Size, ErrMismatch)
		}
		f, oerr := a.s.blobs.Open(l.Digest)
		if oerr != nil {
			return nil, oerr
		}
		st.whole(f, l.Size)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if err := st.attach(w.File(), w.Offset()); err != nil {
		w.Close()
		return nil, err
	}
	return &Sink{a, st, w}, nil
}

// Finish waits until all layers are unpacked and on the disk, publishes the
// image under the names and ends the assembly.
func (a *Assembly) Finish(ctx context.Context, o PublishOptions) (Image, error) {
	if missing := a.Missing(); len(missing) > 0 && a.failure() == nil {
		return Image{}, fmt.Errorf("finish image: layer %s did not come", a.Descriptor(missing[0]).Digest)
	}
	a.wg.Wait()
	if err := a.failure(); err != nil {
		return Image{}, err
	}
	img, err := a.s.publish(ctx, a.p, o)
	if err != nil {
		return Image{}, err
	}
	a.mu.Lock()
	a.fresh = nil
	a.mu.Unlock()
	// The record keeps the content from here on.
	return img, a.Close()
}

// Close ends the assembly. Of one that is not finished, whole blobs stay for
// another attempt until the next prune; see Discard.
func (a *Assembly) Close() error {
	a.mu.Lock()
	ended := a.ended
	a.ended = true
	a.mu.Unlock()
	if ended {
		return nil
	}
	a.cancel(errors.New("the image was given up"))
	for _, st := range a.streams {
		st.fail(errors.New("the image was given up"))
	}
	a.wg.Wait()
	for _, st := range a.streams {
		st.close()
	}
	a.hold.Release()
	return nil
}

// GiveUp ends an assembly that failed for a cause. What may still be of use,
// when the same is tried again, stays until the next prune; the rest goes.
func (a *Assembly) GiveUp(ctx context.Context, cause error) error {
	if noRoom(cause) || errors.Is(cause, blob.ErrDigest) || errors.Is(cause, ErrMismatch) {
		return a.Discard(ctx)
	}
	return a.Close()
}

// Discard ends the assembly and removes what it stored, unless it is finished:
// for content that proved wrong (REG-02).
func (a *Assembly) Discard(ctx context.Context) error {
	a.mu.Lock()
	fresh := a.fresh
	a.mu.Unlock()
	if err := a.Close(); err != nil || len(fresh) == 0 {
		return err
	}
	only := newContent()
	for _, d := range fresh {
		only.blobs[d] = true
	}
	var chain oci.Digest
	for _, diff := range a.p.config.RootFS.DiffIDs {
		chain = nextChain(chain, diff)
		only.chains[chain] = true
	}
	if err := a.s.MarkGarbage(); err != nil {
		return err
	}
	_, err := a.s.collect(context.WithoutCancel(ctx), only)
	return err
}

// came notes a blob that was not there before.
func (a *Assembly) came(d oci.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fresh = append(a.fresh, d)
}

// fail keeps the first error and stops the rest.
func (a *Assembly) fail(err error) {
	a.mu.Lock()
	first := a.err == nil
	if first {
		a.err = err
	}
	a.mu.Unlock()
	if !first {
		return
	}
	a.cancel(err)
	for _, st := range a.streams {
		st.fail(err)
	}
}

func (a *Assembly) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}
