package power

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Power cuts of a file system that loses what was not synced: F01 to F10 by
// another model of a disk than TestBlocks, with the driver vfs.
func TestFiles(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace: the kernel does not tell a FUSE file system of syncfs")
	}
	s := newScene(t)
	expected := s.expected("vfs")
	random := seed(t)
	l := newLazy(t)
	traced := *s
	traced.prefix = []string{strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=syncfs", "-e", "signal=none", "-a", "1", "-A", "-o", l.calls}
	at := store{filepath.Join(l.dir, "0", "root"), filepath.Join(s.dir, "run-files"), "vfs"}
	spans := traced.record(at, l.position)
	first, last := spans[0].begin, l.position()
	syncs := 0
	l.mu.Lock()
	for _, op := range l.log {
		if op.kind.isSync() {
			syncs++
		}
	}
	l.mu.Unlock()
	t.Logf("%d changes, %d of them syncs", last-first, syncs)
	failures := 0
	for i := range cuts() {
		where, share := first+random.IntN(last-first+1), []float64{0, 0.5, 1, random.Float64()}[i%4]
		if i%2 == 0 { // right after a command has said that it has done it
			where = spans[random.IntN(len(spans))].end
		}
		l.mu.Lock()
		tree := cut(l.log[:where], share, random)
		l.mu.Unlock()
		dir := l.add(tree)
		n, begun := done(spans, where)
		what := fmt.Sprintf("cut %d at %d with %.0f %% of what was not synced", i, where-first, share*100)
		boot := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		seen, err := s.observe(look{Boot: boot, Root: filepath.Join(dir, "root"), Run: t.TempDir(), Driver: "vfs"})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			failures++
		} else if !s.judge(what, seen, expected, n, begun) {
			failures++
			if keep := os.Getenv("HULL_POWER_KEEP"); keep != "" {
				exec.Command("cp", "-a", dir, filepath.Join(keep, fmt.Sprint("cut", i))).Run()
			}
		}
		l.drop(dir)
	}
	t.Logf("files: cuts tried %d, failures %d", cuts(), failures)
}
