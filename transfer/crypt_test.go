package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/image"
	"hull/oci"
)

// keyPair writes a private key and its public one.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key"), filepath.Join(dir, "key.pub")
	for path, b := range map[string]*pem.Block{private: {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}, public: {Type: "PUBLIC KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

// What was encrypted can be read by its readers alone, and is then the image
// that it was. Row IMG-03: it is the image of the platform that was asked for
// whose keys are needed.
func TestIMG03Encrypted(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	host := realRegistry(t)
	data := noise(1<<20, 7)
	f := newFixture("amd64", false, data, []byte("two"))
	f.send(t, host, "plain", "1")
	x := harness(t, t.TempDir())
	p, err := x.Pull(ctx, host+"/plain:1", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	private, public := keyPair(t)
	other, otherPublic := keyPair(t)
	for name, o := range map[string]PushOptions{
		"all":  {EncryptionKeys: []string{"jwe:" + public}},
		"both": {EncryptionKeys: []string{"jwe:" + public, "jwe:" + otherPublic}, EncryptLayers: []int{-2}},
		"zstd": {EncryptionKeys: []string{"jwe:" + public}, Compression: image.Zstd, Force: true},
	} {
		if _, err := x.Push(ctx, host+"/plain:1", host+"/enc:"+name, o); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		raw := skopeo(t, "inspect", "--tls-verify=false", "--raw", "docker://"+host+"/enc:"+name)
		m, err := oci.DecodeManifest([]byte(raw))
		if err != nil || !isEncrypted(m.Layers[0]) || isEncrypted(m.Layers[1]) != (name != "both") {
			t.Errorf("%s: %v %s", name, err, raw)
		}
		for key, ok := range map[string]bool{"": false, private: true, other: name == "both", public: false} {
			root := t.TempDir()
			y := harness(t, root)
			var po PullOptions
			if key != "" {
				po.DecryptionKeys = []string{key}
			}
			got, err := y.Pull(ctx, host+"/enc:"+name, po)
			if (err == nil) != ok {
				t.Errorf("%s with %q: %v, want ok %v", name, filepath.Base(key), err, ok)
			}
			if key == "" && !errors.Is(err, errEncrypted) {
				t.Errorf("%s without a key: %v", name, err)
			}
			if err == nil && got[0].Image.ID != p[0].Image.ID {
				t.Errorf("%s: another image", name)
			}
			if left := leftovers(t, root); !ok && len(left) > 0 {
				t.Errorf("%s: left %v", name, left)
			}
		}
		dir := filepath.Join(t.TempDir(), "dir")
		skopeo(t, "copy", "-q", "--src-tls-verify=false", "--decryption-key", private, "docker://"+host+"/enc:"+name, "dir:"+dir)
		skopeo(t, "copy", "-q", "--dest-tls-verify=false", "--encryption-key", "jwe:"+public, "oci:"+layoutOf(t, x, host+"/plain:1"), "docker://"+host+"/theirs:"+name)
		if _, err := harness(t, t.TempDir()).Pull(ctx, host+"/theirs:"+name, PullOptions{DecryptionKeys: []string{private}}); err != nil {
			t.Errorf("what skopeo encrypted: %v", err)
		}
	}
	for _, o := range []PushOptions{
		{EncryptionKeys: []string{"jwe:" + private + ".none"}}, {EncryptionKeys: []string{public}}, {EncryptionKeys: []string{"pkcs7:" + public}},
		{EncryptionKeys: []string{"provider:x"}}, {EncryptLayers: []int{0}}, {EncryptionKeys: []string{"jwe:" + public}, EncryptLayers: []int{2}},
		{EncryptionKeys: []string{"jwe:" + public}, Format: "v2s2"},
	} {
		if _, err := x.Push(ctx, host+"/plain:1", host+"/bad:1", o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func layoutOf(t *testing.T, x *Transfer, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if _, err := x.Push(context.Background(), name, "oci:"+dir+":1", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	return dir + ":docker.io/library/1:latest"
}

// An encrypted layer that was changed is refused.
func TestEncryptedTampered(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	f := newFixture("amd64", false, noise(1<<16, 3))
	reg := &fake{f: f}
	x := harness(t, t.TempDir())
	if _, err := x.Pull(ctx, reg.serve(t)+"/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	private, public := keyPair(t)
	ec, err := encryption([]string{"jwe:" + public})
	if err != nil {
		t.Fatal(err)
	}
	l := f.m.Layers[0]
	file, made, err := encrypt(ec, l, bytes.NewReader(f.blobs[l.Digest]))
	if err != nil {
		t.Fatal(err)
	}
	sealed := make([]byte, made.Size)
	if _, err := file.ReadAt(sealed, 0); err != nil {
		t.Fatal(err)
	}
	g := &fixture{blobs: f.blobs, m: f.m}
	g.m.Layers = []oci.Descriptor{made}
	g.encode()
	for at, ok := range map[int]bool{-1: true, 0: false, 30000: false} {
		bad := bytes.Clone(sealed)
		if at >= 0 {
			bad[at] ^= 1
		}
		g.blobs[made.Digest] = bad
		root := t.TempDir()
		_, err := harness(t, root).Pull(ctx, (&fake{f: g}).serve(t)+"/x:1", PullOptions{DecryptionKeys: []string{private}})
		if (err == nil) != ok {
			t.Errorf("byte %d changed: %v, want ok %v", at, err, ok)
		}
		if err != nil && strings.Contains(strings.Join(leftovers(t, root), " "), "records") {
			t.Errorf("byte %d changed: an image was kept", at)
		}
	}
}
