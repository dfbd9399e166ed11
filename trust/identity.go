package trust

import (
	"fmt"
	"strings"

	"hull/oci"
)

// An Identity says which name a signature must carry.
type Identity struct {
	Type string `json:"type"`

	Reference  string `json:"dockerReference,omitempty"`  // of exactReference
	Repository string `json:"dockerRepository,omitempty"` // of exactRepository

	Prefix       string `json:"prefix,omitempty"` // of remapIdentity
	SignedPrefix string `json:"signedPrefix,omitempty"`
}

func (id *Identity) check() error {
	if id == nil {
		return nil
	}
	switch id.Type {
	case "matchExact", "matchRepoDigestOrExact", "matchRepository":
		return nil
	case "exactReference":
		r, err := oci.ParseReference(id.Reference)
		if err == nil && r.Tag == "" && r.Digest == "" {
			err = fmt.Errorf("signedIdentity %s: %q has neither tag nor digest", id.Type, id.Reference)
		}
		return err
	case "exactRepository":
		_, err := oci.ParseReference(id.Repository)
		return err
	case "remapIdentity":
		if id.Prefix == "" || id.SignedPrefix == "" {
			return fmt.Errorf("signedIdentity %s: want prefix and signedPrefix", id.Type)
		}
		return nil
	}
	return fmt.Errorf("signedIdentity of type %q is not known", id.Type)
}

// matches compares the name in a signature with the one that the image is
// asked for by.
func (id *Identity) matches(ref oci.Reference, signed string) error {
	s, err := oci.ParseReference(signed)
	if err != nil {
		return err
	}
	s, ref = s.Normalized(), ref.Normalized()
	kind := "matchRepoDigestOrExact"
	if id != nil {
		kind = id.Type
	}
	ok := false
	switch kind {
	case "matchExact":
		ok = ref.Tag != "" && ref.Digest == "" && s == ref
	case "matchRepoDigestOrExact":
		ok = exactOrDigest(ref, s)
	case "matchRepository":
		ok = s.Name() == ref.Name()
	case "exactReference":
		want, err := oci.ParseReference(id.Reference)
		ok = err == nil && s == want.Normalized()
	case "exactRepository":
		want, err := oci.ParseReference(id.Repository)
		ok = err == nil && s.Name() == want.Normalized().Name()
	case "remapIdentity":
		mapped, err := id.remap(ref)
		if err != nil {
			return err
		}
		ok = exactOrDigest(mapped, s)
	}
	if !ok {
		return fmt.Errorf("it is for %s", signed)
	}
	return nil
}

// exactOrDigest wants the same name and tag; who asks by digest, which is
// compared anyway, needs only the repository.
func exactOrDigest(ref, signed oci.Reference) bool {
	if ref.Digest != "" {
		return signed.Name() == ref.Name()
	}
	return ref.Tag != "" && signed == ref
}

// remap puts signedPrefix in place of prefix.
func (id *Identity) remap(ref oci.Reference) (oci.Reference, error) {
	rest, ok := strings.CutPrefix(ref.Name(), id.Prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return ref, nil
	}
	n, err := oci.ParseReference(id.SignedPrefix + rest)
	if err != nil {
		return ref, err
	}
	n.Tag, n.Digest = ref.Tag, ref.Digest
	return n, nil
}
