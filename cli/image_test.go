package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hull/engine"
	"hull/image"
	"hull/oci"
)

// shown runs f on a session of the program and returns what it printed.
func shown(t *testing.T, program string, f func(s *session) error) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := f(&session{program: program, stdout: out, stderr: out}); err != nil {
		t.Errorf("error: %v", err)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func someImages(t *testing.T) []engine.ImageEntry {
	t.Helper()
	name := func(s string) oci.Reference {
		r, err := oci.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	named := image.Image{
		ID: oci.Digest("sha256:" + strings.Repeat("a1", 32)), Manifest: oci.Digest("sha256:" + strings.Repeat("b2", 32)),
		Names: []oci.Reference{name("docker.io/library/busybox:latest"), name("localhost/fx:1")}, Created: time.Now().Add(-49 * time.Hour), Size: 4501234,
	}
	named.Config.Config.Labels = map[string]string{"a": "1"}
	nameless := image.Image{ID: oci.Digest("sha256:" + strings.Repeat("c3", 32)), Manifest: oci.Digest("sha256:" + strings.Repeat("d4", 32)), Created: time.Now().Add(-50 * time.Hour), Size: 999}
	return []engine.ImageEntry{{Image: named, Containers: []string{"x"}}, {Image: nameless, Dangling: true}}
}

// IMG-11: tables, templates, JSON, sorting.
func TestIMG11Images(t *testing.T) {
	for _, c := range []struct {
		program, want string
		o             imagesOptions
	}{
		{"podman", "REPOSITORY                 TAG         IMAGE ID      CREATED     SIZE\n" +
			"docker.io/library/busybox  latest      a1a1a1a1a1a1  2 days ago  4.5 MB\n" +
			"localhost/fx               1           a1a1a1a1a1a1  2 days ago  4.5 MB\n" +
			"<none>                     <none>      c3c3c3c3c3c3  2 days ago  999 B\n", imagesOptions{}},
		{"docker", "REPOSITORY    TAG         IMAGE ID      CREATED     SIZE\n" +
			"busybox       latest      a1a1a1a1a1a1  2 days ago  4.5MB\n" +
			"localhost/fx  1           a1a1a1a1a1a1  2 days ago  4.5MB\n" +
			"<none>        <none>      c3c3c3c3c3c3  2 days ago  999B\n", imagesOptions{}},
		{"hull", "a1a1a1a1a1a1\nc3c3c3c3c3c3\n", imagesOptions{quiet: true}},
		{"hull", "c3c3c3c3c3c3 <none>:<none> 999 B\na1a1a1a1a1a1 docker.io/library/busybox:latest 4.5 MB\na1a1a1a1a1a1 localhost/fx:1 4.5 MB\n",
			imagesOptions{sort: "size", format: "{{.ID}} {{.Repository}}:{{.Tag}} {{.Size}}"}},
		{"hull", "1 1\n1 1\n0 <no value>\n", imagesOptions{format: "{{.Containers}} {{.Labels.a}}"}},
		{"hull", "REPOSITORY                 IMAGE ID\n<none>                     c3c3c3c3c3c3\ndocker.io/library/busybox  a1a1a1a1a1a1\nlocalhost/fx               a1a1a1a1a1a1\n",
			imagesOptions{sort: "repository", format: "table {{.Repository}}\t{{.ID}}"}},
	} {
		got := shown(t, c.program, func(s *session) error { return s.showImages(someImages(t), &c.o) })
		if got != c.want {
			t.Errorf("%s %+v:\n%s\nwant:\n%s", c.program, c.o, got, c.want)
		}
	}
	got := shown(t, "hull", func(s *session) error { return s.showImages(nil, &imagesOptions{format: "json"}) })
	if got != "[]\n" {
		t.Errorf("no images as JSON = %q", got)
	}
}

func TestRemovedLines(t *testing.T) {
	r := image.Removed{Untagged: []oci.Reference{{Domain: "docker.io", Path: "library/x", Tag: "1"}}, Deleted: []oci.Digest{"sha256:ab"}}
	for program, want := range map[string]string{
		"podman": "Untagged: docker.io/library/x:1\nDeleted: ab\n",
		"docker": "Untagged: x:1\nDeleted: sha256:ab\n",
	} {
		if got := shown(t, program, func(s *session) error { s.printRemovedImages(r); return nil }); got != want {
			t.Errorf("%s: %q, want %q", program, got, want)
		}
	}
}

func TestSaveOptions(t *testing.T) {
	for _, c := range []struct {
		o  saveOptions
		ok bool
	}{
		{saveOptions{SaveOptions: image.SaveOptions{Format: image.DockerArchive}}, true},
		{saveOptions{SaveOptions: image.SaveOptions{Format: image.OCIDir}}, false},
		{saveOptions{SaveOptions: image.SaveOptions{Format: image.OCIDir}, output: "d"}, true},
		{saveOptions{SaveOptions: image.SaveOptions{Format: image.OCIArchive, Compress: true}}, false},
		{saveOptions{SaveOptions: image.SaveOptions{Format: image.OCIArchive}, multi: true}, false},
	} {
		if err := c.o.check(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
