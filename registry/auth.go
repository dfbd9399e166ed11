package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ErrUnauthorized reports that a registry wants other credentials, or any.
var ErrUnauthorized = errors.New("authentication required")

// A token opens some scopes of a registry for a while.
type token struct {
	value   string
	expires time.Time
}

// maxToken is more than any token service answers.
const maxToken = 1 << 20

// authorize sets req's Authorization to what the registry's challenge wants:
// nothing, a password, or a token for the scopes.
func (h *host) authorize(ctx context.Context, req *http.Request, who Credentials, scopes []string) error {
	h.mu.Lock()
	challenges := h.challenge
	h.mu.Unlock()
	for _, ch := range challenges {
		switch ch.scheme {
		case "basic":
			if !who.empty() {
				req.SetBasicAuth(who.Username, who.Password)
			}
			return nil
		case "bearer":
			t, err := h.token(ctx, ch, who, scopes)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+t)
			return nil
		}
	}
	return nil
}

// token returns a bearer token, a kept one when it is still good.
func (h *host) token(ctx context.Context, ch challenge, who Credentials, scopes []string) (string, error) {
	if s := ch.params["scope"]; s != "" && len(scopes) == 0 {
		scopes = []string{s}
	}
	key := who.Username + "\x00" + who.Password + who.Token + "\x00" + strings.Join(scopes, " ")
	h.mu.Lock()
	t := h.tokens[key]
	h.mu.Unlock()
	if t != nil && time.Now().Before(t.expires) {
		return t.value, nil
	}
	t, err := h.fetchToken(ctx, ch, who, scopes)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	h.tokens[key] = t
	h.mu.Unlock()
	return t.value, nil
}

// forget drops the tokens, when the registry does not take them any more.
func (h *host) forget() {
	h.mu.Lock()
	clear(h.tokens)
	h.mu.Unlock()
}

// fetchToken asks the token service that the registry names.
func (h *host) fetchToken(ctx context.Context, ch challenge, who Credentials, scopes []string) (*token, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || ch.params["realm"] == "" {
		return nil, fmt.Errorf("authenticate to %s: it names no token service", h.name)
	}
	if err := h.follow(h.url(), realm); err != nil {
		return nil, fmt.Errorf("authenticate to %s: token service: %w", h.name, err)
	}
	req, err := tokenRequest(ctx, realm, ch.params["service"], who, scopes)
	if err != nil {
		return nil, fmt.Errorf("authenticate to %s: %w", h.name, err)
	}
	req.Header.Set("User-Agent", h.c.o.UserAgent)
	h.c.o.Log("%s %s for a token", req.Method, realm.Redacted())
	// A redirect here would carry secrets on: none is followed.
	resp, err := h.clientFor(realm).Do(req)
	if err != nil {
		return nil, fmt.Errorf("authenticate to %s: %w", h.name, err)
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		err := statusError(req, resp)
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			return nil, fmt.Errorf("authenticate to %s: %w: %w", h.name, ErrUnauthorized, err)
		}
		return nil, fmt.Errorf("authenticate to %s: %w", h.name, err)
	}
	var answer struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		ExpiresIn   int       `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	if err != nil {
		return nil, fmt.Errorf("authenticate to %s: read token: %w", h.name, err)
	}
	value := answer.Token
	if value == "" {
		value = answer.AccessToken
	}
	if value == "" || strings.ContainsAny(value, "\r\n\x00") {
		return nil, fmt.Errorf("authenticate to %s: the token service sent no token", h.name)
	}
	life := time.Duration(max(answer.ExpiresIn, 60)) * time.Second
	return &token{value, time.Now().Add(life * 9 / 10)}, nil
}

// tokenRequest asks by GET with a password, or by POST with an identity token
// (OAuth 2, a refresh token).
func tokenRequest(ctx context.Context, realm *url.URL, service string, who Credentials, scopes []string) (*http.Request, error) {
	if who.Token != "" {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {who.Token},
			"service": {service}, "scope": {strings.Join(scopes, " ")}, "client_id": {"hull"},
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	q := realm.Query()
	if service != "" {
		q.Set("service", service)
	}
	for _, s := range slices.Compact(slices.Sorted(slices.Values(scopes))) {
		q.Add("scope", s)
	}
	if who.Username != "" {
		q.Set("account", who.Username)
	}
	u := *realm
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && !who.empty() {
		req.SetBasicAuth(who.Username, who.Password)
	}
	return req, err
}

// clientFor is the guarded client unless u is the registry itself.
func (h *host) clientFor(u *url.URL) *http.Client {
	if sameHost(h.url(), u) {
		return h.own
	}
	return h.far
}
