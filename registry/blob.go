package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hull/oci"
)

// Stat returns the size of a blob; the error is ErrNotFound when the
// repository has it not.
func (r *Repository) Stat(ctx context.Context, d oci.Digest) (int64, error) {
	return r.stat(ctx, d, nil)
}

func (r *Repository) stat(ctx context.Context, d oci.Digest, scopes []string) (int64, error) {
	if err := d.Validate(); err != nil {
		return 0, err
	}
	resp, err := r.do(ctx, call{method: http.MethodHead, path: r.blobPath(d), scopes: scopes}, http.StatusOK)
	if err != nil {
		return 0, fmt.Errorf("look up blob %s: %w", d, err)
	}
	drain(resp)
	return resp.ContentLength, nil
}

func (r *Repository) blobPath(d oci.Digest) string {
	return "/v2/" + r.path + "/blobs/" + string(d)
}

// Blob reads the blob from offset on. A connection that is cut is taken up
// again where it ended, as long as each attempt brings something or the retries
// last. The bytes are not verified: package blob does that. Reading gives at
// most desc.Size-offset bytes.
func (r *Repository) Blob(ctx context.Context, desc oci.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := desc.Validate(); err != nil {
		return nil, err
	}
	b := &blobReader{ctx: ctx, r: r, desc: desc, at: offset, delay: r.host.c.o.RetryDelay}
	if offset == desc.Size {
		b.body = http.NoBody
		return b, nil
	}
	return b, b.open()
}

// A blobReader is a blob's bytes across as many connections as it takes.
type blobReader struct {
	ctx   context.Context
	r     *Repository
	desc  oci.Descriptor
	body  io.ReadCloser
	at    int64 // of the next byte
	since int64 // bytes since the last cut
	fails int
	delay time.Duration
	// stall ends a request whose bytes do not come.
	stall context.CancelCauseFunc
	watch *time.Timer
}

const stallTimeout = time.Minute

var errStalled = errors.New("the server sends nothing any more")

// open asks for what is missing.
func (b *blobReader) open() error {
	c := call{method: http.MethodGet, path: b.r.blobPath(b.desc.Digest), header: http.Header{"Accept-Encoding": {"identity"}}}
	want := []int{http.StatusOK}
	if b.at > 0 {
		c.header.Set("Range", "bytes="+strconv.FormatInt(b.at, 10)+"-")
		want = append(want, http.StatusPartialContent)
	}
	ctx, stall := context.WithCancelCause(b.ctx)
	b.stall = stall
	resp, err := b.r.do(ctx, c, want...)
	if err != nil {
		stall(nil)
		return fmt.Errorf("read blob %s: %w", b.desc.Digest, err)
	}
	b.body = resp.Body
	if resp.StatusCode == http.StatusPartialContent {
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err == nil && (start != b.at || total >= 0 && total != b.desc.Size) {
			err = fmt.Errorf("%w: asked for byte %d of %d, got %d of %d", errRefused, b.at, b.desc.Size, start, total)
		}
		if err != nil {
			resp.Body.Close()
			return fmt.Errorf("read blob %s: %w", b.desc.Digest, err)
		}
		return nil
	}
	b.expect()
	defer b.watch.Stop()
	// This server knows no Range: skip what is here.
	if n, err := io.CopyN(io.Discard, resp.Body, b.at); err != nil {
		resp.Body.Close()
		return fmt.Errorf("read blob %s: skip %d of %d bytes: %w", b.desc.Digest, n, b.at, err)
	}
	return nil
}

// expect gives the next bytes their time.
func (b *blobReader) expect() {
	limit := b.r.host.c.o.StallTimeout
	if limit == 0 {
		limit = stallTimeout
	}
	stall := b.stall
	b.watch = time.AfterFunc(limit, func() { stall(errStalled) })
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		left := b.desc.Size - b.at
		if left <= 0 {
			return 0, b.end()
		}
		b.expect()
		n, err := b.body.Read(p[:min(int64(len(p)), left)])
		if !b.watch.Stop() && n == 0 && err != nil {
			err = errStalled
		}
		b.at += int64(n)
		b.since += int64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		if err := b.reopen(err); err != nil {
			return 0, err
		}
	}
}

// end is EOF, unless the server goes on after the announced size.
func (b *blobReader) end() error {
	if n, _ := b.body.Read(make([]byte, 1)); n > 0 {
		return fmt.Errorf("read blob %s: more than the announced %d bytes", b.desc.Digest, b.desc.Size)
	}
	return io.EOF
}

// reopen takes up a cut connection. Little or nothing since the last cut counts
// as a failure, so that a server which sends a byte a time does not keep us.
func (b *blobReader) reopen(cause error) error {
	b.body.Close()
	b.stall(nil)
	b.body = http.NoBody
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	if err := context.Cause(b.ctx); err != nil {
		return err
	}
	if b.since >= 1<<20 {
		b.fails, b.delay = 0, b.r.host.c.o.RetryDelay
	} else if b.fails++; b.fails > b.r.host.c.retries() {
		return fmt.Errorf("read blob %s: %d of %d bytes: %w", b.desc.Digest, b.at, b.desc.Size, cause)
	}
	b.r.host.c.o.Log("blob %s was cut at %d of %d bytes (%v), resuming", b.desc.Digest, b.at, b.desc.Size, cause)
	if b.since == 0 {
		if err := b.r.pause(b.ctx, &b.delay, cause); err != nil {
			return err
		}
	}
	b.since = 0
	return b.open()
}

func (b *blobReader) Close() error {
	err := b.body.Close()
	if b.stall != nil {
		b.stall(nil)
	}
	return err
}

// contentRange reads "bytes START-END/TOTAL"; total is -1 when it is "*".
func contentRange(s string) (start, total int64, err error) {
	bad := fmt.Errorf("%w: Content-Range %q", errRefused, s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	first, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, bad
	}
	if start, err = strconv.ParseInt(first, 10, 64); err != nil || start < 0 {
		return 0, 0, bad
	}
	if size == "*" {
		return start, -1, nil
	}
	if total, err = strconv.ParseInt(size, 10, 64); err != nil {
		return 0, 0, bad
	}
	return start, total, nil
}
