package build

import (
	"strings"
	"sync"
)

// tailSize is how much of a program's output is kept for its error.
const tailSize = 4 << 10

// A tailWriter keeps the end of what was written.
type tailWriter struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

func (t *tailWriter) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf = append(t.buf, p...); len(t.buf) > 2*tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
}

// lines are the last ones, at most twenty.
func (t *tailWriter) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := strings.Split(strings.TrimRight(string(t.buf), "\n"), "\n")
	if len(all) > 20 {
		all = all[len(all)-20:]
	}
	return all
}
