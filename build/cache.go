package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"hull/image"
)

// keyVersion changes when the same key would mean another result.
const keyVersion = "hull build step 2"

// key is the hash of what a step reads.
func key(parts ...any) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range append([]any{keyVersion}, parts...) {
		if err := enc.Encode(p); err != nil {
			panic("bug: key of a build step: " + err.Error())
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// find looks a step up, unless the stage or the age says otherwise.
func (st *stage) find(ctx context.Context, k string) (image.Step, bool) {
	o := &st.b.o
	if st.noCache {
		return image.Step{}, false
	}
	step, ok := st.b.Images.FindStep(ctx, k)
	if !ok {
		step, ok = st.fetch(ctx, k)
	}
	if !ok || o.HasTTL && time.Since(step.Created) > o.CacheTTL {
		return image.Step{}, false
	}
	st.export(step)
	return step, true
}

// remember keeps a step's result.
func (st *stage) remember(step image.Step) error {
	st.export(step)
	if err := st.b.Images.SaveStep(step); err != nil {
		return fmt.Errorf("keep the step: %w", err)
	}
	return nil
}
