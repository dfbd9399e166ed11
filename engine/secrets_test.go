package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func secretEngine(t *testing.T) *Engine {
	t.Helper()
	dir := t.TempDir()
	e, err := Open(context.Background(), Options{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Executable: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSecretLife(t *testing.T) {
	ctx := context.Background()
	e := secretEngine(t)
	id, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "a", Data: []byte("one")})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(e.secretsDir(), id+".json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("kept as %v, %v; want mode 0600", st, err)
	}
	if _, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "a", Data: []byte("two")}); !errors.Is(err, ErrExists) {
		t.Errorf("a second one of the name: %v, want ErrExists", err)
	}
	if same, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "a", Data: []byte("two"), Ignore: true}); err != nil || same != id {
		t.Errorf("with Ignore: %q, %v, want %q", same, err, id)
	}
	if _, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "a", Data: []byte("two"), Replace: true}); err != nil {
		t.Fatal(err)
	}
	if x, err := e.SecretInspect(ctx, "a", true); err != nil || x.SecretData != "two" {
		t.Errorf("after Replace: %+v, %v, want two", x, err)
	}
	if x, err := e.SecretInspect(ctx, "a", false); err != nil || x.SecretData != "" {
		t.Errorf("not asked for, yet shown: %+v, %v", x, err)
	}
	if _, err := e.SecretRemove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.SecretInspect(ctx, "a", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("after remove: %v, want ErrNotFound", err)
	}
}

func TestSecretRefused(t *testing.T) {
	e := secretEngine(t)
	for _, o := range []SecretCreateOptions{
		{Name: "", Data: []byte("x")}, {Name: "a/b", Data: []byte("x")}, {Name: "a=b", Data: []byte("x")}, {Name: "../x", Data: []byte("x")},
		{Name: "a"}, {Name: "a", Data: make([]byte, MaxSecretSize+1)}, {Name: "a", Data: []byte("x"), Driver: "shell"},
	} {
		if _, err := e.SecretCreate(context.Background(), o); err == nil {
			t.Errorf("SecretCreate(%q, %d bytes, driver %q): no error", o.Name, len(o.Data), o.Driver)
		}
	}
}

// A secret's copy is the container's: it stays when the secret goes.
func TestSecretSettled(t *testing.T) {
	ctx := context.Background()
	e := secretEngine(t)
	if _, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "a", Data: []byte("one")}); err != nil {
		t.Fatal(err)
	}
	r := &record{ID: newID(), dir: t.TempDir(), Options: CreateOptions{Secrets: []Secret{{Name: "a", Mode: 0o400}, {Name: "a", Env: true, Target: "A"}}}}
	if err := errors.Join(e.sealSecrets(ctx, r), e.settleSecrets(r)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.SecretRemove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	env, err := e.secretEnv(r)
	if err != nil || len(env) != 1 || env[0] != "A=one" {
		t.Errorf("secretEnv = %q, %v, want A=one", env, err)
	}
	mounts, err := e.secretMounts(ctx, r)
	if err != nil || len(mounts) != 1 || mounts[0].Destination != "/run/secrets/a" {
		t.Fatalf("secretMounts = %v, %v, want one on /run/secrets/a", mounts, err)
	}
	if st, err := os.Stat(mounts[0].Source); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("%s: %v, %v, want mode 0400", mounts[0].Source, st, err)
	}
}

func TestErrorsHoldNoEnvironment(t *testing.T) {
	got := withoutEnv(`execve("/bin/x", ["x", "y"], ["SECRET=geheim"])`)
	if strings.Contains(got, "geheim") || !strings.Contains(got, `"y"`) {
		t.Errorf("withoutEnv = %s", got)
	}
}

// A secret is nowhere on the disk as it is: neither in the store nor beside a
// container; and a record that was changed is noticed.
func TestSECR01SecretsAreSealed(t *testing.T) {
	ctx := context.Background()
	e := secretEngine(t)
	const canary = "canary-in-the-mine"
	if _, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "a", Data: []byte(canary)}); err != nil {
		t.Fatal(err)
	}
	r := &record{ID: newID(), Options: CreateOptions{Secrets: []Secret{{Name: "a", Mode: 0o400}, {Name: "a", Env: true, Target: "A"}}}}
	r.dir = e.containerDir(r.ID)
	if err := errors.Join(e.sealSecrets(ctx, r), e.settleSecrets(r)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(e.o.Root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, rerr := os.ReadFile(path)
			if strings.Contains(string(b), canary) {
				t.Errorf("%s holds the secret", path)
			}
			return rerr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	x, err := e.loadSecret("a")
	if err != nil {
		t.Fatal(err)
	}
	x.Sealed[len(x.Sealed)-1] ^= 1
	if err := e.saveSecret(x); err != nil {
		t.Fatal(err)
	}
	if data, err := e.SecretInspect(ctx, "a", true); err == nil {
		t.Errorf("a changed secret reads %q", data.SecretData)
	}
}

// What an older version kept as it is can be read, and is sealed by the next
// command that makes a secret.
func TestSecretMigration(t *testing.T) {
	ctx := context.Background()
	e := secretEngine(t)
	if err := os.MkdirAll(e.secretsDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	old := &secretFile{SecretInfo: SecretInfo{ID: newID()[:25], Spec: SecretSpec{Name: "old", Driver: SecretDriver{Name: "file"}}}, Data: []byte("plain")}
	if err := e.saveSecret(old); err != nil {
		t.Fatal(err)
	}
	if x, err := e.SecretInspect(ctx, "old", true); err != nil || x.SecretData != "plain" {
		t.Fatalf("before: %+v, %v", x, err)
	}
	if _, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "new", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	x, err := e.loadSecret("old")
	if err != nil || len(x.Data) > 0 || len(x.Sealed) == 0 {
		t.Fatalf("after: %+v, %v, want it sealed", x, err)
	}
	if x, err := e.SecretInspect(ctx, "old", true); err != nil || x.SecretData != "plain" {
		t.Errorf("after: %+v, %v", x, err)
	}
}
