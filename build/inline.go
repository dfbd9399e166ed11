package build

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"hull/image"
	"hull/oci"
)

// An inlineStep is a step in the configuration of the image that it is part of.
type inlineStep struct {
	Key     string    `json:"key"`
	Layer   int       `json:"layer"` // counted from 1; 0 is none
	Created time.Time `json:"created"`
	Text    string    `json:"text,omitempty"`
}

// inline notes the steps that lie below the image in its configuration. Those of
// stages that were only copied from are not there, for their layers are not.
func (b *building) inline(st *stage) error {
	chains, layers := map[oci.Digest]bool{"": true}, map[oci.Digest]int{}
	for i, l := range st.layers {
		chains[l.Chain], layers[l.Diff] = true, i+1
	}
	b.mu.Lock()
	steps := slices.Clone(b.exports)
	b.mu.Unlock()
	all := []inlineStep{}
	for _, s := range steps {
		n := 0
		if s.Layer != nil {
			n = layers[s.Layer.Diff]
		}
		if !chains[s.Parent] || s.Layer != nil && n == 0 {
			continue
		}
		all = append(all, inlineStep{s.Key, n, b.o.created(s.Created), s.Text})
	}
	slices.SortFunc(all, func(x, y inlineStep) int { return strings.Compare(x.Key, y.Key) })
	data, err := json.Marshal(slices.CompactFunc(all, func(x, y inlineStep) bool { return x.Key == y.Key }))
	if err != nil {
		return fmt.Errorf("note the steps in the image: %w", err)
	}
	st.config.BuildCache = data
	return nil
}

// InlineSteps are the steps that an image's configuration tells of, by their
// keys; a step's layer has its uncompressed digest, and index says where in the
// manifest it is.
func InlineSteps(config oci.Image) (steps map[string]image.Step, index map[string]int, err error) {
	if len(config.BuildCache) == 0 {
		return nil, nil, nil
	}
	var all []inlineStep
	if err := json.Unmarshal(config.BuildCache, &all); err != nil {
		return nil, nil, fmt.Errorf("read the build cache of the image: %w", err)
	}
	steps, index = map[string]image.Step{}, map[string]int{}
	for _, s := range all {
		step := image.Step{Key: s.Key, Created: s.Created, Text: s.Text}
		if s.Layer > 0 {
			if s.Layer > len(config.RootFS.DiffIDs) {
				return nil, nil, fmt.Errorf("read the build cache of the image: step %s is layer %d of %d", s.Key, s.Layer, len(config.RootFS.DiffIDs))
			}
			step.Layer = &image.Layer{Diff: config.RootFS.DiffIDs[s.Layer-1]}
		}
		steps[s.Key], index[s.Key] = step, s.Layer-1
	}
	return steps, index, nil
}
