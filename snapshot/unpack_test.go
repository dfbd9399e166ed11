package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
)

// entries is a tar of headers, without contents.
func entries(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func addTar(t testing.TB, s *Store, parent oci.Digest, data []byte) oci.Digest {
	t.Helper()
	d, err := s.NewDraft(context.Background(), parent)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if err := d.Unpack(context.Background(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	chain := oci.FromBytes(append([]byte(parent), data...))
	if err := d.Commit(chain); err != nil {
		t.Fatal(err)
	}
	return chain
}

// A layer that does not list /tmp leaves it as it was.
func TestImpliedDirectories(t *testing.T) {
	s := open(t, t.TempDir(), "")
	base := addTar(t, s, "", entries(t,
		tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		tar.Header{Name: "srv/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 33, Gid: 44},
		tar.Header{Name: "srv/in/", Typeflag: tar.TypeDir, Mode: 0o2770, Uid: 55, Gid: 66, PAXRecords: map[string]string{"SCHILY.xattr.user.mark": "here"}},
		tar.Header{Name: "gone/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "srv"},
	))
	top := addTar(t, s, base, entries(t,
		tar.Header{Name: "tmp/x", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "srv/in/x", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "new/x", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: ".wh.gone", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "gone/x", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "late/x", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "late/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 3},
	))
	tree, err := s.ViewTree(top)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for path, want := range map[string][3]uint32{
		"tmp": {0o1777, 0, 0}, "srv": {0o750, 33, 44}, "srv/in": {0o2770, 55, 66},
		"new": {0o755, 0, 0}, "gone": {0o755, 0, 0}, "late": {0o711, 3, 0},
	} {
		var st unix.Stat_t
		if err := unix.Fstatat(int(tree.Fd()), path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Error(err)
			continue
		}
		if got := [3]uint32{st.Mode & 0o7777, st.Uid, st.Gid}; got != want {
			t.Errorf("%s: mode and owner %o, want %o", path, got, want)
		}
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(s.layerDir(top), "d/srv/in"), "user.mark", value); err != nil || string(value[:n]) != "here" {
		t.Errorf("the attribute below: %q, %v", value[:max(n, 0)], err)
	}
}

// STO-05, UNP-02: a layer that is larger than allowed says so and leaves nothing.
func TestSTO05LayerBounds(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	open(t, dir, "") // needs root
	s, err := Open(dir, Options{MaxLayerSize: 1000, MaxLayerFiles: 3})
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, size int64) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}
	}
	for name, data := range map[string][]byte{
		"size":    entries(t, file("a", 600), file("b", 600)),
		"files":   entries(t, file("a", 0), file("b", 0), file("c", 0), file("d", 0)),
		"implied": entries(t, file("a/b/c/d/e", 0)),
	} {
		d, err := s.NewDraft(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		err = d.Unpack(ctx, bytes.NewReader(data))
		var h interface{ Hint() string }
		if !errors.Is(err, layer.ErrTooLarge) || !errors.As(err, &h) || h.Hint() == "" {
			t.Errorf("%s: Unpack = %v, want ErrTooLarge with a hint", name, err)
		}
		if err := d.Abort(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "t"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	addTar(t, s, "", entries(t, file("a", 1000)))
	if s, err = Open(t.TempDir(), Options{MaxLayerSize: -1, MaxLayerFiles: -1}); err != nil {
		t.Fatal(err)
	}
	addTar(t, s, "", entries(t, file("a", 2000)))
}

// STO-05: unpacking ends before the disk is full.
func TestSTO05RoomIsLeft(t *testing.T) {
	open(t, t.TempDir(), "")
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(disk, "full"), make([]byte, 62<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, &roomReader{r: bytes.NewReader(make([]byte, 1<<20)), fs: f})
	var h interface{ Hint() string }
	if n != 0 || !errors.Is(err, unix.ENOSPC) || !errors.As(err, &h) {
		t.Errorf("read %d bytes, %v, want ENOSPC with a hint", n, err)
	}
}
