package transfer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/oci"
	"hull/trust"
)

// A signer signs as sigstore's tools do with a key of their own.
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t *testing.T) *signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{k}
}

// policy wants the signer's signature for everything.
func (s *signer) policy(t *testing.T) *trust.Policy {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pub")
	text := `{"default":[{"type":"sigstoreSigned","keyPath":"` + key + `","signedIdentity":{"type":"matchRepository"}}]}`
	for name, data := range map[string][]byte{key: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), filepath.Join(dir, "policy.json"): []byte(text)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := trust.ReadPolicy(filepath.Join(dir, "policy.json"))
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
	return p
}

// attach puts a signature of d beside the images of a fake registry.
func (s *signer) attach(t *testing.T, reg *fake, name string, d oci.Digest) {
	t.Helper()
	ref, err := oci.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := trust.Payload(trust.SigstoreSigned, ref, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(payload)
	raw, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	l := reg.f.put(attachedType, payload)
	l.Annotations = map[string]string{attachedSignature: base64.StdEncoding.EncodeToString(raw)}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: reg.f.put(oci.MediaTypeConfig, []byte("{}")), Layers: []oci.Descriptor{l}}
	reg.manifests[attachedTag(d)], _ = json.Marshal(m)
}

// TestREG09 pulls what is signed, and nothing that is put in its place.
func TestREG09(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	key := newSigner(t)
	good, evil := newFixture("amd64", false, []byte("good")), newFixture("amd64", false, []byte("evil"))
	reg := &fake{f: good, manifests: map[string][]byte{}}
	for _, f := range []*fixture{good, evil} {
		for d, b := range f.blobs {
			good.blobs[d] = b
		}
		reg.manifests[string(oci.FromBytes(f.manifest))] = f.manifest
	}
	index := func(f *fixture) []byte {
		data, _ := json.Marshal(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{{MediaType: oci.MediaTypeManifest,
			Digest: oci.FromBytes(f.manifest), Size: int64(len(f.manifest)), Platform: &oci.Platform{OS: "linux", Architecture: "amd64"}}}})
		reg.manifests[string(oci.FromBytes(data))] = data
		return data
	}
	goodIndex, evilIndex := index(good), index(evil)
	host := reg.serve(t)
	root := t.TempDir()
	x := harness(t, root)
	x.Policy = key.policy(t)
	pull := func(tag string) error {
		_, err := x.Pull(ctx, host+"/app:"+tag, PullOptions{Platform: oci.Platform{Architecture: "amd64"}})
		return err
	}
	for name, m := range map[string][]byte{"single": good.manifest, "index": goodIndex, "evil": evil.manifest, "evilindex": evilIndex} {
		reg.manifests[name] = m
		if err := pull(name); !errors.Is(err, trust.ErrPolicy) {
			t.Errorf("%s without a signature: %v", name, err)
		}
	}
	if left := leftovers(t, root); len(left) > 0 {
		t.Errorf("refused images left %v", left)
	}
	key.attach(t, reg, host+"/app:1", oci.FromBytes(good.manifest))
	for name, ok := range map[string]bool{"single": true, "index": true, "evil": false, "evilindex": false} {
		if err := pull(name); (err == nil) != ok {
			t.Errorf("%s with the image signed: %v, want ok %v", name, err, ok)
		}
	}
	// Another's signature, another repository's, and one under a wrong tag.
	newSigner(t).attach(t, reg, host+"/app:1", oci.FromBytes(evil.manifest))
	if err := pull("evil"); err == nil {
		t.Error("signed by somebody else: no error")
	}
	key.attach(t, reg, host+"/other:1", oci.FromBytes(evil.manifest))
	if err := pull("evil"); err == nil {
		t.Error("signed for another repository: no error")
	}
	reg.manifests[attachedTag(oci.FromBytes(evil.manifest))] = reg.manifests[attachedTag(oci.FromBytes(good.manifest))]
	if err := pull("evil"); err == nil {
		t.Error("the signature of another image: no error")
	}
	// An index that is signed says which image it means.
	delete(reg.manifests, attachedTag(oci.FromBytes(good.manifest)))
	key.attach(t, reg, host+"/app:1", oci.FromBytes(goodIndex))
	if err := pull("index"); err != nil {
		t.Errorf("a signed index: %v", err)
	}
	reg.manifests[string(oci.FromBytes(good.manifest))] = evil.manifest
	if err := pull("index"); err == nil {
		t.Error("a swapped image of a signed index: no error")
	}
}

// A tag that moves between two requests does not matter: what was verified is
// what is stored.
func TestREG09MovedTag(t *testing.T) {
	quiet(t)
	key := newSigner(t)
	good, evil := newFixture("amd64", false, []byte("good")), newFixture("amd64", false, []byte("evil"))
	for d, b := range evil.blobs {
		good.blobs[d] = b
	}
	reg := &fake{f: good, manifests: map[string][]byte{"1": good.manifest}}
	moving := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.ServeHTTP(w, r)
		if strings.HasSuffix(r.URL.Path, "/manifests/1") {
			reg.manifests["1"] = evil.manifest
		}
	})
	host := serve(t, moving)
	key.attach(t, reg, host+"/app:1", oci.FromBytes(good.manifest))
	x := harness(t, t.TempDir())
	x.Policy = key.policy(t)
	p, err := x.Pull(context.Background(), host+"/app:1", PullOptions{})
	if err != nil || p[0].Image.Manifest != oci.FromBytes(good.manifest) {
		t.Errorf("pulled %v, %v, want the signed image", p, err)
	}
}

// OpenPGP signatures lie where registries.d says; archives have none.
func TestREG09Lookaside(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	f := newFixture("amd64", false, []byte("one"))
	host := (&fake{f: f}).serve(t)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nosuch/key"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	x := harness(t, filepath.Join(dir, "store"))
	x.Policy = trust.ReadPolicy(policy)
	l, err := trust.ReadLookaside(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Fallback = "file://" + dir + "/sigs"
	x.Lookaside = l
	for _, name := range []string{host + "/x:1", "docker-daemon:x:1", "dir:" + dir} {
		if _, err := x.Pull(ctx, name, PullOptions{}); !errors.Is(err, trust.ErrPolicy) {
			t.Errorf("pull %s: %v, want ErrPolicy", name, err)
		}
	}
}
