package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"
)

// ErrNotLoggedIn reports that no credentials are stored for a registry.
var ErrNotLoggedIn = errors.New("not logged in")

// Stored returns the credentials kept for a registry or a repository in it.
func (c *Client) Stored(name string) (Credentials, error) {
	a, err := config.GetCredentials(c.sys, name)
	if err != nil {
		return Credentials{}, fmt.Errorf("find credentials for %s: %w", name, err)
	}
	if a == (types.DockerAuthConfig{}) {
		return Credentials{}, fmt.Errorf("%s: %w", name, ErrNotLoggedIn)
	}
	return Credentials{a.Username, a.Password, a.IdentityToken}, nil
}

// Check asks a registry whether it takes the credentials.
func (c *Client) Check(ctx context.Context, name string, who Credentials) error {
	r, err := c.registry(ctx, strings.SplitN(name, "/", 2)[0])
	if err != nil {
		return err
	}
	r.who = who
	resp, err := r.do(ctx, call{method: http.MethodGet, path: "/v2/", scopes: []string{}}, http.StatusOK)
	if err != nil {
		return fmt.Errorf("log in to %s: %w", name, err)
	}
	drain(resp)
	return nil
}

// Login keeps credentials for a registry or a repository in it, in the auth
// file or with a helper, and returns where.
func (c *Client) Login(name string, who Credentials) (where string, err error) {
	where, err = config.SetCredentials(c.sys, name, who.Username, who.Password)
	if err != nil {
		return "", fmt.Errorf("keep credentials for %s: %w", name, err)
	}
	return where, nil
}

// Logout removes the credentials of a registry: ErrNotLoggedIn without any.
func (c *Client) Logout(name string) error {
	err := config.RemoveAuthentication(c.sys, name)
	if errors.Is(err, config.ErrNotLoggedIn) {
		return fmt.Errorf("%s: %w", name, ErrNotLoggedIn)
	}
	if err != nil {
		return fmt.Errorf("remove credentials of %s: %w", name, err)
	}
	return nil
}

// LogoutAll removes all credentials.
func (c *Client) LogoutAll() error {
	if err := config.RemoveAllAuthentication(c.sys); err != nil {
		return fmt.Errorf("remove credentials: %w", err)
	}
	return nil
}

// LoginName is what credentials are kept under for what the user typed: a
// host, or a repository on one. Schemes are dropped, as docker does.
func LoginName(s string) (string, error) {
	for _, p := range []string{"https://", "http://"} {
		s = strings.TrimPrefix(s, p)
	}
	s = strings.TrimSuffix(s, "/")
	switch s {
	case "index.docker.io/v1", "registry-1.docker.io", "index.docker.io":
		s = "docker.io"
	}
	host, path, deeper := strings.Cut(s, "/")
	if !deeper {
		path = "any"
	}
	n, err := reference.ParseNormalizedNamed(host + "/" + path)
	if err != nil || !reference.IsNameOnly(n) || reference.Domain(n) != host {
		return "", fmt.Errorf("registry %q: want HOST[:PORT] or HOST[:PORT]/REPOSITORY", s)
	}
	return s, nil
}
