package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/image"
	"hull/oci"
)

// A mounted artifact is a file, or files in a directory; it can be read by any
// user, not written, and stays while it is used, not longer.
func TestArtifactMounts(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1")
	ctx := context.Background()
	add := func(name string, titles ...string) image.Artifact {
		var files []image.ArtifactFile
		for _, title := range titles {
			f := image.ArtifactFile{Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("of " + title + "\n")), nil }}
			f.Annotations = map[string]string{oci.AnnotationTitle: title}
			f.MediaType = "text/plain"
			files = append(files, f)
		}
		a, err := h.e.AddArtifact(ctx, name, files, image.AddArtifactOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	one := add("one", "file")
	add("two:1", "a", "b")
	for _, c := range []struct{ mount, command, want string }{
		{"src=one,dst=/new", "cat /new", "of file\n"},
		{"src=one,dst=/tmp", "cat /tmp/file", "of file\n"},
		{"src=one,dst=/tmp,name=x", "cat /tmp/x", "of file\n"},
		{"src=one,dst=/bin/busybox.txt,digest=" + string(one.Manifest.Layers[0].Digest), "cat /bin/busybox.txt", "of file\n"},
		{"src=two:1,dst=/new", "cat /new/a /new/b", "of a\nof b\n"},
		{"src=two:1,dst=/new,name=x", "cat /new/x-0 /new/x-1", "of a\nof b\n"},
		{"src=two:1,dst=/new,title=b", "cat /new", "of b\n"},
		{"src=" + one.Digest.Hex()[:12] + ",dst=/new", "cat /new", "of file\n"},
		{"src=one,dst=/new", "echo x 2>/dev/null >/new; rm /new 2>/dev/null; cat /new", "of file\n"},
	} {
		m, err := ParseMount("type=artifact," + c.mount)
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"", "1000:1000"} {
			o := h.options("sh", "-c", c.command)
			o.Mounts, o.AutoRemove, o.User, o.Image, o.Rootfs = []Mount{m}, true, user, "fx:1", ""
			if out := h.output(o); out != c.want {
				t.Errorf("%s as %q: %q, want %q", c.mount, user, out, c.want)
			}
		}
	}
	m, _ := ParseMount("type=artifact,src=one,dst=/new")
	o := h.options("sh", "-c", "sleep 100")
	o.Mounts, o.Image, o.Rootfs = []Mount{m}, "fx:1", ""
	id := h.detached(o)
	if _, err := h.e.RemoveArtifact(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if code, out := h.exec(id, "cat", "/new"); code != 0 || out != "of file\n" {
		t.Errorf("after the removal: %d, %q", code, out)
	}
	if err := h.e.Restart(ctx, id, StopOptions{Timeout: new(uint)}); !errors.Is(err, image.ErrNoArtifact) {
		t.Errorf("restart after the removal: %v", err)
	}
	if _, err := h.e.Create(ctx, o); !errors.Is(err, image.ErrNoArtifact) || !strings.Contains(err.Error(), "validating artifact") {
		t.Errorf("create without it: %v", err)
	}
	if err := os.Remove(filepath.Join(h.dir, "root", "sha256", oci.FromBytes([]byte("of a\n")).Hex())); err != nil {
		t.Fatal(err)
	}
	found, err := h.e.Check(ctx, false, true)
	if err != nil || len(found) != 1 || found[0].Subject != "artifact two:1" {
		t.Errorf("a file is missing, and check says %v, %v", found, err)
	}
}

func TestParseArtifactMount(t *testing.T) {
	for spec, good := range map[string]bool{
		"type=artifact,src=a,dst=/x":                     true,
		"type=artifact,src=a,dst=/x,title=t,name=n":      true,
		"type=artifact,dst=/x":                           false,
		"type=artifact,src=a":                            false,
		"type=artifact,src=a,dst=/x,rw":                  false,
		"type=artifact,src=a,dst=/x,Z":                   false,
		"type=artifact,src=a,dst=/x,ro":                  true,
		"type=artifact,src=a,dst=/x,title=t,digest=d":    false,
		"type=artifact,src=a,dst=/x,name=../../etc/evil": false,
	} {
		if _, err := ParseMount(spec); (err == nil) != good {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
