package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hull/oci"
	"hull/snapshot"
	"hull/state"
)

// A Hold keeps all content of the store from being collected: of someone who
// puts an image together, or reads the blobs of one. It ends with its process.
type Hold struct {
	s *Store
	l *state.Lock
}

// Hold waits until nobody collects, which is short. Several may have one.
func (s *Store) Hold(ctx context.Context) (*Hold, error) {
	l, err := state.AcquireShared(ctx, filepath.Join(s.dir, "hold"))
	if err != nil {
		return nil, fmt.Errorf("hold image content: %w", err)
	}
	return &Hold{s, l}, nil
}

// Release ends the hold, and collects what others had to leave because of it.
// A nil Hold and one released twice do no harm.
func (h *Hold) Release() {
	if h == nil || h.l == nil {
		return
	}
	h.l.Release()
	h.l = nil
	if _, err := os.Lstat(h.s.garbageFile()); err == nil {
		// What cannot be collected now stays garbage for the next one.
		_, _ = h.s.collect(context.Background(), nil)
	}
}

// garbageFile stands while content may be there that no record refers to.
func (s *Store) garbageFile() string { return filepath.Join(s.dir, "garbage") }

// MarkGarbage says, to the end of the last Hold, that content may be left over. It is not synced: after a
// power cut a prune finds it too. Without room for it what makes room goes on.
func (s *Store) MarkGarbage() error {
	if err := state.Mark(s.garbageFile()); err != nil && !noRoom(err) {
		return fmt.Errorf("mark image content: %w", err)
	}
	return nil
}

// Collected is what a collection freed.
type Collected struct {
	Blobs  int
	Layers int
	Bytes  int64 // of the blobs
}

// oldPartial is how long a download that was cut off may still be resumed.
const oldPartial = 24 * time.Hour

// Collect removes blobs and layers that no image refers to, and what killed
// processes left. Content stays while somebody has a Hold: whoever has it
// collects at its end.
func (s *Store) Collect(ctx context.Context) (Collected, error) {
	if _, err := os.Lstat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return Collected{}, nil
	}
	if err := s.MarkGarbage(); err != nil {
		return Collected{}, err
	}
	for _, dir := range []string{s.dir, s.recordsDir(), s.namesDir(), s.artifactsDir(), s.placesDir(), s.bootsDir()} {
		if err := state.CleanTemp(dir); err != nil && !errors.Is(err, state.ErrNotExist) {
			return Collected{}, err
		}
	}
	done, err := s.collect(ctx, nil)
	if err != nil {
		return done, err
	}
	if s.snaps != nil {
		if err := s.snaps.Collect(ctx); err != nil {
			return done, err
		}
	}
	freed, err := s.blobs.Tidy(time.Now().Add(-oldPartial))
	done.Bytes += freed
	return done, err
}

// collect removes what no record and no build step refers to: of only, or of everything when
// only is nil.
func (s *Store) collect(ctx context.Context, only *content) (Collected, error) {
	var done Collected
	l, ok, err := state.TryAcquire(filepath.Join(s.dir, "hold"))
	if err != nil || !ok {
		return done, err
	}
	defer l.Release()
	records, err := s.records()
	if err != nil {
		// What an unreadable record refers to is not known: nothing is garbage.
		return done, fmt.Errorf("collect image content: %w", err)
	}
	live := newContent()
	for _, r := range records {
		live.add(r)
	}
	artifacts, err := s.artifactRecords()
	if err != nil {
		return done, fmt.Errorf("collect image content: %w", err)
	}
	for _, r := range artifacts {
		live.addArtifact(r)
	}
	steps, err := s.Steps()
	if err != nil {
		return done, err
	}
	for _, st := range steps {
		live.addStep(st)
	}
	if only == nil {
		if only, err = s.everything(); err != nil {
			return done, err
		}
		s.blobs.TidyMarks()
	}
	if err := s.collectLayers(ctx, only, live, &done); err != nil {
		return done, err
	}
	for d := range only.blobs {
		if live.blobs[d] {
			continue
		}
		size, err := s.blobs.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := s.blobs.Remove(d); err != nil {
			return done, err
		}
		s.forgetPlaces(d)
		done.Blobs++
		done.Bytes += size
	}
	if err := state.Remove(s.garbageFile(), false); err != nil && !errors.Is(err, state.ErrNotExist) {
		return done, err
	}
	return done, nil
}

// collectLayers removes layers from the top down. One that a container or
// another layer stands on stays: it goes with the last of them, at a prune.
func (s *Store) collectLayers(ctx context.Context, only, live *content, done *Collected) error {
	if s.snaps == nil {
		return nil
	}
	dead := map[oci.Digest]bool{}
	for chain := range only.chains {
		if !live.chains[chain] && s.snaps.Exists(chain) {
			dead[chain] = true
		}
	}
	for progress := true; progress && len(dead) > 0; {
		progress = false
		for chain := range dead {
			err := s.snaps.RemoveLayer(ctx, chain)
			switch {
			case err == nil:
				done.Layers++
			case errors.Is(err, snapshot.ErrInUse):
				continue
			case errors.Is(err, fs.ErrNotExist):
			default:
				return fmt.Errorf("remove layer %s: %w", chain, err)
			}
			delete(dead, chain)
			progress = true
		}
	}
	return nil
}

// content is a set of blobs and layers.
type content struct {
	blobs, chains map[oci.Digest]bool
}

func newContent() *content {
	return &content{blobs: map[oci.Digest]bool{}, chains: map[oci.Digest]bool{}}
}

func (c *content) add(r *record) {
	r.blobs(func(d oci.Digest) { c.blobs[d] = true })
	r.chains(func(d oci.Digest) { c.chains[d] = true })
}

// everything is all content of the store.
func (s *Store) everything() (*content, error) {
	all := newContent()
	if err := s.blobs.Walk(func(d oci.Digest, _ int64) error { all.blobs[d] = true; return nil }); err != nil {
		return nil, err
	}
	if s.snaps == nil {
		return all, nil
	}
	infos, err := s.snaps.List()
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		if i.Chain != "" {
			all.chains[i.Chain] = true
		}
	}
	return all, nil
}
