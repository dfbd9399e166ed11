package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// A sumCache remembers the hashes of a context's files between builds: under
// device, inode, size and the time of the last change, which nobody can set.
// A file that was changed just before it was read may change again within the
// clock's tick, so it is not remembered.
type sumCache struct {
	file string

	mu      sync.Mutex
	known   map[string]string // as they were read; guarded by mu
	used    map[string]string // to be written; guarded by mu
	changed bool              // guarded by mu
}

// settled is how old a change must be to be the last one under its time.
const settled = 2 * time.Second

// stampOf names one state of a file.
func stampOf(st statT) string {
	return fmt.Sprintf("%x:%x:%x:%x.%x", st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec)
}

// sumsOf opens what is remembered of a directory.
func (b *building) sumsOf(dir string) *sumCache {
	h := sha256.Sum256([]byte(dir))
	c := &sumCache{file: filepath.Join(b.Dir, "sums", hex.EncodeToString(h[:16])), known: map[string]string{}, used: map[string]string{}}
	data, err := state.ReadFile(c.file)
	if err != nil {
		return c // nothing yet
	}
	in := bufio.NewScanner(bytes.NewReader(data))
	for in.Scan() {
		if stamp, sum, ok := strings.Cut(in.Text(), " "); ok && len(sum) == 64 {
			c.known[stamp] = sum
		}
	}
	return c
}

// get returns a hash that is remembered.
func (c *sumCache) get(stamp string) (string, bool) {
	if c == nil || stamp == "" {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sum, ok := c.known[stamp]
	if ok {
		c.used[stamp] = sum
	}
	return sum, ok
}

// put remembers one. changed is when the file was changed last.
func (c *sumCache) put(stamp, sum string, changed unix.Timespec) {
	if c == nil || stamp == "" || time.Since(time.Unix(changed.Sec, changed.Nsec)) < settled {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[stamp], c.changed = sum, true
}

// save writes what this build used. It is a cache: an error costs time only.
func (c *sumCache) save() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed || len(c.used) == 0 {
		return
	}
	var b bytes.Buffer
	for stamp, sum := range c.used {
		fmt.Fprintf(&b, "%s %s\n", stamp, sum)
	}
	dir := filepath.Dir(c.file)
	if err := mkdirPrivate(dir); err == nil {
		_ = state.WriteFile(dir, filepath.Base(c.file), b.Bytes(), 0o600, false)
	}
}
