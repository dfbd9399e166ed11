package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"hull/oci"
)

// Content is a blob's bytes, to be sent: from offset on, more than once.
type Content func(offset int64) (io.ReadCloser, error)

// Has reports whether the repository has the blob already, asking with the
// rights of a push.
func (r *Repository) Has(ctx context.Context, d oci.Digest) (bool, error) {
	_, err := r.stat(ctx, d, r.pushScopes())
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Mount asks the registry to take the blob from another of its repositories;
// false when it does not.
func (r *Repository) Mount(ctx context.Context, d oci.Digest, from string) (bool, error) {
	if err := d.Validate(); err != nil {
		return false, err
	}
	q := url.Values{"mount": {string(d)}, "from": {from}}
	resp, err := r.do(ctx, call{
		method: http.MethodPost, path: "/v2/" + r.path + "/blobs/uploads/?" + q.Encode(),
		scopes: append(r.pushScopes(), "repository:"+from+":pull"),
	}, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return false, fmt.Errorf("mount blob %s from %s: %w", d, from, err)
	}
	drain(resp)
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	// The registry began an upload instead, which nobody will finish.
	if u, err := r.location(resp); err == nil {
		if resp, err := r.do(ctx, call{method: http.MethodDelete, url: u, scopes: r.pushScopes()}, http.StatusNoContent, http.StatusOK); err == nil {
			drain(resp)
		}
	}
	return false, nil
}

// Upload sends a blob. A connection that is cut is taken up where the registry
// says that it stopped.
func (r *Repository) Upload(ctx context.Context, desc oci.Descriptor, content Content) error {
	if err := desc.Validate(); err != nil {
		return err
	}
	delay := r.host.c.o.RetryDelay
	for attempt := 0; ; attempt++ {
		err := r.upload(ctx, desc, content)
		if err == nil {
			return nil
		}
		if attempt >= r.host.c.retries() || !passing(err) && !errors.Is(err, errExpired) {
			return fmt.Errorf("write blob %s to %s/%s: %w", desc.Digest, r.host.name, r.path, err)
		}
		if err := r.pause(ctx, &delay, err); err != nil {
			return err
		}
	}
}

func (r *Repository) upload(ctx context.Context, desc oci.Descriptor, content Content) error {
	resp, err := r.do(ctx, call{method: http.MethodPost, path: "/v2/" + r.path + "/blobs/uploads/", scopes: r.pushScopes()}, http.StatusAccepted)
	if err != nil {
		return err
	}
	drain(resp)
	to, err := r.location(resp)
	if err != nil {
		return err
	}
	for offset, fails := int64(0), 0; offset < desc.Size; {
		next, err := r.patch(ctx, to, desc.Size, offset, content)
		if err == nil {
			to, offset = next, desc.Size
			break
		}
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %w", errExpired, err)
		}
		if fails++; fails > r.host.c.retries() || !passing(err) {
			return err
		}
		r.host.c.o.Log("upload of %s was cut (%v), resuming", desc.Digest, err)
		at, u, e := r.progress(ctx, to)
		if e != nil || at < offset || at > desc.Size {
			return err
		}
		to, offset = u, at
	}
	q := to.Query()
	q.Set("digest", string(desc.Digest))
	done := *to
	done.RawQuery = q.Encode()
	resp, err = r.do(ctx, call{method: http.MethodPut, url: &done, scopes: r.pushScopes(), body: bytesBody(nil), again: true}, http.StatusCreated, http.StatusNoContent)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", errExpired, err)
	}
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// errExpired is an upload that the registry has begun and does not know any
// more; another begins.
var errExpired = errors.New("the upload has expired")

// patch sends the bytes from offset on in one request.
func (r *Repository) patch(ctx context.Context, to *url.URL, size, offset int64, content Content) (*url.URL, error) {
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if offset > 0 {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, size-1))
	}
	resp, err := r.once(ctx, call{
		method: http.MethodPatch, url: to, header: header, scopes: r.pushScopes(),
		body: func() (io.ReadCloser, error) { return content(offset) }, size: size - offset,
	}, []int{http.StatusAccepted, http.StatusNoContent})
	if err != nil {
		return nil, err
	}
	drain(resp)
	return r.location(resp)
}

// progress asks how much of an upload has come.
func (r *Repository) progress(ctx context.Context, at *url.URL) (int64, *url.URL, error) {
	resp, err := r.once(ctx, call{method: http.MethodGet, url: at, scopes: r.pushScopes()}, []int{http.StatusNoContent, http.StatusOK})
	if err != nil {
		return 0, nil, err
	}
	drain(resp)
	next := at
	if resp.Header.Get("Location") != "" {
		if next, err = r.location(resp); err != nil {
			return 0, nil, err
		}
	}
	_, last, ok := strings.Cut(resp.Header.Get("Range"), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, nil, fmt.Errorf("%w range %q of an upload", errRefused, resp.Header.Get("Range"))
	}
	if n == 0 {
		return 0, next, nil // "0-0" is also how registries say nothing
	}
	return n + 1, next, nil
}

// location is where an upload goes on.
func (r *Repository) location(resp *http.Response) (*url.URL, error) {
	u, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("%w: no place to upload to: %w", errRefused, err)
	}
	if err := r.host.follow(resp.Request.URL, u); err != nil {
		return nil, fmt.Errorf("%w upload: %w", errRefused, err)
	}
	return u, nil
}
