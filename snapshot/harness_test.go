package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hull/layer"
	"hull/oci"
)

func reg(name, text string, mode int64) (tar.Header, string) {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}, text
}

// A spec is a layer in lines: "d NAME", "f NAME = TEXT", "l NAME -> TARGET",
// "h NAME -> FILE", "c NAME" (a device), "p NAME" (a pipe).
func specTar(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		h := tar.Header{Name: rest, Mode: 0o755}
		text := ""
		switch kind {
		case "d":
			h.Typeflag = tar.TypeDir
		case "f":
			h.Name, text, _ = strings.Cut(rest, " = ")
			h, text = reg(h.Name, text, 0o644)
		case "l", "h":
			h.Typeflag = map[string]byte{"l": tar.TypeSymlink, "h": tar.TypeLink}[kind]
			h.Name, h.Linkname, _ = strings.Cut(rest, " -> ")
		case "c":
			h.Typeflag, h.Devmajor, h.Devminor, h.Mode = tar.TypeChar, 1, 3, 0o666
		case "p":
			h.Typeflag, h.Mode = tar.TypeFifo, 0o600
		default:
			t.Fatalf("line %q", line)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// treeText lists a tree as specTar's lines, sorted; it closes it.
func treeText(t testing.TB, tree *os.File, err error) []string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	root := fmt.Sprintf("/proc/self/fd/%d/", tree.Fd())
	var lines []string
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name := strings.TrimPrefix(p, root)
		switch {
		case d.IsDir():
			lines = append(lines, "d "+name)
		case d.Type() == 0:
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			lines = append(lines, "f "+name+" = "+string(text))
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			lines = append(lines, "l "+name+" -> "+to)
		case d.Type()&fs.ModeNamedPipe != 0:
			lines = append(lines, "p "+name)
		default:
			lines = append(lines, "c "+name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return lines
}

func same(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func changeText(t testing.TB, changes []layer.Change, err error) []string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range changes {
		out = append(out, c.Kind.String()+" "+c.Path)
	}
	return out
}

// write puts a file into an active snapshot, by its merged tree.
func inTree(t testing.TB, s *Store, name string, do func(root string) error) {
	t.Helper()
	tree, err := s.Tree(name)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := do(fmt.Sprintf("/proc/self/fd/%d", tree.Fd())); err != nil {
		t.Fatal(err)
	}
}

func prepare(t testing.TB, s *Store, name string, parent oci.Digest) {
	t.Helper()
	if _, err := s.Prepare(context.Background(), name, parent, PrepareOptions{}); err != nil {
		t.Fatal(err)
	}
}
