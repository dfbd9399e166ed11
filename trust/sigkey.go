package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

// sealedKey is how sigstore's tools keep a private key behind a passphrase.
type sealedKey struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N, R, P int
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// maxKDF bounds what a key file may make us compute: 128·N·r bytes.
const maxKDF = 256 << 20

// PrivateKey reads a private key in PEM: sealed as sigstore's tools do it, or
// in PKCS #8.
func PrivateKey(data, passphrase []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("read private key: it is not PEM")
	}
	der := block.Bytes
	switch block.Type {
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		var err error
		if der, err = unseal(block.Bytes, passphrase); err != nil {
			return nil, fmt.Errorf("read private key: %w", err)
		}
	case "PRIVATE KEY":
	default:
		return nil, fmt.Errorf("read private key: PEM of type %q is not known", block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read private key: a key of type %T cannot sign", key)
	}
	return s, nil
}

func unseal(data, passphrase []byte) ([]byte, error) {
	var k sealedKey
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, err
	}
	p := k.KDF.Params
	switch {
	case k.KDF.Name != "scrypt" || k.Cipher.Name != "nacl/secretbox":
		return nil, fmt.Errorf("it is sealed by %q and %q, want scrypt and nacl/secretbox", k.KDF.Name, k.Cipher.Name)
	case p.N <= 0 || p.R <= 0 || p.P <= 0 || p.P > 64 || p.N > maxKDF/128 || p.R > maxKDF/128/p.N:
		return nil, fmt.Errorf("its parameters N=%d r=%d p=%d are too large", p.N, p.R, p.P)
	case len(k.Cipher.Nonce) != 24:
		return nil, errors.New("its nonce is not 24 bytes")
	}
	derived, err := scrypt.Key(passphrase, k.KDF.Salt, p.N, p.R, p.P, 32)
	if err != nil {
		return nil, err
	}
	der, ok := secretbox.Open(nil, k.Ciphertext, (*[24]byte)(k.Cipher.Nonce), (*[32]byte)(derived))
	if !ok {
		return nil, errors.New("the passphrase is wrong")
	}
	return der, nil
}

// Sign signs a payload as Verify wants it.
func Sign(key crypto.Signer, payload []byte) ([]byte, error) {
	switch key.(type) {
	case ed25519.PrivateKey:
		return key.Sign(rand.Reader, payload, crypto.Hash(0))
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
		sum := sha256.Sum256(payload)
		return key.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	return nil, fmt.Errorf("sign: a key of type %T is not known", key)
}
