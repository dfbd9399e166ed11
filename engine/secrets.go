package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/state"
)

// MaxSecretSize is the most bytes that a secret may have.
const MaxSecretSize = 512000

// A SecretInfo is a secret without its content, with the JSON names of podman
// secret inspect.
type SecretInfo struct {
	ID        string
	CreatedAt time.Time
	UpdatedAt time.Time
	Spec      SecretSpec
	// SecretData is there when it was asked for.
	SecretData string `json:",omitempty"`
}

// A SecretSpec is what the user said of a secret.
type SecretSpec struct {
	Name   string
	Driver SecretDriver
	Labels map[string]string
}

// A SecretDriver is where a secret is kept: file, pass or shell.
type SecretDriver struct {
	Name    string
	Options map[string]string
}

// SecretCreateOptions for SecretCreate.
type SecretCreateOptions struct {
	Name string
	Data []byte
	// Driver is file ("": sealed in the record), pass or
	// shell; DriverOptions are root, key and gpghomedir of pass, and the
	// commands store, lookup, delete and list of shell.
	Driver          string
	DriverOptions   map[string]string
	Labels          map[string]string
	Replace, Ignore bool
}

// secretFile is a secret as it is kept, in ROOT/secrets/ID.json.
type secretFile struct {
	SecretInfo
	Data   []byte `json:",omitempty"` // of older versions: as it is
	Sealed []byte `json:",omitempty"`
	// Replaces is the ID of the secret that had the name; should a kill or a power
	// cut leave that one, it is not there all the same.
	Replaces string `json:",omitempty"`
}

func (e *Engine) secretsDir() string { return filepath.Join(e.o.Root, "secrets") }

// SecretCreate keeps a secret and returns its ID.
func (e *Engine) SecretCreate(ctx context.Context, o SecretCreateOptions) (string, error) {
	switch {
	case o.Name == "" || len(o.Name) > 253 || strings.ContainsAny(o.Name, ",=/\x00") || o.Name[0] == '.':
		return "", fmt.Errorf("secret name %q can not include '=', '/', ',', or the NULL ('\\0') and be between 1 and 253 characters", o.Name)
	case len(o.Data) == 0 || len(o.Data) > MaxSecretSize:
		return "", fmt.Errorf("secret data must be larger than 0 and less than %d bytes", MaxSecretSize)
	}
	driver, err := openSecretDriver(o.Driver, o.DriverOptions)
	if err != nil {
		return "", fmt.Errorf("create secret %s: %w", o.Name, err)
	}
	if err := e.prepareRoot(); err != nil {
		return "", err
	}
	key, err := e.secretCipher(ctx, true) // before the lock: it may start a program
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(e.secretsDir(), 0o700); err != nil {
		return "", fmt.Errorf("create secret %s: %w", o.Name, err)
	}
	l, err := e.lock(ctx, "secrets", "all")
	if err != nil {
		return "", err
	}
	defer l.Release()
	if err := e.migrateSecrets(key); err != nil {
		return "", err
	}
	now := time.Now()
	x := secretFile{SecretInfo: SecretInfo{ID: newID()[:25], CreatedAt: now, UpdatedAt: now,
		Spec: SecretSpec{o.Name, SecretDriver{firstOf(o.Driver, "file"), orEmptyMap(o.DriverOptions)}, o.Labels}}}
	old, err := e.loadSecret(o.Name)
	switch {
	case err == nil && old.Spec.Name == o.Name && o.Ignore:
		return old.ID, nil
	case err == nil && old.Spec.Name == o.Name && !o.Replace:
		return "", fmt.Errorf("%s: secret name in use: %w", o.Name, ErrExists)
	case err == nil && old.Spec.Name == o.Name:
		x.Replaces = old.ID
	case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrAmbiguous):
		return "", err
	}
	if driver != nil {
		if err := driver.store(ctx, x.ID, o.Data); err != nil {
			return "", fmt.Errorf("create secret %s: driver %s: %w", o.Name, o.Driver, err)
		}
	} else {
		x.Sealed = seal(key, o.Data, "secret "+x.ID)
	}
	if err := e.saveSecret(&x); err != nil {
		return "", fmt.Errorf("create secret %s: %w", o.Name, err)
	}
	if x.Replaces != "" {
		if err := e.dropSecret(ctx, old); err != nil {
			return "", fmt.Errorf("replace secret %s: %w", o.Name, err)
		}
	}
	e.appendEvent(eventRecord{Time: now, Type: "secret", Action: "create", ID: x.ID, Name: o.Name})
	return x.ID, nil
}

func (e *Engine) saveSecret(x *secretFile) error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return state.WriteFile(e.secretsDir(), x.ID+".json", data, 0o600, true)
}

// secrets reads all, by name.
func (e *Engine) secrets() ([]*secretFile, error) {
	all, _, err := e.readSecrets()
	return all, err
}

// readSecrets is secrets with those that were replaced apart.
func (e *Engine) readSecrets() (all, replaced []*secretFile, err error) {
	entries, err := state.ReadDir(e.secretsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list secrets: %w", err)
	}
	for _, d := range entries {
		id, ok := strings.CutSuffix(d.Name(), ".json")
		if !ok || !isHex(id) {
			continue
		}
		data, err := state.ReadFile(filepath.Join(e.secretsDir(), d.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		x := new(secretFile)
		if err == nil {
			err = json.Unmarshal(data, x)
		}
		if err != nil {
			e.warn("read secret %s: %v", id, err)
			continue
		}
		all = append(all, x)
	}
	old := map[string]bool{}
	for _, x := range all {
		old[x.Replaces] = true
	}
	all = slices.DeleteFunc(all, func(x *secretFile) bool {
		if old[x.ID] {
			replaced = append(replaced, x)
		}
		return old[x.ID]
	})
	slices.SortFunc(all, func(a, b *secretFile) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	return all, replaced, nil
}

// recoverSecrets removes what was replaced and should be gone; the lock of all
// secrets is held. Else it would be back when the one in its place is removed.
func (e *Engine) recoverSecrets(ctx context.Context, name string) error {
	if err := cleanTemp(e.secretsDir()); err != nil || name != "all" {
		return err
	}
	_, replaced, err := e.readSecrets()
	errs := []error{err}
	for _, x := range replaced {
		errs = append(errs, e.dropSecret(ctx, x))
	}
	return errors.Join(errs...)
}

// loadSecret finds a secret by its name, its ID or the beginning of its ID.
func (e *Engine) loadSecret(name string) (*secretFile, error) {
	all, err := e.secrets()
	if err != nil {
		return nil, err
	}
	var found *secretFile
	for _, x := range all {
		if x.Spec.Name == name || x.ID == name {
			return x, nil
		}
	}
	for _, x := range all {
		if name != "" && strings.HasPrefix(x.ID, name) {
			if found != nil {
				return nil, fmt.Errorf("secret %q: %w", name, ErrAmbiguous)
			}
			found = x
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no secret with name or id %q: %w", name, ErrNotFound)
	}
	return found, nil
}

// SecretInspect tells of a secret; show asks for its content.
func (e *Engine) SecretInspect(ctx context.Context, name string, show bool) (*SecretInfo, error) {
	x, err := e.loadSecret(name)
	if err != nil {
		return nil, err
	}
	if show {
		data, err := e.secretContent(ctx, x)
		if err != nil {
			return nil, err
		}
		x.SecretData = string(data)
	}
	return &x.SecretInfo, nil
}

// SecretList lists secrets by name; filters are name, id and label.
func (e *Engine) SecretList(ctx context.Context, f Filters) ([]*SecretInfo, error) {
	for k := range f {
		if k != "name" && k != "id" && k != "label" {
			return nil, fmt.Errorf("secret filter %q is not known: choose name, id or label", k)
		}
	}
	all, err := e.secrets()
	if err != nil {
		return nil, err
	}
	var out []*SecretInfo
	for _, x := range all {
		any := func(key string, is func(v string) bool) bool {
			return len(f[key]) == 0 || slices.ContainsFunc(f[key], is)
		}
		if any("name", func(v string) bool { return strings.Contains(x.Spec.Name, v) }) &&
			any("id", func(v string) bool { return strings.HasPrefix(x.ID, v) }) &&
			any("label", func(v string) bool {
				k, want, has := strings.Cut(v, "=")
				got, ok := x.Spec.Labels[k]
				return ok && (!has || got == want)
			}) {
			out = append(out, &x.SecretInfo)
		}
	}
	return out, nil
}

// SecretRemove removes a secret and returns its ID. Containers keep the copy
// that they were made with.
func (e *Engine) SecretRemove(ctx context.Context, name string) (string, error) {
	l, err := e.lock(ctx, "secrets", "all")
	if err != nil {
		return "", err
	}
	defer l.Release()
	if err := e.recoverSecrets(ctx, "all"); err != nil {
		return "", err
	}
	x, err := e.loadSecret(name)
	if err != nil {
		return "", err
	}
	if err := e.dropSecret(ctx, x); err != nil {
		return "", fmt.Errorf("remove secret %s: %w", name, err)
	}
	e.appendEvent(eventRecord{Time: time.Now(), Type: "secret", Action: "remove", ID: x.ID, Name: x.Spec.Name})
	return x.ID, nil
}

// content asks the driver for the bytes.
func (e *Engine) secretContent(ctx context.Context, x *secretFile) ([]byte, error) {
	d, err := openSecretDriver(x.Spec.Driver.Name, x.Spec.Driver.Options)
	if err == nil && d == nil && len(x.Sealed) == 0 {
		return x.Data, nil
	}
	var data []byte
	if err == nil && d == nil {
		key, err := e.secretCipher(ctx, false)
		if err == nil {
			data, err = unseal(key, x.Sealed, "secret "+x.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("read secret %s: %w", x.Spec.Name, err)
		}
		return data, nil
	}
	if err == nil {
		data, err = d.lookUp(ctx, x.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s: driver %s: %w", x.Spec.Name, x.Spec.Driver.Name, err)
	}
	return data, nil
}

// dropSecret removes the bytes, then the record, which names the driver.
func (e *Engine) dropSecret(ctx context.Context, x *secretFile) error {
	d, err := openSecretDriver(x.Spec.Driver.Name, x.Spec.Driver.Options)
	if err == nil && d != nil {
		err = d.remove(ctx, x.ID)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("driver %s: %w", x.Spec.Driver.Name, err)
	}
	return state.Remove(filepath.Join(e.secretsDir(), x.ID+".json"), true)
}
