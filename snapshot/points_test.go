package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hull/oci"
)

// commitTar makes a layer of the store out of tar headers.
func commitTar(t *testing.T, s *Store, chain, parent oci.Digest, headers ...tar.Header) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	d, err := s.NewDraft(context.Background(), parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unpack(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(chain); err != nil {
		t.Fatal(err)
	}
}

func chainOf(digit string) oci.Digest { return oci.Digest("sha256:" + strings.Repeat(digit, 64)) }

func TestPoints(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	ctx := context.Background()
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	low, top := chainOf("1"), chainOf("2")
	commitTar(t, s, low, "",
		tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o751, Uid: 7, Gid: 8},
		tar.Header{Name: "proc/", Typeflag: tar.TypeDir, Mode: 0o555},
		tar.Header{Name: "gone", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "away/", Typeflag: tar.TypeDir, Mode: 0o755})
	commitTar(t, s, top, low,
		tar.Header{Name: ".wh.gone", Typeflag: tar.TypeReg},
		tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o751, Uid: 7, Gid: 8},
		tar.Header{Name: "etc/hosts", Typeflag: tar.TypeReg, Mode: 0o600},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/away"})
	points := Points{Files: []string{"/etc/hosts", "/etc/hostname", "/link/file", "/gone"}, Dirs: []string{"/proc", "/sys"}}
	mounts, err := s.Prepare(ctx, "one", top, PrepareOptions{Points: points})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(ctx, "two", top, PrepareOptions{Points: points}); err != nil {
		t.Fatal(err)
	}
	lower := strings.Split(strings.TrimPrefix(mounts[0].Options[0], "lowerdir="), ":")
	if len(lower) != 3 || !strings.Contains(lower[0], pointsMark) {
		t.Fatalf("lower directories %v, want one of points above two layers", lower)
	}
	for name, want := range map[string]bool{"etc/hostname": true, "etc/hosts": false, "sys": true, "proc": false, "away": false, "link": false, "gone": true} {
		if _, err := os.Lstat(filepath.Join(lower[0], name)); (err == nil) != want {
			t.Errorf("point %s: %v, wanted to be made: %v", name, err, want)
		}
	}
	tree, err := s.Tree("one")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	fi, err := os.Stat(filepath.Join("/proc/self/fd", strconv.Itoa(int(tree.Fd())), "etc"))
	if err != nil || fi.Mode().Perm() != 0o751 || !fi.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("etc of the merged tree is %v of %v (%v), not what the image says", fi.Mode(), fi.ModTime(), err)
	}
	if c, err := s.Changes(ctx, "one"); err != nil || len(c) != 0 {
		t.Errorf("a new snapshot has changes %v (%v)", c, err)
	}
	if all, err := s.List(); err != nil || len(all) != 4 {
		t.Errorf("List knows %d snapshots (%v), want 4: points are none", len(all), err)
	}
	tree.Close()
	for _, name := range []string{"one", "two"} {
		if err := s.Remove(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RemoveLayer(ctx, top); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "l", "*"+pointsMark+"*")); len(left) != 0 {
		t.Errorf("points stay when their parent is gone: %v", left)
	}
}

func TestPointsOfAnImageThatHasThem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	commitTar(t, s, chainOf("3"), "", tar.Header{Name: "proc/", Typeflag: tar.TypeDir, Mode: 0o555})
	for _, name := range []string{"one", "two"} { // the second finds what the first noted
		mounts, err := s.Prepare(context.Background(), name, chainOf("3"), PrepareOptions{Points: Points{Dirs: []string{"/proc"}}})
		if err != nil {
			t.Fatal(err)
		}
		if lower := mounts[0].Options[0]; strings.Contains(lower, pointsMark) {
			t.Errorf("snapshot %s lies on %s, though the image lacks nothing", name, lower)
		}
	}
}
