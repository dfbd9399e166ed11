package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// STO-03: a shorter content over a longer one leaves nothing of that, and no
// reader ever sees a part.
func TestSTO03WriteFileReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	contents := [][]byte{[]byte(strings.Repeat("long", 5000)), []byte("short"), {}, []byte("x")}
	done := make(chan struct{})
	var readers sync.WaitGroup
	if err := WriteFile(dir, "f", contents[0], 0o600, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := ReadFile(filepath.Join(dir, "f"))
				if err != nil {
					t.Errorf("ReadFile: %v", err)
					return
				}
				whole := false
				for _, c := range contents {
					whole = whole || string(c) == string(got)
				}
				if !whole {
					t.Errorf("a reader saw %d bytes that nobody wrote", len(got))
					return
				}
			}
		})
	}
	for i := range 300 {
		if err := WriteFile(dir, "f", contents[i%len(contents)], 0o640, i%50 == 0); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
	fi, err := os.Stat(filepath.Join(dir, "f"))
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v, want 0640 whatever the umask", fi.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestClaimOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "name")
	var wins, losses int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := Claim(path, fmt.Appendf(nil, "%d", i), false)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, ErrExist):
				losses++
			default:
				t.Errorf("Claim: %v", err)
			}
		})
	}
	all.Wait()
	if wins != 1 || losses != 19 {
		t.Errorf("%d won, %d lost, want 1 and 19", wins, losses)
	}
}

func TestLockExcludesGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "lock")
	counter := 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				l, err := Acquire(context.Background(), path)
				if err != nil {
					t.Error(err)
					return
				}
				counter++
				// The object, and with it the lock, goes now and then.
				if counter%7 == 0 {
					l.Remove()
				} else {
					l.Release()
				}
			}
		})
	}
	all.Wait()
	if counter != 160 {
		t.Errorf("counter %d, want 160", counter)
	}
}

func TestLockEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Acquire(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, path); !errors.Is(err, ErrLocked) {
		t.Errorf("Acquire of a held lock = %v, want ErrLocked", err)
	}
	if _, ok, err := TryAcquire(path); ok || err != nil {
		t.Errorf("TryAcquire of a held lock = %v, %v", ok, err)
	}
	if s, err := AcquireShared(ctx, filepath.Join(t.TempDir(), "other")); err != nil && !errors.Is(err, ErrLocked) {
		t.Error(err)
	} else {
		s.Release()
	}
}

func TestProcessIdentity(t *testing.T) {
	self := Self()
	if !self.Alive() {
		t.Error("this process is not alive")
	}
	self.Start++
	if self.Alive() || (ProcessID{}).Alive() {
		t.Error("another process's number counts as this one")
	}
	if len(BootID()) != 36 {
		t.Errorf("BootID() = %q", BootID())
	}
}

func TestCleanTemp(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, ".tmp-4194999-1")
	alive := filepath.Join(dir, fmt.Sprintf(".tmp-%d-1", os.Getpid()))
	for _, f := range []string{dead, alive, filepath.Join(dir, "kept")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := CleanTemp(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("a dead writer's file is left")
	}
	if _, err := os.Stat(alive); err != nil {
		t.Error("a living writer's file is gone")
	}
}

// A lock's file that could not be removed is not that of a killed holder.
func TestLockThatStayed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, []byte("released\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} { // the second time a holder was cut off
		l, err := Acquire(t.Context(), path)
		if err != nil || l.Found() != want {
			t.Fatalf("Acquire = %v, found %v, want %v", err, l.Found(), want)
		}
		l.Release()
	}
}

// A watch keeps one directory open until it ends, and its end opens what no
// watch had.
func TestDiskWatch(t *testing.T) {
	dir := t.TempDir()
	var w DiskWatch
	if err := w.Begin(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Begin of what is absent = %v", err)
	}
	if err := errors.Join(w.Begin(dir), w.Begin(filepath.Join(dir, "absent"))); err != nil {
		t.Errorf("Begin = %v; a watch that has begun goes on", err)
	}
	for range 2 {
		d, err := w.End(dir)
		if err != nil || d.Name() != dir {
			t.Fatalf("End = %v, %v", d, err)
		}
		d.Close()
	}
}
