package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// place makes DIR/root, and DIR/canary beside it, which no test may change.
func place(t testing.TB) (root *os.File, dir string, check func()) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"canary/secret": "secret", "root/etc/passwd": "inside"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir, func() {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "canary/secret"))
		names, _ := os.ReadDir(filepath.Join(dir, "canary"))
		if err != nil || string(text) != "secret" || len(names) != 1 {
			t.Fatalf("the canary: %q, %v, %v", text, names, err)
		}
	}
}

// A model is a tree that the test knows: directories are "", links begin with
// "->", other texts are files.
type model map[string]string

func (m model) make(t testing.TB, dir string) {
	t.Helper()
	for path, what := range m {
		if what == "" {
			if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, what := range m {
		full := filepath.Join(dir, path)
		var err error
		if to, ok := strings.CutPrefix(what, "->"); ok {
			err = os.Symlink(to, full)
		} else if what != "" {
			err = os.WriteFile(full, []byte(what), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// resolve is what Open promises, said in the plainest way: the path that is
// opened, or false for an error. More than 40 links are one, as the kernel says.
func (m model) resolve(path string) (where string, ok bool, links int) {
	var at []string
	var walk func(rest string) bool
	walk = func(rest string) bool {
		if strings.HasPrefix(rest, "/") {
			at = nil
		}
		parts := strings.Split(rest, "/")
		for i, p := range parts {
			here := "/" + strings.Join(at, "/")
			if len(at) > 0 && m[here] != "" && (p != "" || i > 0) {
				return false // below a file; a slash behind one too
			}
			switch p {
			case "", ".":
				continue
			case "..":
				at = at[:max(len(at)-1, 0)]
				continue
			}
			next := strings.TrimSuffix(here, "/") + "/" + p
			what, ok := m[next]
			if !ok {
				return false
			}
			to, isLink := strings.CutPrefix(what, "->")
			if !isLink {
				at = append(at[:len(at):len(at)], p)
				continue
			}
			if links++; links > 40 || !walk(to) {
				return false
			}
		}
		return true
	}
	if !walk(path) {
		return "", false, links
	}
	return "/" + strings.Join(at, "/"), true, links
}

var testModel = model{
	"/a": "", "/a/b": "", "/a/b/file": "deep", "/file": "top", "/empty": "",
	"/abs": "->/a/b", "/up": "->../../../../etc", "/loop": "->loop", "/ring1": "->ring2", "/ring2": "->/ring1",
	"/a/back": "->..", "/a/b/root": "->/", "/dangling": "->/nowhere/x", "/tofile": "->a/b/file", "/dirslash": "->a/b/", "/a/self": "->.",
	"/etc": "", "/etc/passwd": "inside", "/chain": "->abs/root/up/passwd", "/fileslash": "->file/",
}

func checkOpen(t *testing.T, root *os.File, dir, path string) {
	t.Helper()
	want, ok, links := testModel.resolve(path)
	f, err := Open(root, path, unix.O_PATH, 0)
	if errors.Is(err, unix.ELOOP) && links > 20 {
		return // a walk that the kernel begins anew goes on counting
	}
	if (err == nil) != ok {
		t.Fatalf("Open(%q) = %v, the model says %q, %t", path, err, want, ok)
	}
	if err != nil {
		return
	}
	defer f.Close()
	var got, have unix.Stat_t
	if unix.Fstat(int(f.Fd()), &got) != nil || unix.Lstat(filepath.Join(dir, want), &have) != nil || got.Ino != have.Ino || got.Dev != have.Dev {
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		t.Fatalf("Open(%q) is %s, want %s", path, name, want)
	}
}

// modelRoot is a root that holds testModel.
func modelRoot(t testing.TB) (*os.File, string) {
	t.Helper()
	dir := t.TempDir()
	testModel.make(t, dir)
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

// UNP-09: every form of a path means inside what it means in a container.
func TestUNP09PathForms(t *testing.T) {
	root, dir := modelRoot(t)
	for _, path := range []string{
		"", ".", "/", "//", "..", "../..", "/..", "a", "a/", "a//b", "a/./b/.", "a/b/../b/file", "file", "file/", "file/.", "file/..", "file//",
		"abs", "abs/file", "abs/../b", "up", "up/passwd", "/up/../a", "loop", "loop/x", "ring1", "a/back/a/back", "a/b/root/file",
		"dangling", "dangling/..", "tofile", "tofile/", "dirslash", "dirslash/file", "a/self/self/b", "chain", "fileslash", "empty/..", "../../etc/passwd",
		"nothing", "nothing/..", "a/b/file/../x", strings.Repeat("a/back/", 30) + "file", strings.Repeat("../", 100) + "file", strings.Repeat("a/back/", 50) + "file",
	} {
		checkOpen(t, root, dir, path)
	}
}

func FuzzUNP09Open(f *testing.F) {
	for _, p := range []string{"a/b", "abs//../up/./passwd/", "chain", "a/b/root/a/back/file", "../x", "loop"} {
		f.Add(p)
	}
	root, dir := modelRoot(f)
	// Bytes are taken for pieces of a path, so that most of them mean something.
	pieces := []string{"/", "/", "..", ".", "a", "b", "file", "abs", "up", "loop", "back", "root", "dangling", "tofile", "dirslash", "self", "etc", "chain", "empty", "x"}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 300 {
			return
		}
		var path strings.Builder
		for i := range len(text) {
			path.WriteString(pieces[int(text[i])%len(pieces)])
		}
		checkOpen(t, root, dir, path.String())
		if !strings.ContainsRune(text, 0) {
			checkOpen(t, root, dir, text)
		}
	})
}

func TestOpenFlags(t *testing.T) {
	root, dir, check := place(t)
	f, err := Open(root, "etc/new", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o640|os.ModeSetgid)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "root/etc/new"), &st); err != nil || st.Mode&^0o022 != unix.S_IFREG|0o2640 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
	if flags, err := unix.FcntlInt(root.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("close-on-exec: %x, %v", flags, err)
	}
	os.Symlink(filepath.Join(dir, "canary/secret"), filepath.Join(dir, "root/out"))
	os.Symlink("/proc/self/fd/0", filepath.Join(dir, "root/magic"))
	for _, path := range []string{"out", "magic", "../canary/secret", filepath.Join(dir, "canary/secret")} {
		if f, err := Open(root, path, unix.O_RDWR, 0); err == nil {
			f.Close()
			t.Errorf("Open(%q) left the root", path)
		}
	}
	check()
}

// swap exchanges two names until stop is called.
func swap(a, b string) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	})
	return func() { close(end); wg.Wait() }
}

// racing calls do for a while.
func racing(t *testing.T, do func(i int)) {
	t.Helper()
	d := 300 * time.Millisecond
	if os.Getenv("HULL_RACES") == "full" {
		d = 20 * time.Second
	}
	end := time.Now().Add(d)
	for i := 0; time.Now().Before(end); i++ {
		do(i)
	}
}

// UNP-04, CP-02: a directory and a link to the outside change places while
// paths through them are opened, made and removed.
func TestUNP04SwappedParents(t *testing.T) {
	root, dir, check := place(t)
	in := func(name string) string { return filepath.Join(dir, "root", name) }
	if err := errors.Join(os.Mkdir(in("d"), 0o755), os.Symlink(filepath.Join(dir, "canary"), in("l")), os.Symlink("../canary", in("m")), os.WriteFile(in("d/secret"), []byte("mine"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []func(){swap(in("d"), in("l")), swap(in("l"), in("m"))} {
		defer stop()
	}
	opened := 0
	racing(t, func(i int) {
		f, err := Open(root, "d/secret", unix.O_RDWR, 0)
		if err == nil {
			text := make([]byte, 10)
			n, _ := f.Read(text)
			if string(text[:n]) != "mine" {
				t.Fatalf("read %q", text[:n])
			}
			opened++
			f.Close()
		}
		if f, err := Open(root, fmt.Sprintf("d/new%d", i%4), unix.O_CREAT|unix.O_WRONLY, 0o644); err == nil {
			f.WriteString("x")
			f.Close()
		}
		RemoveAll(root, fmt.Sprintf("d/new%d", (i+1)%4))
		if i%64 == 0 {
			check()
		}
	})
	check()
	if opened == 0 {
		t.Error("nothing was opened: there was no race")
	}
}

// STO-06: while a tree is removed its directories are replaced by links.
func TestSTO06RemoveRacesLinks(t *testing.T) {
	root, dir, check := place(t)
	in := func(name string) string { return filepath.Join(dir, "root", name) }
	if err := os.Symlink(filepath.Join(dir, "canary"), in("l")); err != nil {
		t.Fatal(err)
	}
	racing(t, func(i int) {
		if err := errors.Join(os.MkdirAll(in("t/a/b/c"), 0o755), os.WriteFile(in("t/a/b/c/secret"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		stop := swap([]string{in("t/a"), in("t/a/b"), in("t/a/b/c")}[i%3], in("l"))
		err := RemoveAll(root, "t")
		stop()
		check()
		if err != nil && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EXDEV) && !errors.Is(err, ErrMount) {
			t.Fatalf("RemoveAll = %v", err)
		}
		if err := RemoveAll(root, "t"); err != nil {
			t.Fatalf("afterwards: %v", err)
		}
		os.RemoveAll(in("l"))
		os.Symlink(filepath.Join(dir, "canary"), in("l"))
	})
	check()
}

// STO-06: links are removed, not followed; a mount is kept, and what is in it.
func TestSTO06LinksAndMounts(t *testing.T) {
	root, dir, check := place(t)
	in := func(name string) string { return filepath.Join(dir, "root", name) }
	deep := strings.Repeat("n/", 300)
	if err := errors.Join(os.MkdirAll(in("t/"+deep), 0o755), os.Symlink(filepath.Join(dir, "canary"), in("t/link")), os.Symlink("/", in("t/slash")),
		os.Link(filepath.Join(dir, "canary/secret"), in("t/hard"))); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(root, "t"); err != nil {
		t.Fatal(err)
	}
	check()
	if _, err := os.Lstat(in("t")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
	for _, path := range []string{"", ".", "..", "/", "a/..", "../canary", "./."} {
		if err := RemoveAll(root, path); err == nil && path != "a/.." {
			t.Errorf("RemoveAll(%q) succeeds", path)
		}
	}
	check()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REC} {
		if err := errors.Join(os.MkdirAll(in("t/m"), 0o755), unix.Mount(filepath.Join(dir, "canary"), in("t/m"), "", flags, "")); err != nil {
			t.Fatal(err)
		}
		err := RemoveAll(root, "t")
		check()
		if uerr := unix.Unmount(in("t/m"), 0); uerr != nil {
			t.Fatal(uerr)
		}
		if !errors.Is(err, ErrMount) {
			t.Errorf("RemoveAll with a mount = %v, want ErrMount", err)
		}
		if err := RemoveAll(root, "t"); err != nil {
			t.Error(err)
		}
	}
	// A file that is mounted on a file.
	if err := errors.Join(os.MkdirAll(in("t"), 0o755), os.WriteFile(in("t/f"), nil, 0o644), unix.Mount(filepath.Join(dir, "canary/secret"), in("t/f"), "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	err := RemoveAll(root, "t")
	check()
	unix.Unmount(in("t/f"), 0)
	if err != nil && !errors.Is(err, ErrMount) {
		t.Errorf("RemoveAll with a mounted file = %v", err)
	}
}
