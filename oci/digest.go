package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// A Digest names content by its hash: "sha256:" and 64 hexadecimal digits, or
// "sha512:" and 128 (image-spec descriptor.md#digests). A Digest that came from
// outside must be validated before its parts are used.
type Digest string

// FromBytes returns the sha256 digest of data.
func FromBytes(data []byte) Digest {
	sum := sha256.Sum256(data)
	return NewDigest(sum[:])
}

// NewDigest returns the digest with the given sha256 sum.
func NewDigest(sum []byte) Digest { return Digest("sha256:" + hex.EncodeToString(sum)) }

// Validate reports whether d is of a kind that Hull trusts: sha256 or sha512,
// lower case, nothing else.
func (d Digest) Validate() error {
	alg, hexa, ok := strings.Cut(string(d), ":")
	if !ok {
		return fmt.Errorf("invalid digest %q: want algorithm:hex", clip(string(d)))
	}
	want := map[string]int{"sha256": 64, "sha512": 128}[alg]
	if want == 0 {
		return fmt.Errorf("invalid digest %q: unsupported algorithm", clip(string(d)))
	}
	if len(hexa) != want {
		return fmt.Errorf("invalid digest %q: %d digits, want %d", clip(string(d)), len(hexa), want)
	}
	if !isHex(hexa) {
		return fmt.Errorf("invalid digest %q: not lower-case hexadecimal", clip(string(d)))
	}
	return nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// clip keeps error texts about hostile input short.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// Algorithm returns the part before the colon.
func (d Digest) Algorithm() string {
	alg, _, _ := strings.Cut(string(d), ":")
	return alg
}

// Hex returns the part after the colon.
func (d Digest) Hex() string {
	_, h, _ := strings.Cut(string(d), ":")
	return h
}

func (d Digest) String() string { return string(d) }

// Hash returns a hash of d's algorithm; d must be valid.
func (d Digest) Hash() hash.Hash {
	if d.Algorithm() == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// ChainID names the result of applying the layers with the given diff IDs one
// after the other (image-spec config.md#layer-chainid). Of no layers it is "".
func ChainID(diffIDs []Digest) Digest {
	var chain Digest
	for _, d := range diffIDs {
		if chain == "" {
			chain = d
			continue
		}
		chain = FromBytes([]byte(string(chain) + " " + string(d)))
	}
	return chain
}
