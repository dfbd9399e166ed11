package tracer

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// The program that is traced is this one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "traced" {
		os.Stdout.WriteString("traced\n")
		_, err := os.Open("/no/such/file")
		if err == nil {
			os.Exit(1)
		}
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// lockedBuffer takes the program's errors and the trace.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// writer hides that a buffer can read for itself, which it would do unlocked.
type writer struct{ io.Writer }

func TestTrace(t *testing.T) {
	var out bytes.Buffer
	lines := new(lockedBuffer)
	code := Main([]string{"strace", "-e", "trace=write,openat,execve", os.Args[0], "traced"}, &out, writer{lines})
	if strings.Contains(lines.String(), "operation not permitted") {
		t.Skip("ptrace is not allowed here")
	}
	if code != 7 || out.String() != "traced\n" {
		t.Errorf("exit code %d, output %q, trace:\n%s", code, out.String(), lines.String())
	}
	for _, want := range []string{`write(1, "traced\n", 7) = 7`, `openat(AT_FDCWD, "/no/such/file"`, "= -1 ENOENT (no such file or directory)", "+++ exited with 7 +++"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("no %q in\n%s", want, lines.String())
		}
	}
	lines.Reset()
	if code := Main([]string{"strace", "-c", os.Args[0], "traced"}, &out, writer{lines}); code != 7 || !strings.Contains(lines.String(), "openat") {
		t.Errorf("-c: exit code %d\n%s", code, lines.String())
	}
	if code := Main([]string{"strace"}, &out, writer{lines}); code != 2 {
		t.Errorf("without arguments: exit code %d", code)
	}
}
