package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/codec"
	"hull/oci"
)

// dockerArchive makes what docker save writes, of one image; change may alter
// the files before they are packed.
func dockerArchive(t testing.TB, change func(files map[string][]byte)) []byte {
	t.Helper()
	layer := busyboxLayer(t)
	diff := oci.FromBytes(layer)
	now := time.Unix(1700000000, 0).UTC()
	config := mustJSON(t, oci.Image{Created: &now, Architecture: "amd64", OS: "linux", RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{diff}}})
	name := oci.FromBytes(config).Hex() + ".json"
	files := map[string][]byte{
		name: config, "v1/layer.tar": layer,
		"manifest.json": mustJSON(t, []dockerItem{{Config: name, RepoTags: []string{"bb:1"}, Layers: []string{"v1/layer.tar"}}}),
	}
	if change != nil {
		change(files)
	}
	return packFiles(t, files)
}

func packFiles(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range sortedKeys(files) {
		h := &tar.Header{Name: n, Mode: 0o644, Size: int64(len(files[n])), Typeflag: tar.TypeReg}
		if link, ok := strings.CutPrefix(string(files[n]), "SYMLINK:"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write(files[n])
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func load(t testing.TB, s *Store, data []byte) ([]Loaded, error) {
	t.Helper()
	return s.Load(context.Background(), Source{Reader: bytes.NewReader(data)}, LoadOptions{})
}

// IMG-20: from a file and from a stream, compressed in each way.
func TestIMG20LoadCompressed(t *testing.T) {
	data := dockerArchive(t, nil)
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	l, err := s.Load(context.Background(), Source{Path: path}, LoadOptions{})
	if err != nil || len(l) != 1 || l[0].Names[0].String() != "docker.io/library/bb:1" {
		t.Fatalf("Load = %+v, %v", l, err)
	}
	want := l[0].Image.ID
	for _, tool := range []string{"gzip", "zstd", "xz", "bzip2"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("%s is not here", tool)
			continue
		}
		cmd := exec.Command(tool, "-c")
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		l, err := load(t, newStore(t), packed)
		if err != nil || len(l) != 1 || l[0].Image.ID != want {
			t.Errorf("%s: %v", tool, err)
		}
	}
}

// Saved in every format and loaded again, an image is the same.
func TestIMG18SaveAndLoad(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	img := addLayers(t, s, "x", []string{"one", "two"}, "localhost/x:1")
	item := SaveItem{img, img.Names}
	for _, o := range []SaveOptions{{Format: DockerArchive}, {Format: OCIArchive}, {Format: OCIArchive, Uncompressed: true}, {Format: OCIDir}, {Format: DockerDir}, {Format: DockerDir, Compress: true}} {
		src := Source{}
		var b bytes.Buffer
		var err error
		if o.Format == OCIDir || o.Format == DockerDir {
			src.Path = filepath.Join(t.TempDir(), "out")
			err = s.SaveDir(ctx, src.Path, item, o)
		} else {
			err = s.Save(ctx, &b, []SaveItem{item}, o)
			src.Reader = &b
		}
		if err != nil {
			t.Errorf("%+v: save: %v", o, err)
			continue
		}
		other := newStore(t)
		l, err := other.Load(ctx, src, LoadOptions{})
		if err != nil || len(l) != 1 || l[0].Image.ID != img.ID {
			t.Errorf("%+v: load: %v", o, err)
			continue
		}
		if o.Format != DockerDir && l[0].Names[0] != img.Names[0] {
			t.Errorf("%+v: names = %v", o, l[0].Names)
		}
		if o.Uncompressed && l[0].Image.Manifest != img.Manifest {
			t.Errorf("%+v: the manifest changed", o)
		}
	}
}

// IMG-19: several images, one with two names, and their common layer once.
func TestIMG19SaveSeveral(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	a := addLayers(t, s, "a", []string{"shared", "a"}, "localhost/x:1", "localhost/x:2")
	b := addLayers(t, s, "b", []string{"shared", "b"}, "localhost/y:1")
	var first, second bytes.Buffer
	items := []SaveItem{{a, a.Names}, {b, b.Names}}
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := s.Save(ctx, out, items, SaveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same images give other bytes")
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(first.Bytes())); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if len(names) != 3+2+2 || !slices.Contains(names, "repositories") {
		t.Errorf("entries = %v", names)
	}
	l, err := load(t, newStore(t), first.Bytes())
	if err != nil || len(l) != 2 || len(l[0].Names) != 2 {
		t.Errorf("Load = %+v, %v", l, err)
	}
}

// REG-02, REG-07: archives that contradict themselves or are too large store nothing.
func TestREG02Refused(t *testing.T) {
	other := tarOf(t, map[string]string{"evil": "x"})
	configOf := func(f map[string][]byte) string {
		for n := range f {
			if strings.HasSuffix(n, ".json") && n != "manifest.json" {
				return n
			}
		}
		return ""
	}
	item := func(f map[string][]byte, layers ...string) []byte {
		return mustJSON(t, []dockerItem{{Config: configOf(f), RepoTags: []string{"bb:1"}, Layers: layers}})
	}
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
		return out.Bytes()
	}
	for what, change := range map[string]func(map[string][]byte){
		"another layer":           func(f map[string][]byte) { f["v1/layer.tar"] = other },
		"another layer, zipped":   func(f map[string][]byte) { f["v1/layer.tar"] = zip(other) },
		"no layer":                func(f map[string][]byte) { delete(f, "v1/layer.tar") },
		"config under another ID": func(f map[string][]byte) { n := configOf(f); f[n] = append(f[n], ' ') },
		"layer under another hash": func(f map[string][]byte) {
			n := strings.Repeat("0", 64) + ".tar"
			f[n] = f["v1/layer.tar"]
			f["manifest.json"] = item(f, n)
		},
		"too many layers":   func(f map[string][]byte) { f["manifest.json"] = item(f, "v1/layer.tar", "v1/layer.tar") },
		"name with ..":      func(f map[string][]byte) { f["manifest.json"] = item(f, "../../../../etc/passwd") },
		"absolute link out": func(f map[string][]byte) { f["v1/layer.tar"] = []byte("SYMLINK:/etc/passwd") },
		"link to itself":    func(f map[string][]byte) { f["v1/layer.tar"] = []byte("SYMLINK:layer.tar") },
		"no image":          func(f map[string][]byte) { f["manifest.json"] = []byte("[]") },
		"key twice": func(f map[string][]byte) {
			f["manifest.json"] = bytes.Replace(f["manifest.json"], []byte(`"Layers"`), []byte(`"layers":[],"Layers"`), 1)
		},
		"trailing data": func(f map[string][]byte) { f["manifest.json"] = append(f["manifest.json"], "[]"...) },
		"bad name": func(f map[string][]byte) {
			f["manifest.json"] = bytes.Replace(f["manifest.json"], []byte("bb:1"), []byte("../bb:1"), 1)
		},
		"huge manifest": func(f map[string][]byte) { f["manifest.json"] = bytes.Repeat([]byte(" "), 5<<20) },
		"huge config":   func(f map[string][]byte) { f[configOf(f)] = bytes.Repeat([]byte(" "), 5<<20) },
		"nothing":       func(f map[string][]byte) { clear(f) },
	} {
		s := newStore(t)
		if l, err := load(t, s, dockerArchive(t, change)); err == nil {
			t.Errorf("%s: loaded %+v", what, l)
		}
		empty(t, s)
	}
	// Of two images the second is wrong: the first is not stored either.
	s := newStore(t)
	data := dockerArchive(t, func(f map[string][]byte) {
		n := configOf(f)
		f["manifest.json"] = mustJSON(t, []dockerItem{{Config: n, Layers: []string{"v1/layer.tar"}}, {Config: n, Layers: []string{"none"}}})
	})
	if _, err := load(t, s, data); err == nil {
		t.Error("half an archive was loaded")
	}
	empty(t, s)
}

// Old dockers link a layer that several images share.
func TestLoadLinkedLayer(t *testing.T) {
	data := dockerArchive(t, func(f map[string][]byte) {
		f["v0/layer.tar"] = f["v1/layer.tar"]
		f["v1/layer.tar"] = []byte("SYMLINK:../v0/layer.tar")
	})
	if _, err := load(t, newStore(t), data); err != nil {
		t.Error(err)
	}
}

// layout saves an image as an OCI directory.
func layout(t testing.TB) (dir string, img Image) {
	s := newStore(t)
	img = addLayers(t, s, "x", []string{"one", "two"}, "localhost/x:1")
	dir = filepath.Join(t.TempDir(), "layout")
	if err := s.SaveDir(context.Background(), dir, SaveItem{img, img.Names}, SaveOptions{Format: OCIDir, Uncompressed: true}); err != nil {
		t.Fatal(err)
	}
	return dir, img
}

// REG-11: what is no regular file inside the directory is not opened.
func TestREG11Directory(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, dir string, img Image){
		"blob is a link": func(t *testing.T, dir string, img Image) {
			p := filepath.Join(dir, blobName(img.Layers[0].Blob.Digest))
			relink(t, p, filepath.Join(t.TempDir(), "blob"))
		},
		"directory is a link": func(t *testing.T, dir string, img Image) {
			relink(t, filepath.Join(dir, "blobs"), filepath.Join(t.TempDir(), "blobs"))
		},
		"index is a link": func(t *testing.T, dir string, img Image) {
			relink(t, filepath.Join(dir, "index.json"), filepath.Join(t.TempDir(), "i"))
		},
		"blob is a fifo": func(t *testing.T, dir string, img Image) {
			p := filepath.Join(dir, blobName(img.Layers[0].Blob.Digest))
			os.Remove(p)
			if err := unix.Mkfifo(p, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"index is a directory": func(t *testing.T, dir string, img Image) {
			os.Remove(filepath.Join(dir, "index.json"))
			os.Mkdir(filepath.Join(dir, "index.json"), 0o700)
		},
		"blob is altered": func(t *testing.T, dir string, img Image) {
			p := filepath.Join(dir, blobName(img.ID))
			data, _ := os.ReadFile(p)
			os.WriteFile(p, bytes.Replace(data, []byte("amd64"), []byte("arm64"), 1), 0o600)
		},
		"index has 5 MB": func(t *testing.T, dir string, img Image) {
			os.WriteFile(filepath.Join(dir, "index.json"), bytes.Repeat([]byte(" "), 5<<20), 0o600)
		},
	} {
		dir, img := layout(t)
		change(t, dir, img)
		s := newStore(t)
		done := make(chan error, 1)
		go func() {
			_, err := s.Load(context.Background(), Source{Path: dir}, LoadOptions{})
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: it was loaded", what)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: Load hangs", what)
		}
		empty(t, s)
	}
}

func relink(t *testing.T, path, to string) {
	t.Helper()
	if err := os.Rename(path, to); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// An index of several platforms, with attestations beside them.
func TestLoadChoosesPlatform(t *testing.T) {
	dir, img := layout(t)
	child := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: img.Manifest, Platform: &oci.Platform{OS: "linux", Architecture: "amd64"}}
	fi, err := os.Stat(filepath.Join(dir, blobName(img.Manifest)))
	if err != nil {
		t.Fatal(err)
	}
	child.Size = fi.Size()
	foreign := child
	foreign.Digest, foreign.Platform = oci.FromBytes([]byte("absent")), &oci.Platform{OS: "linux", Architecture: "s390x"}
	proof := foreign
	proof.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	inner := mustJSON(t, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{foreign, proof, child}})
	d := oci.FromBytes(inner)
	os.WriteFile(filepath.Join(dir, blobName(d)), inner, 0o600)
	outer := oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{{MediaType: oci.MediaTypeIndex, Digest: d, Size: int64(len(inner)), Annotations: map[string]string{oci.AnnotationImageName: "quay.io/a/b:3"}}}}
	os.WriteFile(filepath.Join(dir, "index.json"), mustJSON(t, outer), 0o600)
	s := newStore(t)
	l, err := s.Load(context.Background(), Source{Path: dir}, LoadOptions{Platform: oci.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil || l[0].Image.ID != img.ID || l[0].Image.Index != d || l[0].Names[0].String() != "quay.io/a/b:3" {
		t.Fatalf("Load = %+v, %v", l, err)
	}
	// Found by the index's digest as well as by the manifest's.
	for _, x := range []oci.Digest{d, img.Manifest} {
		if got, err := s.Resolve(context.Background(), "quay.io/a/b@"+string(x)); err != nil || got.ID != img.ID {
			t.Errorf("by %s: %v", x, err)
		}
	}
	if _, err := newStore(t).Load(context.Background(), Source{Path: dir}, LoadOptions{Platform: oci.Platform{OS: "linux", Architecture: "riscv64"}}); err == nil {
		t.Error("a platform that is not there was loaded")
	}
}

// IMG-21: a tarball becomes an image of one layer.
func TestIMG21Import(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	img, err := s.Import(ctx, bytes.NewReader(busyboxLayer(t)), ImportOptions{
		Names: []oci.Reference{ref(t, "localhost/imp:1")}, Message: "msg", Platform: oci.Platform{Architecture: "arm64"},
		Changes: []string{"ENV A=1", "CMD [\"/bin/sh\"]", "LABEL q=1 r='two words'", "EXPOSE 80", "USER=root", "WORKDIR /x", "VOLUME /v", "ENTRYPOINT echo hi", "STOPSIGNAL 9", "HEALTHCHECK --interval=5s CMD true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := img.Config.Config
	if c.Env[0] != "A=1" || c.Cmd[0] != "/bin/sh" || c.Labels["r"] != "two words" || c.User != "root" || c.WorkingDir != "/x" || img.Config.Architecture != "arm64" ||
		len(img.Layers) != 1 || img.Config.History[0].Comment != "msg" || c.Healthcheck.Interval != 5*time.Second || c.Entrypoint[2] != "echo hi" {
		t.Errorf("config = %+v", img.Config)
	}
	if _, ok := c.ExposedPorts["80/tcp"]; !ok {
		t.Errorf("ports = %v", c.ExposedPorts)
	}
	for _, bad := range []string{"RUN true", "ENV", "EXPOSE x", "EXPOSE 80/icmp", "LABEL a='b", "HEALTHCHECK maybe"} {
		if err := Change(&oci.Image{}, []string{bad}); err == nil {
			t.Errorf("change %q: no error", bad)
		}
	}
}

func TestBuiltin(t *testing.T) {
	s := newStore(t)
	data := dockerArchive(t, nil)
	opened := 0
	s.Builtins = []Builtin{{Name: ref(t, "localhost/hull/welcome:latest"), Open: func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(bytes.NewReader(data)), nil
	}}}
	for _, name := range []string{"hull/welcome", "localhost/hull/welcome:latest"} {
		if _, err := s.Resolve(context.Background(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Resolve(context.Background(), "hull/other"); !errors.Is(err, ErrNotFound) || opened != 1 {
		t.Errorf("another name: %v, opened %d times", err, opened)
	}
}

func FuzzDockerManifest(f *testing.F) {
	f.Add([]byte(`[{"Config":"a.json","RepoTags":["x:1"],"Layers":["l/layer.tar"]}]`))
	f.Add([]byte(`[{"Config":"a.json","config":"b"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := decodeDockerManifest(data)
		for _, it := range items {
			if err == nil && it.Config == "" {
				t.Error("accepted without a config")
			}
			it.names()
		}
	})
}

// REG-04, REG-08: whatever is in the manifest, index or config, Load returns.
func FuzzLoadLayout(f *testing.F) {
	dir, img := layout(f)
	var seeds [3][]byte
	for i, n := range []string{"index.json", blobName(img.Manifest), blobName(img.ID)} {
		data, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			f.Fatal(err)
		}
		seeds[i] = data
	}
	layer, _ := os.ReadFile(filepath.Join(dir, blobName(img.Layers[0].Blob.Digest)))
	f.Add(seeds[0], seeds[1], seeds[2])
	f.Fuzz(func(t *testing.T, index, manifest, config []byte) {
		// In memory: each image that is accepted waits for the disk.
		root, err := os.MkdirTemp("/dev/shm", "hull-fuzz-")
		if err != nil {
			root = t.TempDir()
		}
		defer os.RemoveAll(root)
		s := storeIn(t, root)
		_, err = load(t, s, packFiles(t, map[string][]byte{
			"index.json": index, blobName(oci.FromBytes(manifest)): manifest, blobName(oci.FromBytes(config)): config,
			blobName(img.Layers[0].Blob.Digest): layer,
		}))
		if err != nil {
			images, lerr := s.List(context.Background())
			if len(images) > 0 || lerr != nil {
				t.Errorf("failed, but stored %d: %v", len(images), lerr)
			}
		}
		if m, derr := oci.DecodeManifest(manifest); derr == nil {
			checkConfigType(m)
			checkParts(manifest, config)
		}
		if x, derr := oci.DecodeIndex(index); derr == nil {
			ChoosePlatform(x.Manifests, oci.HostPlatform())
		}
	})
}

func FuzzRecord(f *testing.F) {
	s := newStore(f)
	img := addImage(f, s, "a", "localhost/a:1")
	data, _ := os.ReadFile(filepath.Join(s.recordsDir(), img.ID.Hex()))
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := decodeRecord(img.ID, data); err == nil {
			r.image(nil)
		}
	})
}

func TestXzCut(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("xz is not here")
	}
	cmd := exec.Command("xz", "-c")
	cmd.Stdin = bytes.NewReader(bytes.Repeat([]byte("content"), 10000))
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	z, c, err := Decompress(codec.Codec{}, bytes.NewReader(packed[:len(packed)-20]))
	if err != nil || c != Xz {
		t.Fatal(c, err)
	}
	defer z.Close()
	if _, err := io.Copy(io.Discard, z); err == nil {
		t.Error("a cut xz stream reads without an error")
	}
}
