package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

// plainListener counts connections whose first bytes are not TLS.
type plainListener struct{ plain atomic.Int32 }

func (p *plainListener) listen(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1)
				c.SetReadDeadline(time.Now().Add(time.Second))
				if n, _ := c.Read(b); n == 1 && b[0] != 0x16 {
					p.plain.Add(1)
				}
				answer(c)
			}()
		}
	}()
	return l.Addr().String()
}

// TestREG01 : without insecure no plain byte is sent, whatever goes wrong with TLS.
func TestREG01(t *testing.T) {
	quiet(t)
	retries := 1
	o := Options{Retries: &retries, RetryDelay: time.Millisecond}
	for name, answer := range map[string]func(net.Conn){
		"reset":      func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
		"plain HTTP": func(c net.Conn) { c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) },
		"garbage":    func(c net.Conn) { c.Write([]byte{0x15, 3, 1, 0, 2, 2, 40}) },
	} {
		var p plainListener
		host := p.listen(t, answer)
		if _, err := repo(t, host, o).Manifest(context.Background(), "1"); err == nil {
			t.Errorf("%s: no error", name)
		}
		if n := p.plain.Load(); n != 0 {
			t.Errorf("%s: %d plain connections", name, n)
		}
	}
	if _, err := repo(t, "127.0.0.1:1", o).Manifest(context.Background(), "1"); err == nil {
		t.Error("closed port: no error")
	}
	t.Run("certificate", func(t *testing.T) {
		s := httptest.NewTLSServer(routes(nil))
		defer s.Close()
		s.Config.ErrorLog = nil
		_, err := repo(t, strings.TrimPrefix(s.URL, "https://"), o).Manifest(context.Background(), "1")
		var unknown *tls.CertificateVerificationError
		if !errors.As(err, &unknown) {
			t.Errorf("error = %v, want one of the certificate", err)
		}
	})
	t.Run("redirect", func(t *testing.T) {
		var p plainListener
		plain := p.listen(t, func(net.Conn) {})
		s := httptest.NewTLSServer(routes(map[string]http.HandlerFunc{
			"/v2/some/": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://"+plain+"/x", 307) },
		}))
		defer s.Close()
		o := insecure() // even then TLS does not become plain
		if _, err := repo(t, strings.TrimPrefix(s.URL, "https://"), o).Manifest(context.Background(), "1"); !errors.Is(err, errRefused) {
			t.Errorf("error = %v, want refused", err)
		}
		if p.plain.Load() != 0 {
			t.Error("the redirect to http was followed")
		}
	})
}

// TestREG05 : a helper that fails gives an error and sends nothing; credentials
// of one registry are not sent to another.
func TestREG05(t *testing.T) {
	var got atomic.Value
	other := func(t *testing.T) string {
		return serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			if a := r.Header.Get("Authorization"); a != "" {
				got.Store(a)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}})
	}
	for name, script := range map[string]string{
		"missing": "", "garbage": "#!/bin/sh\necho garbage\n", "fails": "#!/bin/sh\nexit 3\n",
		"other host": "#!/bin/sh\necho '{\"ServerURL\":\"a.invalid\",\"Username\":\"u\",\"Secret\":\"s\"}'\n",
	} {
		t.Run(name, func(t *testing.T) {
			quiet(t)
			bin := t.TempDir()
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			if script != "" {
				if err := os.WriteFile(filepath.Join(bin, "docker-credential-fx"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			auth := `{"auths":{"a.invalid":{"auth":"dTpw"}},"credHelpers":{"a.invalid":"fx"}}`
			if err := os.WriteFile(os.Getenv("REGISTRY_AUTH_FILE"), []byte(auth), 0o600); err != nil {
				t.Fatal(err)
			}
			host := other(t)
			if _, err := repo(t, host, insecure()).Manifest(context.Background(), "1"); !errors.Is(err, ErrUnauthorized) {
				t.Errorf("error = %v, want unauthorized", err)
			}
			if a := got.Load(); a != nil {
				t.Errorf("the other registry got %q", a)
			}
			ref := oci.Reference{Domain: "a.invalid", Path: "x", Tag: "1"}
			if _, err := New(insecure()).Sources(context.Background(), ref); (err == nil) != (name == "other host") {
				t.Errorf("sources of the helper's registry: %v", err)
			}
		})
	}
}

// TestREG06 : a blob's foreign URL is never used, and a redirect to a host that
// asks for credentials gets none.
func TestREG06(t *testing.T) {
	quiet(t)
	var hits, secrets atomic.Int32
	for _, challenge := range []string{`Basic realm="x"`, `Bearer realm="http://%s/token",service="x"`} {
		hits.Store(0)
		var far string
		far = serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			hits.Add(1)
			if r.Header.Get("Authorization") != "" {
				secrets.Add(1)
			}
			w.Header().Set("WWW-Authenticate", strings.ReplaceAll(challenge, "%s", far))
			w.WriteHeader(http.StatusUnauthorized)
		}})
		redirect := false
		host := serve(t, map[string]http.HandlerFunc{
			"/v2/{$}": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(http.StatusUnauthorized)
			},
			"/v2/some/": func(w http.ResponseWriter, r *http.Request) {
				if redirect {
					http.Redirect(w, r, "http://"+far+"/blob", http.StatusTemporaryRedirect)
					return
				}
				w.WriteHeader(http.StatusNotFound)
			},
		})
		o := insecure()
		o.Creds = Credentials{Username: "u", Password: "p"}
		d := descriptor([]byte("layer"))
		d.URLs = []string{"http://" + far + "/layer"}
		r := repo(t, host, o)
		if _, err := r.Blob(context.Background(), d, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("error = %v, want not found", err)
		}
		if hits.Load() != 0 {
			t.Error("a foreign URL was used")
		}
		redirect = true
		if _, err := r.Blob(context.Background(), d, 0); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("error = %v, want unauthorized", err)
		}
		if hits.Load() != 1 || secrets.Load() != 0 {
			t.Errorf("the redirect's host was asked %d times, with %d secrets", hits.Load(), secrets.Load())
		}
	}
}

// TestREG07 : a manifest larger than 4 MiB is an error, and no more is read.
func TestREG07(t *testing.T) {
	quiet(t)
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/": func(w http.ResponseWriter, r *http.Request) {
		for range 6 << 4 {
			w.Write(make([]byte, 64<<10))
		}
	}})
	if _, err := repo(t, host, insecure()).Manifest(context.Background(), "1"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("error = %v", err)
	}
}

// TestREG10 : where a registry sends us is no nearer than itself.
func TestREG10(t *testing.T) {
	quiet(t)
	for _, target := range []string{
		"http://169.254.169.254/latest", "http://10.0.0.1/x", "http://192.168.1.1/", "http://[fe80::1]/", "http://[fd00::1]/",
		"http://0.0.0.0/", "http://[::ffff:169.254.169.254]/", "file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/",
		"http://100.64.0.1/", "gopher://x", "//", "http://[64:ff9b::a00:1]/",
	} {
		for name, handlers := range map[string]map[string]http.HandlerFunc{
			"redirect": {"/v2/some/": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", target)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}},
			"realm": {"/v2/{$}": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+target+`",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			}},
		} {
			o := insecure()
			none := 0
			o.Retries = &none
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			_, err := repo(t, serve(t, handlers), o).Manifest(ctx, "1")
			cancel()
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s to %s: error = %v", name, target, err)
			}
		}
	}
	t.Run("pages", func(t *testing.T) {
		var far atomic.Int32
		other := serve(t, map[string]http.HandlerFunc{"/": func(http.ResponseWriter, *http.Request) { far.Add(1) }})
		host := serve(t, map[string]http.HandlerFunc{"/v2/some/image/tags/list": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<http://"+other+"/v2/x>; rel=\"next\"")
			io.WriteString(w, `{"tags":["1"]}`)
		}})
		if _, err := repo(t, host, insecure()).Tags(context.Background()); !errors.Is(err, errRefused) || far.Load() != 0 {
			t.Errorf("error = %v, %d requests elsewhere", err, far.Load())
		}
	})
	t.Run("name", func(t *testing.T) {
		// A name for a private address is found out when it is dialled.
		r := &reach{}
		if r.check(context.Background(), "tcp", "127.0.0.1:80", nil) == nil {
			t.Error("loopback is allowed for a registry elsewhere")
		}
		r.learn(context.Background(), "tcp", "10.1.2.3:443", nil)
		if err := r.check(context.Background(), "tcp", "10.9.9.9:80", nil); err != nil {
			t.Errorf("private beside a private registry: %v", err)
		}
		if r.check(context.Background(), "tcp", "169.254.169.254:80", nil) == nil {
			t.Error("link-local is allowed beside a private registry")
		}
		if err := r.check(context.Background(), "tcp", "1.1.1.1:443", nil); err != nil {
			t.Errorf("public: %v", err)
		}
	})
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
