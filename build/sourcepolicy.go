package build

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"

	"hull/containerfile"
	"hull/oci"
)

// A SourcePolicy says which sources a build may use, and which stand for
// others: the form is BuildKit's.
type SourcePolicy struct {
	Rules []SourceRule `json:"rules"`
}

// A SourceRule is one rule. Of those that match a source, the last ALLOW or DENY
// counts; CONVERT replaces the source, and the rules begin anew.
type SourceRule struct {
	Action   string `json:"action"` // ALLOW, DENY, CONVERT
	Selector struct {
		Identifier string `json:"identifier"` // docker-image://NAME, https://…, git://…
		MatchType  string `json:"matchType"`  // WILDCARD (""), EXACT, REGEX
	} `json:"selector"`
	Updates struct {
		Identifier string `json:"identifier"`
	} `json:"updates"`
}

// ReadSourcePolicy reads a policy; what is not known in it is an error.
func ReadSourcePolicy(file string) (*SourcePolicy, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the source policy: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	p := new(SourcePolicy)
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("read the source policy %s: %w", file, err)
	}
	for i, r := range p.Rules {
		if _, err := r.matches("docker-image://x"); err != nil {
			return nil, fmt.Errorf("read the source policy %s: rule %d: %w", file, i+1, err)
		}
		switch r.Action {
		case "ALLOW", "DENY":
		case "CONVERT":
			if r.Updates.Identifier == "" {
				return nil, fmt.Errorf("read the source policy %s: rule %d: CONVERT says not to what", file, i+1)
			}
		default:
			return nil, fmt.Errorf("read the source policy %s: rule %d: action %q is not one of ALLOW, DENY, CONVERT", file, i+1, r.Action)
		}
	}
	return p, nil
}

func (r *SourceRule) matches(source string) (bool, error) {
	want := r.Selector.Identifier
	switch r.Selector.MatchType {
	case "EXACT":
		return source == want, nil
	case "REGEX":
		re, err := regexp.Compile(want)
		if err != nil {
			return false, err
		}
		return re.MatchString(source), nil
	case "", "WILDCARD":
		return wildcard(want, source)
	}
	return false, fmt.Errorf("match type %q is not one of WILDCARD, EXACT, REGEX", r.Selector.MatchType)
}

// wildcard is path.Match in which "*" also stands for slashes.
func wildcard(pattern, text string) (bool, error) {
	const slash = "\x01"
	return path.Match(strings.ReplaceAll(pattern, "/", slash), strings.ReplaceAll(text, "/", slash))
}

// maxConversions bounds how often one source may be replaced.
const maxConversions = 20

// Apply returns what is used in the place of a source. A nil policy changes nothing.
func (p *SourcePolicy) Apply(source string) (string, error) {
	if p == nil {
		return source, nil
	}
	for range maxConversions {
		denied, converted := false, false
		for i := range p.Rules {
			r := &p.Rules[i]
			ok, err := r.matches(source)
			if err != nil {
				return "", err
			}
			if !ok {
				continue
			}
			switch r.Action {
			case "ALLOW":
				denied = false
			case "DENY":
				denied = true
			case "CONVERT":
				if r.Updates.Identifier != source {
					source, converted = r.Updates.Identifier, true
				}
			}
			if converted {
				break
			}
		}
		if denied {
			return "", fmt.Errorf("source %s is denied by the source policy", containerfile.Redact(source))
		}
		if !converted {
			return source, nil
		}
	}
	return "", fmt.Errorf("source %s is replaced in a circle by the source policy", containerfile.Redact(source))
}

const imageScheme = "docker-image://"

// imageSource is the image that the policy lets a name mean.
func (p *SourcePolicy) imageSource(name string) (string, error) {
	if p == nil {
		return name, nil
	}
	full := name
	if ref, err := oci.ParseReference(name); err == nil {
		full = ref.Normalized().Tagged().String()
	}
	source, err := p.Apply(imageScheme + full)
	if err != nil {
		return "", err
	}
	if source == imageScheme+full {
		return name, nil
	}
	ref, ok := strings.CutPrefix(source, imageScheme)
	if !ok {
		return "", fmt.Errorf("image %s: the source policy makes %s of it, which is no image", name, containerfile.Redact(source))
	}
	return ref, nil
}
