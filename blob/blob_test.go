package blob

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"hull/oci"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func TestStoreAndRead(t *testing.T) {
	s, data := open(t), random(100_000)
	d := oci.FromBytes(data)
	w, err := s.Writer(context.Background(), d, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data[:1])
	w.Write(data[1:])
	if got, n, err := w.Commit(); got != d || n != int64(len(data)) || err != nil {
		t.Fatalf("Commit = %s, %d, %v", got, n, err)
	}
	if err := s.Verify(context.Background(), d); err != nil {
		t.Error(err)
	}
	if got, err := s.Read(d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Read: %d bytes, %v", len(got), err)
	}
	if _, err := s.Writer(context.Background(), d, -1); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Writer of a blob that is there: %v, want ErrExist", err)
	}
	if err := s.Remove(d); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat after Remove: %v", err)
	}
}

// A cut download goes on where it was, in another process too.
func TestResume(t *testing.T) {
	s, data := open(t), random(1<<20)
	d := oci.FromBytes(data)
	w, err := s.Writer(context.Background(), d, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data[:700_000])
	if _, _, err := w.Commit(); !errors.Is(err, ErrSize) {
		t.Fatalf("Commit of a part = %v, want ErrSize", err)
	}
	w, err = s.Writer(context.Background(), d, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if w.Offset() != 700_000-resumeMargin {
		t.Errorf("Offset = %d, want %d", w.Offset(), 700_000-resumeMargin)
	}
	w.Write(data[w.Offset():])
	if _, _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(context.Background(), d); err != nil {
		t.Error(err)
	}
}

func TestWrongContent(t *testing.T) {
	s, data := open(t), random(1000)
	d := oci.FromBytes(data)
	for name, wrong := range map[string][]byte{"other": random(1001)[1:], "longer": append(data[:1000:1000], 1)} {
		w, err := s.Writer(context.Background(), d, 1000)
		if err != nil {
			t.Fatal(err)
		}
		_, werr := w.Write(wrong)
		_, _, err = w.Commit()
		if werr == nil && err == nil {
			t.Errorf("%s content was stored", name)
		}
		w.Close()
	}
	if _, err := s.Stat(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat: %v", err)
	}
	if _, err := s.Writer(context.Background(), "sha256:../../x", 1); err == nil {
		t.Error("a digest that is a path was accepted")
	}
}

// Of several who want one blob at once, one writes and the others find it.
func TestConcurrentWriters(t *testing.T) {
	s, data := open(t), random(200_000)
	d := oci.FromBytes(data)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			w, err := s.Writer(context.Background(), d, int64(len(data)))
			if errors.Is(err, fs.ErrExist) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			w.Write(data[w.Offset():])
			if _, _, err := w.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := s.Verify(context.Background(), d); err != nil {
		t.Error(err)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	left, _ := os.ReadDir(s.root + "/partial")
	if len(left) > 0 {
		t.Errorf("%d files left in partial", len(left))
	}
}

func TestDamageIsFound(t *testing.T) {
	s, data := open(t), random(5000)
	d, err := s.Put(data)
	if err != nil {
		t.Fatal(err)
	}
	data[77] ^= 1
	if err := os.WriteFile(s.Path(d), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(context.Background(), d); !errors.Is(err, ErrDigest) {
		t.Errorf("Verify = %v, want ErrDigest", err)
	}
	if _, err := s.Read(d); !errors.Is(err, ErrDigest) {
		t.Errorf("Read = %v, want ErrDigest", err)
	}
}

func TestTidy(t *testing.T) {
	s, data := open(t), random(300_000)
	d := oci.FromBytes(data)
	w, err := s.Writer(context.Background(), d, -1)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data[:200_000])
	if freed, err := s.Tidy(time.Now().Add(time.Hour)); freed != 0 || err != nil {
		t.Errorf("Tidy took %d bytes of a living writer, %v", freed, err)
	}
	w.Close()
	if freed, err := s.Tidy(time.Now().Add(time.Hour)); freed != 200_000 || err != nil {
		t.Errorf("Tidy = %d, %v, want 200000", freed, err)
	}
}
