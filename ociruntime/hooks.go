package ociruntime

import (
	"context"

	"hull/oci"
)

// RunHooks runs the hooks of one kind, one after the other, with s on their
// standard input; the first that fails ends it. With a pid they run in the
// namespaces of that process and its root directory root, and their paths are
// those seen there; without, in the bundle.
func RunHooks(ctx context.Context, kind string, hooks []oci.Hook, s oci.State, pid int, root string) error {
	return runHooks(ctx, kind, hooks, s, pid, root)
}

// WaitsEarly reports whether there is something to do before pivot_root: hooks, or
// file systems to be filled.
func WaitsEarly(spec *oci.Spec) bool { return waitsEarly(spec) }
