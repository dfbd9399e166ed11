package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/layer"
	"hull/oci"
	"hull/state"
)

// A Step is one step of a build whose result is kept, under the key of all
// that it read: the build cache. It is below ROOT/images/steps; the layer in
// it is in use as an image's is.
//
// A step is written when its layer is whole, but before the disk has it, so
// that a build that fails keeps what it did until then. What a power cut may
// have damaged is told by the boot: a step of an earlier one counts only if
// SyncSteps was called after it in that boot.
type Step struct {
	Version int        `json:"version"`
	Key     string     `json:"key"`              // 64 hex digits
	Parent  oci.Digest `json:"parent,omitempty"` // chain ID below the layer
	Layer   *Layer     `json:"layer,omitempty"`  // nil: it changed no file
	Created time.Time  `json:"created"`
	Boot    string     `json:"boot"`
	Text    string     `json:"text,omitempty"` // for people
	// Used is when it was found last: the file's time.
	Used time.Time `json:"-"`
}

const stepVersion = 1

func (s *Store) stepsDir() string { return filepath.Join(s.dir, "steps") }

// bootsDir holds, by boot ID, until when steps of that boot are on the disk.
func (s *Store) bootsDir() string { return filepath.Join(s.dir, "boots") }

// FindStep returns the step of a key if there is one whose content is whole.
// The caller has a Hold.
func (s *Store) FindStep(ctx context.Context, key string) (Step, bool) {
	st, err := s.readStep(key)
	if err != nil || !s.durable(st) {
		return Step{}, false
	}
	if l := st.Layer; l != nil {
		if size, err := s.blobs.Stat(l.Blob.Digest); err != nil || size != l.Blob.Size {
			return Step{}, false
		}
		if s.snaps != nil && !s.snaps.Exists(l.Chain) {
			again, err := s.Restore(ctx, st.Parent, *l)
			if err != nil {
				return Step{}, false
			}
			st.Layer = &again
		}
		s.noteSize(l.Diff, l.Size)
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(s.stepsDir(), key), now, now) // only prune asks
	return st, true
}

func (s *Store) readStep(key string) (Step, error) {
	path := filepath.Join(s.stepsDir(), key)
	data, err := state.ReadFile(path)
	if err != nil {
		return Step{}, err
	}
	var st Step
	if err := json.Unmarshal(data, &st); err != nil {
		return Step{}, fmt.Errorf("read build step %s: %w", key, err)
	}
	if st.Version != stepVersion || st.Key != key {
		return Step{}, fmt.Errorf("read build step %s: it is not what its name says: %w", key, ErrDamaged)
	}
	if info, err := os.Stat(path); err == nil {
		st.Used = info.ModTime()
	}
	return st, nil
}

// durable says whether a step of an earlier boot reached the disk.
func (s *Store) durable(st Step) bool {
	if st.Boot == state.BootID() {
		return true
	}
	if strings.ContainsAny(st.Boot, "/.") || st.Boot == "" {
		return false
	}
	data, err := state.ReadFile(filepath.Join(s.bootsDir(), st.Boot))
	if err != nil {
		return false
	}
	until, err := time.Parse(time.RFC3339Nano, string(data))
	return err == nil && !st.Created.After(until)
}

// SaveStep keeps a step; one of the same key is replaced.
func (s *Store) SaveStep(st Step) error {
	st.Version, st.Boot = stepVersion, state.BootID()
	data, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("write build step: %w", err)
	}
	err = state.WriteFile(s.stepsDir(), st.Key, data, 0o600, false)
	if errors.Is(err, state.ErrNotExist) {
		if err = os.MkdirAll(s.stepsDir(), 0o700); err == nil {
			err = state.WriteFile(s.stepsDir(), st.Key, data, 0o600, false)
		}
	}
	if err != nil {
		return fmt.Errorf("write build step: %w", err)
	}
	return nil
}

// SyncSteps says that everything written so far is on the disk: publishing an
// image has seen to it.
func (s *Store) SyncSteps(at time.Time) error {
	return s.write(s.bootsDir(), state.BootID(), []byte(at.UTC().Format(time.RFC3339Nano)))
}

// Steps lists all steps; what cannot be read is left out.
func (s *Store) Steps() ([]Step, error) {
	entries, err := state.ReadDir(s.stepsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list build steps: %w", err)
	}
	var all []Step
	for _, e := range entries {
		if st, err := s.readStep(e.Name()); err == nil {
			all = append(all, st)
		}
	}
	return all, nil
}

// PruneStepsOptions choose what PruneSteps removes; the zero value is all.
type PruneStepsOptions struct {
	// Unused keeps what was found or made within that time.
	Unused time.Duration
	// MaxBytes is how much may stay, the latest used; 0 is no bound when
	// Unused is set, and nothing otherwise.
	MaxBytes int64
}

// PruneSteps removes steps, and with them the layers that nothing else uses.
func (s *Store) PruneSteps(ctx context.Context, o PruneStepsOptions) (steps int, freed Collected, err error) {
	all, err := s.Steps()
	if err != nil {
		return 0, freed, err
	}
	slices.SortFunc(all, func(a, b Step) int { return b.Used.Compare(a.Used) })
	var kept int64
	for _, st := range all {
		size := int64(0)
		if st.Layer != nil {
			size = st.Layer.Size
		}
		keep := o.Unused > 0 && time.Since(st.Used) < o.Unused && (o.MaxBytes == 0 || kept+size <= o.MaxBytes)
		keep = keep || o.Unused == 0 && o.MaxBytes > 0 && kept+size <= o.MaxBytes
		if keep {
			kept += size
			continue
		}
		if err := state.Remove(filepath.Join(s.stepsDir(), st.Key), false); err != nil && !errors.Is(err, state.ErrNotExist) {
			return steps, freed, fmt.Errorf("remove build step: %w", err)
		}
		steps++
	}
	if steps == 0 {
		return 0, freed, nil
	}
	freed, err = s.Collect(ctx)
	return steps, freed, err
}

// addStep makes a step's content count as in use.
func (c *content) addStep(st Step) {
	if st.Layer == nil {
		return
	}
	c.blobs[st.Layer.Blob.Digest] = true
	c.chains[st.Layer.Chain] = true
	if st.Parent != "" {
		c.chains[st.Parent] = true
	}
}

// Restore unpacks a layer again, above parent, whose blob is here.
func (s *Store) Restore(ctx context.Context, parent oci.Digest, l Layer) (Layer, error) {
	l.Chain = nextChain(parent, l.Diff)
	if s.snaps == nil || s.snaps.Exists(l.Chain) {
		return l, nil
	}
	f, err := s.blobs.Open(l.Blob.Digest)
	if err != nil {
		return l, err
	}
	defer f.Close()
	draft, err := s.snaps.NewDraft(ctx, parent)
	if err != nil {
		return l, err
	}
	defer draft.Abort()
	if _, err := s.unpack(ctx, draft, f, l.Diff); err != nil {
		return l, err
	}
	return l, draft.Commit(l.Chain)
}

// AddSnapshot stores the changes of the active snapshot name as a layer above
// parent, which it stands on. Its files become the layer's: nothing is copied
// but what goes into the blob. With o.Time the times of the files differ from
// the snapshot's, and the layer is unpacked from the blob.
func (s *Store) AddSnapshot(ctx context.Context, parent oci.Digest, name string, changes []layer.Change, o layer.PackOptions) (Layer, error) {
	w, err := s.blobs.Writer(ctx, "", -1)
	if err != nil {
		return Layer{}, err
	}
	defer w.Abort()
	upper, err := s.snaps.Upper(name)
	if err != nil {
		return Layer{}, err
	}
	defer upper.Close()
	if err := layer.WriteChangesWith(ctx, w, upper, changes, o); err != nil {
		return Layer{}, err
	}
	d, size, err := w.Commit()
	if err != nil {
		return Layer{}, err
	}
	l := Layer{Diff: d, Size: size, Chain: nextChain(parent, d), Blob: oci.Descriptor{MediaType: oci.MediaTypeLayer, Digest: d, Size: size}}
	s.noteSize(l.Diff, l.Size)
	if o.Time != nil {
		return s.Restore(ctx, parent, l)
	}
	return l, s.snaps.CommitActive(ctx, name, l.Chain)
}
