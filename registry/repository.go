package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"go.podman.io/image/v5/docker/reference"

	"hull/oci"
)

// A Repository is one name on one host.
type Repository struct {
	host   *host
	who    Credentials
	path   string // NAME in /v2/NAME/
	ns     string
	mirror bool
	ref    oci.Reference // as asked for, not as rewritten
}

// Sources returns where ref may be read, in the order of registries.conf:
// mirrors, then the registry itself.
func (c *Client) Sources(ctx context.Context, ref oci.Reference) ([]*Repository, error) {
	return c.repositories(ctx, ref, true)
}

// Destination returns where ref is written.
func (c *Client) Destination(ctx context.Context, ref oci.Reference) (*Repository, error) {
	all, err := c.repositories(ctx, ref, false)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (c *Client) repositories(ctx context.Context, ref oci.Reference, reading bool) ([]*Repository, error) {
	endpoints, err := c.endpoints(ref, reading)
	if err != nil {
		return nil, err
	}
	var all []*Repository
	for _, e := range endpoints {
		who, err := c.credentials(ctx, e.ref, e.mirror)
		if err != nil {
			return nil, err
		}
		h, err := c.host(server(reference.Domain(e.ref)), e.insecure)
		if err != nil {
			return nil, err
		}
		all = append(all, &Repository{host: h, who: who, path: reference.Path(e.ref), ns: e.ns, mirror: e.mirror, ref: ref})
	}
	return all, nil
}

// Host is the registry's name, as it is connected to.
func (r *Repository) Host() string { return r.host.name }

// Mirror reports that this is not the registry itself.
func (r *Repository) Mirror() bool { return r.mirror }

var manifestTypes = []string{
	oci.MediaTypeIndex, oci.MediaTypeManifest, oci.DockerManifestList, oci.DockerManifest,
}

// A Manifest is a manifest or an index as a registry sent it.
type Manifest struct {
	Data      []byte // the exact bytes
	Digest    oci.Digest
	MediaType string
}

// Manifest reads a manifest by tag or digest. By digest it is verified; by tag
// the digest is computed from what came.
func (r *Repository) Manifest(ctx context.Context, tagOrDigest string) (*Manifest, error) {
	resp, err := r.do(ctx, call{
		method: http.MethodGet, path: "/v2/" + r.path + "/manifests/" + tagOrDigest,
		header: http.Header{"Accept": manifestTypes},
	}, http.StatusOK)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s of %s/%s: %w", tagOrDigest, r.host.name, r.path, err)
	}
	defer drain(resp)
	data, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s of %s/%s: %w", tagOrDigest, r.host.name, r.path, err)
	}
	if int64(len(data)) > oci.MaxManifestSize {
		return nil, fmt.Errorf("read manifest %s of %s/%s: it is larger than %d bytes", tagOrDigest, r.host.name, r.path, oci.MaxManifestSize)
	}
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		mediaType = ""
	}
	m := &Manifest{Data: data, Digest: oci.FromBytes(data), MediaType: mediaType}
	want := oci.Digest(tagOrDigest)
	if !strings.Contains(tagOrDigest, ":") {
		return m, nil
	}
	if err := want.Validate(); err != nil {
		return nil, err
	}
	h := want.Hash()
	h.Write(data)
	if got := oci.Digest(fmt.Sprintf("%s:%x", want.Algorithm(), h.Sum(nil))); got != want {
		return nil, fmt.Errorf("read manifest of %s/%s: got %s, asked for %s: %w", r.host.name, r.path, got, want, ErrDigest)
	}
	m.Digest = want
	return m, nil
}

// ErrDigest reports content that is not what was asked for.
var ErrDigest = errors.New("content does not match its digest")

// Head returns the digest of a tag without reading the manifest.
func (r *Repository) Head(ctx context.Context, tagOrDigest string) (oci.Digest, error) {
	resp, err := r.do(ctx, call{
		method: http.MethodHead, path: "/v2/" + r.path + "/manifests/" + tagOrDigest,
		header: http.Header{"Accept": manifestTypes},
	}, http.StatusOK)
	if err != nil {
		return "", fmt.Errorf("look up manifest %s of %s/%s: %w", tagOrDigest, r.host.name, r.path, err)
	}
	drain(resp)
	d := oci.Digest(resp.Header.Get("Docker-Content-Digest"))
	if d.Validate() != nil {
		m, err := r.Manifest(ctx, tagOrDigest)
		if err != nil {
			return "", err
		}
		d = m.Digest
	}
	return d, nil
}

// PutManifest stores a manifest under a tag, or under its digest when tag is "".
func (r *Repository) PutManifest(ctx context.Context, tag, mediaType string, data []byte) error {
	name := tag
	if name == "" {
		name = string(oci.FromBytes(data))
	}
	resp, err := r.do(ctx, call{
		method: http.MethodPut, path: "/v2/" + r.path + "/manifests/" + name,
		header: http.Header{"Content-Type": {mediaType}}, scopes: r.pushScopes(),
		body: bytesBody(data), size: int64(len(data)), again: true,
	}, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return fmt.Errorf("write manifest %s of %s/%s: %w", name, r.host.name, r.path, err)
	}
	drain(resp)
	return nil
}

func (r *Repository) pushScopes() []string { return []string{"repository:" + r.path + ":pull,push"} }

func bytesBody(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil }
}
