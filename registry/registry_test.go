package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.podman.io/image/v5/pkg/sysregistriesv2"

	"hull/oci"
)

// quiet gives a test its own configuration and none of the user's.
func quiet(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(conf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "auth.json"))
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("DOCKER_CONFIG", "")
	sysregistriesv2.InvalidateCache()
}

func insecure() Options {
	no, retries := false, 2
	return Options{TLSVerify: &no, Retries: &retries, RetryDelay: time.Millisecond}
}

func repo(t *testing.T, host string, o Options) *Repository {
	t.Helper()
	ref, err := oci.ParseReference(host + "/some/image:1")
	if err != nil {
		t.Fatal(err)
	}
	all, err := New(o).Sources(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return all[len(all)-1]
}

// serve is a registry made of handlers by path; /v2/ answers unless it is one.
func serve(t *testing.T, handlers map[string]http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(routes(handlers))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func routes(handlers map[string]http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.HandleFunc(path, h)
	}
	if handlers["/v2/{$}"] == nil {
		mux.HandleFunc("/v2/{$}", func(http.ResponseWriter, *http.Request) {})
	}
	return mux
}

func descriptor(data []byte) oci.Descriptor {
	return oci.Descriptor{Digest: oci.FromBytes(data), Size: int64(len(data))}
}

// cutting serves data and closes each connection after cut bytes.
func cutting(data []byte, cut int, ranges *[]string) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		*ranges = append(*ranges, r.Header.Get("Range"))
		mu.Unlock()
		start := 0
		if s, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
			start, _ = strconv.Atoi(strings.TrimSuffix(s, "-"))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-start))
		if start > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		rest := data[start:]
		if len(rest) > cut {
			w.Write(rest[:cut])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Write(rest)
	}
}

func TestBlobResumesWhereItWasCut(t *testing.T) {
	quiet(t)
	data := make([]byte, 5<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	d := descriptor(data)
	var ranges []string
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/image/blobs/" + string(d.Digest): cutting(data, 2<<20, &ranges)})
	for _, offset := range []int64{0, 1 << 20, d.Size} {
		ranges = nil
		b, err := repo(t, host, insecure()).Blob(context.Background(), d, offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err != nil || string(got) != string(data[offset:]) {
			t.Errorf("from %d: %d bytes, %v, ranges %q", offset, len(got), err, ranges)
		}
	}
}

func TestBlobGivesUpWithoutProgress(t *testing.T) {
	quiet(t)
	data := make([]byte, 1<<20)
	d := descriptor(data)
	var ranges []string
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/image/blobs/" + string(d.Digest): cutting(data, 10, &ranges)})
	b, err := repo(t, host, insecure()).Blob(context.Background(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error = %v, want unexpected EOF", err)
	}
	if len(ranges) != 3 {
		t.Errorf("%d attempts, want 3: %q", len(ranges), ranges)
	}
}

func TestBlobServerWithoutRange(t *testing.T) {
	quiet(t)
	data := []byte("0123456789")
	d := descriptor(data)
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/image/blobs/": func(w http.ResponseWriter, r *http.Request) { w.Write(data) }})
	b, err := repo(t, host, insecure()).Blob(context.Background(), d, 4)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != "456789" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestBlobWrongRangeAndLength(t *testing.T) {
	quiet(t)
	d := descriptor([]byte("0123456789"))
	for name, h := range map[string]http.HandlerFunc{
		"range elsewhere": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 3-9/10")
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte("3456789"))
		},
		"longer": func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("0123456789and more")) },
	} {
		host := serve(t, map[string]http.HandlerFunc{"/v2/some/image/blobs/": h})
		b, err := repo(t, host, insecure()).Blob(context.Background(), d, 4)
		if err == nil {
			_, err = io.ReadAll(b)
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTokensForScopesAndExpiry(t *testing.T) {
	quiet(t)
	var tokens atomic.Int32
	var host string
	host = serve(t, map[string]http.HandlerFunc{
		"/v2/{$}": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+host+`/token",service="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
		"/token": func(w http.ResponseWriter, r *http.Request) {
			tokens.Add(1)
			if u, p, _ := r.BasicAuth(); u != "u" || p != "p" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"token": r.FormValue("service") + "|" + strings.Join(r.Form["scope"], "|"), "expires_in": 300})
		},
		"/v2/some/": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer here|repository:some/image:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			io.WriteString(w, `{"tags":["1","2"]}`)
		},
	})
	o := insecure()
	o.Creds = Credentials{Username: "u", Password: "p"}
	r := repo(t, host, o)
	for range 3 {
		if tags, err := r.Tags(context.Background()); err != nil || len(tags) != 2 {
			t.Fatalf("tags = %v, %v", tags, err)
		}
	}
	if tokens.Load() != 1 {
		t.Errorf("%d tokens fetched, want 1", tokens.Load())
	}
	o.Creds.Password = "wrong"
	if _, err := repo(t, host, o).Tags(context.Background()); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("error = %v, want unauthorized", err)
	}
}

func TestManifestByDigestIsVerified(t *testing.T) {
	quiet(t)
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", r.PathValue("x"))
		io.WriteString(w, `{"schemaVersion":2}`)
	}})
	want := oci.FromBytes([]byte("another"))
	if _, err := repo(t, host, insecure()).Manifest(context.Background(), string(want)); !errors.Is(err, ErrDigest) {
		t.Errorf("error = %v, want digest", err)
	}
}

func TestBusyServerIsAskedAgain(t *testing.T) {
	quiet(t)
	var n atomic.Int32
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/": func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		io.WriteString(w, `{}`)
	}})
	if _, err := repo(t, host, insecure()).Manifest(context.Background(), "1"); err != nil || n.Load() != 3 {
		t.Errorf("%d requests, %v", n.Load(), err)
	}
}

func TestMirrorsBlockedInsecure(t *testing.T) {
	quiet(t)
	conf := `[[registry]]
prefix = "q.invalid"
location = "real.invalid"
[[registry.mirror]]
location = "m.invalid/deep"
insecure = true
[[registry.mirror]]
location = "d.invalid"
pull-from-mirror = "digest-only"
[[registry]]
location = "b.invalid"
blocked = true
`
	if err := os.WriteFile(os.Getenv("CONTAINERS_REGISTRIES_CONF"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := New(Options{})
	all, err := c.Sources(context.Background(), oci.Reference{Domain: "q.invalid", Path: "a/b", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range all {
		got = append(got, fmt.Sprint(r.host.name, "/", r.path, " ", r.host.insecure, " ", r.Mirror()))
	}
	want := "m.invalid/deep/a/b true true, real.invalid/a/b false false"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("sources = %s, want %s", s, want)
	}
	if _, err := c.Sources(context.Background(), oci.Reference{Domain: "b.invalid", Path: "a", Tag: "1"}); !errors.Is(err, ErrBlocked) {
		t.Errorf("error = %v, want blocked", err)
	}
}

func TestF68UploadResumes(t *testing.T) {
	quiet(t)
	data := []byte(strings.Repeat("0123456789", 100))
	var stored []byte
	cut := true
	h := map[string]http.HandlerFunc{
		"POST /v2/some/image/blobs/uploads/": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/some/image/blobs/uploads/1?state=a")
			w.WriteHeader(http.StatusAccepted)
		},
		"PATCH /v2/some/image/blobs/uploads/1": func(w http.ResponseWriter, r *http.Request) {
			if cut {
				cut = false
				part := make([]byte, 300)
				io.ReadFull(r.Body, part)
				stored = part
				panic(http.ErrAbortHandler)
			}
			rest, _ := io.ReadAll(r.Body)
			stored = append(stored, rest...)
			w.Header().Set("Location", "/v2/some/image/blobs/uploads/1?state=b")
			w.WriteHeader(http.StatusAccepted)
		},
		"GET /v2/some/image/blobs/uploads/1": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Range", fmt.Sprintf("0-%d", len(stored)-1))
			w.WriteHeader(http.StatusNoContent)
		},
		"PUT /v2/some/image/blobs/uploads/1": func(w http.ResponseWriter, r *http.Request) {
			if oci.Digest(r.FormValue("digest")) != oci.FromBytes(stored) || r.FormValue("state") != "b" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusCreated)
		},
	}
	r := repo(t, serve(t, h), insecure())
	err := r.Upload(context.Background(), descriptor(data), func(offset int64) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(data[offset:]))), nil
	})
	if err != nil || string(stored) != string(data) {
		t.Errorf("%d of %d bytes, %v", len(stored), len(data), err)
	}
}

func TestLoginName(t *testing.T) {
	for in, want := range map[string]string{
		"quay.io": "quay.io", "https://index.docker.io/v1/": "docker.io", "localhost:5000/a/b": "localhost:5000/a/b",
		"": "", "a b": "", "x/y:tag": "",
	} {
		if got, err := LoginName(in); got != want || (err == nil) != (want != "") {
			t.Errorf("LoginName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}
