package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"hull/oci"
)

// ErrBlocked reports a registry that registries.conf blocks.
var ErrBlocked = errors.New("registry is blocked by registries.conf")

// Credentials of one registry. With Token set, an identity token stands in for
// the password.
type Credentials struct {
	Username, Password, Token string
}

func (c Credentials) empty() bool { return c == Credentials{} }

// system is the configuration that image/v5 reads, as the options move it.
func system(o Options) *types.SystemContext {
	s := &types.SystemContext{
		AuthFilePath:             o.AuthFile,
		DockerCompatAuthFilePath: o.CompatAuthFile,
	}
	if s.AuthFilePath == "" && s.DockerCompatAuthFilePath == "" {
		s.AuthFilePath = os.Getenv("REGISTRY_AUTH_FILE")
	}
	return s
}

// A Candidate is what a name may mean.
type Candidate struct {
	Reference oci.Reference
	record    func() error
}

// Record remembers that a short name meant this candidate, when registries.conf
// wants such choices kept.
func (c Candidate) Record() error {
	if c.record == nil {
		return nil
	}
	return c.record()
}

// Resolve returns what a name may mean, the likeliest first: itself when it is
// a full name, else what the aliases and unqualified-search-registries of
// registries.conf make of it, docker.io without any. why is a sentence for the
// user, "" for a full name.
func (c *Client) Resolve(name oci.Reference) (candidates []Candidate, why string, err error) {
	if !name.IsShort() {
		return []Candidate{{Reference: name.Normalized().Tagged()}}, "", nil
	}
	r, err := shortnames.Resolve(c.sys, name.String())
	if err != nil {
		if names, e := sysregistriesv2.UnqualifiedSearchRegistries(c.sys); e == nil && len(names) == 0 {
			return []Candidate{{Reference: name.Normalized().Tagged()}},
				fmt.Sprintf("Resolving %q to docker.io (no unqualified-search registries are configured)", name), nil
		}
		return nil, "", fmt.Errorf("resolve short name %s: %w", name, err)
	}
	for i := range r.PullCandidates {
		p := &r.PullCandidates[i]
		ref, err := oci.ParseReference(p.Value.String())
		if err != nil {
			return nil, "", fmt.Errorf("resolve short name %s: %w", name, err)
		}
		candidates = append(candidates, Candidate{ref, p.Record})
	}
	return candidates, r.Description(), nil
}

// SearchRegistries are those in which a name without a registry is searched.
func (c *Client) SearchRegistries() ([]string, error) {
	names, err := sysregistriesv2.UnqualifiedSearchRegistries(c.sys)
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	if len(names) == 0 {
		names = []string{oci.DefaultDomain}
	}
	return names, nil
}

// An endpoint is one place where a repository is.
type endpoint struct {
	ref      reference.Named
	insecure bool
	mirror   bool
	ns       string // value of the query parameter ns, "" none
}

// endpoints lists where registries.conf says that ref is: mirrors first when
// the purpose is reading.
func (c *Client) endpoints(ref oci.Reference, reading bool) ([]endpoint, error) {
	named, err := reference.ParseNormalizedNamed(ref.Normalized().String())
	if err != nil {
		return nil, err
	}
	reg, err := sysregistriesv2.FindRegistry(c.sys, named.Name())
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	if reg == nil {
		return []endpoint{{ref: named, insecure: c.insecure(false)}}, nil
	}
	if reg.Blocked {
		return nil, fmt.Errorf("%s: %w", reg.Prefix, ErrBlocked)
	}
	sources, err := reg.PullSourcesFromReference(named)
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	if !reading {
		// A push goes to the name that was given, as podman has it.
		return []endpoint{{ref: named, insecure: c.insecure(reg.Insecure)}}, nil
	}
	var all []endpoint
	for i, s := range sources {
		all = append(all, endpoint{
			ref: s.Reference, insecure: c.insecure(s.Endpoint.Insecure),
			mirror: i < len(sources)-1, ns: s.Endpoint.NamespaceProxy,
		})
	}
	return all, nil
}

// insecure is the configured value unless --tls-verify overrides it.
func (c *Client) insecure(configured bool) bool {
	if c.o.TLSVerify != nil {
		return !*c.o.TLSVerify
	}
	return configured
}

// credentials looks up who we are at ref's registry. No entry is no error and
// empty credentials; a helper that fails is an error, so that nobody is told a
// wrong "not found" (REG-05).
func (c *Client) credentials(_ context.Context, ref reference.Named, mirror bool) (Credentials, error) {
	if !c.o.Creds.empty() && !mirror {
		return c.o.Creds, nil
	}
	a, err := config.GetCredentialsForRef(c.sys, ref)
	if err != nil {
		return Credentials{}, fmt.Errorf("find credentials for %s: %w", reference.Domain(ref), err)
	}
	return Credentials{a.Username, a.Password, a.IdentityToken}, nil
}

// certDirs are the directories with a host's certificates, the most specific
// first: the first that exists counts.
func (c *Client) certDirs(host string) []string {
	if c.o.CertDir != "" {
		return []string{c.o.CertDir}
	}
	var dirs []string
	if d, err := os.UserConfigDir(); err == nil {
		dirs = append(dirs, filepath.Join(d, "containers", "certs.d", host))
	}
	return append(dirs, filepath.Join("/etc/containers/certs.d", host), filepath.Join("/etc/docker/certs.d", host))
}
