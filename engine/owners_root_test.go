package engine

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listOwners lists an archive's files with their owners.
func listOwners(t *testing.T, archive []byte) map[string][2]int {
	t.Helper()
	out := map[string][2]int{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out["/"+strings.Trim(h.Name, "/")] = [2]int{h.Uid, h.Gid}
	}
}

// What goes into and comes out of a container with a user namespace has the
// ids that it has inside, running and stopped.
func TestUserNamespaceOwners(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "touch /tmp/five && chown 5:6 /tmp/five 2>/dev/null; sleep 1000")
	if err := os.Remove(filepath.Join(h.rootfs, "bin/chown")); err == nil || os.Symlink("busybox", filepath.Join(h.rootfs, "bin/chown")) != nil {
		t.Fatal("no chown")
	}
	o.UIDMap, o.User = []string{"0:200000:65536"}, "0:0"
	id := h.detached(o)
	h.eventually("the program has made its file", func() bool {
		code, out := h.exec(id, "stat", "-c", "%u:%g", "/tmp/five")
		return code == 0 && strings.TrimSpace(out) == "5:6"
	})
	file := filepath.Join(h.dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 7, 8); err != nil {
		t.Fatal(err)
	}
	check := func(state, suffix string) {
		t.Helper()
		for name, archive := range map[string]bool{"chowned": false, "kept": true} {
			if err := h.e.Copy(t.Context(), CopyEnd{Path: file}, CopyEnd{Container: id, Path: "/tmp/" + name + suffix}, CopyOptions{Archive: archive}); err != nil {
				t.Fatal(err)
			}
		}
		var out, export bytes.Buffer
		if err := h.e.Copy(t.Context(), CopyEnd{Container: id, Path: "/tmp"}, CopyEnd{Stream: io.Writer(&out)}, CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := h.e.Export(t.Context(), id, &export); err != nil {
			t.Fatal(err)
		}
		exported := listOwners(t, export.Bytes())
		for what, got := range map[string]map[string][2]int{"copy": listOwners(t, out.Bytes()), "export": exported} {
			for name, want := range map[string][2]int{"/tmp/five": {5, 6}, "/tmp/chowned" + suffix: {0, 0}, "/tmp/kept" + suffix: {7, 8}} {
				if got[name] != want {
					t.Errorf("%s, %s: %s is %v's, want %v", state, what, name, got[name], want)
				}
			}
		}
		if got := exported["/bin/busybox"]; got != [2]int{0, 0} {
			t.Errorf("%s: the image's file is %v's", state, got)
		}
	}
	check("running", "1")
	zero := uint(0)
	if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	check("stopped", "2")
	if err := h.e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// Another container of the same user namespace sees its own ids too.
	other := h.options("sh", "-c", "id -u; stat -c %u:%g /bin/busybox; cat /proc/self/uid_map")
	other.UserNS = "container:" + id
	if got := strings.Fields(h.output(other)); strings.Join(got, " ") != "0 0:0 0 200000 65536" {
		t.Errorf("in the same user namespace: %v", got)
	}
}
