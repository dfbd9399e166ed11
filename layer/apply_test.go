package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An ent is one entry of an archive in a test: "TYPE NAME [= CONTENT or LINK]".
// Types are tar's letters, and f for a file, d for a directory.
func archive(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		kind, rest, _ := strings.Cut(e, " ")
		name, arg, _ := strings.Cut(rest, " = ")
		h := &tar.Header{
			Name: name, Mode: 0o644, Uid: os.Geteuid(), Gid: os.Getegid(),
			ModTime: time.Unix(1e9, 5e8), Format: tar.FormatPAX,
		}
		switch kind {
		case "f":
			h.Typeflag, h.Size = tar.TypeReg, int64(len(arg))
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, arg
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, arg
		case "p":
			h.Typeflag = tar.TypeFifo
		case "c":
			h.Typeflag = tar.TypeChar
			fmt.Sscanf(arg, "%d:%d", &h.Devmajor, &h.Devminor)
		case "x": // a file with an attribute
			h.Typeflag = tar.TypeReg
			key, value, _ := strings.Cut(arg, "=")
			h.PAXRecords = map[string]string{xattrRecord + key: value}
		case "s": // a set-uid file
			h.Typeflag, h.Mode = tar.TypeReg, 0o6755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("archive %q: %v", e, err)
		}
		if h.Size > 0 {
			io.WriteString(w, arg)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// apply unpacks into dir/root; canary is beside it.
func apply(t testing.TB, dir string, data []byte, o ApplyOptions) error {
	t.Helper()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Apply(context.Background(), f, bytes.NewReader(data), o)
}

// canary makes a directory that nothing may change, and returns what checks that.
func canary(t testing.TB, dir string) (path string, check func()) {
	t.Helper()
	path = filepath.Join(dir, "host")
	os.MkdirAll(path, 0o755)
	os.WriteFile(filepath.Join(path, "secret"), []byte("host"), 0o600)
	before := tree(t, path)
	return path, func() {
		t.Helper()
		if now := tree(t, path); now != before {
			t.Errorf("host was changed:\n%s\nwas\n%s", now, before)
		}
		all, _ := os.ReadDir(dir)
		for _, e := range all {
			if e.Name() != "host" && e.Name() != "root" {
				t.Errorf("%s appeared beside the root", e.Name())
			}
		}
	}
}

// tree describes what is in a directory.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %o", rel, st.Mode)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, _ := os.ReadFile(p)
			fmt.Fprintf(&b, " %q %d.%d", text, st.Mtim.Sec, st.Mtim.Nsec)
		case unix.S_IFLNK:
			to, _ := os.Readlink(p)
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String()
}

func TestUNP01NothingLeavesTheRoot(t *testing.T) {
	for _, outside := range []string{"HOST", "../host", "../../../../../../../../HOST"} {
		for _, c := range [][]string{
			{"f /OUT/secret = x"},
			{"f ../host/secret = x"},
			{"f a/../../host/secret = x"},
			{"l a = OUT", "f a/secret = x"},
			{"l a = OUT", "d a", "f a/secret = x"},
			{"l a = OUT/secret", "f a = x"},
			{"l a = OUT/secret", "h b = a", "f b = x"},
			{"h b = OUT/secret", "f b = x"},
			{"h b = ../host/secret"},
			{"l a = OUT", "h b = a/secret", "f b = x"},
			{"l a = b", "l b = c", "l c = OUT", "f a/secret = x"},
			{"d a", "l a = OUT", "f a/secret = x"},
			{"l a = OUT", "f a/.wh.secret"},
			{"l a = OUT", "f a/.wh..wh..opq"},
			{"l a = OUT", "f .wh.a", "f a/secret = x"},
			{"f .wh../host/secret"}, {"f .wh.."}, {"f .wh..."}, {"f .wh."},
			{"d a", "l a/l = OUT", "d a/l", "d a/l/new"},
			{"l a = a", "f a/b = x"},
			{"l a = OUT", "s a"}, {"l a = OUT", "p a"}, {"l a = OUT", "d a/../"},
			{"l d = .", "f d/d/d/f = x", "f d = x", "f d/g = x"},
			{"d a", "d a/b", "l l = a", "f l/b/x = 1", "f a = x", "f l/b/y = 2"},
		} {
			for _, w := range []Whiteouts{Delete, Overlay} {
				if w == Overlay && os.Geteuid() != 0 {
					continue
				}
				dir := t.TempDir()
				host, check := canary(t, dir)
				out := strings.ReplaceAll(outside, "HOST", host)
				var entries []string
				for _, e := range c {
					entries = append(entries, strings.ReplaceAll(e, "OUT", out))
				}
				apply(t, dir, archive(t, entries...), ApplyOptions{Whiteouts: w}) // an error is as good
				check()
				if t.Failed() {
					t.Fatalf("after %q", entries)
				}
			}
		}
	}
}

func TestUNP02Bounds(t *testing.T) {
	dir := t.TempDir()
	o := ApplyOptions{MaxSize: 10, MaxFiles: 3}
	if err := apply(t, dir, archive(t, "f a = 12345", "f b = 12345"), o); err != nil {
		t.Errorf("within the bounds: %v", err)
	}
	for _, data := range [][]byte{
		archive(t, "f a = 12345", "f b = 123456"),
		archive(t, "d a", "d b", "d c", "d d"),
		append(archive(t, "d a"), make([]byte, maxPadding+2000)...),
	} {
		if err := apply(t, dir, data, o); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Apply = %v, want ErrTooLarge", err)
		}
	}
	for _, data := range [][]byte{
		archive(t, "f "+strings.Repeat("a/", 3000)+"b"), archive(t, "d "+strings.Repeat("a/", maxDepth+1)),
	} {
		if err := apply(t, dir, data, ApplyOptions{}); err == nil {
			t.Error("an endless name is unpacked")
		}
	}
}

func TestUNP03TypesReplaceEachOther(t *testing.T) {
	for _, c := range []struct {
		entries []string
		want    string // of "a", as tree says it
	}{
		{[]string{"l a = ../host/secret", "s a"}, "a 106755"},
		{[]string{"f b = old", "h a = b", "f a = new"}, `a 100644 "new"`},
		{[]string{"d a", "f a/x = 1", "f a = file"}, `a 100644 "file"`},
		{[]string{"f a = file", "d a", "f a/x = 1"}, "a 40755"},
		{[]string{"f a = file", "f a/x = 1"}, "a 40755"},
		{[]string{"d a", "f a/x = 1", "l a = b"}, "a 120777 -> b"},
		{[]string{"l a = b", "d a"}, "a 40755"},
		{[]string{"f a = 1", "f a = 2"}, `a 100644 "2"`},
		{[]string{"l b = nowhere", "h a = b"}, "a 120777 -> nowhere"},
		{[]string{"f a = 1", "h a = a"}, `a 100644 "1"`},
	} {
		dir := t.TempDir()
		_, check := canary(t, dir)
		if err := apply(t, dir, archive(t, c.entries...), ApplyOptions{}); err != nil {
			t.Errorf("%q: %v", c.entries, err)
		}
		check()
		if got := tree(t, filepath.Join(dir, "root")); !strings.Contains("\n"+got, "\n"+c.want) {
			t.Errorf("%q makes\n%s, want %s", c.entries, got, c.want)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "root", "b")); err == nil && string(b) != "old" {
			t.Errorf("%q wrote through the hard link: %q", c.entries, b)
		}
	}
}

func TestUNP04ParentsSwappedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	host, check := canary(t, dir)
	root := filepath.Join(dir, "root")
	os.Mkdir(root, 0o755)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(filepath.Join(root, "p"), filepath.Join(root, "q"))
			os.Symlink(host, filepath.Join(root, "p"))
			os.Remove(filepath.Join(root, "p"))
			os.Rename(filepath.Join(root, "q"), filepath.Join(root, "p"))
		}
	}()
	var entries []string
	for i := range 50 {
		entries = append(entries, "d p", fmt.Sprintf("f p/secret = %d", i), "d o", "f o/x = y")
	}
	data := archive(t, entries...)
	for range 100 {
		apply(t, dir, data, ApplyOptions{}) // errors are what a swap may cause
	}
	close(stop)
	<-done
	check()
}

func TestUNP05Devices(t *testing.T) {
	for _, bad := range []string{"0:0", "4096:1", "1:1048576", "1048575:1"} {
		if err := apply(t, t.TempDir(), archive(t, "c a = "+bad), ApplyOptions{}); err == nil {
			t.Errorf("device %s is made", bad)
		}
	}
	dir := t.TempDir()
	if err := apply(t, dir, archive(t, "c null = 1:3", "p pipe"), ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	got := tree(t, filepath.Join(dir, "root"))
	if !strings.Contains(got, "pipe 10644") {
		t.Errorf("no pipe:\n%s", got)
	}
	if os.Geteuid() == 0 && userMapped() != strings.Contains(got, "null 20644") {
		t.Errorf("device as root:\n%s", got)
	}
}

// userMapped reports whether this process may make devices: in the first user namespace.
func userMapped() bool {
	b, _ := os.ReadFile("/proc/self/uid_map")
	return strings.Contains(string(b), "4294967295")
}

func TestUNP06Broken(t *testing.T) {
	data := archive(t, "d a", "f a/b = "+strings.Repeat("x", 5000), "l a/c = d")
	for n := range data[:len(data)-1024] {
		if n%97 != 0 || n == 0 {
			continue
		}
		start := time.Now()
		err := apply(t, t.TempDir(), data[:n], ApplyOptions{})
		if err == nil && n%512 != 0 {
			t.Errorf("an archive cut at %d unpacks", n)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("cut at %d takes %v", n, d)
		}
	}
	f, _ := os.Open(t.TempDir())
	defer f.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrClosedPipe)
	if err := Apply(ctx, f, bytes.NewReader(data), ApplyOptions{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("cancelled Apply = %v", err)
	}
}

func TestUNP07Attributes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for security.capability")
	}
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	dir := t.TempDir()
	err := apply(t, dir, archive(t,
		"x a = user.color=red", "x b = trusted.overlay.opaque=y", "x c = user.overlay.opaque=y",
		"x d = security.selinux=x", "x e = trusted.x=y"), ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"a": 11, "b": 0, "c": 0, "d": 0, "e": 0} {
		buf := make([]byte, 100)
		n, err := unix.Llistxattr(filepath.Join(dir, "root", name), buf)
		if err != nil || n != want {
			t.Errorf("%s has attributes %q (%v)", name, buf[:max(n, 0)], err)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "ping", Mode: 0o755, Uid: 1, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		PAXRecords: map[string]string{xattrRecord + "security.capability": capability}})
	w.Close()
	if err := apply(t, dir, b.Bytes(), ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := unix.Getxattr(filepath.Join(dir, "root", "ping"), "security.capability", buf); err != nil || n < 20 {
		t.Errorf("capability after a change of owner: %d, %v", n, err)
	}
	for _, bad := range []string{"user." + strings.Repeat("a", 300) + "=x", "user.a=" + strings.Repeat("v", 70000)} {
		if err := apply(t, dir, archive(t, "x a = "+bad), ApplyOptions{}); err == nil {
			t.Errorf("attribute of %d bytes is accepted", len(bad))
		}
	}
}

func TestUNP08RootIsADirectory(t *testing.T) {
	for _, e := range []string{"l ./ = /etc", "f . = x", "h ./ = a", "f /.wh.", "p .", "c . = 1:3"} {
		if err := apply(t, t.TempDir(), archive(t, e), ApplyOptions{}); err == nil {
			t.Errorf("a root %q is accepted", e)
		}
	}
	dir := t.TempDir()
	if err := apply(t, dir, archive(t, "d ./", "f ./a = x"), ApplyOptions{}); err != nil {
		t.Error(err)
	}
	st, _ := os.Stat(filepath.Join(dir, "root"))
	if st.ModTime().UnixNano() != 1e18+5e8 {
		t.Errorf("time of the root is %v", st.ModTime())
	}
}

func TestUNP10NobodyElseOpensAFileMeanwhile(t *testing.T) {
	dir := t.TempDir()
	old := unix.Umask(0)
	defer unix.Umask(old)
	pr, pw := io.Pipe()
	root := filepath.Join(dir, "root")
	os.Mkdir(root, 0o755)
	f, _ := os.Open(root)
	defer f.Close()
	done := make(chan error)
	go func() { done <- Apply(context.Background(), f, pr, ApplyOptions{}) }()
	data := archive(t, "f s = "+strings.Repeat("x", 1<<20))
	pw.Write(data[:600<<10])
	st, err := os.Stat(filepath.Join(root, "s"))
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("half unpacked it is %v, %v", st, err)
	}
	pw.Write(data[600<<10:])
	pw.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhiteouts(t *testing.T) {
	below := []string{"d a", "f a/x = 1", "f a/y = 1", "d a/sub", "f a/sub/z = 1", "f b = 1"}
	layer := []string{"f a/-new = 2", "d a/sub", "f a/.wh..wh..opq", "f a/late = 2", "f .wh.b", "f .wh.nothing", "f .wh..wh.plnk/1 = x"}
	dir := t.TempDir()
	for _, l := range [][]string{below, layer} {
		if err := apply(t, dir, archive(t, l...), ApplyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for l := range strings.Lines(tree(t, filepath.Join(dir, "root"))) {
		names = append(names, strings.Fields(l)[0])
	}
	if got := strings.Join(names, " "); got != ". a a/-new a/late a/sub" {
		t.Errorf("Delete leaves %s", got)
	}
	if os.Geteuid() != 0 {
		t.Skip("overlay's marks need root")
	}
	dir = t.TempDir()
	var implicit []string
	o := ApplyOptions{Whiteouts: Overlay, Implicit: func(p string) { implicit = append(implicit, p) }}
	if err := apply(t, dir, archive(t, append(layer, "f .wh.dir", "f dir/new = 1")...), o); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"a": true, "a/sub": false, "dir": true} {
		buf := make([]byte, 8)
		n, _ := unix.Getxattr(filepath.Join(dir, "root", path), "trusted.overlay.opaque", buf)
		if (n == 1) != want {
			t.Errorf("%s opaque %v, want %v", path, n == 1, want)
		}
	}
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(dir, "root", "b"), &st) != nil || !isWhiteout(&st) {
		t.Error("b is no whiteout")
	}
	if fmt.Sprint(implicit) != "[a ]" {
		t.Errorf("implicit %q", implicit)
	}
}

// What is listed after all is not implied; what is not counts as an entry.
func TestImplied(t *testing.T) {
	var implied []string
	o := ApplyOptions{Whiteouts: Delete, Implicit: func(p string) { implied = append(implied, p) }}
	if err := apply(t, t.TempDir(), archive(t, "f a/b/x = 1", "f c/y = 2", "d a", "f a/b/z = 3"), o); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(implied); got != "[a/b c ]" {
		t.Errorf("implied %s, want a/b, c and the root", got)
	}
	o.MaxFiles = 5
	if err := apply(t, t.TempDir(), archive(t, "f a/b/c/d/e/x = 1"), o); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one entry that makes five directories: %v, want ErrTooLarge", err)
	}
}

func FuzzApply(f *testing.F) {
	for kind := range byte(4) {
		f.Add(kind, archive(f, "d a", "f a/b = x", "l l = /etc", "f l/x = y", "h h = a/b"))
		f.Add(kind, archive(f, "f ../x = x", "f a/.wh..wh..opq", "f .wh.a", "f a/b/c = 1", "d a"))
	}
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		dir := t.TempDir()
		_, check := canary(t, dir)
		o := ApplyOptions{MaxSize: 1 << 20, MaxFiles: 100, IgnoreChown: true, Whiteouts: Whiteouts(kind % 3), Plain: kind%4 == 3}
		o.Implicit = func(string) {}
		apply(t, dir, data, o)
		check()
	})
}

// FuzzRoundTrip packs what was unpacked and unpacks it again: the same tree.
func FuzzRoundTrip(f *testing.F) {
	f.Add(archive(f, "d a", "f a/b = x", "l l = /etc", "h h = a/b", "p p", "x x = user.a=1"))
	f.Add(archive(f, "d a", "d a/b", "f a/b/c = "+strings.Repeat("0123456789", 500), "s s"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, second := t.TempDir(), t.TempDir()
		o := ApplyOptions{MaxSize: 1 << 20, MaxFiles: 100, IgnoreChown: true, Plain: true}
		if apply(t, first, data, o) != nil {
			return
		}
		root, err := os.Open(filepath.Join(first, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		var b bytes.Buffer
		if err := WriteTree(context.Background(), &b, root); err != nil {
			t.Fatalf("pack: %v", err)
		}
		o.MaxFiles *= 10 // directories that were implied are listed now
		if err := apply(t, second, b.Bytes(), o); err != nil {
			t.Fatalf("unpack what was packed: %v", err)
		}
		// The root itself is no entry of such an archive.
		_, was, _ := strings.Cut(tree(t, filepath.Join(first, "root")), "\n")
		if _, is, _ := strings.Cut(tree(t, filepath.Join(second, "root")), "\n"); is != was {
			t.Errorf("packed and unpacked:\n%s\nwas\n%s", is, was)
		}
	})
}
