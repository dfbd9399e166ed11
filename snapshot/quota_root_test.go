package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// quotaDisk is a file system that has project quotas.
func quotaDisk(t *testing.T, kind string) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 320<<20)); err != nil {
		t.Fatal(err)
	}
	mkfs := []string{"mkfs.xfs", "-q", image}
	if kind == "ext4" {
		mkfs = []string{"mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", image}
	}
	for _, args := range [][]string{mkfs, {"mount", "-t", kind, "-o", "loop,prjquota", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no %s with project quota: %v: %v: %s", kind, args, err, out)
		}
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	return dir
}

// A snapshot with a size holds no more than that, others hold what they like,
// and a limit ends with its snapshot.
func TestSize(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			open(t, t.TempDir(), "") // needs root
			dir := quotaDisk(t, kind)
			s := open(t, filepath.Join(dir, "store"), "")
			base := addTar(t, s, "", specTar(t, "d etc", "f etc/a = "+strings.Repeat("a", 5000)))
			for round := range 2 {
				if _, err := s.Prepare(ctx, "small", base, PrepareOptions{Size: 10 << 20}); err != nil {
					t.Fatal(err)
				}
				prepare(t, s, "free", base)
				inTree(t, s, "small", func(root string) error {
					err := os.WriteFile(root+"/f", make([]byte, 20<<20), 0o600)
					if !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
						t.Errorf("20 MB in a snapshot of 10: %v", err)
					}
					if err := os.Remove(root + "/f"); err != nil {
						t.Error(err)
					}
					// What is copied up is made in the work directory, which counts too.
					if err := os.WriteFile(root+"/etc/a", []byte("changed"), 0o644); err != nil {
						t.Error(err)
					}
					return os.WriteFile(root+"/g", make([]byte, 5<<20), 0o600)
				})
				inTree(t, s, "free", func(root string) error { return os.WriteFile(root+"/f", make([]byte, 20<<20), 0o600) })
				id := ProjectOf(s.activeDir("small"))
				if id == 0 || ProjectOf(s.activeDir("free")) != 0 {
					t.Errorf("projects %d and %d", id, ProjectOf(s.activeDir("free")))
				}
				for _, name := range []string{"small", "free"} {
					if err := s.Remove(ctx, name); err != nil {
						t.Error(err)
					}
				}
				d, err := os.Open(s.dir)
				if err != nil {
					t.Fatal(err)
				}
				var q diskQuota
				if err := quotactl(d, getQuota, id, &q); err == nil && q.blockHard != 0 {
					t.Errorf("round %d: the limit outlives the snapshot: %d", round, q.blockHard)
				}
				d.Close()
			}
		})
	}
}

// Where there are no quotas, the size is refused with a hint.
func TestSizeWithoutQuota(t *testing.T) {
	s := open(t, t.TempDir(), "")
	base := addTar(t, s, "", specTar(t, "f a = a"))
	_, err := s.Prepare(context.Background(), "c1", base, PrepareOptions{Size: 1 << 20})
	if err == nil {
		t.Skip("this file system has project quotas")
	}
	var h interface{ Hint() string }
	if !errors.As(err, &h) || !strings.Contains(fmt.Sprint(err), "quota") {
		t.Errorf("Prepare = %v, want a hint", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "a")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
