package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// F72: /tmp is full, or cannot be written to, or runs no programs, and TMPDIR
// names nothing or is not set: nothing of what hull does depends on it.
func TestF72Tmp(t *testing.T) {
	m := newMachine(t, "")
	if !strings.HasPrefix(m.dir, "/tmp/") || !strings.HasPrefix(m.hull, "/tmp/") {
		t.Skip("the test's own directories are not below /tmp")
	}
	m.ok("save", "-o", filepath.Join(m.dir, "saved.tar"), "localhost/fx:1")
	file := filepath.Join(m.dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{
		{"run", "--rm", "--network", "none", "-v", "/anonymous", "localhost/fx:1", "true"},
		{"load", "-q", "-i", filepath.Join(m.dir, "saved.tar")}, {"import", "-q", filepath.Join(m.dir, "image.tar"), "localhost/fx:2"},
		{"create", "--name", "c", "--network", "none", "localhost/fx:1", "true"}, {"cp", file, "c:/file"}, {"commit", "-q", "c", "localhost/fx:3"}, {"start", "-a", "c"},
		{"export", "-o", filepath.Join(m.dir, "exported.tar"), "c"}, {"save", "-q", "-o", filepath.Join(m.dir, "again.tar"), "localhost/fx:3"}, {"diff", "c"}, {"rm", "c"},
		{"volume", "create", "v"}, {"volume", "import", "v", filepath.Join(m.dir, "exported.tar")}, {"volume", "export", "-o", filepath.Join(m.dir, "v.tar"), "v"}, {"volume", "rm", "v"},
		{"rmi", "localhost/fx:2", "localhost/fx:3"}, {"system", "check"},
	}
	for _, c := range []struct {
		name, options, then string
		env                 []string
	}{
		{"full", "size=64k", "dd if=/dev/zero of=/tmp/full bs=64k 2>/dev/null", nil},
		{"read-only", "size=64k", "mount -o remount,ro /tmp", nil},
		{"noexec", "noexec,nodev,nosuid,size=64k", "true", nil},
		{"TMPDIR names nothing", "size=64k", "mount -o remount,ro /tmp", []string{"TMPDIR=/nonexistent"}},
	} {
		// In mounts of its own, with what the test has below /tmp in its place.
		script := `set -e; mount --rbind /tmp /mnt; mount -t tmpfs -o ` + c.options + ` tmp /tmp
			for d in "$1" "$2"; do mkdir -p "$d"; mount --rbind "/mnt${d#/tmp}" "$d"; done
			` + c.then + ` || true
			shift 2; exec "$@"`
		for _, args := range commands {
			cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh", m.dir, filepath.Dir(m.hull), m.hull}, append(m.globals(), args...)...)...)
			cmd.Env = append(slices.DeleteFunc(slices.Clone(m.env), func(v string) bool { return strings.HasPrefix(v, "TMPDIR=") }), c.env...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Run(); err != nil || errs.Len() > 0 {
				t.Errorf("/tmp is %s: hull %q: %v: %s", c.name, args, err, errs.String())
			}
		}
	}
}
