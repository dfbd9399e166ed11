package transfer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hull/blob"
	"hull/codec"
	"hull/image"
	"hull/oci"
	"hull/registry"
	"hull/snapshot"
	"hull/trust"
)

// quiet gives a test its own configuration and none of the user's.
func quiet(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(conf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "auth.json"))
	t.Setenv("HOME", dir)
}

// harness is a transfer over a store of its own, that unpacks to plain copies
// where a test is not root.
func harness(t testing.TB, root string) *Transfer {
	t.Helper()
	blobs, err := blob.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	var snaps *snapshot.Store
	if os.Geteuid() == 0 {
		if snaps, err = snapshot.Open(filepath.Join(root, "snapshots"), snapshot.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	images, err := image.Open(root, blobs, snaps)
	if err != nil {
		t.Fatal(err)
	}
	images.Codec = codec.Codec{}
	no, retries := false, 2
	return &Transfer{
		Images:   images,
		Registry: registry.New(registry.Options{TLSVerify: &no, Retries: &retries, RetryDelay: 5 * time.Millisecond}),
		Policy:   trust.ReadPolicy(),
	}
}

// A fixture is an image in memory: blobs by digest and a manifest.
type fixture struct {
	blobs    map[oci.Digest][]byte
	manifest []byte
	m        oci.Manifest
}

func (f *fixture) put(mediaType string, data []byte) oci.Descriptor {
	d := oci.FromBytes(data)
	f.blobs[d] = data
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// newFixture makes an image whose layers hold one file each, of the given
// contents, compressed by gzip or, with plain, not at all.
func newFixture(arch string, plain bool, files ...[]byte) *fixture {
	f := &fixture{blobs: map[oci.Digest][]byte{}}
	config := oci.Image{Architecture: arch, OS: "linux", RootFS: oci.RootFS{Type: "layers"}}
	f.m = oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	for i, data := range files {
		var b bytes.Buffer
		t := tar.NewWriter(&b)
		t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("file%d", i), Mode: 0o644, Size: int64(len(data))})
		t.Write(data)
		t.Close()
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, oci.FromBytes(b.Bytes()))
		if plain {
			f.m.Layers = append(f.m.Layers, f.put(oci.MediaTypeLayer, b.Bytes()))
			continue
		}
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(b.Bytes())
		w.Close()
		f.m.Layers = append(f.m.Layers, f.put(oci.MediaTypeLayerGzip, z.Bytes()))
	}
	c, _ := json.Marshal(config)
	f.m.Config = f.put(oci.MediaTypeConfig, c)
	f.encode()
	return f
}

func (f *fixture) encode() { f.manifest, _ = json.Marshal(f.m) }

// noise is data that does not compress.
func noise(n int, seed uint32) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}

// A fake is a registry that serves a fixture, with faults.
type fake struct {
	f *fixture
	// manifests by tag or digest; nil is the fixture's under any name.
	manifests map[string][]byte
	mediaType string
	// blob, when set, answers for a blob and reports that it did.
	blob func(w http.ResponseWriter, r *http.Request, data []byte) bool

	mu       sync.Mutex
	requests []string
}

func (f *fake) serve(t testing.TB) string {
	t.Helper()
	return serve(t, f)
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
	f.mu.Unlock()
	_, last, _ := strings.Cut(r.URL.Path, "/manifests/")
	if last != "" {
		data := f.f.manifest
		if f.manifests != nil {
			data = f.manifests[last]
		}
		if data == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		mt := f.mediaType
		if mt == "" {
			var m struct{ MediaType string }
			json.Unmarshal(data, &m)
			mt = m.MediaType
		}
		w.Header().Set("Content-Type", mt)
		w.Header().Set("Docker-Content-Digest", string(oci.FromBytes(data)))
		w.Write(data)
		return
	}
	_, last, _ = strings.Cut(r.URL.Path, "/blobs/")
	if last == "" {
		return
	}
	data, ok := f.f.blobs[oci.Digest(last)]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if f.blob != nil && f.blob(w, r, data) {
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// realRegistry runs Debian's docker-registry on a free port until the test ends.
func realRegistry(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed: hack/setup installs it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path, "serve", conf)
	c.Env = []string{"PATH=" + os.Getenv("PATH")} // REGISTRY_… would be its settings
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	for range 200 {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return addr
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("docker-registry did not start")
	return ""
}

// send puts a fixture into a registry under NAME:TAG.
func (f *fixture) send(t *testing.T, host, name, tag string) {
	t.Helper()
	ref, err := oci.ParseReference(host + "/" + name + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	no := false
	repo, err := registry.New(registry.Options{TLSVerify: &no}).Destination(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for d, data := range f.blobs {
		err := repo.Upload(context.Background(), oci.Descriptor{Digest: d, Size: int64(len(data))}, func(offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data[offset:])), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := repo.PutManifest(context.Background(), tag, f.m.MediaType, f.manifest); err != nil {
		t.Fatal(err)
	}
}

// leftovers lists what a failed pull must not leave: partials and blobs.
func leftovers(t testing.TB, root string) []string {
	t.Helper()
	var found []string
	filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (strings.Contains(path, "/partial/") || strings.Contains(path, "/records/")) {
			found = append(found, strings.TrimPrefix(path, root))
		}
		return nil
	})
	return found
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed: hack/setup installs it")
	}
	out, err := exec.Command("skopeo", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// cutOnce answers a blob's first request with the half of it and a cut
// connection, and the second with the rest.
func cutOnce() func(http.ResponseWriter, *http.Request, []byte) bool {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
		mu.Lock()
		again := seen[r.URL.Path]
		seen[r.URL.Path] = true
		mu.Unlock()
		if again || len(data) < 1000 {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}
