package transfer

import (
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

// A Policy is containers-policy.json(5): which images may come in. What needs
// a signature is refused, since none is verified: an image that claims to be
// signed and was not looked at must not run.
type Policy struct {
	Default    []requirement                       `json:"default"`
	Transports map[string]map[string][]requirement `json:"transports"`

	file string
	err  error // of reading it: refuses everything
}

type requirement struct {
	Type string `json:"type"`
}

// ReadPolicy reads the first file that is there; without any, everything may
// come in. A file that cannot be understood lets nothing in.
func ReadPolicy(files ...string) *Policy {
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		p := &Policy{file: f}
		if err == nil {
			err = json.Unmarshal(data, p)
		}
		if err == nil && len(p.Default) == 0 {
			err = errors.New("it has no default")
		}
		if err != nil {
			p.err = fmt.Errorf("read policy %s: %w", f, err)
		}
		return p
	}
	return &Policy{Default: []requirement{{"insecureAcceptAnything"}}}
}

func (t *Transfer) policy() *Policy {
	if t.Policy != nil {
		return t.Policy
	}
	var files []string
	if d, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(d, "containers", "policy.json"))
	}
	return ReadPolicy(append(files, "/etc/containers/policy.json")...)
}

// admit decides about a full name in a transport, by the most specific scope.
func (p *Policy) admit(transport string, ref oci.Reference) error {
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
			break
		}
		host = host[i+1:]
		scopes = append(scopes, "*."+host)
	}
	return p.decide(transport, append(scopes, ""))
}

// admitPath decides about a file or directory.
func (p *Policy) admitPath(transport, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	scopes := []string{abs}
	for d := filepath.Dir(abs); ; d = filepath.Dir(d) {
		scopes = append(scopes, d)
		if d == "/" {
			break
		}
	}
	return p.decide(transport, append(scopes, ""))
}

func (p *Policy) decide(transport string, scopes []string) error {
	if p.err != nil {
		return p.err
	}
	rules, scope := p.Default, "default"
	for _, s := range scopes {
		if r, ok := p.Transports[transport][s]; ok {
			rules, scope = r, transport+":"+s
			break
		}
	}
	if len(rules) == 0 {
		return fmt.Errorf("%w: %s has no requirements for %s", ErrPolicy, p.file, scope)
	}
	for _, r := range rules {
		switch r.Type {
		case "insecureAcceptAnything":
		case "reject":
			return fmt.Errorf("%w: %s rejects %s", ErrPolicy, p.file, scope)
		default:
			return fmt.Errorf("%w: %s wants %q for %s, which cannot be verified", ErrPolicy, p.file, r.Type, scope)
		}
	}
	return nil
}
