package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
)

// TestDrivers is the contract of drivers: whoever uses a Store need not know
// which one it has.
func TestDrivers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, name := range Drivers() {
		t.Run(name, func(t *testing.T) {
			disk := diskFor(t, name)
			for _, c := range []struct {
				name string
				test func(t *testing.T, s *Store)
			}{
				{"life", contractLife}, {"layers", contractLayers}, {"files", contractFiles}, {"diff", contractDiff},
				{"commit", contractCommit}, {"owners", contractOwners}, {"many", contractMany}, {"remembered", contractRemembered},
			} {
				t.Run(c.name, func(t *testing.T) {
					dir, err := os.MkdirTemp(disk, "store")
					if err != nil {
						t.Fatal(err)
					}
					s, err := Open(dir, Options{Driver: name, Rootless: inUserNamespace()})
					if err != nil {
						t.Fatal(err)
					}
					c.test(t, s)
					if d, err := s.disk.End(s.dir); err == nil {
						d.Close()
					}
				})
			}
		})
	}
}

// TestDriversOfUsers is the contract for root of a user's namespace.
func TestDriversOfUsers(t *testing.T) {
	if os.Geteuid() != 0 || inUserNamespace() {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chown(dir, 100000, 100000), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDrivers$", "-test.v")
	cmd.Env = append(os.Environ(), userNamespaceEnv+"=1", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS: TestDrivers/overlay/"); n < 8 {
		t.Errorf("%d parts of the contract passed for overlay:\n%s", n, out)
	}
}

const userNamespaceEnv = "SNAPSHOT_TEST_IN_USER_NAMESPACE"

func inUserNamespace() bool { return os.Getenv(userNamespaceEnv) != "" }

// diskFor is a directory on a file system that the driver works on.
func diskFor(t *testing.T, driver string) string {
	dir := t.TempDir()
	if driver != "btrfs" {
		return dir
	}
	if inUserNamespace() {
		t.Skip("a user has no loop devices")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.btrfs", "-q", image}, {"mount", "-t", "btrfs", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no btrfs: %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount btrfs: %v: %s", err, out)
		}
	})
	return dir
}

// Prepare, view, remove: what is in use stays, what is gone is gone.
func contractLife(t *testing.T, s *Store) {
	ctx := context.Background()
	base := addTar(t, s, "", specTar(t, "d bin", "f bin/sh = sh"))
	top := addTar(t, s, base, specTar(t, "f new = 1"))
	prepare(t, s, "c1", top)
	if _, err := s.Prepare(ctx, "c1", top, PrepareOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second Prepare of a name: %v, want fs.ErrExist", err)
	}
	inTree(t, s, "c1", func(root string) error { return os.WriteFile(root+"/mine", []byte("m"), 0o644) })
	tree, err := s.Tree("c1")
	same(t, "snapshot", treeText(t, tree, err), "d bin", "f bin/sh = sh", "f mine = m", "f new = 1")
	tree, err = s.ViewTree(top)
	same(t, "layer", treeText(t, tree, err), "d bin", "f bin/sh = sh", "f new = 1")
	view, err := s.ViewTree(top)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/x", view.Fd()), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a view: %v, want EROFS", err)
	}
	view.Close()
	if err := s.RemoveLayer(ctx, top); !errors.Is(err, ErrInUse) {
		t.Errorf("removal of a layer with a snapshot above: %v", err)
	}
	if err := s.RemoveLayer(ctx, base); !errors.Is(err, ErrInUse) {
		t.Errorf("removal of a layer with a layer above: %v", err)
	}
	infos, err := s.List()
	if err != nil || len(infos) != 3 {
		t.Errorf("List = %v, %v", infos, err)
	}
	for _, remove := range []func() error{
		func() error { return s.Remove(ctx, "c1") }, func() error { return s.RemoveLayer(ctx, top) }, func() error { return s.RemoveLayer(ctx, base) },
	} {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Remove(ctx, "c1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the second Remove: %v", err)
	}
	for _, d := range []string{"l", "a", "t"} {
		if left, _ := os.ReadDir(filepath.Join(s.dir, d)); len(left) > 0 {
			t.Errorf("left in %s: %v", d, left)
		}
	}
	prepare(t, s, "empty", "")
	tree, err = s.Tree("empty")
	same(t, "an empty snapshot", treeText(t, tree, err))
}

// Whiteouts, opaque directories, and types that replace each other.
func contractLayers(t *testing.T, s *Store) {
	base := addTar(t, s, "", specTar(t, "d a", "f a/x = x", "f a/y = y", "d b", "f b/x = x", "f c = c", "l d -> a", "d e", "d e/f", "f e/f/g = g"))
	top := addTar(t, s, base, specTar(t, "f a/.wh.x = ", "f b/.wh..wh..opq = ", "f b/new = n", "f .wh.c = ", "d d", "f d/in = 1", "f e = file"))
	tree, err := s.ViewTree(top)
	same(t, "merged", treeText(t, tree, err), "d a", "f a/y = y", "d b", "f b/new = n", "d d", "f d/in = 1", "f e = file")
	above := addTar(t, s, top, specTar(t, "d c", "f c/again = 1", "f .wh.e = "))
	tree, err = s.ViewTree(above)
	same(t, "above", treeText(t, tree, err), "d a", "f a/y = y", "d b", "f b/new = n", "d c", "f c/again = 1", "d d", "f d/in = 1")
	// What the layer below has is untouched.
	tree, err = s.ViewTree(base)
	same(t, "base", treeText(t, tree, err), "d a", "f a/x = x", "f a/y = y", "d b", "f b/x = x", "f c = c", "l d -> a", "d e", "d e/f", "f e/f/g = g")
	if m, err := s.ViewPath(top, "/b"); err != nil {
		t.Error(err)
	} else if fd, err := s.detachedMount(m); err != nil {
		t.Error(err)
	} else {
		tree, err := reopen(fd)
		same(t, "a path of it", treeText(t, tree, err), "f new = n")
	}
	if _, err := s.ViewPath(top, "/c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is deleted: %v", err)
	}
}

// Every kind of file and everything that it has.
func contractFiles(t *testing.T, s *Store) {
	base := addTar(t, s, "", entries(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 5, Gid: 6},
		tar.Header{Name: "suid", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1000, Gid: 1001, Size: 1},
		tar.Header{Name: "cap", Typeflag: tar.TypeReg, Mode: 0o755, Size: 1, PAXRecords: map[string]string{
			"SCHILY.xattr.user.note": "hello", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
		tar.Header{Name: "one", Typeflag: tar.TypeReg, Mode: 0o600, Size: 1},
		tar.Header{Name: "two", Typeflag: tar.TypeLink, Linkname: "one"},
		tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 7, Devminor: 99},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o622},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/nowhere", Uid: 7},
		tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777},
	))
	prepare(t, s, "c1", base)
	inTree(t, s, "c1", func(root string) error {
		f, err := os.Create(root + "/sparse")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("end"), holeBefore)
		return err
	})
	// Once through a layer of a snapshot, and into another snapshot.
	chain := oci.FromBytes([]byte("files" + s.dir))
	if err := s.CommitActive(context.Background(), "c1", chain); err != nil {
		t.Fatal(err)
	}
	prepare(t, s, "c2", chain)
	inTree(t, s, "c2", func(root string) error { checkFiles(t, root); return nil })
}

const holeBefore = 8 << 20

// checkFiles looks at what contractFiles made.
func checkFiles(t *testing.T, root string) {
	t.Helper()
	var st, other unix.Stat_t
	for name, want := range map[string]string{
		"": "40711 5 6 0", "suid": "104755 1000 1001 0", "cap": "100755 0 0 0", "one": "100600 0 0 0", "dev": "60660 0 0 763",
		"pipe": "10622 0 0 0", "link": "120777 7 0 0", "tmp": "41777 0 0 0", "sparse": "100644 0 0 0",
	} {
		if name == "dev" && inUserNamespace() {
			continue // it is left out: a container gets its devices another way
		}
		if err := unix.Lstat(root+"/"+name, &st); err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprintf("%o %d %d %x", st.Mode, st.Uid, st.Gid, st.Rdev); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if err := unix.Lstat(root+"/sparse", &st); err != nil || st.Size != holeBefore+3 || st.Blocks*512 > holeBefore/2 {
		t.Errorf("the sparse file has %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	if unix.Lstat(root+"/one", &st) != nil || unix.Lstat(root+"/two", &other) != nil || st.Ino != other.Ino || st.Nlink != 2 {
		t.Errorf("the hard link: inodes %d and %d, %d links", st.Ino, other.Ino, st.Nlink)
	}
	value := make([]byte, 64)
	if n, err := unix.Getxattr(root+"/cap", "user.note", value); err != nil || string(value[:n]) != "hello" {
		t.Errorf("user.note: %q, %v", value[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(root+"/cap", "security.capability", value); err != nil || n < 20 {
		t.Errorf("security.capability: %d bytes, %v", n, err)
	}
}

// What changed above the parent, and between any two layers.
func contractDiff(t *testing.T, s *Store) {
	ctx := context.Background()
	base := addTar(t, s, "", specTar(t, "d etc", "f etc/passwd = p", "f etc/group = g", "d var", "d var/log", "f var/log/a = a", "f old = old"))
	prepare(t, s, "c1", base)
	changes, err := s.Changes(ctx, "c1")
	same(t, "untouched", changeText(t, changes, err))
	inTree(t, s, "c1", func(root string) error {
		return errors.Join(os.WriteFile(root+"/etc/passwd", []byte("longer"), 0o644), os.Remove(root+"/old"),
			os.RemoveAll(root+"/var/log"), os.MkdirAll(root+"/srv/deep", 0o755), os.WriteFile(root+"/srv/deep/f", []byte("12345"), 0o600))
	})
	changes, err = s.Changes(ctx, "c1")
	same(t, "changes", changeText(t, changes, err), "C /etc", "C /etc/passwd", "D /old", "A /srv", "A /srv/deep", "A /srv/deep/f", "C /var", "D /var/log")
	if size, _, err := s.Usage(ctx, "c1"); err != nil || size != 11 {
		t.Errorf("Usage = %d, %v, want 11", size, err)
	}
	var b bytes.Buffer
	if err := s.WriteDiff(ctx, "c1", &b); err != nil {
		t.Fatal(err)
	}
	tree, err := s.Tree("c1")
	want := treeText(t, tree, err)
	top := addTar(t, s, base, b.Bytes())
	tree, err = s.ViewTree(top)
	same(t, "the difference as a layer", treeText(t, tree, err), want...)
	if size, _, err := s.LayerUsage(ctx, top); err != nil || size != 11 {
		t.Errorf("LayerUsage = %d, %v, want 11", size, err)
	}
	other := addTar(t, s, "", specTar(t, "f old = old", "f else = 1"))
	changes, err = s.Diff(ctx, other, top)
	same(t, "layers that share nothing", changeText(t, changes, err),
		"D /else", "A /etc", "A /etc/group", "A /etc/passwd", "D /old", "A /srv", "A /srv/deep", "A /srv/deep/f", "A /var")
	changes, err = s.Diff(ctx, "", other)
	same(t, "a layer and nothing", changeText(t, changes, err), "A /else", "A /old")
}

// A snapshot becomes a layer, after some of its changes were taken back.
func contractCommit(t *testing.T, s *Store) {
	ctx := context.Background()
	base := addTar(t, s, "", specTar(t, "d etc", "f etc/a = a"))
	prepare(t, s, "c1", base)
	inTree(t, s, "c1", func(root string) error {
		return errors.Join(os.WriteFile(root+"/etc/hosts", nil, 0o644), os.WriteFile(root+"/keep", []byte("k"), 0o644))
	})
	err := s.Revert("c1", []layer.Change{{Kind: layer.Modified, Path: "/etc"}, {Kind: layer.Added, Path: "/etc/hosts"}})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(ctx, "c1")
	same(t, "after Revert", changeText(t, changes, err), "A /keep")
	chain := oci.FromBytes([]byte("commit" + s.dir))
	if err := s.CommitActive(ctx, "c1", chain); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	tree, err := s.ViewTree(chain)
	same(t, "the layer", treeText(t, tree, err), "d etc", "f etc/a = a", "f keep = k")
	if err := s.RemoveLayer(ctx, base); !errors.Is(err, ErrInUse) {
		t.Errorf("removal of the parent: %v", err)
	}
}

// A copy with other ids, as a user's containers with maps of their own need it.
func contractOwners(t *testing.T, s *Store) {
	base := addTar(t, s, "", entries(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 3, Gid: 4}))
	derived, err := s.Derive(context.Background(), base, "shift", func(w io.Writer, tree *os.File) error {
		_, err := w.Write(entries(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 10003, Gid: 10004}))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, s, "c1", derived)
	inTree(t, s, "c1", func(root string) error {
		var st unix.Stat_t
		err := unix.Lstat(root+"/f", &st)
		if st.Mode != 0o104711 || st.Uid != 10003 || st.Gid != 10004 {
			t.Errorf("the copy: mode %o, owner %d:%d", st.Mode, st.Uid, st.Gid)
		}
		return err
	})
	if err := s.Remove(context.Background(), "c1"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveLayer(context.Background(), base); err != nil {
		t.Error(err)
	}
	if s.Exists(derived) {
		t.Error("what was derived outlived its layer")
	}
}

// A stack as high as images may have.
func contractMany(t *testing.T, s *Store) {
	layers := 127
	if !s.Layered() {
		layers = 20 // each is a copy of all below
	}
	var chain oci.Digest
	for i := range layers {
		chain = addTar(t, s, chain, specTar(t, fmt.Sprintf("f f%03d = %d", i, i), "f last = "+fmt.Sprint(i)))
	}
	prepare(t, s, strings.Repeat("0123456789abcdef", 4), chain)
	tree, err := s.Tree(strings.Repeat("0123456789abcdef", 4))
	got := treeText(t, tree, err)
	if len(got) != layers+1 || got[layers] != fmt.Sprintf("f last = %d", layers-1) {
		t.Errorf("%d files, the last %q", len(got), got[len(got)-1])
	}
}

// The store knows its driver, and says so to who wants another.
func contractRemembered(t *testing.T, s *Store) {
	addTar(t, s, "", specTar(t, "f a = a"))
	again, err := Open(s.dir, Options{})
	if err != nil || again.Driver() != s.Driver() {
		t.Fatalf("opened again: %v, %v", again, err)
	}
	for _, other := range Drivers() {
		if _, err := Open(filepath.Join(t.TempDir(), "new"), Options{Driver: other, Also: []string{s.dir}}); (err == nil) != (other == s.Driver()) {
			t.Errorf("beside a store with %s: %v", other, err)
		}
		_, err := Open(s.dir, Options{Driver: other})
		if (err == nil) != (other == s.Driver()) {
			t.Errorf("opened with %s: %v", other, err)
		}
		var h interface{ Hint() string }
		if err != nil && (!errors.As(err, &h) || !strings.Contains(err.Error(), s.Driver())) {
			t.Errorf("the error does not help: %v", err)
		}
	}
}

// Where the file system can, vfs copies share their blocks.
func TestVFSSharesBlocks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	disk := diskFor(t, "btrfs")
	s, err := Open(filepath.Join(disk, "store"), Options{Driver: "vfs"})
	if err != nil {
		t.Fatal(err)
	}
	const size = 32 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16) // nothing that could be left out
	}
	base := addLayer(t, s, "", "f", string(data))
	used := func() int64 {
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(disk, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks-st.Bfree) * int64(st.Bsize)
	}
	before := used()
	for i := range 4 {
		prepare(t, s, fmt.Sprint("c", i), base)
	}
	if more := used() - before; more > size {
		t.Errorf("four copies of %d bytes use %d more", size, more)
	}
}
