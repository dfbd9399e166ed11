package oci

import (
	"errors"
	"fmt"
	"strings"
)

// A Reference names an image: [DOMAIN/]PATH[:TAG][@DIGEST]. Domain is empty in
// a short name such as "busybox".
type Reference struct {
	Domain string // host[:port], without which the name is short
	Path   string // components of lower-case letters, digits and single separators
	Tag    string // empty when none was given
	Digest Digest // empty when none was given
}

// DefaultDomain and DefaultTag are what docker means when a name has none.
const (
	DefaultDomain = "docker.io"
	DefaultTag    = "latest"
)

// maxName is the longest name, without tag and digest, that registries take.
const maxName = 255

var errUpper = errors.New("repository name must be lowercase")

// ParseReference parses s by the grammar of the distribution project. The first
// component is a domain when it has a dot, a colon or an upper-case letter, or
// is "localhost"; and only if another follows.
func ParseReference(s string) (Reference, error) {
	bad := func(cause error) (Reference, error) {
		return Reference{}, fmt.Errorf("parse reference %q: %w", clip(s), cause)
	}
	var r Reference
	rest := s
	if name, digest, ok := strings.Cut(s, "@"); ok {
		r.Digest, rest = Digest(digest), name
		if err := r.Digest.Validate(); err != nil {
			return bad(err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		r.Tag, rest = rest[i+1:], rest[:i]
		if !validTag(r.Tag) {
			return bad(errors.New("invalid tag"))
		}
	}
	if first, path, ok := strings.Cut(rest, "/"); ok && isDomain(first) {
		r.Domain, rest = first, path
		if !validDomain(first) {
			return bad(errors.New("invalid host name"))
		}
	}
	r.Path = rest
	if rest == "" {
		return bad(errors.New("no repository name"))
	}
	if len(r.Name()) > maxName {
		return bad(fmt.Errorf("repository name is longer than %d bytes", maxName))
	}
	for part := range strings.SplitSeq(rest, "/") {
		if !validComponent(part) {
			if strings.ToLower(rest) != rest {
				return bad(errUpper)
			}
			return bad(errors.New("invalid repository name"))
		}
	}
	return r, nil
}

// isDomain reports whether the first component of a name is a host's.
func isDomain(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:") || strings.ToLower(s) != s
}

func validDomain(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 2 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" {
			return false
		}
		host, port = "", s[end+1:]
		if port == "" {
			return true
		}
		if port[0] != ':' {
			return false
		}
		port = port[1:]
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
		if port == "" {
			return false
		}
	}
	if strings.Trim(port, "0123456789") != "" || strings.Contains(s, ":") && port == "" {
		return false
	}
	if host == "" {
		return strings.HasPrefix(s, "[")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || !all(label, isAlnum, "-") {
			return false
		}
	}
	return true
}

// validComponent accepts letters and digits joined by one dot, one or two
// underscores, or any number of hyphens.
func validComponent(s string) bool {
	if s == "" || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isLowerAlnum(s[i]) {
			i++
			continue
		}
		j := i
		for j < len(s) && s[j] == s[i] {
			j++
		}
		switch n := j - i; {
		case s[i] == '-', s[i] == '.' && n == 1, s[i] == '_' && n <= 2:
		default:
			return false
		}
		if j < len(s) && !isLowerAlnum(s[j]) {
			return false
		}
		i = j
	}
	return true
}

func validTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' && all(s, isAlnum, "_.-")
}

func all(s string, ok func(byte) bool, also string) bool {
	for i := range len(s) {
		if !ok(s[i]) && strings.IndexByte(also, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
func isAlnum(c byte) bool      { return isLowerAlnum(c) || c >= 'A' && c <= 'Z' }

// Name returns the repository: the reference without tag and digest.
func (r Reference) Name() string {
	if r.Domain == "" {
		return r.Path
	}
	return r.Domain + "/" + r.Path
}

// String is the inverse of ParseReference.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// IsShort reports whether the name has no domain.
func (r Reference) IsShort() bool { return r.Domain == "" }

// Tagged returns r with the tag "latest" when it has neither tag nor digest.
func (r Reference) Tagged() Reference {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = DefaultTag
	}
	return r
}

// In returns the short name r in a domain. In docker.io, a name of one
// component lives below library/.
func (r Reference) In(domain string) Reference {
	r.Domain = domain
	if domain == DefaultDomain && !strings.Contains(r.Path, "/") {
		r.Path = "library/" + r.Path
	}
	return r
}

// Normalized returns what docker means by r: a short name is in docker.io, and
// index.docker.io is the same.
func (r Reference) Normalized() Reference {
	if r.Domain == "" || r.Domain == DefaultDomain || r.Domain == "index.docker.io" {
		return r.In(DefaultDomain)
	}
	return r
}

// Familiar is the shortest form of r that docker shows.
func (r Reference) Familiar() string {
	n := r.Normalized()
	if n.Domain == DefaultDomain {
		n.Domain, n.Path = "", strings.TrimPrefix(n.Path, "library/")
	}
	return n.String()
}
