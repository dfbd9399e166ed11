package lsm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const testLabel = "system_u:object_r:container_file_t:s0:c1,c2"

func TestRelabel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if Enabled() {
		t.Skip("the files' labels are real ones here")
	}
	dir := t.TempDir()
	t.Setenv("HOME", filepath.Join(dir, "home"))
	outside, tree := filepath.Join(dir, "outside"), filepath.Join(dir, "tree")
	for _, d := range []string{outside, filepath.Join(tree, "a/b/c"), filepath.Join(dir, "home")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{outside + "/f", tree + "/a/f", tree + "/a/b/c/f"} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for to, name := range map[string]string{outside: tree + "/a/dir", outside + "/f": tree + "/a/b/file", "/etc": tree + "/etc"} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Set(outside, "u:o:none:s0"); errors.Is(err, ErrUnsupported) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	if err := Relabel(tree, testLabel); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"", "/a", "/a/f", "/a/b", "/a/b/c", "/a/b/c/f", "/a/dir", "/a/b/file"} {
		if got, err := Get(tree + f); err != nil || got != testLabel {
			t.Errorf("%s has %q, %v", tree+f, got, err)
		}
	}
	if got, _ := Get(outside); got != "u:o:none:s0" {
		t.Errorf("a directory that a link leads to has %q", got)
	}
	if got, err := Get(outside + "/f"); err == nil {
		t.Errorf("a file that a link leads to has %q", got)
	}
	// What the host needs is refused, by whatever name, and is not touched.
	for _, p := range []string{"/", "/etc", "/usr", "/home", "/var/lib", "/home/someone", filepath.Join(dir, "home"), tree + "/etc", "/usr/../etc"} {
		if p == "/home/someone" {
			if !refused(p) {
				t.Errorf("%s is taken", p)
			}
			continue
		}
		if err := Relabel(p, testLabel); err == nil {
			t.Errorf("%s was labelled", p)
		}
	}
	if got, _ := Get("/etc"); got == testLabel {
		t.Error("/etc was labelled")
	}
}
