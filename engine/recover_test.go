package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"hull/state"
)

// What killed commands left is brought in order by the next that looks: a lock
// file that nobody holds tells of it.
func TestRecoverBringsInOrder(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	e, err := Open(ctx, Options{Root: filepath.Join(root, "root"), RunRoot: filepath.Join(root, "run"), Executable: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	r := &record{Version: recordVersion, ID: newID(), Name: "new", Options: CreateOptions{Rootfs: "/", NetworkMode: "none", CgroupNS: "host"}}
	r.dir = e.containerDir(r.ID)
	for _, d := range []string{r.dir, e.podsDir(), e.locksDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.saveRecord(r); err != nil {
		t.Fatal(err)
	}
	// A rename that was cut off has both names; a writer that was killed, a file.
	for _, name := range []string{"old", "new"} {
		if err := e.claimAt(e.nameDirs(), name, r); err != nil {
			t.Fatal(err)
		}
	}
	const dead = ".tmp-4194999-1" // of a process number that no machine has
	lost := []string{filepath.Join(r.dir, dead), filepath.Join(e.podsDir(), dead),
		filepath.Join(e.nameDirs()[0], "old"), filepath.Join(e.nameDirs()[1], "old")}
	for _, f := range lost[:2] {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	for _, f := range lost {
		if _, err := os.Lstat(f); err != nil {
			t.Errorf("without a lock's file, Recover touched %s", f)
		}
	}
	for _, name := range []string{"container-" + r.ID, "pod-" + newID()} {
		l, err := state.Acquire(ctx, filepath.Join(e.locksDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		l.Release() // as a kill does it: the file stays
	}
	if err := e.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	for _, f := range lost {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
	if id, err := e.Lookup(ctx, "new"); err != nil || id != r.ID {
		t.Errorf("Lookup(new) = %s, %v", id, err)
	}
	if left, _ := os.ReadDir(e.locksDir()); len(left) > 0 {
		t.Errorf("locks are left: %v", left)
	}
}

// A file that is mounted where it is read stays the same file.
func TestRewrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte("127.0.0.1\tlocalhost\n127.0.0.1\tmember\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"127.0.0.1\tlocalhost\n", "127.0.0.1\tlocalhost\n127.0.0.1\ta name that is longer\n", ""} {
		if err := rewrite(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("after rewrite: %q, %v, want %q", got, err, text)
		}
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("another file: %v", err)
	}
}
