package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readLog is the text of what a log's files hold, by lines.
func readLog(t *testing.T, o LogsOptions, files map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	l := logReader{o: o, parse: parseK8s, f: func(line LogLine) error { got = append(got, string(line.Text)); return nil }}
	if o.Tail >= 0 {
		l.kept = []LogLine{}
	}
	file, err := l.readAll(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if file != nil {
		file.Close()
	}
	if err := l.tellGap(); err != nil {
		t.Fatal(err)
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	return got
}

// What is damaged in a log hides nothing else, and is told in its place.
func TestF58DamagedLog(t *testing.T) {
	const when = "2026-01-02T03:04:05.000000000Z stdout F "
	record := func(text string) string { return when + text + "\n" }
	zeroes := strings.Repeat("\x00", 100)
	for name, c := range map[string]struct {
		tail  int
		files map[string]string
		want  []string
	}{
		"zeroes before a record": {-1, map[string]string{"log": record("a") + zeroes + record("b")}, []string{"a", "hull: 100 bytes of the log are damaged", "b"}},
		"zeroes as a line":       {-1, map[string]string{"log": record("a") + zeroes + "\n" + record("b")}, []string{"a", "hull: 101 bytes of the log are damaged", "b"}},
		"half a record":          {-1, map[string]string{"log": record("a") + when[:10] + "\n" + record("b")}, []string{"a", "hull: 11 bytes of the log are damaged", "b"}},
		"zeroes at the end":      {-1, map[string]string{"log": record("a") + zeroes + "\n"}, []string{"a", "hull: 101 bytes of the log are damaged"}},
		"the last line":          {1, map[string]string{"log": record("a") + zeroes + record("b")}, []string{"b"}},
		"a long line":            {-1, map[string]string{"log": record("a") + strings.Repeat("x", maxLogLine+1000) + "\n" + record("b")}, []string{"a", "hull: 1049577 bytes of the log are damaged", "b"}},
		"a rotation cut off":     {-1, map[string]string{"log.3": record("a"), "log.1": record("b"), "log": record("c")}, []string{"a", "b", "c"}},
		"no log in the end":      {-1, map[string]string{"log.1": record("a")}, []string{"a"}},
	} {
		if got := readLog(t, LogsOptions{Tail: c.tail}, c.files); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
