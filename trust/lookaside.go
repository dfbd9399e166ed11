package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"hull/oci"
)

// A Lookaside knows where the OpenPGP signatures of registries are kept, which
// have no place for them: containers-registries.d(5).
type Lookaside struct {
	def    place
	scopes map[string]place
	// Fallback is used where no file names a place: a directory's URL.
	Fallback string
}

// place is what registries.d says of a scope.
type place struct {
	Lookaside string `yaml:"lookaside"`
	Staging   string `yaml:"lookaside-staging"`
	// Their old names.
	Sigstore        string `yaml:"sigstore"`
	SigstoreStaging string `yaml:"sigstore-staging"`
	Attachments     *bool  `yaml:"use-sigstore-attachments"`
}

func (p place) read() string { return firstOf(p.Lookaside, p.Sigstore) }
func (p place) write() string {
	return firstOf(p.Staging, p.SigstoreStaging, p.Lookaside, p.Sigstore)
}

func firstOf(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}

// LookasideDir is where registries.d is: the user's, or the system's.
func LookasideDir() string {
	if d, err := os.UserConfigDir(); err == nil {
		dir := filepath.Join(d, "containers", "registries.d")
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return "/etc/containers/registries.d"
}

// DefaultLookaside is where signatures are kept when nothing else is said.
func DefaultLookaside(root bool) string {
	dir := "/var/lib/containers/sigstore"
	if home, err := os.UserHomeDir(); err == nil && !root {
		dir = filepath.Join(home, ".local", "share", "containers", "sigstore")
	}
	return "file://" + dir
}

// ReadLookaside reads all *.yaml files of a directory; one that is not there
// has none.
func ReadLookaside(dir string) (*Lookaside, error) {
	l := &Lookaside{scopes: map[string]place{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	defaults := ""
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var conf struct {
			Default *place           `yaml:"default-docker"`
			Docker  map[string]place `yaml:"docker"`
		}
		if err == nil {
			err = yaml.NewDecoder(bytes.NewReader(data)).Decode(&conf)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s: %w", f, err)
		}
		if conf.Default != nil {
			if defaults != "" {
				return nil, fmt.Errorf("read %s: default-docker is in %s too", f, defaults)
			}
			defaults, l.def = f, *conf.Default
		}
		for scope, p := range conf.Docker {
			if _, ok := l.scopes[scope]; ok {
				return nil, fmt.Errorf("read %s: %s is in another file too", f, scope)
			}
			l.scopes[scope] = p
		}
	}
	return l, nil
}

// base is the most specific place that get finds.
func (l *Lookaside) base(ref oci.Reference, get func(place) string) string {
	for _, s := range NameScopes(ref) {
		if b := get(l.scopes[s]); b != "" {
			return b
		}
	}
	return firstOf(get(l.def), l.Fallback)
}

// Base is the place of a scope's signatures as it was configured, "" unknown.
func (l *Lookaside) Base(scope string) string {
	if p, ok := l.scopes[scope]; ok && p.read() != "" {
		return p.read()
	}
	ref, err := oci.ParseReference(scope)
	if err != nil || ref.IsShort() {
		ref, err = oci.ParseReference(scope + "/any")
	}
	if err != nil {
		return l.def.read()
	}
	for _, s := range NameScopes(ref) {
		if b := l.scopes[s].read(); b != "" {
			return b
		}
	}
	return l.def.read()
}

// Read returns where signature n, from 1 on, of a manifest is.
func (l *Lookaside) Read(ref oci.Reference, d oci.Digest, n int) (*url.URL, error) {
	return signatureURL(l.base(ref, place.read), ref, d, n)
}

// Write returns the file for signature n.
func (l *Lookaside) Write(ref oci.Reference, d oci.Digest, n int) (string, error) {
	u, err := signatureURL(l.base(ref, place.write), ref, d, n)
	if err != nil {
		return "", err
	}
	if u.Scheme != "file" {
		return "", fmt.Errorf("keep signature of %s: %s is no directory; lookaside-staging in registries.d names one", ref, u)
	}
	return u.Path, nil
}

func signatureURL(base string, ref oci.Reference, d oci.Digest, n int) (*url.URL, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("find signatures of %s: %w", ref, err)
	}
	if !slices.Contains([]string{"file", "http", "https"}, u.Scheme) {
		return nil, fmt.Errorf("find signatures of %s: %q is no URL of file, http or https", ref, base)
	}
	return u.JoinPath(SignaturePath(ref, d, n)), nil
}

// SignaturePath is where signature n of a manifest is below a lookaside.
func SignaturePath(ref oci.Reference, d oci.Digest, n int) string {
	return fmt.Sprintf("%s@%s=%s/signature-%d", strings.TrimPrefix(ref.Normalized().Path, "/"), d.Algorithm(), d.Hex(), n)
}
