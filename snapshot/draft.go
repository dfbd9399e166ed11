package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// A Draft is a layer that is being unpacked. It has no name before Commit.
type Draft struct {
	s      *Store
	parent oci.Digest
	dir    string
	done   bool

	implied []string // directories that the layer does not list
}

// untouched is the mode of a draft's root until a layer says another.
const untouched = 0o1500

// NewDraft begins a layer above parent ("" for the lowest). With a driver that is not Parallel, parent must exist.
func (s *Store) NewDraft(ctx context.Context, parent oci.Digest) (*Draft, error) {
	dir, err := s.temp()
	if err != nil {
		return nil, fmt.Errorf("begin layer: %w", err)
	}
	d := &Draft{s: s, parent: parent, dir: dir}
	if err = s.disk.Begin(s.dir); err == nil {
		err = d.create(ctx)
	}
	if err != nil {
		d.Abort()
		return nil, fmt.Errorf("begin layer: %w", err)
	}
	return d, nil
}

// create makes the draft's files: those of the parent, where the driver has them so.
func (d *Draft) create(ctx context.Context) error {
	files, below := filepath.Join(d.dir, "d"), ""
	if d.parent != "" && !d.s.d.layered() {
		l, err := d.s.lock(ctx, false)
		if err != nil {
			return err
		}
		defer l.Release()
		if _, err := d.s.lower(d.parent); err != nil {
			return fmt.Errorf("parent %s: %w", d.parent, err)
		}
		below = filepath.Join(d.s.layerDir(d.parent), "d")
	}
	return d.s.d.create(files, below)
}

// Commit gives the draft its chain ID; its parent must exist by now. One that exists already is no error.
// It is on disk after the next Sync.
func (d *Draft) Commit(chain oci.Digest) error {
	err := d.settleImplied()
	if err == nil {
		err = d.s.commit(context.Background(), d.dir, chain, d.parent)
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", chain, err)
	}
	d.done = true
	return nil
}

// commit makes the directory dir, which holds d, the layer chain. When that
// exists already, dir is removed.
func (s *Store) commit(ctx context.Context, dir string, chain, parent oci.Digest) error {
	if err := chain.Validate(); err != nil {
		return err
	}
	// What is in the way is of no use: this one is whole.
	name := short(chain)
	useless := func() bool { return s.isStale(name) || s.isBroken(name) }
	if useless() {
		if err := s.drop(ctx, name, useless); err != nil {
			return err
		}
	}
	l, err := s.lock(ctx, false)
	if err != nil {
		return err
	}
	defer l.Release()
	if s.Exists(chain) {
		return s.removeTree(dir)
	}
	lower := short(chain)
	above := ""
	if parent != "" {
		below, err := s.lower(parent)
		if err != nil {
			return fmt.Errorf("parent %s: %w", parent, err)
		}
		lower += ":" + below
		above = filepath.Join(s.layerDir(parent), "d")
	}
	if err := inheritRoot(filepath.Join(dir, "d"), above); err != nil {
		return err
	}
	for name, text := range map[string]string{"chain": string(chain), "lower": lower, "parent": string(parent)} {
		if err := state.WriteFile(dir, name, []byte(text), 0o600, false); err != nil {
			return err
		}
	}
	text, err := s.mark(dir)
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(s.dir, "l", short(chain))); err != nil {
		if s.Exists(chain) { // another was quicker
			return s.removeTree(dir)
		}
		return err
	}
	s.note(short(chain), text)
	return nil
}

// inheritRoot gives a root that its layer did not mention the owner and mode
// of the one below: the merged tree shows the topmost.
func inheritRoot(root, below string) error {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return err
	}
	if st.Mode&0o7777 != untouched {
		return nil
	}
	mode := uint32(0o755)
	if below != "" {
		var b unix.Stat_t
		if err := unix.Stat(below, &b); err != nil {
			return err
		}
		mode = b.Mode & 0o7777
		if err := unix.Chown(root, int(b.Uid), int(b.Gid)); err != nil {
			return err
		}
	}
	return unix.Chmod(root, mode)
}

// Abort removes the draft; after Commit it does nothing.
func (d *Draft) Abort() error {
	if d.done {
		return nil
	}
	d.done = true
	return d.s.removeTree(d.dir)
}
