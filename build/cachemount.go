package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"

	"hull/engine"
	"hull/inroot"
	"hull/layer"
	"hull/oci"
	"hull/state"
)

// cache mounts a directory that outlives the build. What is in it is no part of
// the step's key.
//
//	DIR/caches/NAME/data    its files
//	DIR/caches/NAME/id      its id, for people
//	DIR/caches/NAME/lock    held by who uses it: alone (locked, private) or with others
func (m *mounts) cache(st *stage, x *instructions.Mount, target string) error {
	id := x.CacheID
	if id == "" {
		id = path.Clean(target)
	}
	if climbs(x.Source) {
		return fmt.Errorf("source %s leads out of the cache", x.Source)
	}
	m.keys = append(m.keys, []any{"cache", id, target, x.ReadOnly, x.From, x.Source})
	m.later = append(m.later, func(ctx context.Context) error {
		dir, err := m.claimCache(ctx, st, x, id)
		if err != nil {
			return err
		}
		option := "rw"
		if x.ReadOnly {
			option = "ro"
		}
		data := filepath.Join(dir, "data")
		if part := clean(x.Source); x.From == "" && part != "." {
			return m.cachePart(x, data, part, oci.Mount{Type: "bind", Destination: target, Options: []string{"bind", option, "rprivate"}})
		}
		m.extra = append(m.extra, engine.Mount{Type: "bind", Source: data, Destination: target, Options: []string{option, "z"}})
		return nil
	})
	return nil
}

// cachePart mounts a directory of a cache, which is made if need be. Another
// step may change the way to it at any time, so it is opened, and what is
// mounted is what was opened (BLD-09, BLD-10).
func (m *mounts) cachePart(x *instructions.Mount, data, part string, v oci.Mount) error {
	root, err := os.Open(data)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := openOrMake(root, part, x)
	if err != nil {
		return err
	}
	m.releases = append(m.releases, func() { dir.Close() })
	v.Source = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	if m.open == nil {
		m.open = map[string]*os.File{}
	}
	m.open[v.Source] = dir
	m.views = append(m.views, v)
	return nil
}

// openOrMake opens a directory below root; what it lacks is made as x says.
func openOrMake(root *os.File, dir string, x *instructions.Mount) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	f, err := inroot.Open(root, dir, flags, 0)
	if !errors.Is(err, fs.ErrNotExist) || dir == "." {
		return f, err
	}
	above, err := openOrMake(root, path.Dir(dir), x)
	if err != nil {
		return nil, err
	}
	defer above.Close()
	if err := unix.Mkdirat(int(above.Fd()), path.Base(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	if f, err = inroot.Open(above, path.Base(dir), flags|unix.O_NOFOLLOW, 0); err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chown(int(number(x.UID, 0)), int(number(x.GID, 0))), f.Chmod(os.FileMode(number(x.Mode, 0o755)))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// claimCache makes the directory if need be, and locks it as asked.
func (m *mounts) claimCache(ctx context.Context, st *stage, x *instructions.Mount, id string) (string, error) {
	h := sha256.Sum256([]byte(id))
	name := hex.EncodeToString(h[:16])
	base := filepath.Join(st.b.Dir, "caches")
	for i := 0; ; i++ {
		dir := filepath.Join(base, name)
		if i > 0 {
			dir += "-" + strconv.Itoa(i)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("make cache %s: %w", id, err)
		}
		var l *state.Lock
		var err error
		switch x.CacheSharing {
		case instructions.MountSharingLocked:
			l, err = state.Acquire(ctx, filepath.Join(dir, "lock"))
		case instructions.MountSharingPrivate:
			var ok bool
			if l, ok, err = state.TryAcquire(filepath.Join(dir, "lock")); err == nil && !ok {
				continue // somebody has it: the next of that id
			}
		default:
			l, err = state.AcquireShared(ctx, filepath.Join(dir, "lock"))
		}
		if errors.Is(err, fs.ErrNotExist) {
			i-- // it was pruned just now
			continue
		}
		if err != nil {
			return "", fmt.Errorf("lock cache %s: %w", id, err)
		}
		m.releases = append(m.releases, l.Release)
		now := time.Now()
		_ = os.Chtimes(dir, now, now) // when it was used last, for prune
		st.b.usedCache(id, dir)
		return dir, m.fillCache(ctx, st, x, dir, id)
	}
}

// fillCache makes a new cache's directory, with the content that from= names.
func (m *mounts) fillCache(ctx context.Context, st *stage, x *instructions.Mount, dir, id string) error {
	data := filepath.Join(dir, "data")
	if _, err := os.Lstat(data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := state.WriteFile(dir, "id", []byte(id), 0o600, false); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(dir, "new-")
	if err != nil {
		return err
	}
	if err := st.b.fetchMount(ctx, id, draft); err != nil {
		return err
	}
	if x.From != "" {
		if err := st.seed(ctx, x, draft); err != nil {
			return err
		}
	}
	if err := os.Chown(draft, int(number(x.UID, 0)), int(number(x.GID, 0))); err != nil {
		return err
	}
	if err := os.Chmod(draft, os.FileMode(number(x.Mode, 0o755))); err != nil {
		return err
	}
	// A rename would take the place of an empty directory, which may be another
	// step's that has it mounted already.
	err = unix.Renameat2(unix.AT_FDCWD, draft, unix.AT_FDCWD, data, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		return removeAll(draft) // another was quicker
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: draft, New: data, Err: err}
	}
	return nil
}

// seed copies what a cache begins with.
func (st *stage) seed(ctx context.Context, x *instructions.Mount, dir string) error {
	t, err := st.b.treeOf(ctx, st.in, x.From)
	if err != nil {
		return err
	}
	w := walker{t: t, c: &copying{word: "RUN"}}
	real, err := t.resolve(x.Source, true)
	if err != nil {
		return err
	}
	if _, err := w.add(ctx, real, "", path.Base(real), true); err != nil {
		return err
	}
	p := &placing{st: st, c: w.c, view: &tree{owned: true}, made: map[string]*placed{}, real: map[string]string{}}
	if err := p.place("/", w.out); err != nil {
		return err
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return pipeTar(p.writeTo, func(r reader) error { return layer.Apply(ctx, root, r, layer.ApplyOptions{}) })
}

// usedCache notes a cache mount for the caches of others.
func (b *building) usedCache(id, dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.caches[id] = dir
}
