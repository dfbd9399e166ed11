package blob

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// STO-04: what is removed is on no path any more, whole or in part.
func TestSTO04RemovedIsGone(t *testing.T) {
	s := open(t)
	data := random(100_000)
	d := store(t, s, data)
	w, err := s.Writer(context.Background(), oci.FromBytes([]byte("other")), -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil { // the same bytes, cut off on their way to be another blob
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tidy(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v", err)
	}
	filepath.WalkDir(s.root, func(p string, e os.DirEntry, err error) error {
		if text, err := os.ReadFile(p); err == nil && bytes.Contains(text, data[:1000]) {
			t.Errorf("%s still has the content", p)
		}
		return err
	})
}

// STO-05: neither more than was announced nor more than there is room for.
func TestSTO05Bounds(t *testing.T) {
	s := open(t)
	data := random(1000)
	w, err := s.Writer(context.Background(), oci.FromBytes(data), 999)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); !errors.Is(err, ErrSize) {
		t.Errorf("more than announced: %v, want ErrSize", err)
	}
	w.Abort()
	if os.Geteuid() != 0 {
		t.Skip("a small file system needs root")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	if s, err = Open(disk); err != nil {
		t.Fatal(err)
	}
	if w, err = s.Writer(context.Background(), "", -1); err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	chunk := make([]byte, 1<<20)
	for n := 0; err == nil && n < 256; n++ {
		_, err = w.Write(chunk)
	}
	var h interface{ Hint() string }
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &h) {
		t.Errorf("filled the disk: %v, want ENOSPC with a hint", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil || st.Bavail == 0 {
		t.Errorf("%d blocks are left, %v", st.Bavail, err)
	}
}
