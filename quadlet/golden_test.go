package quadlet

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Each archive is the files of a unit directory and, as want, what the
// generator prints of them. A comment of "user" makes it a user's.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			last := len(a.Files) - 1
			for _, f := range a.Files[:last] {
				if to, ok := strings.CutPrefix(string(f.Data), "link "); ok {
					write(t, dir, f.Name, strings.TrimSpace(to), true)
				} else {
					write(t, dir, f.Name, string(f.Data), false)
				}
			}
			got := dryRun(dir, strings.HasPrefix(string(a.Comment), "user"))
			if *update {
				a.Files[last].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(a.Files[last].Data); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func write(t *testing.T, dir, name, text string, link bool) {
	t.Helper()
	path := filepath.Join(dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil && link {
		err = os.Symlink(text, path)
	} else if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dryRun is what the generator prints, with the directory called /units.
func dryRun(dir string, user bool) string {
	var out bytes.Buffer
	err := Generator{
		Options: Options{Program: "/usr/bin/hull", User: user}, Search: Search{User: user, Dirs: dir}, Name: "test",
		DryRun: true, Stdout: &out, Log: func(s string) { out.WriteString(s + "\n") },
	}.Run()
	if err != nil {
		out.WriteString("Errors:\n" + err.Error() + "\n")
	}
	return strings.ReplaceAll(out.String(), dir, "/units")
}
