package image

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/oci"
)

// Row IMG-07: titles and names in annotations are never made into paths. What
// is saved lies below the directory, under digests.
func TestIMG07AnnotationsAreNoPaths(t *testing.T) {
	ctx := context.Background()
	outside := t.TempDir()
	for _, evil := range []string{"../evil", "../../evil", "/" + outside + "/evil", "a/../../evil", "..", ".", "", "evil\x00x", "-rf", strings.Repeat("../", 60) + "evil"} {
		dir, img := layout(t)
		path := filepath.Join(dir, "index.json")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var x oci.Index
		if err := json.Unmarshal(data, &x); err != nil {
			t.Fatal(err)
		}
		for i := range x.Manifests {
			x.Manifests[i].Annotations = map[string]string{
				oci.AnnotationRefName: evil, oci.AnnotationImageName: evil, "org.opencontainers.image.title": evil,
				"io.deis.oras.content.unpack": "true", "io.deis.oras.content.digest": evil,
			}
		}
		if err := os.WriteFile(path, mustJSON(t, x), 0o600); err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		s := storeIn(t, filepath.Join(root, "store"))
		loaded, err := s.Load(ctx, Source{Path: dir}, LoadOptions{})
		if err != nil {
			continue // refused
		}
		if loaded[0].Image.ID != img.ID {
			t.Errorf("%q: another image: %v", evil, loaded)
		}
		saved := filepath.Join(root, "saved")
		for _, format := range []string{OCIDir, DockerDir} {
			out := filepath.Join(saved, format)
			if err := s.SaveDir(ctx, out, SaveItem{Image: loaded[0].Image, Names: loaded[0].Names}, SaveOptions{Format: format}); err != nil {
				t.Errorf("%q: save %s: %v", evil, format, err)
			}
		}
		for _, top := range []string{root, outside} {
			filepath.WalkDir(top, func(p string, e fs.DirEntry, err error) error {
				if err == nil && strings.Contains(e.Name(), "evil") && !strings.Contains(p, "/names/") {
					t.Errorf("%q: made %s", evil, p)
				}
				return err
			})
		}
		if entries, _ := os.ReadDir(root); len(entries) != 2 {
			t.Errorf("%q: %v beside the store and what was saved", evil, entries)
		}
	}
}
