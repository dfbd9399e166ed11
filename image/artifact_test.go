package image

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/oci"
)

func artifactFile(title, text string) ArtifactFile {
	f := ArtifactFile{Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
	f.MediaType = "text/plain"
	if title != "" {
		f.Annotations = map[string]string{oci.AnnotationTitle: title}
	}
	return f
}

// An artifact keeps its content, whatever is collected, until it is removed;
// what another one has too stays.
func TestArtifactLife(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	add := func(name string, o AddArtifactOptions, files ...ArtifactFile) (Artifact, error) {
		return s.AddArtifact(ctx, name, files, o)
	}
	a, err := add("reg.example/a", AddArtifactOptions{}, artifactFile("one", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Name.String() != "reg.example/a:latest" || a.Manifest.ArtifactType != unknownArtifact || a.Size() != 1 {
		t.Errorf("made %+v", a)
	}
	for _, c := range []struct {
		name  string
		o     AddArtifactOptions
		files []ArtifactFile
		want  error
	}{
		{"reg.example/a", AddArtifactOptions{}, []ArtifactFile{artifactFile("x", "x")}, ErrArtifactExists},
		{"reg.example/none", AddArtifactOptions{Append: true}, []ArtifactFile{artifactFile("x", "x")}, ErrNoArtifact},
		{"reg.example/a", AddArtifactOptions{Append: true}, []ArtifactFile{artifactFile("one", "x")}, ErrArtifactFile},
		{"reg.example/b", AddArtifactOptions{}, []ArtifactFile{artifactFile("x", "x"), artifactFile("x", "y")}, ErrArtifactFile},
	} {
		if _, err := add(c.name, c.o, c.files...); !errors.Is(err, c.want) {
			t.Errorf("add %s %+v: %v, want %v", c.name, c.o, err, c.want)
		}
	}
	created := a.Manifest.Annotations[oci.AnnotationCreated]
	if a, err = add("reg.example/a", AddArtifactOptions{Append: true}, artifactFile("two", "22")); err != nil || len(a.Manifest.Layers) != 2 || a.Manifest.Annotations[oci.AnnotationCreated] != created {
		t.Errorf("appended: %+v, %v", a, err)
	}
	b, err := add("b:1", AddArtifactOptions{Type: "x/y"}, artifactFile("other", "22"))
	if err != nil || b.Name.String() != "b:1" || b.Manifest.ArtifactType != "x/y" {
		t.Errorf("made %+v, %v", b, err)
	}
	if _, err := s.Prune(ctx, PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []Artifact{a, b} {
		if missing := s.MissingBlobs(x); len(missing) > 0 {
			t.Errorf("%s lost %v to a prune", x.Name, missing)
		}
	}
	if got, err := s.FindArtifact(ctx, a.Digest.Hex()[:10]); err != nil || got.Digest != a.Digest {
		t.Errorf("by digest: %s, %v", got.Digest, err)
	}
	if d, err := s.RemoveArtifact(ctx, "reg.example/a"); err != nil || d != a.Digest {
		t.Errorf("removed %s, %v", d, err)
	}
	if _, err := s.FindArtifact(ctx, "reg.example/a"); !errors.Is(err, ErrNoArtifact) {
		t.Errorf("removed, and found: %v", err)
	}
	if missing := s.MissingBlobs(b); len(missing) > 0 {
		t.Errorf("b lost %v with a", missing)
	}
	if _, err := s.blobs.Stat(oci.FromBytes([]byte("1"))); err == nil {
		t.Error("a's own file is left")
	}
	if b, err = add("b:1", AddArtifactOptions{Replace: true}, artifactFile("new", "n")); err != nil || len(b.Manifest.Layers) != 1 {
		t.Errorf("replaced: %+v, %v", b, err)
	}
	if _, err := s.blobs.Stat(oci.FromBytes([]byte("22"))); err == nil {
		t.Error("what was replaced is left")
	}
	if err := os.WriteFile(filepath.Join(s.artifactsDir(), "b:1"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(ctx); err == nil {
		t.Error("content was collected while a record cannot be read")
	}
	if _, err := s.RemoveArtifact(ctx, "b:1"); err != nil {
		t.Errorf("remove what cannot be read: %v", err)
	}
	if list, err := s.Artifacts(ctx); err != nil || len(list) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
}

// IMG-07: a title is a name in the directory that was said, or an error; and no
// link that lies there leads out of it.
func TestIMG07ArtifactTitlesAreNoPaths(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	target := filepath.Join(dir, "target")
	if err := errors.Join(os.Mkdir(target, 0o755), os.Symlink("../outside", filepath.Join(target, "link"))); err != nil {
		t.Fatal(err)
	}
	for i, title := range []string{"../outside", "/etc/x", "..", ".", "a/b", "link"} {
		a, err := s.AddArtifact(ctx, "evil", []ArtifactFile{artifactFile(title, "evil")}, AddArtifactOptions{Replace: i > 0})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Extract(a, target, BlobFilter{})
		if title != "link" && err == nil {
			t.Errorf("title %q was taken", title)
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Fatalf("title %q wrote outside", title)
		}
		blobs, _ := a.Choose(BlobFilter{Digest: string(oci.FromBytes([]byte("evil")))})
		if name, err := blobs[0].FileName(); err != nil || !strings.HasPrefix(name, "sha256-") {
			t.Errorf("by digest it is called %q, %v", name, err)
		}
	}
}
