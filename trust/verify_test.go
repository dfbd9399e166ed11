package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"hull/oci"
)

func entity(t *testing.T, conf *packet.Config) (*openpgp.Entity, []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("signer", "", "signer@example.com", conf)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return e, b.Bytes()
}

func sign(t *testing.T, e *openpgp.Entity, data []byte, conf *packet.Config) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := openpgp.Sign(&b, e, nil, conf)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makePayload(t *testing.T, kind, name string, d oci.Digest) []byte {
	t.Helper()
	p, err := Payload(kind, ref(t, name), d, map[string]any{"creator": "test"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What an OpenPGP signature must say and by whom.
func TestREG09SignedBy(t *testing.T) {
	signer, key := entity(t, nil)
	other, _ := entity(t, nil)
	old := &packet.Config{Time: func() time.Time { return time.Now().Add(-48 * time.Hour) }, KeyLifetimeSecs: 3600}
	expired, expiredKey := entity(t, old)
	image, name := oci.FromBytes([]byte("image")), "r.invalid/a:1"
	good := makePayload(t, SignedBy, name, image)
	tampered := sign(t, signer, good, nil)
	tampered[len(tampered)/2] ^= 1
	for what, c := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"good":           {sign(t, signer, good, nil), true},
		"another key":    {sign(t, other, good, nil), false},
		"an expired key": {sign(t, expired, good, old), false},
		"another image":  {sign(t, signer, makePayload(t, SignedBy, name, oci.FromBytes([]byte("x"))), nil), false},
		"another name":   {sign(t, signer, makePayload(t, SignedBy, "r.invalid/b:1", image), nil), false},
		"another tag":    {sign(t, signer, makePayload(t, SignedBy, "r.invalid/a:2", image), nil), false},
		"another kind":   {sign(t, signer, makePayload(t, SigstoreSigned, name, image), nil), false},
		"more keys":      {sign(t, signer, []byte(strings.Replace(string(good), `"critical":{`, `"critical":{"also":1,`, 1)), nil), false},
		"a key twice":    {sign(t, signer, []byte(strings.Replace(string(good), `{"docker-manifest`, `{"docker-manifest-digest":"x","docker-manifest`, 1)), nil), false},
		"no JSON":        {sign(t, signer, []byte("x"), nil), false},
		"tampered":       {tampered, false},
		"not signed":     {good, false},
		"empty":          {nil, false},
	} {
		r := Rules{List: []Requirement{{Type: SignedBy, KeyType: "GPGKeys", KeyDatas: [][]byte{key, expiredKey}}}}
		err := r.Verify(ref(t, name), []oci.Digest{image}, []Signature{{Raw: c.raw}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", what, err, c.ok)
		}
	}
	// One of several is enough; each requirement must be met.
	r := Rules{List: []Requirement{{Type: SignedBy, KeyType: "GPGKeys", KeyData: key}, {Type: Accept}}}
	both := []Signature{{Raw: sign(t, other, good, nil)}, {Raw: sign(t, signer, good, nil)}}
	if err := r.Verify(ref(t, name), []oci.Digest{image}, both); err != nil {
		t.Error(err)
	}
	r.List = append(r.List, Requirement{Type: SignedBy, KeyType: "GPGKeys", KeyData: expiredKey})
	if err := r.Verify(ref(t, name), []oci.Digest{image}, both); err == nil {
		t.Error("two signers are wanted and one has signed: no error")
	}
	if err := r.Verify(ref(t, name), []oci.Digest{image}, nil); err == nil {
		t.Error("no signature: no error")
	}
}

// The same of a plain key's signature, of each kind of key.
func TestREG09Sigstore(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	image, name := oci.FromBytes([]byte("image")), "r.invalid/a:1"
	payload := makePayload(t, SigstoreSigned, name, image)
	for what, key := range map[string]crypto.Signer{"ecdsa": ec, "ed25519": ed, "rsa": rs} {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		var raw []byte
		if what == "ed25519" {
			raw, err = key.Sign(rand.Reader, payload, crypto.Hash(0))
		} else {
			sum := sha256.Sum256(payload)
			raw, err = key.Sign(rand.Reader, sum[:], crypto.SHA256)
		}
		if err != nil {
			t.Fatal(err)
		}
		q := Requirement{Type: SigstoreSigned, KeyData: public}
		verify := func(q Requirement, name string, d oci.Digest, s Signature) error {
			return Rules{List: []Requirement{q}}.Verify(ref(t, name), []oci.Digest{d}, []Signature{s})
		}
		if err := verify(q, name, image, Signature{payload, raw}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := verify(q, "r.invalid/b:1", image, Signature{payload, raw}); err == nil {
			t.Errorf("%s: another name: no error", what)
		}
		if err := verify(q, name, oci.FromBytes(nil), Signature{payload, raw}); err == nil {
			t.Errorf("%s: another image: no error", what)
		}
		if err := verify(q, name, image, Signature{append(payload, ' '), raw}); err == nil {
			t.Errorf("%s: another payload: no error", what)
		}
		if err := verify(q, name, image, Signature{Raw: raw}); err == nil {
			t.Errorf("%s: an OpenPGP signature: no error", what)
		}
		q.Rekor = "/k"
		if err := verify(q, name, image, Signature{payload, raw}); err == nil || !strings.Contains(err.Error(), "cannot be verified") {
			t.Errorf("%s: rekor is wanted: %v", what, err)
		}
	}
}
