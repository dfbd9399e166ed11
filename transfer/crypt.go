package transfer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"strings"

	"github.com/containers/ocicrypt/blockcipher"
	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/keywrap"
	"github.com/containers/ocicrypt/keywrap/jwe"
	"github.com/containers/ocicrypt/keywrap/pkcs7"
	"github.com/containers/ocicrypt/utils"

	"hull/oci"
	"hull/registry"
	"hull/state"
)

// Encrypted layers, as ocicrypt makes them: each has a key of its own, wrapped
// for the readers in an annotation. The cipher keeps the length, and the wrapped
// part has the digest of the plain blob: what the image is without encryption is
// known before a layer is read, and each is verified as any other.

const (
	encryptedSuffix  = "+encrypted"
	encryptedPrefix  = "org.opencontainers.image.enc."
	encryptedPubOpts = encryptedPrefix + "pubopts"
)

// errEncrypted reports layers that no key is given for.
var errEncrypted = errors.New("a layer is encrypted")

// wrappers are the ways in which keys are wrapped that are known here. The
// others of ocicrypt run programs, or link a lot.
func wrappers() []keywrap.KeyWrapper {
	return []keywrap.KeyWrapper{jwe.NewKeyWrapper(), pkcs7.NewKeyWrapper()}
}

// encryption reads --encryption-key: jwe:PUBLIC-KEY-FILE or pkcs7:CERTIFICATE-FILE.
func encryption(keys []string) (*config.EncryptConfig, error) {
	var all []config.CryptoConfig
	for _, k := range keys {
		kind, path, ok := strings.Cut(k, ":")
		if !ok {
			return nil, fmt.Errorf("encryption key %q: want jwe:FILE or pkcs7:FILE", k)
		}
		if kind != "jwe" && kind != "pkcs7" {
			return nil, fmt.Errorf("encryption key %q: keys of kind %q are not known; there are jwe and pkcs7", k, kind)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read encryption key: %w", err)
		}
		var c config.CryptoConfig
		switch {
		case kind == "jwe" && utils.IsPublicKey(data):
			c, err = config.EncryptWithJwe([][]byte{data})
		case kind == "pkcs7" && utils.IsCertificate(data):
			c, err = config.EncryptWithPkcs7([][]byte{data})
		default:
			err = errors.New("it is no public key, or no certificate, as that kind wants")
		}
		if err != nil {
			return nil, fmt.Errorf("encryption key %s: %w", path, err)
		}
		all = append(all, c)
	}
	return config.CombineCryptoConfigs(all).EncryptConfig, nil
}

// decryption reads --decryption-key: FILE[:PASSWORD], where a password may be
// pass=TEXT, file=FILE or fd=NUMBER; a certificate goes with a key of pkcs7.
func decryption(keys []string) (*config.DecryptConfig, error) {
	var all []config.CryptoConfig
	for _, k := range keys {
		path, secret, _ := strings.Cut(k, ":")
		password, err := keyPassword(secret)
		if err != nil {
			return nil, fmt.Errorf("decryption key %s: %w", path, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read decryption key: %w", err)
		}
		var c config.CryptoConfig
		if utils.IsCertificate(data) {
			c, err = config.DecryptWithX509s([][]byte{data})
		} else if ok, perr := utils.IsPrivateKey(data, password); ok {
			c, err = config.DecryptWithPrivKeys([][]byte{data}, [][]byte{password})
		} else if err = perr; err == nil {
			err = errors.New("it is neither a private key nor a certificate")
		}
		if err != nil {
			return nil, fmt.Errorf("decryption key %s: %w", path, err)
		}
		all = append(all, c)
	}
	return config.CombineCryptoConfigs(all).DecryptConfig, nil
}

func keyPassword(s string) ([]byte, error) {
	kind, value, ok := strings.Cut(s, "=")
	switch {
	case s == "":
		return nil, nil
	case ok && kind == "pass":
		return []byte(value), nil
	case ok && kind == "file":
		return os.ReadFile(value)
	case ok && kind == "fd":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("descriptor %q: %w", value, err)
		}
		f := os.NewFile(uintptr(n), "password")
		if f == nil {
			return nil, fmt.Errorf("descriptor %q is not open", value)
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, 64<<10))
	}
	return []byte(s), nil
}

// isEncrypted reports a layer that only its readers can use.
func isEncrypted(d oci.Descriptor) bool { return strings.HasSuffix(d.MediaType, encryptedSuffix) }

// A decryptor turns the encrypted layers of one image into plain ones.
type decryptor struct {
	layers  map[oci.Digest]oci.Descriptor // encrypted, by the digest of the plain one
	options map[oci.Digest]blockcipher.LayerBlockCipherOptions
}

// decrypt returns the manifest without encryption, and what decrypts its
// layers; the manifest as it is, and nil, when no layer is encrypted.
func decrypt(single *registry.Manifest, m *oci.Manifest, keys []string) (*registry.Manifest, *oci.Manifest, *decryptor, error) {
	d := &decryptor{map[oci.Digest]oci.Descriptor{}, map[oci.Digest]blockcipher.LayerBlockCipherOptions{}}
	plain := *m
	plain.Layers = nil
	var dc *config.DecryptConfig
	for _, l := range m.Layers {
		if !isEncrypted(l) {
			plain.Layers = append(plain.Layers, l)
			continue
		}
		if len(keys) == 0 {
			return nil, nil, nil, &hinted{fmt.Errorf("%w: %s", errEncrypted, l.Digest), "give the key: --decryption-key FILE"}
		}
		var err error
		if dc == nil {
			if dc, err = decryption(keys); err != nil {
				return nil, nil, nil, err
			}
		}
		o, err := unwrap(dc, l)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("decrypt layer %s: %w", l.Digest, err)
		}
		p := l
		p.Digest, p.MediaType = oci.Digest(o.Private.Digest), strings.TrimSuffix(l.MediaType, encryptedSuffix)
		if err := p.Validate(); err != nil {
			return nil, nil, nil, fmt.Errorf("decrypt layer %s: %w", l.Digest, err)
		}
		p.Annotations = maps.Clone(l.Annotations)
		maps.DeleteFunc(p.Annotations, func(k, _ string) bool { return strings.HasPrefix(k, encryptedPrefix) })
		d.layers[p.Digest], d.options[p.Digest] = l, o
		plain.Layers = append(plain.Layers, p)
	}
	if len(d.layers) == 0 {
		return single, m, nil, nil
	}
	data, err := json.Marshal(&plain)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("bug: encode manifest: %w", err)
	}
	return &registry.Manifest{Data: data, Digest: oci.FromBytes(data), MediaType: single.MediaType}, &plain, d, nil
}

// unwrap finds a key that a reader's key opens.
func unwrap(dc *config.DecryptConfig, l oci.Descriptor) (blockcipher.LayerBlockCipherOptions, error) {
	var o blockcipher.LayerBlockCipherOptions
	var errs []error
	for _, w := range wrappers() {
		text := l.Annotations[w.GetAnnotationID()]
		if text == "" || w.NoPossibleKeys(dc.Parameters) {
			continue
		}
		for part := range strings.SplitSeq(text, ",") {
			wrapped, err := base64.StdEncoding.DecodeString(part)
			var private []byte
			if err == nil {
				private, err = w.UnwrapKey(dc, wrapped)
			}
			if err == nil {
				err = json.Unmarshal(private, &o.Private)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			public, err := base64.StdEncoding.DecodeString(l.Annotations[encryptedPubOpts])
			if err == nil && len(public) > 0 {
				err = json.Unmarshal(public, &o.Public)
			}
			return o, err
		}
	}
	return o, fmt.Errorf("none of the keys opens it: %w", errors.Join(errs...))
}

// read reads the layer whose plain digest is given, decrypted.
func (d *decryptor) read(ctx context.Context, repo *registry.Repository, plain oci.Digest) (io.Reader, io.Closer, error) {
	r, err := repo.Blob(ctx, d.layers[plain], 0)
	if err != nil {
		return nil, nil, err
	}
	h, err := blockcipher.NewLayerBlockCipherHandler()
	if err == nil {
		var out io.Reader
		if out, _, err = h.Decrypt(r, d.options[plain]); err == nil {
			return out, r, nil
		}
	}
	r.Close()
	return nil, nil, fmt.Errorf("decrypt layer: %w", err)
}

// encrypt encrypts a blob into a nameless file and returns how the manifest is
// to call it.
func encrypt(ec *config.EncryptConfig, l oci.Descriptor, r io.Reader) (*os.File, oci.Descriptor, error) {
	fail := func(err error) (*os.File, oci.Descriptor, error) {
		return nil, l, fmt.Errorf("encrypt layer %s: %w", l.Digest, err)
	}
	h, err := blockcipher.NewLayerBlockCipherHandler()
	if err != nil {
		return fail(err)
	}
	in, finish, err := h.Encrypt(r, blockcipher.AES256CTR)
	if err != nil {
		return fail(err)
	}
	f, err := state.TempFile(os.TempDir())
	if err != nil {
		return fail(err)
	}
	w := &hashWriter{w: f, h: oci.Digest("sha256:").Hash()}
	made := l
	if _, err = io.Copy(w, in); err == nil {
		made, err = wrap(ec, l, finish)
	}
	if err != nil {
		f.Close()
		return fail(err)
	}
	made.Digest, made.Size = oci.NewDigest(w.h.Sum(nil)), w.n
	return f, made, nil
}

// wrap writes the layer's key, for each reader, into annotations.
func wrap(ec *config.EncryptConfig, l oci.Descriptor, finish blockcipher.Finalizer) (oci.Descriptor, error) {
	o, err := finish()
	if err != nil {
		return l, err
	}
	made := l
	if err := json.Unmarshal([]byte(strconv.Quote(string(l.Digest))), &o.Private.Digest); err != nil {
		return l, err
	}
	private, err := json.Marshal(o.Private)
	if err != nil {
		return l, err
	}
	public, err := json.Marshal(o.Public)
	if err != nil {
		return l, err
	}
	made.MediaType = l.MediaType + encryptedSuffix
	if made.Annotations = maps.Clone(l.Annotations); made.Annotations == nil {
		made.Annotations = map[string]string{}
	}
	for _, w := range wrappers() {
		wrapped, err := w.WrapKeys(ec, private)
		if err != nil {
			return l, err
		}
		if len(wrapped) > 0 {
			made.Annotations[w.GetAnnotationID()] = base64.StdEncoding.EncodeToString(wrapped)
		}
	}
	made.Annotations[encryptedPubOpts] = base64.StdEncoding.EncodeToString(public)
	return made, nil
}
