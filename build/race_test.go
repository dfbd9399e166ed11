package build_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestChangedWhileCopied: a file that changes under a build either fails it or
// is copied whole; the cache never has one content under the key of another.
func TestChangedWhileCopied(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nCOPY f /f\nRUN cat /f > /g\n"})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := byte(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			data := make([]byte, 1<<20)
			for j := range data {
				data[j] = 'a' + i%26
			}
			_ = os.WriteFile(filepath.Join(dir, "f"), data, 0o644)
			time.Sleep(time.Millisecond)
		}
	}()
	for range 8 {
		_, _ = h.try("build", "-q", dir) // may fail: the file changes
	}
	close(stop)
	<-done
	for _, c := range []string{"a", "k", "z"} {
		data := make([]byte, 1<<20)
		for j := range data {
			data[j] = c[0]
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		id := h.do(t, "build", "-q", dir)
		if got := h.do(t, "run", "--rm", id, "sh", "-c", "tr -d "+c+" < /g | wc -c; wc -c < /g"); got != "0\n1048576" {
			t.Errorf("content %q: %s", c, got)
		}
	}
}
