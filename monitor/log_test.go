package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTestLog opens a log in dir and returns it with a function that reads it.
func openTestLog(t *testing.T, dir string, c Config) (*logWriter, func() string) {
	t.Helper()
	c.LogDriver, c.LogPath = LogK8sFile, filepath.Join(dir, "log")
	w, err := openLog(&c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.fd); unix.Close(w.dir) })
	return w, func() string {
		b, err := os.ReadFile(c.LogPath)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
}

// A writer begins a record of its own after what a killed one, or a power cut,
// left of another.
func TestF58HalfARecord(t *testing.T) {
	for _, left := range []string{"2026-01-02T03:04:05.0", "\x00\x00\x00"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "log"), []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		w, read := openTestLog(t, dir, Config{})
		w.write(FrameStdout, []byte("a\n"))
		if lines := strings.Split(read(), "\n"); len(lines) != 3 || lines[0] != left || !strings.HasSuffix(lines[1], " stdout F a") {
			t.Errorf("after %q the log is %q", left, read())
		}
	}
}

// Whatever becomes of the log's directory, its writer goes on.
func TestF59LogDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, read := openTestLog(t, dir, Config{LogMaxSize: 100, LogMaxFiles: 2})
	w.write(FrameStdout, []byte("a\n"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 10 { // it rotates
		w.write(FrameStdout, []byte("something that takes room\n"))
	}
	if got := read(); got != "" {
		t.Errorf("the log of a directory that is gone is %q", got)
	}
}

// What found no room is counted, and told once there is some.
func TestF59LogWithoutRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs a mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	w, read := openTestLog(t, dir, Config{})
	w.write(FrameStdout, []byte("first\n"))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the file system: %v", err)
	}
	long := strings.Repeat("x", 9999) + "\n"
	w.write(FrameStdout, []byte(long))
	w.write(FrameStdout, []byte(long))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.write(FrameStdout, []byte("last\n"))
	lines := strings.Split(strings.TrimSpace(read()), "\n")
	want := []string{"stdout F first", "stderr F hull: 20000 bytes of output were lost: the log could not be written", "stdout F last"}
	for i, line := range lines {
		if i >= len(want) || !strings.HasSuffix(line, want[i]) {
			t.Errorf("line %d of the log is %.100q", i, line)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}

// The search by eight bytes finds what one by one finds, at every place.
func TestPlainRun(t *testing.T) {
	for _, fill := range []byte{'a', ' ', '~', '!', '#', '[', ']', 0x7e} {
		for n := range 40 {
			s := bytes.Repeat([]byte{fill}, n)
			if got := plainRun(s); got != n {
				t.Fatalf("%d of %q: %d are plain", n, fill, got)
			}
			for at := range n {
				for c := range 256 {
					s[at] = byte(c)
					want := n
					if !plainByte(byte(c)) {
						want = at
					}
					if got := plainRun(s); got != want {
						t.Fatalf("%q: %d are plain, want %d", s, got, want)
					}
					if after := at + 1; after < n && want == at {
						s[after] = byte(c ^ 0x5a)
						if got := plainRun(s); got != want {
							t.Fatalf("%q: %d are plain, want %d", s, got, want)
						}
						s[after] = fill
					}
				}
				s[at] = fill
			}
		}
	}
}

// Every text comes back from a record of JSON; bytes that are no UTF-8 as what
// they are in Latin-1.
func FuzzAppendJSON(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\x00\x7f", "żółw и Ω 🐢", "\xff\xfe", "a\xc3", strings.Repeat("a\"b", 20)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		var want strings.Builder
		for rest := s; len(rest) > 0; {
			n := runeLen(rest)
			if n == 0 {
				want.WriteRune(rune(rest[0]))
				n = 1
			} else {
				want.Write(rest[:n])
			}
			rest = rest[n:]
		}
		var got string
		if err := json.Unmarshal(append(appendJSON([]byte{'"'}, s), '"'), &got); err != nil || got != want.String() {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	})
}
