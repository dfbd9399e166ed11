package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hull/codec"
	"hull/layer"
	"hull/oci"
	"hull/snapshot"
)

// CP-01: what packs and unpacks is this process; no program is run that happens
// to have the name of one.
func TestCP01NoProgramIsRun(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	for _, name := range []string{"gzip", "gunzip", "unpigz", "pigz", "zstd", "unzstd", "bzip2", "tar", "unxz", "lzma"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+" >>"+ran+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	text := strings.Repeat("hello ", 1000)
	for _, c := range []Compression{Gzip, Zstd} {
		var b bytes.Buffer
		z, err := Compress(codec.Codec{}, &b, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(z, text)
		z.Close()
		r, got, err := Decompress(codec.Codec{}, &b)
		if err != nil || got != c {
			t.Fatalf("%s: %v, %v", c, got, err)
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != text {
			t.Errorf("%s: %d bytes, %v", c, len(data), err)
		}
		r.Close()
	}
	s := newStore(t)
	addImage(t, s, "what", "localhost/a:1")
	if data, err := os.ReadFile(ran); err == nil {
		t.Errorf("these ran: %s", data)
	}
}

// STO-01: nothing is written to the directory for everybody's temporary files,
// whatever others have put there.
func TestSTO01HostileTemporaryDirectory(t *testing.T) {
	ctx := context.Background()
	tmp := t.TempDir()
	canary := filepath.Join(t.TempDir(), "canary")
	if err := errors.Join(os.WriteFile(canary, []byte("mine"), 0o600), os.Chmod(tmp, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hull", "archive", ".tmp-1-1", "snapshots", "storage"} {
		if err := os.Symlink(canary, filepath.Join(tmp, name)); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := os.Stat(tmp)
	root := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s := storeIn(t, root)
	if os.Geteuid() == 0 {
		s = newRootStore(t, root, "overlay")
	}
	img := addImage(t, s, "what", "localhost/a:1")
	for _, format := range []string{DockerArchive, OCIArchive} {
		var b bytes.Buffer
		if err := s.Save(ctx, &b, []SaveItem{{Image: img, Names: img.Names}}, SaveOptions{Format: format}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(ctx, Source{Reader: &b}, LoadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Import(ctx, bytes.NewReader(tarOf(t, map[string]string{"f": "f"})), ImportOptions{Names: []oci.Reference{ref(t, "localhost/i:1")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(ctx, PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(tmp)
	if !after.ModTime().Equal(before.ModTime()) {
		t.Error("the directory was written to")
	}
	if text, err := os.ReadFile(canary); err != nil || string(text) != "mine" {
		t.Errorf("the canary: %q, %v", text, err)
	}
}

// zeroTar is a tar of one file of zeros, made while it is read.
func zeroTar(size int64) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		w := tar.NewWriter(pw)
		err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o644, Size: size})
		if err == nil {
			_, err = io.CopyN(w, zeros{}, size)
		}
		pw.CloseWithError(errors.Join(err, w.Close()))
	}()
	return pr
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// UNP-02, UNP-06: a bomb is refused before it goes off, at once, and leaves
// neither files nor locks.
func TestUNP02Bomb(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	s := newRootStore(t, root, "overlay")
	snaps, err := snapshot.Open(filepath.Join(root, "snapshots"), snapshot.Options{MaxLayerSize: 1 << 30, MaxLayerFiles: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s.snaps = snaps
	packed := func(r io.Reader) []byte {
		var b bytes.Buffer
		z, err := Compress(codec.Codec{}, &b, Zstd, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(z, r); err != nil {
			t.Fatal(err)
		}
		z.Close()
		return b.Bytes()
	}
	many := map[string]string{}
	for i := range 1500 {
		many[strings.Repeat("x", 1+i%50)+strings.Repeat("y", i/50)] = ""
	}
	for name, data := range map[string][]byte{
		"size": packed(zeroTar(1<<30 + 1)), "entries": packed(bytes.NewReader(tarOf(t, many))),
		"padding": packed(io.MultiReader(bytes.NewReader(tarOf(t, nil)), io.LimitReader(zeros{}, 1<<30))),
	} {
		hold, err := s.Hold(ctx)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = s.AddLayer(ctx, "", bytes.NewReader(data), LayerOptions{})
		if !errors.Is(err, layer.ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", name, err)
		}
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("%s: %v until it was refused", name, d)
		}
		hold.Release()
	}
	if infos, err := s.snaps.List(); err != nil || len(infos) != 0 {
		t.Errorf("layers left: %v, %v", infos, err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "snapshots/t")); len(left) > 0 {
		t.Errorf("drafts left: %v", left)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := s.Prune(ctx, PruneOptions{All: true}); err != nil {
		t.Errorf("a lock is held: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "partial")); len(left) > 0 {
		t.Errorf("partial blobs left: %v", left)
	}
}
