package build_test

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestImageStore: an image that is built lies where the other commands look
// for it, whatever the global flags say of the place.
func TestImageStore(t *testing.T) {
	h := newHull(t)
	context := write(t, map[string]string{"Containerfile": "FROM scratch\nLABEL a=b\n"})
	apart := &hull{root: h.root, hull: append(slices.Clone(h.hull), "--imagestore", filepath.Join(t.TempDir(), "images"))}
	apart.do(t, "build", "-q", "-t", "localhost/apart:1", context)
	apart.do(t, "image", "exists", "localhost/apart:1")
	if out, err := h.try("image", "exists", "localhost/apart:1"); err == nil {
		t.Errorf("without --imagestore the image is there too: %s", out)
	}
}
