package image

import (
	"path"
	"slices"
	"strings"

	"hull/oci"
)

// MatchesReference reports whether a name matches the pattern of
// --filter reference=: a glob of path.Match on the name or on a shorter form
// of it, with or without its tag.
func MatchesReference(n oci.Reference, pattern string) bool {
	_, local, _ := strings.Cut(n.Name(), "/")
	for _, form := range []string{n.Name(), local, path.Base(n.Path), familiarName(n)} {
		for _, s := range []string{form, form + ":" + n.Tag, form + "@" + string(n.Digest)} {
			if ok, err := path.Match(pattern, s); err == nil && ok || s == pattern {
				return true
			}
		}
	}
	return false
}

func familiarName(n oci.Reference) string {
	n.Tag, n.Digest = "", ""
	return n.Familiar()
}

// MatchesLabel reports whether labels have KEY or KEY=VALUE; in the value, * and
// ? are wild.
func MatchesLabel(labels map[string]string, spec string) bool {
	k, want, has := strings.Cut(spec, "=")
	v, ok := labels[k]
	if !ok || !has || v == want {
		return ok
	}
	m, err := path.Match(want, v)
	return err == nil && m
}

// HasName returns the stored name of the image that name means: the full one,
// or the one that ends like a short one.
func (s *Store) HasName(img Image, name oci.Reference) (oci.Reference, bool) {
	for _, full := range append(s.candidates(name), LocalName(name)) {
		if slices.Contains(img.Names, full) {
			return full, true
		}
	}
	for _, n := range img.Names {
		if means(name, n) {
			return n, true
		}
	}
	return oci.Reference{}, false
}
