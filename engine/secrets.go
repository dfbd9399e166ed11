package engine

import (
	"context"
	"fmt"

	"hull/oci"
)

// secretMounts are the files of a container's secrets.
func (e *Engine) secretMounts(ctx context.Context, r *record) ([]oci.Mount, error) {
	for _, s := range r.Options.Secrets {
		return nil, fmt.Errorf("secret %s: %w", s.Name, ErrNotFound)
	}
	return nil, nil
}
