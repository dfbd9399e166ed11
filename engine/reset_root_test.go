package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// Reset removes what is the store's, and a file of somebody else's stays.
func TestResetKeepsOthers(t *testing.T) {
	ctx := context.Background()
	e := secretEngine(t)
	if _, err := e.VolumeCreate(ctx, VolumeCreateOptions{Name: "v"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.SecretCreate(ctx, SecretCreateOptions{Name: "s", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(e.o.Root, "mine")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(e.o.Root)
	if err != nil || len(entries) != 1 || entries[0].Name() != "mine" {
		t.Errorf("after Reset: %v, %v, want mine alone", entries, err)
	}
}

func TestMergeHealth(t *testing.T) {
	old := &Health{Test: []string{"CMD", "a"}, Retries: 3, Interval: 5}
	got := mergeHealth(old, &Health{Retries: 7})
	if got.Retries != 7 || got.Interval != 5 || len(got.Test) != 2 || old.Retries != 3 {
		t.Errorf("mergeHealth = %+v, old %+v", got, old)
	}
	if got := mergeHealth(old, &Health{Disable: true}); !got.Disable {
		t.Errorf("mergeHealth(off) = %+v", got)
	}
}
