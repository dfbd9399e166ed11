package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hull/blob"
	"hull/codec"
	"hull/oci"
)

// newStore is a store of blobs only: what the records and archives do is
// independent of the snapshots.
func newStore(t testing.TB) *Store {
	t.Helper()
	return storeIn(t, t.TempDir())
}

func storeIn(t testing.TB, root string) *Store {
	t.Helper()
	b, err := blob.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(root, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Codec = codec.Codec{}
	return s
}

// tarOf makes a layer of files: "dir/" is a directory.
func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range sortedKeys(files) {
		h := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(files[name])), ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write([]byte(files[name]))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// busyboxLayer is a root with a shell where the machine has a static one, else with made-up files.
func busyboxLayer(t testing.TB) []byte {
	files := map[string]string{"bin/": "", "etc/": "", "etc/passwd": "root:x:0:0:root:/:/bin/sh\n"}
	if data, err := os.ReadFile("/bin/busybox"); err == nil {
		files["bin/busybox"], files["bin/sh"] = string(data), string(data)
	} else {
		files["bin/sh"] = "no shell\n"
	}
	return tarOf(t, files)
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

func ref(t testing.TB, s string) oci.Reference {
	t.Helper()
	n, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// addImage makes an image of one small layer; what makes it another image.
func addImage(t testing.TB, s *Store, what string, names ...string) Image {
	t.Helper()
	return addLayers(t, s, what, []string{what}, names...)
}

func addLayers(t testing.TB, s *Store, what string, contents []string, names ...string) Image {
	t.Helper()
	ctx := context.Background()
	h, err := s.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	now := time.Unix(1700000000, 0).UTC()
	c := oci.Image{Created: &now, Architecture: "amd64", OS: "linux", Author: what}
	var layers []Layer
	var parent oci.Digest
	for i, text := range contents {
		l, err := s.AddLayer(ctx, parent, bytes.NewReader(tarOf(t, map[string]string{"f": text})), LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parent = l.Chain
		layers = append(layers, l)
		c.History = append(c.History, oci.History{Created: &now, CreatedBy: contents[i]})
	}
	var refs []oci.Reference
	for _, n := range names {
		refs = append(refs, ref(t, n))
	}
	img, err := s.Create(ctx, c, layers, CreateOptions{Names: refs})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestResolve(t *testing.T) {
	s := newStore(t)
	s.Search = []string{"docker.io", "reg.example:5000/team"}
	a := addImage(t, s, "a", "localhost/fx:1", "docker.io/library/busybox:latest")
	b := addImage(t, s, "b", "quay.io/group/tool:2", "reg.example:5000/team/app:latest")
	c := addImage(t, s, "c", "quay.io/zgroup/tool:2")
	for name, want := range map[string]oci.Digest{
		"localhost/fx:1": a.ID, "fx:1": a.ID, "busybox": a.ID, "docker.io/busybox": a.ID, "library/busybox": a.ID,
		"docker.io/library/busybox:latest": a.ID, "index.docker.io/busybox": a.ID,
		"quay.io/group/tool:2": b.ID, "tool:2": b.ID, "group/tool:2": b.ID, "app": b.ID, "zgroup/tool:2": c.ID,
		string(a.ID): a.ID, a.ID.Hex(): a.ID, b.ID.Hex()[:12]: b.ID, "sha256:" + c.ID.Hex()[:10]: c.ID,
		"localhost/fx@" + string(a.Manifest): a.ID, "tool@" + string(c.Manifest): c.ID, string(b.Manifest): b.ID,
		"fx:9@" + string(a.Manifest): a.ID,
	} {
		img, err := s.Resolve(context.Background(), name)
		if err != nil || img.ID != want {
			t.Errorf("Resolve(%q) = %v, %v, want %v", name, img.ID, err, want)
		}
	}
	for _, name := range []string{"", "fx", "fx:2", "ool:2", "quay.io/tool:2", "sha256:", "sha256:zz", "UPPER", "tool@sha256:" + strings.Repeat("0", 64),
		"localhost/fx@" + string(b.Manifest), strings.Repeat("f", 64), "../../etc", "a b"} {
		if img, err := s.Resolve(context.Background(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Resolve(%q) = %v, %v, want ErrNotFound", name, img.ID, err)
		}
	}
}

func TestFind(t *testing.T) {
	s := newStore(t)
	a := addImage(t, s, "a", "localhost/x:1", "localhost/y:1")
	for name, names := range map[string]int{"x:1": 1, "localhost/y:1": 1, a.ID.Hex()[:10]: 2, string(a.ID): 2} {
		img, err := s.Find(context.Background(), name)
		if err != nil || img.ID != a.ID || len(img.Names) != names {
			t.Errorf("Find(%q) = %v %v, %v", name, img.ID, img.Names, err)
		}
	}
	if _, err := s.Find(context.Background(), "z"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Find = %v, want ErrNotFound", err)
	}
}

// REG-08: wherever a digest stands, what is none is refused.
func TestREG08Digests(t *testing.T) {
	good := string(oci.FromBytes(nil))
	config := `{"mediaType":"` + oci.MediaTypeConfig + `","digest":"CONFIG","size":2}`
	manifest := `{"schemaVersion":2,"config":` + config + `,"layers":[{"mediaType":"` + oci.MediaTypeLayer + `","digest":"LAYER","size":1}],"subject":{"digest":"SUBJECT","size":1}}`
	for _, bad := range []string{"", "sha256", "sha256:", "sha256:abc", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("g", 64), "md5:" + strings.Repeat("a", 32),
		"sha256:../../../../" + strings.Repeat("a", 52), good + "/../x", good + "\u0000", "SHA256:" + good[7:], "sha512:" + good[7:], "a+b:" + good[7:]} {
		for _, place := range []string{"CONFIG", "LAYER", "SUBJECT"} {
			m := strings.Replace(manifest, place, bad, 1)
			m = strings.NewReplacer("CONFIG", good, "LAYER", good, "SUBJECT", good).Replace(m)
			if _, err := checkParts([]byte(m), []byte("{}")); err == nil || errors.Is(err, ErrMismatch) {
				t.Errorf("%q as %s: %v", bad, place, err)
			}
		}
		index := `{"schemaVersion":2,"manifests":[{"mediaType":"` + oci.MediaTypeManifest + `","digest":"` + bad + `","size":2}]}`
		if _, err := ociCandidates(nil, []byte(index), oci.HostPlatform()); err == nil {
			t.Errorf("%q in an index: no error", bad)
		}
		if _, err := oci.DecodeImage([]byte(`{"rootfs":{"type":"layers","diff_ids":["` + bad + `"]}}`)); err == nil {
			t.Errorf("%q as diff ID: no error", bad)
		}
	}
}

// A name that is there must not be shadowed by an image whose ID begins so.
func TestNameBeforePrefix(t *testing.T) {
	s := newStore(t)
	a := addImage(t, s, "a")
	b := addImage(t, s, "b", "localhost/"+a.ID.Hex()[:8]+":latest")
	img, err := s.Resolve(context.Background(), a.ID.Hex()[:8])
	if err != nil || img.ID != b.ID {
		t.Errorf("Resolve = %v, %v, want %v", img.ID, err, b.ID)
	}
}

func TestTagMovesAName(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	a := addImage(t, s, "a", "localhost/x:1")
	b := addImage(t, s, "b", "localhost/x:1")
	got, _ := s.Get(ctx, a.ID)
	if len(got.Names) != 0 {
		t.Errorf("the old image still has %v", got.Names)
	}
	if err := s.Tag(ctx, a.ID, ref(t, "y"), ref(t, "docker.io/z:3")); err != nil {
		t.Fatal(err)
	}
	got, _ = s.Get(ctx, a.ID)
	if len(got.Names) != 2 || got.Names[0].String() != "docker.io/library/z:3" || got.Names[1].String() != "localhost/y:latest" {
		t.Errorf("names = %v", got.Names)
	}
	if err := s.Tag(ctx, a.ID, ref(t, "y@"+string(b.ID))); err == nil {
		t.Error("tag by digest: no error")
	}
	if gone, err := s.Untag(ctx, a.ID, ref(t, "localhost/y:latest")); err != nil || len(gone) != 1 {
		t.Errorf("Untag = %v, %v", gone, err)
	}
	if _, err := s.Untag(ctx, a.ID, ref(t, "localhost/y:latest")); !errors.Is(err, ErrNotFound) {
		t.Errorf("second Untag = %v, want ErrNotFound", err)
	}
}

func TestLongNames(t *testing.T) {
	s := newStore(t)
	long := "localhost/" + strings.Repeat("a", 240) + ":" + strings.Repeat("T", 128)
	img := addImage(t, s, "a", long)
	got, err := s.Resolve(context.Background(), long)
	if err != nil || got.ID != img.ID || got.Names[0].String() != long {
		t.Errorf("Resolve = %v, %v", got.Names, err)
	}
	if _, err := s.Remove(context.Background(), long, RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

func TestRemove(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	a := addLayers(t, s, "a", []string{"shared", "a"}, "localhost/a:1", "localhost/a:2")
	b := addLayers(t, s, "b", []string{"shared", "b"}, "localhost/b:1")
	if _, err := s.Remove(ctx, a.ID.Hex(), RemoveOptions{}); err == nil || !strings.Contains(err.Error(), "more than one tag") {
		t.Errorf("by ID with two names: %v", err)
	}
	r, err := s.Remove(ctx, "a:1", RemoveOptions{})
	if err != nil || len(r.Untagged) != 1 || len(r.Deleted) != 0 {
		t.Errorf("first name: %+v, %v", r, err)
	}
	users := func(context.Context, Image) ([]string, error) { return []string{"c1"}, nil }
	if _, err := s.Remove(ctx, "a:2", RemoveOptions{Users: users}); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	evicted := false
	r, err = s.Remove(ctx, "a:2", RemoveOptions{Force: true, Users: users, Evict: func(context.Context, []string) error { evicted = true; return nil }})
	if err != nil || !evicted || len(r.Deleted) != 1 || r.Deleted[0] != a.ID {
		t.Errorf("forced: %+v, %v", r, err)
	}
	if _, err := s.Blobs().Stat(b.Layers[0].Blob.Digest); err != nil {
		t.Errorf("a blob that is shared: %v", err)
	}
	for _, d := range []oci.Digest{a.Layers[1].Blob.Digest, a.ID, a.Manifest} {
		if _, err := s.Blobs().Stat(d); err == nil {
			t.Errorf("blob %s is still there", d)
		}
	}
	if _, err := s.Remove(ctx, "a:2", RemoveOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if _, err := s.Remove(ctx, b.ID.Hex()[:6], RemoveOptions{}); err != nil {
		t.Error(err)
	}
	empty(t, s)
}

// empty checks that nothing is left in the store.
func empty(t *testing.T, s *Store) {
	t.Helper()
	var left []string
	root := filepath.Dir(s.dir)
	filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "hold" && !strings.HasSuffix(d.Name(), ".lock") {
			left = append(left, strings.TrimPrefix(p, root))
		}
		return nil
	})
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// Content in use by a Hold waits for its end.
func TestHoldKeepsGarbage(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	img := addImage(t, s, "a", "localhost/a:1")
	h, err := s.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, "a:1", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blobs().Stat(img.ID); err != nil {
		t.Errorf("the blob went under a hold: %v", err)
	}
	h.Release()
	empty(t, s)
}

func TestPrune(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	base := addLayers(t, s, "base", []string{"one"})
	step := addLayers(t, s, "base", []string{"one", "two"})
	addLayers(t, s, "base", []string{"one", "two", "three"}, "localhost/app:1")
	orphan := addImage(t, s, "orphan")
	images, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFamily(images)
	if f.Parent(step.ID) != base.ID || !f.Intermediate(&base) || f.Dangling(&base) || !f.Dangling(&orphan) {
		t.Errorf("family is wrong: %+v", f.parent)
	}
	r, err := s.Prune(ctx, PruneOptions{})
	if err != nil || len(r.Deleted) != 1 || r.Deleted[0] != orphan.ID {
		t.Errorf("Prune = %+v, %v", r, err)
	}
	// With the last of a family, its nameless parents go.
	r, err = s.Remove(ctx, "app:1", RemoveOptions{})
	if err != nil || len(r.Deleted) != 3 {
		t.Errorf("Remove = %+v, %v, want three deleted", r, err)
	}
	empty(t, s)
}

func TestRecordIsChecked(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "localhost/a:1")
	path := filepath.Join(s.recordsDir(), img.ID.Hex())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", strings.Replace(string(data), `"version":1`, `"version":9`, 1), strings.Replace(string(data), img.Layers[0].Diff.Hex(), "../x", 1)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resolve(context.Background(), "a:1"); !errors.Is(err, ErrDamaged) {
			t.Errorf("record %.20q: %v, want ErrDamaged", bad, err)
		}
	}
	if _, err := s.Remove(context.Background(), "a:1", RemoveOptions{}); err != nil {
		t.Errorf("remove a damaged image: %v", err)
	}
	empty(t, s)
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
