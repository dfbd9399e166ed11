package transfer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"time"

	"hull/oci"
	"hull/registry"
	"hull/trust"
	"hull/userns"
)

func (t *Transfer) policy() *trust.Policy {
	if t.Policy == nil {
		return trust.ReadPolicy(trust.PolicyFiles()...)
	}
	return t.Policy
}

func (t *Transfer) lookaside() (*trust.Lookaside, error) {
	if t.Lookaside != nil {
		return t.Lookaside, nil
	}
	l, err := trust.ReadLookaside(trust.LookasideDir())
	if err == nil {
		l.Fallback = trust.DefaultLookaside(!userns.Rootless())
	}
	return l, err
}

// admit decides about what comes without signatures. One that is wanted is
// missing then.
func admit(p *trust.Policy, transport string, scopes []string) error {
	rules, err := p.Rules(transport, scopes)
	if err == nil && rules.Signed("") {
		err = fmt.Errorf("%w: %s wants a signature for %s, and %s: has none", trust.ErrPolicy, rules.File, rules.Scope, transport)
	}
	return err
}

// admitPath decides about a file or directory.
func (t *Transfer) admitPath(transport, path string) error {
	scopes, err := trust.PathScopes(path)
	if err != nil {
		return err
	}
	return admit(t.policy(), transport, scopes)
}

// verify compares a manifest that was read with what the rules ask for. What it
// was chosen from may be signed in its stead: an index says by digest which
// manifest it means.
func (t *Transfer) verify(ctx context.Context, rules trust.Rules, repo *registry.Repository, ref oci.Reference, top, single *registry.Manifest) error {
	if !rules.Signed("") {
		return nil
	}
	digests := []oci.Digest{single.Digest}
	if top.Digest != single.Digest {
		digests = append(digests, top.Digest)
	}
	var all []trust.Signature
	for _, d := range digests {
		if rules.Signed(trust.SignedBy) {
			found, err := t.lookasideSignatures(ctx, ref, d)
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
		if rules.Signed(trust.SigstoreSigned) {
			found, err := attachedSignatures(ctx, repo, d)
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
	}
	return rules.Verify(ref, digests, all)
}

// maxSignatures of one manifest are looked at.
const maxSignatures = 128

// lookasideSignatures reads the OpenPGP signatures of a manifest.
func (t *Transfer) lookasideSignatures(ctx context.Context, ref oci.Reference, d oci.Digest) ([]trust.Signature, error) {
	l, err := t.lookaside()
	if err != nil {
		return nil, err
	}
	var all []trust.Signature
	for n := 1; n <= maxSignatures; n++ {
		u, err := l.Read(ref, d, n)
		if err != nil {
			return nil, err
		}
		data, err := readSignature(ctx, u)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read signature: %w", err)
		}
		all = append(all, trust.Signature{Raw: data})
	}
	return all, nil
}

// readSignature reads a file or an URL, which the administrator named.
func readSignature(ctx context.Context, u *url.URL) ([]byte, error) {
	if u.Scheme == "file" {
		f, err := os.Open(u.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readBounded(f, trust.MaxSignature)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "hull")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return readBounded(resp.Body, trust.MaxSignature)
	case http.StatusNotFound:
		return nil, fs.ErrNotExist
	}
	return nil, fmt.Errorf("GET %s: %s", u.Redacted(), resp.Status)
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, err
}

// What an attached signature is called, in its manifest and in the registry.
const (
	attachedType      = "application/vnd.dev.cosign.simplesigning.v1+json"
	attachedSignature = "dev.cosignproject.cosign/signature"
)

// attachedTag is where the signatures of a manifest are.
func attachedTag(d oci.Digest) string { return d.Algorithm() + "-" + d.Hex() + ".sig" }

// attachedSignatures reads the signatures that are in the registry beside a
// manifest.
func attachedSignatures(ctx context.Context, repo *registry.Repository, d oci.Digest) ([]trust.Signature, error) {
	top, err := repo.Manifest(ctx, attachedTag(d))
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	m, err := oci.DecodeManifest(top.Data)
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	var all []trust.Signature
	for _, l := range m.Layers[:min(len(m.Layers), maxSignatures)] {
		raw, err := base64.StdEncoding.DecodeString(l.Annotations[attachedSignature])
		if l.MediaType != attachedType || err != nil || len(raw) == 0 {
			continue
		}
		payload, err := readConfig(ctx, repo, l)
		if err != nil {
			return nil, fmt.Errorf("read signatures: %w", err)
		}
		all = append(all, trust.Signature{Payload: payload, Raw: raw})
	}
	return all, nil
}
