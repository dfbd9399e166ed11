package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.podman.io/image/v5/types"

	"hull/oci"
)

// Options of a Client. The zero value reads the user's configuration.
type Options struct {
	// AuthFile replaces the user's own file of credentials, CompatAuthFile the
	// same in docker's format (for changing it).
	AuthFile, CompatAuthFile string
	// CertDir replaces certs.d.
	CertDir string
	// Creds are used for every registry that is asked directly, instead of a file's.
	Creds Credentials
	// TLSVerify overrides what registries.conf says about a registry's TLS: false
	// also allows plain HTTP.
	TLSVerify *bool
	// Retries of a request that failed for a reason that may pass; nil is 3.
	Retries *int
	// RetryDelay is the pause before the first retry; 0 is one second. It
	// doubles with each.
	RetryDelay time.Duration
	// StallTimeout is how long a blob's bytes may fail to come before the
	// connection counts as cut; 0 is one minute.
	StallTimeout time.Duration
	// UserAgent is sent with each request; "" is "hull".
	UserAgent string
	// Log is told what is done, for --log-level=debug; nil is nobody.
	Log func(format string, args ...any)
}

// A Client is what one user may do with registries. It may be used by
// many goroutines.
type Client struct {
	o   Options
	sys *types.SystemContext

	mu    sync.Mutex
	hosts map[string]*host // guarded by mu; by name and whether insecure
}

// New returns a client with the user's configuration.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "hull"
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = time.Second
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return &Client{o: o, sys: system(o), hosts: map[string]*host{}}
}

func (c *Client) retries() int {
	if c.o.Retries != nil {
		return max(*c.o.Retries, 0)
	}
	return 3
}

// A host is one registry's server. Its scheme is found by the first request.
type host struct {
	c        *Client
	name     string // host[:port] to connect to
	insecure bool
	own      *http.Client // for the registry itself: any address
	far      *http.Client // for where it sends us: guarded addresses
	reach    *reach

	mu        sync.Mutex
	base      *url.URL          // guarded by mu; nil before the first answer
	challenge []challenge       // guarded by mu; what the registry wants
	tokens    map[string]*token // guarded by mu; by scopes and who asks
}

// server is the host that answers for a domain in names.
func server(domain string) string {
	if domain == oci.DefaultDomain {
		return "registry-1.docker.io"
	}
	return domain
}

// host returns the connection data of a registry, made once.
func (c *Client) host(name string, insecure bool) (*host, error) {
	key := fmt.Sprintf("%s %v", name, insecure)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[key]; h != nil {
		return h, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if err := loadCertificates(c.certDirs(name), conf); err != nil {
		return nil, err
	}
	h := &host{c: c, name: name, insecure: insecure, tokens: map[string]*token{}, reach: &reach{}}
	h.own = client(conf, &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: h.reach.learn})
	farConf := conf.Clone()
	farConf.Certificates = nil // ours is for the registry only
	h.far = client(farConf, &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: h.reach.check})
	c.hosts[key] = h
	return h, nil
}

const (
	dialTimeout   = 30 * time.Second
	headerTimeout = 2 * time.Minute
)

// client makes an HTTP client that follows no redirect by itself.
func client(conf *tls.Config, d *net.Dialer) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           d.DialContext,
			TLSClientConfig:       conf,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: headerTimeout,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       30 * time.Second,
			// A layer is compressed content, not a compressed transfer.
			DisableCompression: true,
			ReadBufferSize:     64 << 10,
			WriteBufferSize:    64 << 10,
			// HTTP/2 shares one connection among layers, which is slower than
			// one connection each.
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// loadCertificates reads *.crt (authorities) and *.cert with *.key (who we
// are) from the first directory that is there.
func loadCertificates(dirs []string, conf *tls.Config) error {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read certificates: %w", err)
		}
		for _, e := range entries {
			if err := loadCertificate(dir, e.Name(), conf); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

func loadCertificate(dir, name string, conf *tls.Config) error {
	path := filepath.Join(dir, name)
	if strings.HasSuffix(name, ".crt") {
		pem, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read certificate authority: %w", err)
		}
		if conf.RootCAs == nil {
			if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
				return fmt.Errorf("read the system's certificate authorities: %w", err)
			}
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read certificate authority %s: there is no certificate in it", path)
		}
		return nil
	}
	base, ok := strings.CutSuffix(name, ".cert")
	if !ok {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(path, filepath.Join(dir, base+".key"))
	if err != nil {
		return fmt.Errorf("read client certificate %s: %w", path, err)
	}
	conf.Certificates = append(conf.Certificates, cert)
	return nil
}

// connect finds out whether the host speaks TLS, and what it wants to know
// before it answers: GET /v2/. Plain HTTP is tried only with an insecure host,
// and only after TLS failed.
func (h *host) connect(ctx context.Context) (*url.URL, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.base != nil {
		return h.base, nil
	}
	schemes := []string{"https"}
	if h.insecure {
		schemes = append(schemes, "http")
	}
	var first error
	for _, scheme := range schemes {
		base := &url.URL{Scheme: scheme, Host: h.name}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String()+"/v2/", nil)
		if err != nil {
			return nil, fmt.Errorf("registry %s: %w", h.name, err)
		}
		req.Header.Set("User-Agent", h.c.o.UserAgent)
		h.c.o.Log("GET %s", req.URL)
		resp, err := h.own.Do(req)
		if err != nil {
			if first == nil || errors.Is(err, syscall.ECONNREFUSED) {
				first = err // the same by either scheme
			} else {
				first = fmt.Errorf("%w; %w", first, err)
			}
			continue
		}
		drain(resp)
		if resp.StatusCode == http.StatusUnauthorized {
			h.challenge = parseChallenges(resp.Header.Values("WWW-Authenticate"))
		} else if resp.StatusCode >= 500 {
			return nil, fmt.Errorf("registry %s: %w", h.name, &StatusError{Code: resp.StatusCode, Method: "GET", URL: req.URL.String()})
		}
		h.base = base
		return base, nil
	}
	err := fmt.Errorf("connect to registry %s: %w", h.name, first)
	if !h.insecure && strings.Contains(first.Error(), "HTTP response to HTTPS client") {
		return nil, &hinted{err, "the registry speaks plain HTTP: --tls-verify=false allows that for this command, insecure = true in registries.conf for good"}
	}
	return nil, err
}

// hinted is an error with the cure.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }
