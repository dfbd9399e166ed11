package transfer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"hull/trust"
)

// seal makes a private key as sigstore's tools keep it.
func seal(t *testing.T, key *ecdsa.PrivateKey, pass string, n int) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	salt, nonce := make([]byte, 32), [24]byte{1}
	derived, err := scrypt.Key([]byte(pass), salt, 1024, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := json.Marshal(map[string]any{
		"kdf":        map[string]any{"name": "scrypt", "params": map[string]int{"N": n, "r": 8, "p": 1}, "salt": salt},
		"cipher":     map[string]any{"name": "nacl/secretbox", "nonce": nonce[:]},
		"ciphertext": secretbox.Seal(nil, der, &nonce, (*[32]byte)(derived)),
	})
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: data})
}

// What is signed while it is pushed can be pulled where that is wanted, and a
// second signature joins the first.
func TestPushSigned(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	host := realRegistry(t)
	f := newFixture("amd64", false, []byte("signed"))
	f.send(t, host, "plain", "1")
	x := harness(t, t.TempDir())
	if _, err := x.Pull(ctx, host+"/plain:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var keys []SignOptions
	var policies []*trust.Policy
	for _, name := range []string{"a", "b"} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		o := SignOptions{Key: filepath.Join(dir, name+".key"), Passphrase: filepath.Join(dir, name+".pass")}
		for path, data := range map[string][]byte{o.Key: seal(t, k, "secret", 1024), o.Passphrase: []byte("secret\n")} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		keys = append(keys, o)
		policies = append(policies, (&signer{k}).policy(t))
	}
	for i, o := range keys {
		if _, err := x.Push(ctx, host+"/plain:1", host+"/signed:1", PushOptions{Sign: o}); err != nil {
			t.Fatal(err)
		}
		for j, p := range policies {
			y := harness(t, t.TempDir())
			y.Policy = p
			_, err := y.Pull(ctx, host+"/signed:1", PullOptions{})
			if (err == nil) != (j <= i) {
				t.Errorf("signed by %d, wanted of %d: %v", i, j, err)
			}
		}
	}
	if _, err := x.Push(ctx, host+"/plain:1", "dir:"+dir, PushOptions{Sign: keys[0]}); err == nil {
		t.Error("a directory was signed")
	}
	wrong := keys[0]
	wrong.Passphrase = keys[0].Key
	if _, err := x.Push(ctx, host+"/plain:1", host+"/other:1", PushOptions{Sign: wrong}); err == nil || !strings.Contains(err.Error(), "passphrase is wrong") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, n := range []int{-1, 0, 1 << 30} {
		if _, err := trust.PrivateKey(seal(t, k, "", n), nil); err == nil {
			t.Errorf("a key with N=%d: no error", n)
		}
	}
}
