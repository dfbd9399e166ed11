package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hull/oci"
)

// ErrPolicy reports an image that policy.json does not let in.
var ErrPolicy = errors.New("refused by policy.json")

// A Policy is containers-policy.json(5): which images may come in.
type Policy struct {
	Default    []Requirement                       `json:"default"`
	Transports map[string]map[string][]Requirement `json:"transports,omitempty"`

	file string
	err  error // of reading it: refuses everything
}

// The types of requirements.
const (
	Accept         = "insecureAcceptAnything"
	Reject         = "reject"
	SignedBy       = "signedBy"
	SigstoreSigned = "sigstoreSigned"
)

// A Requirement is one thing that must hold of an image.
type Requirement struct {
	Type string `json:"type"`

	// Of signedBy and sigstoreSigned.
	KeyType  string    `json:"keyType,omitempty"`
	KeyPath  string    `json:"keyPath,omitempty"`
	KeyPaths []string  `json:"keyPaths,omitempty"`
	KeyData  []byte    `json:"keyData,omitempty"`
	KeyDatas [][]byte  `json:"keyDatas,omitempty"`
	Identity *Identity `json:"signedIdentity,omitempty"`

	// What is known and cannot be verified.
	Fulcio json.RawMessage `json:"fulcio,omitempty"`
	PKI    json.RawMessage `json:"pki,omitempty"`
	Rekor  string          `json:"rekorPublicKeyPath,omitempty"`
	Rekors []string        `json:"rekorPublicKeyPaths,omitempty"`
	RekorD []byte          `json:"rekorPublicKeyData,omitempty"`
	RekorA [][]byte        `json:"rekorPublicKeyDatas,omitempty"`
}

// ReadPolicy reads the first file that is there; without any, everything may
// come in. A file that cannot be understood lets nothing in.
func ReadPolicy(files ...string) *Policy {
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		p := new(Policy)
		if err == nil {
			p, err = Parse(data)
		}
		if err != nil {
			p = &Policy{err: fmt.Errorf("read policy %s: %w", f, err)}
		}
		p.file = f
		return p
	}
	return &Policy{Default: []Requirement{{Type: Accept}}}
}

// File is where the policy was read; "" is nowhere.
func (p *Policy) File() string { return p.file }

// Err is why the policy could not be read, if it could not.
func (p *Policy) Err() error { return p.err }

// PolicyFiles are where a policy is looked for.
func PolicyFiles() []string {
	var files []string
	if d, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(d, "containers", "policy.json"))
	}
	return append(files, "/etc/containers/policy.json")
}

// Parse reads a policy. A key that is not known is an error: it may be one that
// forbids something.
func Parse(data []byte) (*Policy, error) {
	p := new(Policy)
	if err := strict("policy", data, p); err != nil {
		return nil, err
	}
	if len(p.Default) == 0 {
		return nil, errors.New("it has no default")
	}
	lists := [][]Requirement{p.Default}
	for _, scopes := range p.Transports {
		for _, l := range scopes {
			lists = append(lists, l)
		}
	}
	for _, l := range lists {
		if len(l) == 0 {
			return nil, errors.New("a scope has no requirements")
		}
		for i := range l {
			if err := l[i].check(); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// strict decodes JSON that has no key twice and none that v has not.
func strict(what string, data []byte, v any) error {
	var any json.RawMessage
	if err := oci.Decode(what, data, &any); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

func (r *Requirement) check() error {
	switch r.Type {
	case Accept, Reject:
		return nil
	case SignedBy:
		if r.KeyType != "GPGKeys" {
			return fmt.Errorf("%s: keyType %q is not GPGKeys", r.Type, r.KeyType)
		}
	case SigstoreSigned:
		if r.Fulcio != nil || r.PKI != nil {
			return nil // refused when it matters
		}
	default:
		return fmt.Errorf("requirement of type %q is not known", r.Type)
	}
	n := 0
	for _, set := range []bool{r.KeyPath != "", len(r.KeyPaths) > 0, len(r.KeyData) > 0, len(r.KeyDatas) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%s: want one of keyPath, keyPaths, keyData", r.Type)
	}
	return r.Identity.check()
}

// Rules are the requirements of one name or path.
type Rules struct {
	List  []Requirement
	Scope string // that they come from
	File  string
}

// Rules returns what must hold of an image, by its scopes, the most specific
// first. The error is ErrPolicy when it is rejected, whatever may be signed.
func (p *Policy) Rules(transport string, scopes []string) (Rules, error) {
	if p.err != nil {
		return Rules{}, p.err
	}
	r := Rules{p.Default, "default", p.file}
	for _, s := range append(scopes, "") {
		if l, ok := p.Transports[transport][s]; ok {
			r.List, r.Scope = l, transport+":"+s
			break
		}
	}
	for _, q := range r.List {
		if q.Type == Reject {
			return r, fmt.Errorf("%w: %s rejects %s", ErrPolicy, p.file, r.Scope)
		}
	}
	return r, nil
}

// Signed reports whether the rules ask for a signature of that type, any type
// when it is "".
func (r Rules) Signed(kind string) bool {
	for _, q := range r.List {
		if q.Type == kind || kind == "" && q.Type != Accept {
			return true
		}
	}
	return false
}

// NameScopes are the scopes of a full name: itself, its repository, what that
// is in, its host, and *. for each domain that the host is in.
func NameScopes(ref oci.Reference) []string {
	scopes := []string{ref.String(), ref.Name()}
	if ref.Tag != "" && ref.Digest != "" {
		scopes[0] = ref.Name() + "@" + string(ref.Digest)
	}
	name := ref.Name()
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name, '/') {
		name = name[:i]
		scopes = append(scopes, name)
	}
	for host := ref.Domain; ; {
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return scopes
		}
		host = host[i+1:]
		scopes = append(scopes, "*."+host)
	}
}

// PathScopes are the scopes of a file or directory: itself and what it is in.
func PathScopes(path string) ([]string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	scopes := []string{abs}
	for d := filepath.Dir(abs); ; d = filepath.Dir(d) {
		scopes = append(scopes, d)
		if d == "/" {
			return scopes, nil
		}
	}
}
