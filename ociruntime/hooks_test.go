package ociruntime

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"hull/oci"
)

// Hooks run where the peers run them: in the bundle, createContainer in the container's root.
// poststart comes when the program runs, not before.
func TestHookPlaces(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	root := ""
	r, b := bundle(t, func(s *oci.Spec) {
		root = s.Root.Path
		hook := func(script string) []oci.Hook {
			return []oci.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script + " >>" + log}, Env: []string{"PATH=/bin:/usr/bin"}}}
		}
		s.Hooks = &oci.Hooks{CreateRuntime: hook("pwd"), CreateContainer: hook("{ pwd; ls bin/busybox proc/self/status; }"),
			Poststart: hook(`read -r x; x=${x#*'"pid":'}; readlink /proc/${x%%,*}/exe`)}
	}, "sleep", "1")
	if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
		t.Fatalf("Run = %d, %v", code, err)
	}
	got, err := os.ReadFile(log)
	if want := b + "\n" + root + "\nbin/busybox\nproc/self/status\n/bin/busybox\n"; string(got) != want || err != nil {
		t.Errorf("hooks wrote %q, %v, want %q", got, err, want)
	}
}
