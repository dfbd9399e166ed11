package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hull/image"
	"hull/oci"
)

// TestMain lets a test run a pull as a process of its own, to kill it.
func TestMain(m *testing.M) {
	if name := os.Getenv("HULL_TEST_PULL"); name != "" {
		t := harness(&testing.T{}, os.Getenv("HULL_TEST_ROOT"))
		if _, err := t.Pull(context.Background(), name, PullOptions{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestPullPushKeepsTheDigest(t *testing.T) {
	quiet(t)
	host := realRegistry(t)
	f := newFixture("amd64", false, noise(1<<20, 1), []byte("two"), []byte("two"))
	f.send(t, host, "a/image", "1")
	x := harness(t, t.TempDir())
	p, err := x.Pull(context.Background(), host+"/a/image:1", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := oci.FromBytes(f.manifest)
	if p[0].Digest != want || p[0].Image.ID != f.m.Config.Digest {
		t.Errorf("pulled %s %s, want %s %s", p[0].Digest, p[0].Image.ID, want, f.m.Config.Digest)
	}
	var mounted atomic.Bool
	x.Notify = func(e Event) {
		if strings.HasPrefix(e.Text, "mounted from") {
			mounted.Store(true)
		}
	}
	pushed, err := x.Push(context.Background(), host+"/a/image:1", host+"/b/other:2", PushOptions{})
	if err != nil || pushed.Digest != want {
		t.Fatalf("pushed %s, %v, want %s", pushed.Digest, err, want)
	}
	if !mounted.Load() {
		t.Error("no blob was taken from the other repository")
	}
	if got := skopeo(t, "inspect", "--tls-verify=false", "-f", "{{.Digest}}", "docker://"+host+"/b/other:2"); got != string(want) {
		t.Errorf("skopeo reads %s, want %s", got, want)
	}
	skopeo(t, "copy", "-q", "--src-tls-verify=false", "docker://"+host+"/b/other:2", "dir:"+t.TempDir())
	byDigest, err := x.Pull(context.Background(), host+"/b/other@"+string(want), PullOptions{})
	if err != nil || byDigest[0].Image.ID != p[0].Image.ID {
		t.Errorf("by digest: %v", err)
	}
	if _, err := x.Pull(context.Background(), host+"/b/other@sha256:"+strings.Repeat("0", 64), PullOptions{}); err == nil {
		t.Error("a digest that is not there was pulled")
	}
	all, err := x.Pull(context.Background(), host+"/a/image", PullOptions{AllTags: true})
	if err != nil || len(all) != 1 {
		t.Errorf("all tags: %d, %v", len(all), err)
	}
}

func TestPushFormatsAndCompression(t *testing.T) {
	quiet(t)
	host := realRegistry(t)
	f := newFixture("amd64", true, []byte(strings.Repeat("plain ", 10000)))
	f.send(t, host, "plain", "1")
	x := harness(t, t.TempDir())
	if _, err := x.Pull(context.Background(), host+"/plain:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tag, want, layer string
		o                PushOptions
	}{
		{"gzip", oci.MediaTypeManifest, oci.MediaTypeLayerGzip, PushOptions{}},
		{"docker", oci.DockerManifest, oci.DockerLayerGzip, PushOptions{Format: "v2s2"}},
		{"zstd", oci.MediaTypeManifest, oci.MediaTypeLayerZstd, PushOptions{Compression: image.Zstd, Force: true}},
		{"chunked", oci.MediaTypeManifest, oci.MediaTypeLayerZstd, PushOptions{Compression: image.ZstdChunked, Force: true, Level: 3}},
	} {
		p, err := x.Push(context.Background(), host+"/plain:1", host+"/made:"+c.tag, c.o)
		if err != nil {
			t.Errorf("%s: %v", c.tag, err)
			continue
		}
		raw := skopeo(t, "inspect", "--tls-verify=false", "--raw", "docker://"+host+"/made:"+c.tag)
		m, err := oci.DecodeManifest([]byte(raw))
		if err != nil || m.MediaType != c.want || m.Layers[0].MediaType != c.layer || oci.FromBytes([]byte(raw)) != p.Digest {
			t.Errorf("%s: %v %s", c.tag, err, raw)
		}
		if chunked := m.Layers[0].Annotations[chunkedChecksum] != ""; chunked != (c.tag == "chunked") {
			t.Errorf("%s: annotations %v", c.tag, m.Layers[0].Annotations)
		}
		again, err := harness(t, t.TempDir()).Pull(context.Background(), host+"/made:"+c.tag, PullOptions{})
		if err != nil || again[0].Image.ID != f.m.Config.Digest && c.tag != "docker" {
			t.Errorf("%s: pulled back: %v", c.tag, err)
		}
	}
	if _, err := x.Push(context.Background(), host+"/plain:1", host+"/made:x", PushOptions{Format: "v2s2", Compression: image.Zstd}); err == nil {
		t.Error("zstd in docker's format: no error")
	}
}

func TestArchivesThereAndBack(t *testing.T) {
	quiet(t)
	f := newFixture("amd64", false, []byte("content"))
	host := (&fake{f: f}).serve(t)
	x := harness(t, t.TempDir())
	if _, err := x.Pull(context.Background(), host+"/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, transport := range []string{"dir:", "oci:", "oci-archive:", "docker-archive:"} {
		dest := transport + filepath.Join(dir, strings.Trim(transport, ":"))
		if _, err := x.Push(context.Background(), host+"/x:1", dest, PushOptions{}); err != nil {
			t.Errorf("push to %s: %v", dest, err)
			continue
		}
		p, err := harness(t, t.TempDir()).Pull(context.Background(), dest, PullOptions{})
		if err != nil || len(p) != 1 || p[0].Image.ID != f.m.Config.Digest {
			t.Errorf("pull %s: %v", dest, err)
		}
	}
}

func TestPullPlatforms(t *testing.T) {
	quiet(t)
	amd, arm := newFixture("amd64", false, []byte("amd")), newFixture("arm64", false, []byte("arm"))
	for d, b := range arm.blobs {
		amd.blobs[d] = b
	}
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	reg := &fake{f: amd, manifests: map[string][]byte{}}
	for _, f := range []*fixture{amd, arm} {
		var c oci.Image
		json.Unmarshal(f.blobs[f.m.Config.Digest], &c)
		d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(f.manifest), Size: int64(len(f.manifest)),
			Platform: &oci.Platform{OS: "linux", Architecture: c.Architecture}}
		x.Manifests = append(x.Manifests, d)
		reg.manifests[string(d.Digest)] = f.manifest
	}
	index, _ := json.Marshal(x)
	reg.manifests["1"] = index
	reg.manifests[string(oci.FromBytes(index))] = index
	host := reg.serve(t)
	s := harness(t, t.TempDir())
	for _, c := range []struct {
		p    oci.Platform
		want *fixture
	}{{oci.Platform{Architecture: "amd64"}, amd}, {oci.Platform{OS: "linux", Architecture: "arm64"}, arm}} {
		p, err := s.Pull(context.Background(), host+"/multi:1", PullOptions{Platform: c.p})
		if err != nil || p[0].Image.ID != c.want.m.Config.Digest {
			t.Errorf("%v: %v", c.p, err)
		}
		if err == nil && p[0].Digest != oci.FromBytes(index) {
			t.Errorf("%v: digest %s is not the index's", c.p, p[0].Digest)
		}
	}
	if _, err := s.Pull(context.Background(), host+"/multi:1", PullOptions{Platform: oci.Platform{OS: "plan9"}}); err == nil {
		t.Error("a platform that is not there was pulled")
	}
	// Swapped behind the index: the digest does not fit (REG-09).
	reg.manifests[string(x.Manifests[0].Digest)] = arm.manifest
	if _, err := harness(t, t.TempDir()).Pull(context.Background(), host+"/multi:1", PullOptions{Platform: oci.Platform{Architecture: "amd64"}}); err == nil {
		t.Error("a swapped manifest was pulled")
	}
}

func TestPolicies(t *testing.T) {
	quiet(t)
	f := newFixture("amd64", false, []byte("one"))
	reg := &fake{f: f}
	host := reg.serve(t)
	x := harness(t, t.TempDir())
	pull := func(policy string) (bool, error) {
		p, err := x.Pull(context.Background(), host+"/x:1", PullOptions{Policy: policy})
		return err == nil && p[0].Here, err
	}
	if _, err := pull("never"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("never: %v", err)
	}
	for _, c := range []struct {
		policy string
		here   bool
	}{{"missing", false}, {"missing", true}, {"never", true}, {"newer", true}, {"always", false}} {
		if here, err := pull(c.policy); err != nil || here != c.here {
			t.Errorf("%s: here %v, %v, want %v", c.policy, here, err, c.here)
		}
	}
	*f = *newFixture("amd64", false, []byte("two"))
	if here, err := pull("newer"); err != nil || here {
		t.Errorf("newer with another image: here %v, %v", here, err)
	}
	if _, err := pull("sometimes"); err == nil {
		t.Error("unknown policy: no error")
	}
}

func TestPullOfCutBlobsResumes(t *testing.T) {
	quiet(t)
	f := newFixture("amd64", false, noise(3<<20, 1), noise(2<<20, 2), noise(1<<20, 3))
	reg := &fake{f: f, blob: cutOnce()}
	host := reg.serve(t)
	x := harness(t, t.TempDir())
	p, err := x.Pull(context.Background(), host+"/x:1", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resumed := 0
	for _, r := range reg.requests {
		if strings.Contains(r, "bytes=") {
			resumed++
		}
	}
	if resumed != 3 || p[0].Image.ID != f.m.Config.Digest {
		t.Errorf("%d resumed requests, want 3: %q", resumed, reg.requests)
	}
}

// TestKilledPullResumes : a pull that is killed leaves partials only, and the
// next goes on from them.
func TestKilledPullResumes(t *testing.T) {
	quiet(t)
	f := newFixture("amd64", false, noise(4<<20, 1))
	reg := &fake{f: f}
	stuck := make(chan struct{}, 1)
	reg.blob = func(w http.ResponseWriter, r *http.Request, data []byte) bool {
		if len(data) < 1<<20 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:2<<20])
		w.(http.Flusher).Flush()
		stuck <- struct{}{}
		<-r.Context().Done()
		return true
	}
	host := reg.serve(t)
	root := t.TempDir()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "HULL_TEST_PULL="+host+"/x:1", "HULL_TEST_ROOT="+root)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-stuck
	partial := filepath.Join(root, "partial", f.m.Layers[0].Digest.Hex())
	for range 200 {
		if fi, err := os.Stat(partial); err == nil && fi.Size() >= 1<<20 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.Process.Kill()
	c.Wait()
	x := harness(t, root)
	if all, err := x.Images.List(context.Background()); len(all) != 0 || err != nil {
		t.Errorf("after the kill there are %d images, %v", len(all), err)
	}
	reg.mu.Lock()
	reg.blob, reg.requests = nil, nil
	reg.mu.Unlock()
	p, err := x.Pull(context.Background(), host+"/x:1", PullOptions{})
	if err != nil || p[0].Image.ID != f.m.Config.Digest {
		t.Fatalf("second pull: %v", err)
	}
	if !strings.Contains(strings.Join(reg.requests, "\n"), "bytes=") {
		t.Errorf("the second pull did not resume: %q", reg.requests)
	}
	if l := leftovers(t, root); len(l) != 1 { // the record
		t.Errorf("left over: %q", l)
	}
}

// TestDamagedPartialIsFetchedAgain : what a power cut made of a partial is found
// out at the end, and does not make pulls fail for ever.
func TestDamagedPartialIsFetchedAgain(t *testing.T) {
	quiet(t)
	f := newFixture("amd64", false, noise(1<<20, 1))
	host := (&fake{f: f}).serve(t)
	root := t.TempDir()
	x := harness(t, root)
	l := f.m.Layers[0].Digest
	if err := os.WriteFile(filepath.Join(root, "partial", l.Hex()), make([]byte, 500000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Pull(context.Background(), host+"/x:1", PullOptions{}); err != nil {
		t.Error(err)
	}
}

func TestBadContentIsRefusedAndGone(t *testing.T) {
	quiet(t)
	for name, bad := range map[string]func(f *fixture) func(http.ResponseWriter, *http.Request, []byte) bool{
		"wrong layer": func(f *fixture) func(http.ResponseWriter, *http.Request, []byte) bool {
			d := f.m.Layers[0].Digest
			f.blobs[d] = noise(len(f.blobs[d]), 9)
			return nil
		},
		"truncated layer": func(f *fixture) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if len(data) < 1000 {
					return false
				}
				w.Write(data[:len(data)-100])
				return true
			}
		},
		"wrong config": func(f *fixture) func(http.ResponseWriter, *http.Request, []byte) bool {
			f.blobs[f.m.Config.Digest] = []byte(`{"os":"linux"}`)
			return nil
		},
		"other diff id": func(f *fixture) func(http.ResponseWriter, *http.Request, []byte) bool {
			var c oci.Image
			json.Unmarshal(f.blobs[f.m.Config.Digest], &c)
			c.RootFS.DiffIDs[0] = oci.FromBytes([]byte("another"))
			data, _ := json.Marshal(c)
			f.m.Config = f.put(oci.MediaTypeConfig, data)
			f.encode()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture("amd64", false, noise(100000, 1))
			reg := &fake{f: f}
			reg.blob = bad(f)
			root := t.TempDir()
			x := harness(t, root)
			if name == "other diff id" && os.Geteuid() != 0 {
				t.Skip("not root: layers are not unpacked")
			}
			_, err := x.Pull(context.Background(), reg.serve(t)+"/x:1", PullOptions{})
			if err == nil {
				t.Fatal("no error")
			}
			if all, _ := x.Images.List(context.Background()); len(all) != 0 {
				t.Error("there is an image")
			}
			for _, l := range leftovers(t, root) {
				if !strings.Contains(l, "/partial/") || name != "truncated layer" {
					t.Errorf("left over: %s", l)
				}
			}
		})
	}
}

// TestREG03 : documents that two readers may understand differently are refused.
func TestREG03(t *testing.T) {
	quiet(t)
	f := newFixture("amd64", false, []byte("x"))
	m := string(f.manifest)
	for name, c := range map[string]struct{ data, mediaType string }{
		"manifest and index": {strings.Replace(m, `"layers"`, `"manifests":[],"layers"`, 1), ""},
		"manifest as index":  {m, oci.MediaTypeIndex},
		"type says index":    {strings.Replace(m, oci.MediaTypeManifest, oci.MediaTypeIndex, 1), ""},
		"key twice":          {strings.Replace(m, `"layers"`, `"Layers":[],"layers"`, 1), ""},
		"trailing data":      {m + `{}`, ""},
		"neither":            {`{"schemaVersion":2}`, oci.MediaTypeManifest},
		"schema 1":           {`{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:x"}]}`, ""},
		"empty":              {``, oci.MediaTypeManifest},
	} {
		reg := &fake{f: f, manifests: map[string][]byte{"1": []byte(c.data)}, mediaType: c.mediaType}
		if _, err := harness(t, t.TempDir()).Pull(context.Background(), reg.serve(t)+"/x:1", PullOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestREG08 : a bad digest in any place is an error.
func TestREG08(t *testing.T) {
	quiet(t)
	for _, d := range []oci.Digest{"", ":", "sha256:", "sha256:../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", "SHA256:" + oci.Digest(strings.Repeat("a", 64)), oci.Digest("sha256:" + strings.Repeat("A", 64)), "sha512:ab"} {
		for place, set := range map[string]func(*oci.Manifest){
			"config":  func(m *oci.Manifest) { m.Config.Digest = d },
			"layer":   func(m *oci.Manifest) { m.Layers[0].Digest = d },
			"subject": func(m *oci.Manifest) { m.Subject = &oci.Descriptor{Digest: d} },
		} {
			f := newFixture("amd64", false, []byte("x"))
			set(&f.m)
			f.encode()
			if _, err := harness(t, t.TempDir()).Pull(context.Background(), (&fake{f: f}).serve(t)+"/x:1", PullOptions{}); err == nil {
				t.Errorf("digest %q of the %s: no error", d, place)
			}
		}
		x, _ := json.Marshal(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{{Digest: d, Size: 3}}})
		reg := &fake{f: newFixture("amd64", false), manifests: map[string][]byte{"1": x}}
		if _, err := harness(t, t.TempDir()).Pull(context.Background(), reg.serve(t)+"/x:1", PullOptions{}); err == nil {
			t.Errorf("digest %q in an index: no error", d)
		}
	}
}

// FuzzPull is row REG-04: a manifest, config or index of any bytes is an error
// or an image.
func FuzzPull(f *testing.F) {
	fx := newFixture("amd64", false, []byte("x"))
	f.Add(fx.manifest, fx.blobs[fx.m.Config.Digest])
	x, _ := json.Marshal(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{{Digest: oci.FromBytes(fx.manifest), Size: int64(len(fx.manifest))}}})
	f.Add(x, []byte(`{}`))
	reg := &fake{f: fx, manifests: map[string][]byte{}}
	quiet(f)
	host := reg.serve(f)
	root := f.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "hull-fuzz-"); err == nil { // a pull ends by a sync
		f.Cleanup(func() { os.RemoveAll(dir) })
		root = dir
	}
	s := harness(f, root)
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		if bytes.Contains(manifest, []byte("CONFIG")) {
			manifest = bytes.ReplaceAll(manifest, []byte("CONFIG"), []byte(oci.FromBytes(config)))
		}
		reg.manifests["1"] = manifest
		fx.blobs[oci.FromBytes(config)] = config
		defer delete(fx.blobs, oci.FromBytes(config))
		if len(manifest) == 0 || len(config) > 1<<16 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p, err := s.Pull(ctx, host+"/x:1", PullOptions{})
		if ctx.Err() != nil {
			t.Fatalf("the pull does not end: %v", err)
		}
		if err != nil {
			return
		}
		if _, _, err := s.Images.ReadManifest(p[0].Image); err != nil {
			t.Errorf("pulled, but %v", err)
		}
	})
}
