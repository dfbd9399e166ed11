package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretOfShellDriver(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	e, err := Open(context.Background(), Options{Root: t.TempDir(), RunRoot: t.TempDir(), Warn: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	o := SecretCreateOptions{Name: "s", Data: []byte("deep\n"), Driver: "shell"}
	if _, err := e.SecretCreate(ctx, o); err == nil {
		t.Error("the shell driver works without commands")
	}
	o.DriverOptions = map[string]string{"store": "cat >" + kept + ".$SECRET_ID", "lookup": "cat " + kept + ".$SECRET_ID", "delete": "rm " + kept + ".$SECRET_ID", "list": "true"}
	id, err := e.SecretCreate(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(kept + "." + id); err != nil || string(data) != "deep\n" {
		t.Errorf("the driver was given %q (%v)", data, err)
	}
	if record, err := os.ReadFile(filepath.Join(e.secretsDir(), id+".json")); err != nil || strings.Contains(string(record), "ZGVlcAo") || strings.Contains(string(record), "deep") {
		t.Errorf("the record holds the secret: %s (%v)", record, err)
	}
	info, err := e.SecretInspect(ctx, "s", true)
	if err != nil || info.SecretData != "deep\n" || info.Spec.Driver.Name != "shell" {
		t.Errorf("inspect: %+v (%v)", info, err)
	}
	if _, err := e.SecretRemove(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept + "." + id); err == nil {
		t.Error("the bytes stay when the secret is removed")
	}
	if _, err := e.SecretInspect(ctx, "s", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	o.DriverOptions["store"] = "echo no room >&2; exit 3"
	if _, err := e.SecretCreate(ctx, o); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a driver that fails: %v", err)
	}
	if all, err := e.SecretList(ctx, nil); err != nil || len(all) != 0 {
		t.Errorf("a secret whose bytes could not be kept is there: %v (%v)", all, err)
	}
}
