package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hull/image"
	"hull/oci"
	"hull/trust"
)

// daemonTransport names the images of a docker daemon: docker-daemon:NAME:TAG,
// or docker-daemon:sha256:HEX by ID.
const daemonTransport = "docker-daemon"

// A daemon is a docker daemon's socket.
type daemon struct {
	http *http.Client
	base string
}

// openDaemon connects to where docker's client would: DOCKER_HOST, else the
// system's socket.
func openDaemon() (*daemon, error) {
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("connect to docker: DOCKER_HOST: %w", err)
	}
	t := &http.Transport{DisableCompression: true, ResponseHeaderTimeout: 10 * time.Minute}
	d := &daemon{&http.Client{Transport: t}, "http://docker"}
	switch u.Scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.Path)
		}
	case "tcp", "http", "https":
		d.base = "http://" + u.Host
		if os.Getenv("DOCKER_TLS_VERIFY") != "" || u.Scheme == "https" {
			d.base = "https://" + u.Host
			if t.TLSClientConfig, err = daemonTLS(); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("connect to docker: DOCKER_HOST %q: only unix:// and tcp:// are known", host)
	}
	return d, nil
}

// daemonTLS reads the certificates that docker's client would.
func daemonTLS() (*tls.Config, error) {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("connect to docker: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("connect to docker: %w", err)
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("connect to docker: there is no certificate in %s", filepath.Join(dir, "ca.pem"))
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err == nil {
		c.Certificates = []tls.Certificate{cert}
	} else if !os.IsNotExist(err) {
		return nil, fmt.Errorf("connect to docker: %w", err)
	}
	return c, nil
}

// do sends a request; an answer that is no success is an error in the
// daemon's words.
func (d *daemon) do(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask docker: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var answer struct{ Message string }
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(data, &answer) != nil || answer.Message == "" {
		answer.Message = strings.ToLower(http.StatusText(resp.StatusCode))
	}
	return nil, fmt.Errorf("ask docker: %s", answer.Message)
}

// pullDaemon loads an image that a docker daemon has.
func (t *Transfer) pullDaemon(ctx context.Context, name string) ([]Pulled, error) {
	fail := func(err error) ([]Pulled, error) {
		return nil, fmt.Errorf("pull %s:%s: %w", daemonTransport, name, err)
	}
	ref, byID := oci.Reference{}, oci.Digest(name).Validate() == nil
	if !byID {
		var err error
		if ref, err = oci.ParseReference(name); err != nil {
			return fail(err)
		}
		if ref.Tag == "" && ref.Digest == "" {
			return fail(fmt.Errorf("it needs a tag: %s:latest", name))
		}
		ref = ref.Normalized()
	}
	if err := admit(t.policy(), daemonTransport, trust.NameScopes(ref)); err != nil {
		return fail(err)
	}
	d, err := openDaemon()
	if err != nil {
		return fail(err)
	}
	t.notify(Event{Kind: Signatures})
	r, err := d.do(ctx, http.MethodGet, "/images/"+url.PathEscape(name)+"/get", nil)
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	o := image.LoadOptions{Format: image.DockerArchive, Platform: complete(oci.Platform{})}
	if !byID {
		o.Name = ref
	}
	loaded, err := t.Images.Load(ctx, image.Source{Reader: r}, o)
	if err != nil {
		return fail(err)
	}
	t.notify(Event{Kind: Manifest})
	t.notify(Event{Kind: Storing})
	var all []Pulled
	for _, l := range loaded {
		all = append(all, Pulled{Image: l.Image, Ref: ref, Digest: l.Image.Manifest})
	}
	return all, nil
}

// pushDaemon gives an image to a docker daemon under a name.
func (t *Transfer) pushDaemon(ctx context.Context, name string, img image.Image) (oci.Digest, error) {
	fail := func(err error) (oci.Digest, error) {
		return "", fmt.Errorf("push to %s:%s: %w", daemonTransport, name, err)
	}
	ref, err := oci.ParseReference(name)
	if err != nil {
		return fail(err)
	}
	d, err := openDaemon()
	if err != nil {
		return fail(err)
	}
	item := image.SaveItem{Image: img, Names: []oci.Reference{ref.Normalized().Tagged()}}
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(t.Images.Save(ctx, pw, []image.SaveItem{item}, image.SaveOptions{Format: image.DockerArchive}))
	}()
	defer pr.Close()
	t.notify(Event{Kind: Signatures})
	r, err := d.do(ctx, http.MethodPost, "/images/load?quiet=1", pr)
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	// An error after the beginning is a line of the answer.
	for dec := json.NewDecoder(io.LimitReader(r, 1<<20)); ; {
		var line struct{ Error string }
		if err := dec.Decode(&line); err != nil {
			break
		}
		if line.Error != "" {
			return fail(fmt.Errorf("docker: %s", line.Error))
		}
	}
	t.notify(Event{Kind: Manifest})
	return img.Manifest, nil
}
