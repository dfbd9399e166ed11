package transfer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"hull/oci"
	"hull/registry"
	"hull/state"
	"hull/trust"
)

// SignOptions say who signs what is pushed; the zero value is nobody.
type SignOptions struct {
	By         string // a key of gpg's, by its fingerprint or address
	Key        string // file of a private key of sigstore's kind
	Passphrase string // file with the passphrase of either
	Dir        string // for gpg's signatures, instead of what registries.d says
	// All signs each image of an index too.
	All bool
}

func (o SignOptions) none() bool { return o.By == "" && o.Key == "" }

// Sign signs an image that is in a registry.
func (t *Transfer) Sign(ctx context.Context, name string, o SignOptions) error {
	transport, rest := splitTransport(name)
	if transport != "docker" {
		return fmt.Errorf("sign %s: only what is in a registry can be signed", name)
	}
	ref, err := oci.ParseReference(rest)
	if err != nil {
		return err
	}
	repo, top, full, err := t.look(ctx, ref)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	index, err := isIndex(top)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	digests := []oci.Digest{top.Digest}
	if index && !o.All {
		// As podman has it: the image for this machine.
		single, err := t.choose(ctx, repo, top, oci.Platform{})
		if err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
		digests = []oci.Digest{single.Digest}
	} else if index {
		x, err := oci.DecodeIndex(top.Data)
		if err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
		for _, d := range x.Manifests {
			digests = append(digests, d.Digest)
		}
	}
	for _, d := range digests {
		if err := t.sign(ctx, repo, full, d, o); err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
	}
	return nil
}

// sign makes the signatures of a manifest under a name.
func (t *Transfer) sign(ctx context.Context, repo *registry.Repository, ref oci.Reference, d oci.Digest, o SignOptions) error {
	if o.By != "" {
		if err := t.signByGPG(ctx, ref, d, o); err != nil {
			return err
		}
	}
	if o.Key != "" {
		return attachSignature(ctx, repo, ref, d, o)
	}
	return nil
}

// signByGPG lets gpg sign, which has the keys and asks for what it needs, and
// keeps the signature as the next one of the manifest.
func (t *Transfer) signByGPG(ctx context.Context, ref oci.Reference, d oci.Digest, o SignOptions) error {
	if strings.HasPrefix(o.By, "-") {
		return fmt.Errorf("sign by %q: it is no name of a key", o.By)
	}
	payload, err := trust.Payload(trust.SignedBy, ref, d, map[string]any{"creator": "hull", "timestamp": time.Now().Unix()})
	if err != nil {
		return err
	}
	args := []string{"--batch", "--no-armor", "--local-user", o.By}
	if o.Passphrase != "" {
		args = append(args, "--pinentry-mode", "loopback", "--passphrase-file", o.Passphrase)
	}
	c := exec.CommandContext(ctx, "gpg", append(args, "--sign")...)
	var said bytes.Buffer
	c.Stdin, c.Stderr = bytes.NewReader(payload), &said
	raw, err := c.Output()
	if err != nil {
		return fmt.Errorf("gpg: %w: %s", err, strings.TrimSpace(said.String()))
	}
	path, err := t.signaturePath(ref, d, o.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keep signature: %w", err)
	}
	return state.WriteFile(filepath.Dir(path), filepath.Base(path), raw, 0o644, true)
}

// signaturePath is the first free file for a signature.
func (t *Transfer) signaturePath(ref oci.Reference, d oci.Digest, dir string) (string, error) {
	l, err := t.lookaside()
	if err != nil {
		return "", err
	}
	for n := 1; n <= maxSignatures; n++ {
		path := filepath.Join(dir, trust.SignaturePath(ref, d, n))
		if dir == "" {
			if path, err = l.Write(ref, d, n); err != nil {
				return "", err
			}
		}
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
	}
	return "", fmt.Errorf("keep signature: there are %d already", maxSignatures)
}

// attachSignature adds a signature to those that are in the registry.
func attachSignature(ctx context.Context, repo *registry.Repository, ref oci.Reference, d oci.Digest, o SignOptions) error {
	data, err := os.ReadFile(o.Key)
	if err != nil {
		return fmt.Errorf("read private key: %w", err)
	}
	var pass []byte
	if o.Passphrase != "" {
		if pass, err = os.ReadFile(o.Passphrase); err != nil {
			return fmt.Errorf("read passphrase: %w", err)
		}
		pass = bytes.TrimRight(pass, "\r\n")
	}
	key, err := trust.PrivateKey(data, pass)
	if err != nil {
		return err
	}
	payload, err := trust.Payload(trust.SigstoreSigned, ref, d, map[string]any{"creator": "hull", "timestamp": time.Now().Unix()})
	if err != nil {
		return err
	}
	raw, err := trust.Sign(key, payload)
	if err != nil {
		return err
	}
	m := &oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	config := oci.Image{OS: "", RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{}}}
	if old, err := repo.Manifest(ctx, attachedTag(d)); err == nil {
		if m, err = oci.DecodeManifest(old.Data); err != nil {
			return err
		}
		was, err := readConfig(ctx, repo, m.Config)
		if err != nil {
			return err
		}
		if c, err := oci.DecodeImage(was); err == nil {
			config = *c
		}
	} else if !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	l := oci.Descriptor{MediaType: attachedType, Digest: oci.FromBytes(payload), Size: int64(len(payload)),
		Annotations: map[string]string{attachedSignature: base64.StdEncoding.EncodeToString(raw)}}
	if err := putBytes(ctx, repo, l, payload); err != nil {
		return err
	}
	m.Layers = append(m.Layers, l)
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	m.Config = oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: oci.FromBytes(text), Size: int64(len(text))}
	if err := putBytes(ctx, repo, m.Config, text); err != nil {
		return err
	}
	if text, err = json.Marshal(m); err != nil {
		return err
	}
	return repo.PutManifest(ctx, attachedTag(d), m.MediaType, text)
}

func putBytes(ctx context.Context, repo *registry.Repository, d oci.Descriptor, data []byte) error {
	return repo.Upload(ctx, d, func(offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	})
}
