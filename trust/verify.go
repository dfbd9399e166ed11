package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"

	"hull/oci"
)

// A Signature is one that was found for an image.
type Signature struct {
	// Payload is what a key of sigstore's kind has signed, and Raw its
	// signature. Of an OpenPGP signature Payload is nil: Raw has it inside.
	Payload, Raw []byte
}

// MaxSignature is more than any signature or payload has.
const MaxSignature = 4 << 20

// Verify reports whether the signatures satisfy the rules for an image that is
// asked for by ref and has one of the digests: its manifest's, or that of the
// index which the manifest was chosen from. The error is ErrPolicy.
func (r Rules) Verify(ref oci.Reference, digests []oci.Digest, signatures []Signature) error {
	for i := range r.List {
		q := &r.List[i]
		if q.Type == Accept {
			continue
		}
		if err := r.verify(q, ref, digests, signatures); err != nil {
			return fmt.Errorf("%w: %s wants %s for %s: %w", ErrPolicy, r.File, q.Type, r.Scope, err)
		}
	}
	return nil
}

func (r Rules) verify(q *Requirement, ref oci.Reference, digests []oci.Digest, signatures []Signature) error {
	check, err := q.checker()
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range signatures {
		if (s.Payload == nil) != (q.Type == SignedBy) {
			continue
		}
		payload, err := check(s)
		if err == nil {
			err = q.claims(payload, ref, digests)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return errors.New("there is no signature")
	}
	return fmt.Errorf("no signature is good: %w", errors.Join(errs...))
}

// checker returns what verifies a signature by the requirement's keys and
// returns the payload.
func (q *Requirement) checker() (func(Signature) ([]byte, error), error) {
	for _, x := range []struct {
		set  bool
		what string
	}{
		{q.Fulcio != nil, "fulcio"}, {q.PKI != nil, "pki"},
		{q.Rekor != "" || len(q.Rekors) > 0 || len(q.RekorD) > 0 || len(q.RekorA) > 0, "rekorPublicKey"},
	} {
		if x.set {
			return nil, fmt.Errorf("%s cannot be verified here", x.what)
		}
	}
	keys, err := q.keys()
	if err != nil {
		return nil, err
	}
	if q.Type == SignedBy {
		ring, err := keyRing(keys)
		if err != nil {
			return nil, err
		}
		return func(s Signature) ([]byte, error) { return openPGP(s.Raw, ring) }, nil
	}
	public, err := publicKeys(keys)
	if err != nil {
		return nil, err
	}
	return func(s Signature) ([]byte, error) { return s.Payload, verifyKeys(s, public) }, nil
}

// keys are the files or the data of the requirement.
func (q *Requirement) keys() ([][]byte, error) {
	paths := q.KeyPaths
	if q.KeyPath != "" {
		paths = []string{q.KeyPath}
	}
	all := q.KeyDatas
	if len(q.KeyData) > 0 {
		all = [][]byte{q.KeyData}
	}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		all = append(all, data)
	}
	return all, nil
}

// KeyNames are the addresses in the OpenPGP keys of the requirement, as far as
// they can be read.
func (q *Requirement) KeyNames() []string {
	if q.Type != SignedBy {
		return nil
	}
	keys, err := q.keys()
	if err != nil {
		return nil
	}
	ring, err := keyRing(keys)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range ring {
		for _, id := range e.Identities {
			names = append(names, firstOf(id.UserId.Email, id.UserId.Name, id.Name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func keyRing(keys [][]byte) (openpgp.EntityList, error) {
	var ring openpgp.EntityList
	for _, k := range keys {
		read := openpgp.ReadKeyRing
		if bytes.Contains(k, []byte("-----BEGIN PGP")) {
			read = openpgp.ReadArmoredKeyRing
		}
		l, err := read(bytes.NewReader(k))
		if err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		ring = append(ring, l...)
	}
	if len(ring) == 0 {
		return nil, errors.New("read key: there is none")
	}
	return ring, nil
}

// openPGP verifies a signed message and returns what is in it.
func openPGP(raw []byte, ring openpgp.EntityList) ([]byte, error) {
	md, err := openpgp.ReadMessage(bytes.NewReader(raw), ring, func([]openpgp.Key, bool) ([]byte, error) {
		return nil, errors.New("it is encrypted")
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	if !md.IsSigned {
		return nil, errors.New("read signature: it is none")
	}
	content, err := io.ReadAll(io.LimitReader(md.UnverifiedBody, MaxSignature+1))
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	switch {
	case len(content) > MaxSignature:
		return nil, errors.New("read signature: it is too large")
	case md.SignatureError != nil:
		return nil, fmt.Errorf("signature by key %016X: %w", md.SignedByKeyId, md.SignatureError)
	case md.SignedBy == nil:
		return nil, fmt.Errorf("signature by key %016X, which is none of the policy's", md.SignedByKeyId)
	}
	return content, nil
}

// publicKeys reads public keys in PEM.
func publicKeys(keys [][]byte) ([]crypto.PublicKey, error) {
	var all []crypto.PublicKey
	for _, k := range keys {
		for {
			block, rest := pem.Decode(k)
			if block == nil {
				break
			}
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("read key: %w", err)
			}
			all, k = append(all, key), rest
		}
	}
	if len(all) == 0 {
		return nil, errors.New("read key: there is none in PEM")
	}
	return all, nil
}

// verifyKeys verifies the payload's signature by any of the keys.
func verifyKeys(s Signature, keys []crypto.PublicKey) error {
	sum := sha256.Sum256(s.Payload)
	for _, k := range keys {
		ok := false
		switch k := k.(type) {
		case *ecdsa.PublicKey:
			ok = ecdsa.VerifyASN1(k, sum[:], s.Raw)
		case ed25519.PublicKey:
			ok = ed25519.Verify(k, s.Payload, s.Raw)
		case *rsa.PublicKey:
			ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], s.Raw) == nil
		default:
			return fmt.Errorf("read key: a key of type %T is not known", k)
		}
		if ok {
			return nil
		}
	}
	return errors.New("it is by none of the policy's keys")
}

// A payload is what is signed.
type payload struct {
	Critical struct {
		Type  string `json:"type"`
		Image struct {
			Digest oci.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
	} `json:"critical"`
	Optional json.RawMessage `json:"optional"`
}

// payloadTypes are what the payload of a type of requirement is called.
var payloadTypes = map[string]string{
	SignedBy: "atomic container signature", SigstoreSigned: "cosign container image signature",
}

// claims compares a verified payload with the image.
func (q *Requirement) claims(data []byte, ref oci.Reference, digests []oci.Digest) error {
	var p payload
	if err := strict("signature", data, &p); err != nil {
		return err
	}
	if want := payloadTypes[q.Type]; p.Critical.Type != want {
		return fmt.Errorf("it is a %q, not a %q", p.Critical.Type, want)
	}
	if err := q.Identity.matches(ref, p.Critical.Identity.Reference); err != nil {
		return err
	}
	for _, d := range digests {
		if d == p.Critical.Image.Digest {
			return nil
		}
	}
	return fmt.Errorf("it is for the manifest %s", clip(string(p.Critical.Image.Digest)))
}

// Payload is what is signed to say that a manifest is called ref.
func Payload(kind string, ref oci.Reference, manifest oci.Digest, optional map[string]any) ([]byte, error) {
	var p payload
	p.Critical.Type = payloadTypes[kind]
	p.Critical.Image.Digest, p.Critical.Identity.Reference = manifest, ref.Normalized().String()
	var err error
	if p.Optional, err = json.Marshal(optional); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

func clip(s string) string {
	return s[:min(len(s), 100)] + strings.Repeat("…", min(1, len(s)/101))
}
