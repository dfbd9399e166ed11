package engine

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hull/image"
	"hull/oci"
)

// importRootfs makes an image of the harness's root.
func (h *harness) importRootfs(name string, changes ...string) image.Image {
	h.Helper()
	tar := exec.Command("tar", "-C", h.rootfs, "-c", ".")
	out, err := tar.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := tar.Start(); err != nil {
		h.Fatal(err)
	}
	ref, err := image.ParseName(name)
	if err != nil {
		h.Fatal(err)
	}
	img, err := h.e.ImportImage(h.Context(), out, image.ImportOptions{Names: []oci.Reference{ref}, Changes: changes})
	if err := errors.Join(err, tar.Wait()); err != nil {
		h.Fatal(err)
	}
	return img
}

// IMG-16: an image that a container uses stays, unless it is forced.
func TestIMG16ImageInUse(t *testing.T) {
	h := newHarness(t)
	img := h.importRootfs("fx:1", `LABEL a=1`, `USER 1000`)
	if out := h.output(CreateOptions{Image: "fx:1", NetworkMode: "none", Command: []string{"id", "-u"}}); out != "1000\n" {
		t.Errorf("id -u = %q", out)
	}
	id, err := h.e.Create(h.Context(), CreateOptions{Image: "fx:1", NetworkMode: "none", Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]int{"containers=true": 1, "containers=false": 0, "label=a=1": 1, "label!=a": 0, "reference=*fx*": 1, "dangling=true": 0,
		"id=" + img.ID.Hex()[:8]: 1, "digest=" + string(img.Manifest): 1, "since=fx:1": 0, "until=2001-01-01T00:00:00Z": 0, "reference!=fx": 0} {
		f, err := ParseFilters([]string{filter})
		if err != nil {
			t.Fatal(err)
		}
		list, err := h.e.ListImages(h.Context(), ImageListOptions{Filters: f})
		if err != nil || len(list) != want {
			t.Errorf("filter %s: %d images, %v, want %d", filter, len(list), err, want)
		}
	}
	if _, err := h.e.ListImages(h.Context(), ImageListOptions{Filters: Filters{"nosuch": {"1"}}}); err == nil {
		t.Error("an unknown filter is no error")
	}
	var inUse *image.InUseError
	if _, err := h.e.RemoveImage(h.Context(), "fx:1", ImageRemoveOptions{}); !errors.As(err, &inUse) || inUse.Containers[0] != id {
		t.Errorf("remove an image in use: %v", err)
	}
	if _, err := h.e.PruneImages(h.Context(), true, ImageListOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := h.e.InspectImage(h.Context(), "fx:1"); err != nil {
		t.Errorf("prune took an image in use: %v", err)
	}
	r, err := h.e.RemoveImage(h.Context(), "fx:1", ImageRemoveOptions{Force: true})
	if err != nil || len(r.Deleted) != 1 {
		t.Errorf("forced: %+v, %v", r, err)
	}
	if ok, _ := h.e.Exists(h.Context(), id); ok {
		t.Error("the container of a forced removal is still there")
	}
}

// IMG-25: the files of an image without a container.
func TestIMG25MountImage(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1")
	m, err := h.e.MountImage(h.Context(), "fx:1")
	if err != nil {
		t.Fatal(err)
	}
	defer h.e.UnmountImages(h.Context(), true)
	if _, err := os.Stat(filepath.Join(m.Path, "bin/sh")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(m.Path, "new"), nil, 0o600); err == nil {
		t.Error("the mount can be written to")
	}
	if list, err := h.e.MountedImages(h.Context()); err != nil || len(list) != 1 {
		t.Errorf("mounted = %v, %v", list, err)
	}
	if _, err := h.e.UnmountImage(h.Context(), "fx:1", false); err != nil {
		t.Error(err)
	}
	if _, err := h.e.UnmountImage(h.Context(), "fx:1", false); err == nil {
		t.Error("unmounted twice without an error")
	}
}

// A bundle stands alone: relative root, no path of this store in its config.
func TestBundle(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1", `CMD ["echo", "hi"]`, `ENV A=1`)
	dir := filepath.Join(h.dir, "bundle")
	if err := h.e.Bundle(h.Context(), dir, CreateOptions{Image: "fx:1", NetworkMode: "none"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec oci.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Root.Path != "rootfs" || spec.Process.Args[0] != "echo" || spec.Linux.Seccomp == nil || len(spec.Linux.Seccomp.Syscalls) == 0 {
		t.Errorf("config.json = %s", data)
	}
	for _, path := range []string{h.e.o.Root, h.e.o.RunRoot} {
		if strings.Contains(string(data), path) {
			t.Errorf("config.json names %s", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "rootfs/bin/sh")); err != nil {
		t.Error(err)
	}
	if err := h.e.Bundle(h.Context(), dir, CreateOptions{Image: "fx:1"}); err == nil {
		t.Error("a bundle was made over another")
	}
}
