package depot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hull/oci"
)

// A harness is a served registry and a client that says what it got.
type harness struct {
	*testing.T
	s    *Store
	base string
}

func serve(t *testing.T) *harness {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &harness{t, s, server.URL}
}

func (h *harness) do(method, path string, body []byte, header ...string) (*http.Response, string) {
	h.Helper()
	if !strings.HasPrefix(path, "http") {
		path = h.base + path
	}
	req, err := http.NewRequestWithContext(context.Background(), method, path, bytes.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return resp, string(data)
}

// want is do; another status than that is an error.
func (h *harness) want(status int, method, path string, body []byte, header ...string) (*http.Response, string) {
	h.Helper()
	resp, text := h.do(method, path, body, header...)
	if resp.StatusCode != status {
		h.Errorf("%s %s: %d %s, want %d", method, path, resp.StatusCode, text, status)
	}
	return resp, text
}

func (h *harness) push(name string, data []byte) oci.Descriptor {
	h.Helper()
	d := oci.FromBytes(data)
	h.want(201, "POST", "/v2/"+name+"/blobs/uploads/?digest="+string(d), data)
	return oci.Descriptor{MediaType: oci.MediaTypeLayer, Digest: d, Size: int64(len(data))}
}

func (h *harness) manifest(name, ref string, subject *oci.Descriptor, layers ...oci.Descriptor) oci.Descriptor {
	h.Helper()
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: h.push(name, []byte("{}")), Layers: layers, Subject: subject}
	m.Config.MediaType = "application/vnd.example+json"
	data, _ := json.Marshal(m)
	h.want(201, "PUT", "/v2/"+name+"/manifests/"+ref, data, "Content-Type", oci.MediaTypeManifest)
	return oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(data), Size: int64(len(data))}
}

func TestUploads(t *testing.T) {
	h := serve(t)
	data := []byte(strings.Repeat("0123456789", 1000))
	d := string(oci.FromBytes(data))
	h.want(200, "GET", "/v2/", nil)
	resp, _ := h.want(202, "POST", "/v2/a/b/blobs/uploads/", nil)
	at := h.base + resp.Header.Get("Location")
	h.want(202, "PATCH", at, data[:4000])
	if resp, _ := h.want(204, "GET", at, nil); resp.Header.Get("Range") != "0-3999" {
		t.Errorf("Range = %q", resp.Header.Get("Range"))
	}
	h.want(416, "PATCH", at, data[5000:], "Content-Range", "5000-9999")
	h.want(202, "PATCH", at, data[4000:9000], "Content-Range", "4000-8999")
	h.want(201, "PUT", at+"?digest="+d, data[9000:])
	h.want(404, "PUT", at+"?digest="+d, nil)
	if _, got := h.want(200, "GET", "/v2/a/b/blobs/"+d, nil); got != string(data) {
		t.Errorf("got %d other bytes", len(got))
	}
	if _, got := h.want(206, "GET", "/v2/a/b/blobs/"+d, nil, "Range", "bytes=9990-"); got != "0123456789" {
		t.Errorf("range: %q", got)
	}
	if resp, _ := h.want(200, "HEAD", "/v2/a/b/blobs/"+d, nil); resp.ContentLength != 10000 || resp.Header.Get("Docker-Content-Digest") != d {
		t.Errorf("HEAD: %v", resp.Header)
	}
	// What is not what it is called.
	resp, _ = h.want(202, "POST", "/v2/a/b/blobs/uploads/", nil)
	h.want(400, "PUT", h.base+resp.Header.Get("Location")+"?digest="+string(oci.FromBytes([]byte("x"))), []byte("y"))
	h.want(400, "POST", "/v2/a/b/blobs/uploads/?digest="+d, []byte("y"))
	resp, _ = h.want(202, "POST", "/v2/a/b/blobs/uploads/", nil)
	h.want(204, "DELETE", h.base+resp.Header.Get("Location"), nil)
	if left, _ := os.ReadDir(filepath.Join(h.s.root, "uploads")); len(left) != 0 {
		t.Errorf("%d uploads are left", len(left))
	}
	for _, bad := range []string{"/v2/A/blobs/uploads/", "/v2/../blobs/uploads/", "/v2/a//b/blobs/uploads/", "/v2/a/blobs/uploads/../../x"} {
		if resp, _ := h.do("POST", bad, nil); resp.StatusCode < 300 {
			t.Errorf("POST %s: %d", bad, resp.StatusCode)
		}
	}
	h.want(403, "POST", "/v2/a/b/blobs/uploads/", nil, "Origin", "https://page.example")
}

// Row STO-04: a repository shows what was pushed to it, and to know a digest is
// not enough.
func TestSTO04AccessByRepository(t *testing.T) {
	h := serve(t)
	l := h.push("mine", []byte("secret"))
	h.want(404, "GET", "/v2/other/blobs/"+string(l.Digest), nil)
	h.want(202, "POST", "/v2/other/blobs/uploads/?mount="+string(l.Digest)+"&from=third", nil)
	h.want(400, "POST", "/v2/other/blobs/uploads/?digest="+string(l.Digest), []byte("guess"))
	h.want(404, "GET", "/v2/other/blobs/"+string(l.Digest), nil)
	m := h.manifest("mine", "1", nil, l)
	h.want(404, "GET", "/v2/other/manifests/"+string(m.Digest), nil)
	h.want(201, "POST", "/v2/other/blobs/uploads/?mount="+string(l.Digest)+"&from=mine", nil)
	h.want(200, "GET", "/v2/other/blobs/"+string(l.Digest), nil)
	h.want(202, "DELETE", "/v2/mine/blobs/"+string(l.Digest), nil)
	h.want(404, "GET", "/v2/mine/blobs/"+string(l.Digest), nil)
	h.want(200, "GET", "/v2/other/blobs/"+string(l.Digest), nil)
	h.want(202, "DELETE", "/v2/other/blobs/"+string(l.Digest), nil)
	if _, err := h.s.blobs.Stat(l.Digest); err == nil {
		t.Error("the blob is still there")
	}
}

func TestManifests(t *testing.T) {
	h := serve(t)
	l := h.push("a", []byte("layer"))
	one := h.manifest("a", "1", nil, l)
	h.manifest("a", "2", nil, l)
	h.manifest("b/c", "x", nil, h.push("b/c", []byte("layer")))
	for path, want := range map[string]string{
		"/v2/a/tags/list": `{"name":"a","tags":["1","2"]}`, "/v2/a/tags/list?n=1": `{"name":"a","tags":["1"]}`, "/v2/a/tags/list?n=1&last=1": `{"name":"a","tags":["2"]}`,
		"/v2/_catalog": `{"repositories":["a","b/c"]}`, "/v2/_catalog?n=1": `{"repositories":["a"]}`,
	} {
		if _, got := h.want(200, "GET", path, nil); strings.TrimSpace(got) != want {
			t.Errorf("GET %s = %s, want %s", path, got, want)
		}
	}
	if resp, _ := h.want(200, "GET", "/v2/_catalog?n=1", nil); resp.Header.Get("Link") != `</v2/_catalog?last=a&n=1>; rel="next"` {
		t.Errorf("Link = %q", resp.Header.Get("Link"))
	}
	h.want(404, "GET", "/v2/none/tags/list", nil)
	h.want(404, "GET", "/v2/a/manifests/none", nil)
	// What cannot be pulled is not taken.
	missing := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":1},"layers":[]}`, oci.MediaTypeManifest, oci.FromBytes([]byte("none")))
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`, oci.MediaTypeIndex, oci.MediaTypeManifest, oci.FromBytes([]byte("none")))
	for text, status := range map[string]int{missing: 404, index: 404, "{": 400, "{}": 400, `{"schemaVersion":2,"manifests":[],"layers":[]}`: 400,
		`{"schemaVersion":2,"manifests":[],"manifests":[]}`: 400, strings.Repeat(" ", int(oci.MaxManifestSize)+1): 413} {
		h.want(status, "PUT", "/v2/a/manifests/bad", []byte(text))
	}
	h.want(400, "PUT", "/v2/a/manifests/.bad", []byte(`{"schemaVersion":2,"manifests":[]}`))
	h.want(400, "PUT", "/v2/a/manifests/"+string(oci.FromBytes([]byte("x"))), []byte(`{"schemaVersion":2,"manifests":[]}`))
	h.want(400, "PUT", "/v2/a/manifests/y", []byte(`{"schemaVersion":2,"manifests":[]}`), "Content-Type", oci.MediaTypeManifest)
	// Who refers to it.
	sig := h.manifest("a", "sig", &one)
	if _, got := h.want(200, "GET", "/v2/a/referrers/"+string(one.Digest), nil); !strings.Contains(got, string(sig.Digest)) {
		t.Errorf("referrers: %s", got)
	}
	if resp, got := h.want(200, "GET", "/v2/a/referrers/"+string(one.Digest)+"?artifactType=other", nil); strings.Contains(got, string(sig.Digest)) || resp.Header.Get("OCI-Filters-Applied") == "" {
		t.Errorf("referrers of another type: %s", got)
	}
	// A tag goes alone, a manifest with its tags.
	h.want(202, "DELETE", "/v2/a/manifests/2", nil)
	h.want(200, "GET", "/v2/a/manifests/"+string(one.Digest), nil)
	h.want(202, "DELETE", "/v2/a/manifests/"+string(one.Digest), nil)
	h.want(404, "GET", "/v2/a/manifests/1", nil)
	h.want(202, "DELETE", "/v2/a/manifests/"+string(sig.Digest), nil)
	if _, got := h.want(200, "GET", "/v2/a/referrers/"+string(one.Digest), nil); strings.Contains(got, string(sig.Digest)) {
		t.Errorf("a referrer that is gone: %s", got)
	}
	if err := h.s.Collect(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	h.want(404, "GET", "/v2/a/blobs/"+string(l.Digest), nil)
	h.want(200, "GET", "/v2/b/c/blobs/"+string(l.Digest), nil)
}

// Skopeo copies in and out, lists and deletes.
func TestSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed: hack/setup installs it")
	}
	h := serve(t)
	l := h.push("seed", []byte("not a tar, which nobody unpacks"))
	h.manifest("seed", "1", nil, l)
	host := strings.TrimPrefix(h.base, "http://")
	skopeo := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("skopeo", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	skopeo("copy", "-q", "--src-tls-verify=false", "docker://"+host+"/seed:1", "dir:"+dir)
	skopeo("copy", "-q", "--dest-tls-verify=false", "dir:"+dir, "docker://"+host+"/team/copy:2")
	skopeo("copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+host+"/team/copy:2", "docker://"+host+"/third:3")
	if out := skopeo("list-tags", "--tls-verify=false", "docker://"+host+"/team/copy"); !strings.Contains(out, `"2"`) {
		t.Errorf("list-tags: %s", out)
	}
	skopeo("delete", "--tls-verify=false", "docker://"+host+"/third:3")
	h.want(404, "GET", "/v2/third/manifests/3", nil)
}
