package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNotFound reports a repository, manifest or blob that is not there.
var ErrNotFound = errors.New("not found")

// A StatusError is an answer that was not expected.
type StatusError struct {
	Code        int
	Method, URL string
	Detail      string // the registry's own words, bounded
	after       time.Duration
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Code, strings.ToLower(http.StatusText(e.Code)))
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *StatusError) Unwrap() error {
	switch e.Code {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	}
	return nil
}

// statusError reads what the registry says about the error.
func statusError(req *http.Request, resp *http.Response) *StatusError {
	e := &StatusError{Code: resp.StatusCode, Method: req.Method, URL: req.URL.Redacted()}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.after = time.Duration(min(s, 60)) * time.Second
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return e
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(data, &body) != nil {
		return e
	}
	var words []string
	for _, x := range body.Errors {
		if x.Message == "" {
			x.Message = strings.ToLower(x.Code)
		}
		words = append(words, x.Message)
	}
	if e.Detail = strings.Join(words, "; "); len(e.Detail) > 500 {
		e.Detail = e.Detail[:500] + "…"
	}
	return e
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

// A call is one request to a repository.
type call struct {
	method string
	path   string   // below the registry's root; or
	url    *url.URL // the whole, as the registry gave it
	header http.Header
	scopes []string // "" of the repository: see Repository.scope
	// body is made anew for each attempt; nil is none, and a call with a body
	// is not repeated unless again is set.
	body  func() (io.ReadCloser, error)
	size  int64 // of the body; -1 unknown
	again bool
}

// do sends a call, with authorization, following redirects of GET and HEAD,
// and again after an error that may pass. The answer's status is one of want,
// or the error is a *StatusError. The caller closes the body.
func (r *Repository) do(ctx context.Context, c call, want ...int) (*http.Response, error) {
	delay := r.host.c.o.RetryDelay
	for attempt := 0; ; attempt++ {
		resp, err := r.once(ctx, c, want)
		if err == nil {
			return resp, nil
		}
		if attempt >= r.host.c.retries() || c.body != nil && !c.again || !passing(err) {
			return nil, err
		}
		r.host.c.o.Log("%v; trying again in %v", err, delay)
		if err := r.pause(ctx, &delay, err); err != nil {
			return nil, err
		}
	}
}

// pause waits before the next attempt: longer each time, and as long as the
// registry asked for.
func (r *Repository) pause(ctx context.Context, delay *time.Duration, cause error) error {
	wait := *delay + time.Duration(rand.Int64N(int64(*delay)/4+1))
	var s *StatusError
	if errors.As(cause, &s) {
		wait = max(wait, s.after)
	}
	*delay = min(*delay*2, 30*time.Second)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// passing reports errors that may not occur again: the network's, and a
// server's that is busy.
func passing(err error) bool {
	var s *StatusError
	if errors.As(err, &s) {
		return s.Code == http.StatusTooManyRequests || s.Code == http.StatusRequestTimeout || s.Code >= 500 && s.Code != http.StatusNotImplemented
	}
	for _, e := range []error{context.Canceled, context.DeadlineExceeded, errReach, ErrUnauthorized, errRefused, syscall.ECONNREFUSED} {
		if errors.Is(err, e) {
			return false
		}
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	text := err.Error()
	return !strings.Contains(text, "certificate") && !strings.Contains(text, "HTTP response to HTTPS client")
}

// errRefused reports an answer that this client does not accept.
var errRefused = errors.New("refused")

func (r *Repository) once(ctx context.Context, c call, want []int) (*http.Response, error) {
	base, err := r.host.connect(ctx)
	if err != nil {
		return nil, err
	}
	u := c.url
	if u == nil {
		if u, err = url.Parse(base.String() + c.path); err != nil {
			return nil, fmt.Errorf("bug: %w", err)
		}
		if r.ns != "" {
			q := u.Query()
			q.Set("ns", r.ns)
			u.RawQuery = q.Encode()
		}
	}
	for renewed := false; ; renewed = true {
		resp, err := r.send(ctx, c, u)
		if err != nil {
			return nil, err
		}
		for _, w := range want {
			if resp.StatusCode == w {
				return resp, nil
			}
		}
		e := statusError(resp.Request, resp)
		drain(resp)
		if e.Code != http.StatusUnauthorized || renewed || !sameHost(base, resp.Request.URL) || c.body != nil && !c.again {
			return nil, e
		}
		// The token ended, or this request wants more than GET /v2/ did.
		r.host.forget()
		if again := parseChallenges(resp.Header.Values("WWW-Authenticate")); len(again) > 0 {
			r.host.mu.Lock()
			r.host.challenge = again
			r.host.mu.Unlock()
		}
	}
}

// maxRedirects is how often a registry may send us on.
const maxRedirects = 5

func (r *Repository) send(ctx context.Context, c call, u *url.URL) (*http.Response, error) {
	for hop := 0; ; hop++ {
		req, err := http.NewRequestWithContext(ctx, c.method, u.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("request to %s: %w", u.Host, err)
		}
		for k, v := range c.header {
			req.Header[k] = v
		}
		req.Header.Set("User-Agent", r.host.c.o.UserAgent)
		if sameHost(r.host.url(), u) {
			scopes := c.scopes
			if scopes == nil {
				scopes = []string{"repository:" + r.path + ":pull"}
			}
			if err := r.host.authorize(ctx, req, r.who, scopes); err != nil {
				return nil, err
			}
		}
		if c.body != nil {
			if req.Body, err = c.body(); err != nil {
				return nil, err
			}
			req.ContentLength = c.size
			if c.size == 0 {
				req.Body.Close()
				req.Body = http.NoBody
			}
		}
		r.host.c.o.Log("%s %s", req.Method, u.Redacted())
		resp, err := r.host.clientFor(u).Do(req)
		if err != nil {
			return nil, err
		}
		if !redirects(resp.StatusCode) || c.method != http.MethodGet && c.method != http.MethodHead {
			return resp, nil
		}
		to, err := resp.Location()
		drain(resp)
		if err != nil {
			return nil, fmt.Errorf("%w redirect from %s: %w", errRefused, u.Host, err)
		}
		if hop == maxRedirects {
			return nil, fmt.Errorf("%w redirect from %s: more than %d", errRefused, u.Host, maxRedirects)
		}
		if err := r.host.follow(u, to); err != nil {
			return nil, fmt.Errorf("%w redirect: %w", errRefused, err)
		}
		u = to
	}
}

func redirects(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
