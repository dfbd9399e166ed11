package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A secretDriver keeps the bytes of secrets outside of their records.
type secretDriver interface {
	store(ctx context.Context, id string, data []byte) error
	lookUp(ctx context.Context, id string) ([]byte, error)
	remove(ctx context.Context, id string) error
}

// openSecretDriver returns nil for file, whose bytes are in the record.
func openSecretDriver(name string, options map[string]string) (secretDriver, error) {
	switch name {
	case "", "file":
		if len(options) > 0 {
			return nil, errors.New("the file driver has no options")
		}
		return nil, nil
	case "pass":
		return newPassDriver(options)
	case "shell":
		return newShellDriver(options)
	}
	return nil, fmt.Errorf("driver %q is not known: choose file, pass or shell", name)
}

// shellDriver runs commands of the user's, with the secret's ID in SECRET_ID.
type shellDriver struct{ options map[string]string }

func newShellDriver(options map[string]string) (secretDriver, error) {
	known := []string{"delete", "list", "lookup", "store"}
	for k := range options {
		if !slices.Contains(known, k) {
			return nil, fmt.Errorf("the shell driver has no option %q: there are %s", k, strings.Join(known, ", "))
		}
	}
	for _, k := range known {
		if options[k] == "" {
			return nil, fmt.Errorf("the shell driver wants the option %s=COMMAND", k)
		}
	}
	return &shellDriver{options}, nil
}

func (d *shellDriver) run(ctx context.Context, action, id string, in []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", d.options[action])
	cmd.Env = append(os.Environ(), "SECRET_ID="+id)
	return runSecretCommand(cmd, action, in)
}

func (d *shellDriver) store(ctx context.Context, id string, data []byte) error {
	_, err := d.run(ctx, "store", id, data)
	return err
}

func (d *shellDriver) lookUp(ctx context.Context, id string) ([]byte, error) {
	return d.run(ctx, "lookup", id, nil)
}

func (d *shellDriver) remove(ctx context.Context, id string) error {
	_, err := d.run(ctx, "delete", id, nil)
	return err
}

// passDriver keeps secrets as pass(1) does: a file for each, encrypted with
// GPG to the key that ROOT/.gpg-id names.
type passDriver struct{ root, keyID, gpgHome string }

func newPassDriver(options map[string]string) (secretDriver, error) {
	d := &passDriver{root: options["root"], keyID: options["key"], gpgHome: options["gpghomedir"]}
	for _, k := range slices.Sorted(maps.Keys(options)) {
		if k != "root" && k != "key" && k != "gpghomedir" {
			return nil, fmt.Errorf("the pass driver has no option %q: there are gpghomedir, key, root", k)
		}
	}
	if d.root == "" {
		if d.root = os.Getenv("PASSWORD_STORE_DIR"); d.root == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, err
			}
			d.root = filepath.Join(home, ".password-store")
		}
	}
	if d.keyID == "" {
		id, err := os.ReadFile(filepath.Join(d.root, ".gpg-id"))
		if err != nil {
			return nil, &HintError{fmt.Errorf("the pass driver knows no key: %w", err), "run pass init KEY, or give --driver-opts key=KEY"}
		}
		d.keyID = string(bytes.TrimSpace(id))
	}
	return d, nil
}

func (d *passDriver) file(id string) string { return filepath.Join(d.root, id+".gpg") }

func (d *passDriver) gpg(ctx context.Context, action string, in []byte, args ...string) ([]byte, error) {
	if d.gpgHome != "" {
		args = append([]string{"--homedir", d.gpgHome}, args...)
	}
	cmd := exec.CommandContext(ctx, "gpg", append([]string{"--batch", "--quiet"}, args...)...)
	return runSecretCommand(cmd, action, in)
}

func (d *passDriver) store(ctx context.Context, id string, data []byte) error {
	if err := os.MkdirAll(d.root, 0o700); err != nil {
		return err
	}
	_, err := d.gpg(ctx, "encrypt", data, "--encrypt", "-r", d.keyID, "-o", d.file(id))
	return err
}

func (d *passDriver) lookUp(ctx context.Context, id string) ([]byte, error) {
	return d.gpg(ctx, "decrypt", nil, "--decrypt", d.file(id))
}

func (d *passDriver) remove(_ context.Context, id string) error { return os.Remove(d.file(id)) }

// runSecretCommand runs a driver's command; its standard error is the reason
// when it fails, and never shows the secret, which goes in by standard input.
func runSecretCommand(cmd *exec.Cmd, action string, in []byte) ([]byte, error) {
	var out bytes.Buffer
	reason := limitedBuffer{limit: 1024}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &reason
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(reason.b.String()); text != "" {
			return nil, fmt.Errorf("%s: %w: %s", action, err, text)
		}
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	if out.Len() > MaxSecretSize {
		return nil, fmt.Errorf("%s: the driver gave more than %d bytes", action, MaxSecretSize)
	}
	return out.Bytes(), nil
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
