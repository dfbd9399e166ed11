package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hull/oci"
)

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
