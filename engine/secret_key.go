package engine

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"hull/state"
)

// Secrets lie in the store under AES-256-GCM, with what they are for as
// additional data: a copied file does not pass for another's. The key is
//
//	ROOT/secrets/key        32 bytes, readable for the store's owner only, or
//	ROOT/secrets/key.cred   the same, sealed by systemd-creds: by the machine's
//	                        TPM, or by the host's own key where it has none
//
// A sealed key is opened once a boot, and then lies in RUN, which no disk has.
const (
	secretKeyFile   = "key"
	secretKeySealed = "key.cred"
	secretKeySize   = 32
	credentialName  = "hull-secrets"
)

// secretCipher opens the store's key; with create it is made when there is none.
func (e *Engine) secretCipher(ctx context.Context, create bool) (cipher.AEAD, error) {
	key, err := e.secretKey()
	if errors.Is(err, fs.ErrNotExist) && create {
		key, err = e.makeSecretKey(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open the key of the secrets: %w", err)
	}
	if len(key) != secretKeySize {
		return nil, fmt.Errorf("open the key of the secrets: it has %d bytes instead of %d", len(key), secretKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (e *Engine) secretKey() ([]byte, error) {
	key, err := state.ReadFile(filepath.Join(e.secretsDir(), secretKeyFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	opened := filepath.Join(e.o.RunRoot, "secrets.key")
	if key, err := state.ReadFile(opened); err == nil {
		return key, nil
	}
	sealed, err := state.ReadFile(filepath.Join(e.secretsDir(), secretKeySealed))
	if err != nil {
		return nil, err
	}
	key, err = credential(sealed, "decrypt")
	if err != nil {
		return nil, hint(err, "the key was sealed by this machine's TPM or host key: it opens on no other, nor after either was cleared")
	}
	if err := os.MkdirAll(e.o.RunRoot, 0o700); err != nil {
		return nil, err
	}
	return key, state.WriteFile(e.o.RunRoot, filepath.Base(opened), key, 0o600, false)
}

// makeSecretKey makes the key, unless another command was first.
func (e *Engine) makeSecretKey(ctx context.Context) ([]byte, error) {
	key := make([]byte, secretKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	name, data := secretKeyFile, key
	if !e.o.Rootless && bootedBySystemd() {
		if sealed, err := credential(key, "encrypt"); err == nil {
			name, data = secretKeySealed, sealed
		}
	}
	if err := os.MkdirAll(e.secretsDir(), 0o700); err != nil {
		return nil, err
	}
	l, err := e.lock(ctx, "secrets", "key")
	if err != nil {
		return nil, err
	}
	defer l.Release()
	for _, other := range []string{secretKeyFile, secretKeySealed} {
		if fileExists(filepath.Join(e.secretsDir(), other)) {
			l.Release()
			return e.secretKey()
		}
	}
	return key, state.WriteFile(e.secretsDir(), name, data, 0o600, true)
}

func bootedBySystemd() bool {
	st, err := os.Stat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// credential seals or opens data by systemd-creds.
func credential(data []byte, verb string) ([]byte, error) {
	args := []string{verb, "--name=" + credentialName, "-", "-"}
	if verb == "encrypt" {
		args = append([]string{"--with-key=auto"}, args...)
	}
	c := exec.Command("systemd-creds", args...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(data), &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("systemd-creds %s: %w: %s", verb, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// seal encrypts data that is for a purpose.
func seal(c cipher.AEAD, data []byte, purpose string) []byte {
	nonce := make([]byte, c.NonceSize(), c.NonceSize()+len(data)+c.Overhead())
	rand.Read(nonce) // does not fail: crypto/rand
	return c.Seal(nonce, nonce, data, []byte(purpose))
}

// unseal is seal's reverse; what was changed is an error.
func unseal(c cipher.AEAD, sealed []byte, purpose string) ([]byte, error) {
	if len(sealed) < c.NonceSize() {
		return nil, errors.New("it is damaged: too short")
	}
	data, err := c.Open(nil, sealed[:c.NonceSize()], sealed[c.NonceSize():], []byte(purpose))
	if err != nil {
		return nil, errors.New("it is damaged, or was sealed by another key")
	}
	return data, nil
}

// migrateSecrets seals what older versions kept as it was. The lock is held.
func (e *Engine) migrateSecrets(c cipher.AEAD) error {
	all, err := e.secrets()
	if err != nil {
		return err
	}
	for _, x := range all {
		if len(x.Data) == 0 {
			continue
		}
		x.Sealed, x.Data = seal(c, x.Data, "secret "+x.ID), nil
		if err := e.saveSecret(x); err != nil {
			return fmt.Errorf("seal secret %s: %w", x.Spec.Name, err)
		}
	}
	return nil
}

func copyPurpose(r *record, name string) string { return "container " + r.ID + " " + name }
