package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// A kernel without lowerdir+ mounts a long list too, by mount(2).
func TestLongListWithoutAppend(t *testing.T) {
	s := open(t, t.TempDir(), "")
	var chain oci.Digest
	for i := range 127 {
		chain = addTar(t, s, chain, specTar(t, fmt.Sprintf("f f%03d = %d", i, i)))
	}
	name := strings.Repeat("0123456789abcdef", 4)
	prepare(t, s, name, chain)
	mounts, err := s.Mounts(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := overlayByConfig(mounts[0], false); !errors.Is(err, errLongLower) {
		t.Fatalf("by fsconfig: %v, want errLongLower", err)
	}
	view, err := s.ViewMounts(chain)
	if err != nil {
		t.Fatal(err)
	}
	for what, m := range map[string]oci.Mount{"snapshot": mounts[0], "layer": view[0]} {
		fd, err := s.overlayByMount(m)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		tree, err := reopen(fd)
		if err != nil {
			t.Fatal(err)
		}
		names, _ := tree.Readdirnames(-1)
		if len(names) != 127 {
			t.Errorf("%s: %d files, want 127", what, len(names))
		}
		err = os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/new", tree.Fd()), nil, 0o600)
		if (err == nil) != (what == "snapshot") {
			t.Errorf("%s: write: %v", what, err)
		}
		tree.Close()
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), s.dir) {
		t.Error("a mount is seen by this process")
	}
	// The mount can be attached as any other.
	fd, err := s.overlayByMount(view[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dir := t.TempDir()
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if _, err := os.Stat(filepath.Join(dir, "f126")); err != nil {
		t.Error(err)
	}
}

// A short list is one string on such a kernel.
func TestShortListWithoutAppend(t *testing.T) {
	s, err := Open(shortDir(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	base := addTar(t, s, "", specTar(t, "f a = a"))
	top := addTar(t, s, base, specTar(t, "f b = b"))
	m, err := s.ViewMounts(top)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := overlayByConfig(m[0], false)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := reopen(fd)
	same(t, "tree", treeText(t, tree, err), "f a = a", "f b = b")
}

// shortDir is a directory whose name leaves room for two layers in a string.
func shortDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestOverlayOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"root", Options{}, "index=off,metacopy=off,redirect_dir=off"},
		{"user", Options{Rootless: true}, "index=off,userxattr"},
		{"of the configuration", Options{MountOptions: []string{"nodev", "metacopy=on", "redirect_dir=on", "upperdir=/"}}, "nodev,index=off,metacopy=off,redirect_dir=off"},
	} {
		s, err := Open(t.TempDir(), c.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.extra(nil), ","); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestMountOptionsOfUser(t *testing.T) {
	open(t, t.TempDir(), "")
	s, err := Open(t.TempDir(), Options{MountOptions: []string{"nodev", "nosuid"}})
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, s, "c1", addTar(t, s, "", specTar(t, "f a = a")))
	tree, err := s.Tree("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(tree.Fd()), &st); err != nil || st.Flags&unix.ST_NODEV == 0 || st.Flags&unix.ST_NOSUID == 0 {
		t.Errorf("flags %x, %v, want nodev and nosuid", st.Flags, err)
	}
}

// What overlay cannot work on is refused before anything is stored.
func TestUnusableFileSystems(t *testing.T) {
	for _, c := range []struct {
		driver string
		magic  int64
		ok     bool
	}{
		{"overlay", magicNFS, false}, {"overlay", magicOverlay, false}, {"overlay", 0xef53, true}, {"vfs", magicNFS, true}, {"btrfs", 0xef53, false},
	} {
		dir := filepath.Join(t.TempDir(), "store")
		s, err := Open(dir, Options{Driver: c.driver, fileSystem: func(string) (int64, error) { return c.magic, nil }})
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.NewDraft(context.Background(), "")
		if (err == nil) != c.ok {
			t.Errorf("%s on %x: %v", c.driver, c.magic, err)
		}
		if err == nil {
			d.Abort()
			continue
		}
		var h interface{ Hint() string }
		if !errors.As(err, &h) || h.Hint() == "" {
			t.Errorf("no hint: %v", err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("%s on %x: the store holds %v", c.driver, c.magic, entries)
		}
	}
}

// A store that was made before there were drivers is overlay's, and its
// snapshots of then can be used.
func TestOldStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	base := addTar(t, s, "", specTar(t, "f a = a"))
	prepare(t, s, "c1", base)
	active := s.activeDir("c1")
	for name, text := range map[string]string{"lower": short(base), "options": "", "parent": string(base)} {
		if err := os.WriteFile(filepath.Join(active, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(active, "base")), os.Remove(filepath.Join(dir, driverFile))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Driver: "vfs"}); err == nil {
		t.Error("an old store is opened with vfs")
	}
	s = open(t, dir, "")
	tree, err := s.Tree("c1")
	same(t, "tree", treeText(t, tree, err), "f a = a")
	infos, err := s.List()
	if err != nil || !slices.Contains(infos, Info{Name: "c1", Parent: base}) {
		t.Errorf("List = %v, %v", infos, err)
	}
	if err := s.RemoveLayer(context.Background(), base); !errors.Is(err, ErrInUse) {
		t.Errorf("removal of its layer: %v", err)
	}
}
