package monitor

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func symlink(to, at string) error { return os.Symlink(to, at) }
func link(to, at string) error    { return os.Link(to, at) }
func mkfifo(at string) error      { return unix.Mkfifo(at, 0o600) }
