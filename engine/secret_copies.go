package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"hull/lsm"
	"hull/oci"
	"hull/state"
)

// sealSecrets reads the secrets and seals them for the container: what it was
// made with stays the same, whatever becomes of the secret. It starts programs,
// so no lock is held.
func (e *Engine) sealSecrets(ctx context.Context, r *record) error {
	for i, s := range r.Options.Secrets {
		x, err := e.loadSecret(s.Name)
		if err != nil {
			return err
		}
		key, err := e.secretCipher(ctx, true)
		if err != nil {
			return err
		}
		data, err := e.secretContent(ctx, x)
		if err != nil {
			return err
		}
		r.sealed = append(r.sealed, seal(key, data, copyPurpose(r, strconv.Itoa(i))))
	}
	return nil
}

// settleSecrets keeps what sealSecrets made in the container's own directory.
func (e *Engine) settleSecrets(r *record) error {
	dir := filepath.Join(r.dir, "secrets")
	for i, sealed := range r.sealed {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = state.WriteFile(dir, strconv.Itoa(i)+".sealed", sealed, 0o600, false)
		}
		if err != nil {
			return fmt.Errorf("keep secret %s: %w", r.Options.Secrets[i].Name, err)
		}
	}
	return nil
}

// secretCopy is what the container was made with, and whether it lies in the
// container's directory as it is, as older versions kept it.
func (e *Engine) secretCopy(r *record, i int) (data []byte, plain bool, err error) {
	name := strconv.Itoa(i)
	sealed, err := state.ReadFile(filepath.Join(r.dir, "secrets", name+".sealed"))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = state.ReadFile(filepath.Join(r.dir, "secrets", name))
		plain = true
	} else if err == nil {
		key, kerr := e.secretCipher(context.Background(), false)
		if kerr != nil {
			return nil, false, kerr
		}
		data, err = unseal(key, sealed, copyPurpose(r, name))
	}
	if err != nil {
		return nil, false, fmt.Errorf("read secret %s: %w", r.Options.Secrets[i].Name, err)
	}
	return data, plain, nil
}

// secretMounts are the files of a container's secrets, opened for this start
// into the run directory, which no disk has.
func (e *Engine) secretMounts(_ context.Context, r *record) ([]oci.Mount, error) {
	var out []oci.Mount
	for i, s := range r.Options.Secrets {
		if s.Env {
			continue
		}
		dst := firstOf(s.Target, s.Name)
		if !path.IsAbs(dst) {
			dst = path.Join("/run/secrets", dst)
		}
		data, plain, err := e.secretCopy(r, i)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(r.dir, "secrets", strconv.Itoa(i))
		if !plain {
			dir := filepath.Join(e.containerRun(r.ID), "secrets")
			file = filepath.Join(dir, strconv.Itoa(i))
			if err := e.openSecret(r, s, dir, strconv.Itoa(i), data); err != nil {
				return nil, fmt.Errorf("open secret %s: %w", s.Name, err)
			}
		}
		out = append(out, oci.Mount{Destination: dst, Type: "bind", Source: file,
			Options: []string{"bind", "rprivate", "ro", "nosuid", "nodev", "noexec"}})
	}
	return out, nil
}

func (e *Engine) openSecret(r *record, s Secret, dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := state.WriteFile(dir, name, data, os.FileMode(s.Mode)&0o777, false); err != nil {
		return err
	}
	if label := e.mountLabel(r); label != "" {
		if err := lsm.Set(filepath.Join(dir, name), label); err != nil {
			return err
		}
	}
	if uid, gid := hostID(r.UIDMap, s.UID), hostID(r.GIDMap, s.GID); uid != 0 || gid != 0 {
		return os.Chown(filepath.Join(dir, name), uid, gid)
	}
	return nil
}

// secretEnv are the variables of a container's secrets.
func (e *Engine) secretEnv(r *record) ([]string, error) {
	var env []string
	for i, s := range r.Options.Secrets {
		if !s.Env {
			continue
		}
		data, _, err := e.secretCopy(r, i)
		if err != nil {
			return nil, err
		}
		env = append(env, firstOf(s.Target, s.Name)+"="+string(data))
	}
	return env, nil
}
