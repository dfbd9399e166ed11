package state

import (
	"os"
	"sync"
)

// A DiskWatch holds a directory open from before the first write to its file
// system until what was written is synced: the kernel tells of a write that
// failed, once, who had a file open at that time. The zero value watches
// nothing; several goroutines may use it.
type DiskWatch struct {
	mu  sync.Mutex
	dir *os.File
}

// Begin opens dir, unless a watch has begun already.
func (w *DiskWatch) Begin(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dir != nil {
		return nil
	}
	d, err := os.Open(dir)
	if err == nil {
		w.dir = d
	}
	return err
}

// End ends the watch and returns the directory, to be synced and closed; dir is
// opened where no watch had begun. The next write begins another.
func (w *DiskWatch) End(dir string) (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.dir; d != nil {
		w.dir = nil
		return d, nil
	}
	return os.Open(dir)
}
