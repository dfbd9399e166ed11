package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copyPlace is a container that was created, whose root the test can change.
func copyPlace(t *testing.T) (h *harness, c *canary, id, root string) {
	t.Helper()
	h = newHarness(t)
	c = newCanary(t, h.dir)
	if err := os.WriteFile(filepath.Join(c.dir, "secret"), []byte("do not copy"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.before = c.list()
	o := h.options("sleep", "1000")
	o.RootfsOverlay = false
	created, err := h.e.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return h, c, created, h.rootfs
}

func tarStream(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 1
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "x")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// CP-02: a component of the path changes place with links to the host, at each
// step of copies in and out.
func TestCP02PathChangesMeanwhile(t *testing.T) {
	h, c, id, root := copyPlace(t)
	in := func(name string) string { return filepath.Join(root, name) }
	if err := errors.Join(os.MkdirAll(in("a/d"), 0o755), os.WriteFile(in("a/d/secret"), []byte("mine"), 0o644),
		os.Symlink(c.dir, in("a/l")), os.Symlink("/", in("a/r"))); err != nil {
		t.Fatal(err)
	}
	stop1, stop2 := exchange(in("a/d"), in("a/l")), exchange(in("a/l"), in("a/r"))
	copied := 0
	for i := range races(300, 2000) {
		var out bytes.Buffer
		from := []string{"/a/d", "/a/d/", "/a/d/secret", "/a", "/a/l/.", "/a/l/secret", "/a/r" + c.dir}[i%7]
		if err := h.e.Copy(t.Context(), CopyEnd{Container: id, Path: from}, CopyEnd{Path: "-", Stream: io.Writer(&out)}, CopyOptions{}); err == nil {
			copied++
		}
		if bytes.Contains(out.Bytes(), []byte("do not copy")) {
			t.Fatalf("copy of %s: the host's file is in the archive", from)
		}
		stream := tarStream(t, tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o4755}, tar.Header{Name: "new", Typeflag: tar.TypeReg, Mode: 0o644})
		if err := h.e.Copy(t.Context(), CopyEnd{Path: "-", Stream: io.Reader(stream)}, CopyEnd{Container: id, Path: []string{"/a/d", "/a/l", "/a/d/"}[i%3]}, CopyOptions{Overwrite: i%2 == 0}); err == nil {
			copied++
		}
	}
	stop1()
	stop2()
	c.check(t, "race", false)
	if copied == 0 {
		t.Error("no copy succeeded: there was no race")
	}
}

// CP-03: headers that name directories which exist, and links, change nothing
// of the host.
func TestCP03CraftedHeaders(t *testing.T) {
	h, c, id, root := copyPlace(t)
	if err := errors.Join(os.Symlink(c.dir, filepath.Join(root, "out")), os.Symlink(c.file, filepath.Join(root, "outfile"))); err != nil {
		t.Fatal(err)
	}
	host := t.TempDir()
	old := time.Unix(1e9, 0)
	sub := filepath.Join(host, "sub")
	if err := errors.Join(os.Mkdir(sub, 0o750), os.Symlink(c.dir, filepath.Join(host, "link")), os.Chtimes(sub, old, old), os.Chtimes(host, old, old)); err != nil {
		t.Fatal(err)
	}
	dir := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o777, Uid: 99, Gid: 99}
	}
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o6777, Uid: 99, Gid: 99}
	}
	for _, headers := range [][]tar.Header{
		{dir("."), dir("./"), dir("..")}, {dir("out")}, {dir("out/"), file("out/file")}, {file("outfile")}, {file("out/new")}, {file("../canary/new")},
		{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: c.dir}, file("l/file")}, {{Name: "h", Typeflag: tar.TypeLink, Linkname: "out/file"}, file("h")},
		{{Name: "h2", Typeflag: tar.TypeLink, Linkname: "../canary/file"}, file("h2")},
	} {
		for _, to := range []string{"/", "/.", "/tmp", "/out", "/tmp/.."} {
			for _, o := range []CopyOptions{{}, {Archive: true}, {Overwrite: true}} {
				// An error is as good.
				_ = h.e.Copy(t.Context(), CopyEnd{Path: "-", Stream: io.Reader(tarStream(t, headers...))}, CopyEnd{Container: id, Path: to}, o)
				c.check(t, "copy of "+headers[0].Name+" to "+to, false)
				if t.Failed() {
					return
				}
			}
		}
	}
	// The directory that is copied into keeps what it is.
	err := h.e.Copy(t.Context(), CopyEnd{Container: id, Path: "/etc/."}, CopyEnd{Path: host}, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(sub, &st); err != nil || st.Mode&0o7777 != 0o750 || st.Mtim.Sec != 1e9 {
		t.Errorf("a directory beside what was copied: mode %o, time %d, %v", st.Mode, st.Mtim.Sec, err)
	}
	c.check(t, "copy out", false)
}

// CP-04: whatever names and links a container has, a copy of it stays in the
// directory that it is copied to.
func TestCP04CopyOutStaysInside(t *testing.T) {
	h, c, id, root := copyPlace(t)
	in := func(name string) string { return filepath.Join(root, name) }
	if err := errors.Join(os.MkdirAll(in("w/d"), 0o755), os.WriteFile(in("w/d/file"), []byte("hostile"), 0o4755), os.WriteFile(in("w/d/secret"), []byte("hostile"), 0o644),
		os.Symlink(c.dir, in("w/l")), os.Symlink("../../../../../../../.."+c.dir, in("w/up")), os.Symlink("/", in("w/z")), os.Link(in("w/d/file"), in("w/hard")),
		os.WriteFile(in("w/ back\\slash\n"), nil, 0o600), os.WriteFile(in("w/.wh.d"), nil, 0o600), os.WriteFile(in("w/.wh..wh..opq"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	stop := exchange(in("w/d"), in("w/l"))
	parent := t.TempDir()
	for i := range races(100, 1000) {
		to := filepath.Join(parent, "to")
		if err := os.MkdirAll(filepath.Join(to, "w"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := h.e.Copy(t.Context(), CopyEnd{Container: id, Path: []string{"/w", "/w/.", "/"}[i%3]}, CopyEnd{Path: to}, CopyOptions{Overwrite: i%2 == 0, Archive: i%5 == 0})
		if err != nil && i < 2 && !strings.Contains(err.Error(), "directory") {
			t.Logf("copy: %v", err)
		}
		names, _ := os.ReadDir(parent)
		if len(names) != 1 {
			t.Fatalf("beside the directory there is %v", names)
		}
		if i%2 == 1 { // every second copy meets what the first left
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	c.check(t, "race", false)
}
