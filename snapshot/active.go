package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// PrepareOptions for Prepare.
type PrepareOptions struct {
	Volatile bool  // its content need not survive a power cut
	Size     int64 // quota in bytes; 0 none. A file system that has none returns an error
	Points   Points
}

// Prepare makes a writable snapshot above parent ("" is an empty one). fs.ErrNotExist: the parent is not there.
// It returns the mounts that make it a root file system, as Mounts does.
func (s *Store) Prepare(ctx context.Context, name string, parent oci.Digest, o PrepareOptions) ([]oci.Mount, error) {
	if !validName(name) {
		return nil, fmt.Errorf("prepare snapshot %q: not a name of one", name)
	}
	if o.Size != 0 && !s.d.layered() {
		return nil, fmt.Errorf("prepare snapshot %s: size=: driver %s has no limits", name, s.name)
	}
	l, err := s.lock(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
	}
	defer l.Release()
	a := activeInfo{volatile: o.Volatile}
	below := ""
	if parent != "" {
		if a.lower, err = s.lower(parent); err != nil {
			return nil, fmt.Errorf("prepare snapshot %s: parent %s: %w", name, parent, err)
		}
		below = filepath.Join(s.layerDir(parent), "d")
		if s.d.layered() {
			between, err := s.points(parent, o.Points)
			if err != nil {
				return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
			}
			if between != "" {
				a.lower = between + ":" + a.lower
			}
		}
	}
	dir := s.activeDir(name)
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.ensure(); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
	}
	if o.Size != 0 {
		err = LimitDirectory(dir, name, Limit{Bytes: o.Size})
	}
	if err == nil {
		err = s.fillActive(dir, below, a)
	}
	if c, is := s.d.(*copies); err == nil && is && c.bytes && below != "" && !o.Volatile {
		err = syncDisk(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, errors.Join(err, s.removeTree(dir)))
	}
	return s.mounts(dir, a), nil
}

// syncDisk waits until the disk has all that was written to the file system of dir.
func syncDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}

// fillActive makes what is in the directory of an active snapshot.
func (s *Store) fillActive(dir, below string, a activeInfo) error {
	upper := filepath.Join(dir, "u")
	if err := s.d.create(upper, below); err != nil {
		return err
	}
	if err := inheritRoot(upper, below); err != nil {
		return err
	}
	if s.d.layered() {
		if err := os.Mkdir(filepath.Join(dir, "w"), 0o700); err != nil {
			return err
		}
	}
	return os.Symlink(a.text(), filepath.Join(dir, "base"))
}

// An activeInfo says what an active snapshot stands on. On the disk it is the
// text of a symbolic link, for the reason that a layer's mark is one: a file
// would have to be synced, or could be empty after a power cut, and then the
// snapshot would seem to stand on nothing.
type activeInfo struct {
	lower    string // the layers' names, the top first
	volatile bool
}

const nothing = "-"

func (a activeInfo) text() string {
	top, _, _ := strings.Cut(a.lower, ":")
	if top == "" {
		top = nothing
	}
	if a.volatile {
		top += ",volatile"
	}
	return top
}

// readActive reads what a snapshot stands on. fs.ErrNotExist: there is none of
// that name, or a layer is missing.
func (s *Store) readActive(dir string) (activeInfo, error) {
	text, err := os.Readlink(filepath.Join(dir, "base"))
	if errors.Is(err, fs.ErrNotExist) {
		a, err := readOldActive(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = &hintError{fmt.Errorf("it is not in the store: %w", fs.ErrNotExist), "if a power cut took it, remove the container and make it again"}
		}
		return a, err
	}
	if err != nil {
		return activeInfo{}, err
	}
	top, options, _ := strings.Cut(text, ",")
	a := activeInfo{volatile: options == "volatile"}
	if top == nothing {
		return a, nil
	}
	layer := topOf(top)
	if s.isStale(layer) {
		chain, _ := s.chainOf(layer)
		return a, &staleError{chain}
	}
	below, err := state.ReadFile(filepath.Join(s.layerNamed(layer), "lower"))
	if err != nil {
		return a, err
	}
	a.lower = string(below)
	if top != layer {
		a.lower = top + ":" + a.lower
	}
	return a, nil
}

// readOldActive reads three files, which there were before the link.
func readOldActive(dir string) (activeInfo, error) {
	lower, err := state.ReadFile(filepath.Join(dir, "lower"))
	if err != nil {
		return activeInfo{}, err
	}
	options, err := state.ReadFile(filepath.Join(dir, "options"))
	return activeInfo{lower: string(lower), volatile: string(options) == "volatile"}, err
}

// parentOf is the layer that an active snapshot stands on, "" for none.
func (s *Store) parentOf(dir string) (oci.Digest, error) {
	text, err := os.Readlink(filepath.Join(dir, "base"))
	if errors.Is(err, fs.ErrNotExist) {
		old, err := state.ReadFile(filepath.Join(dir, "parent"))
		return oci.Digest(old), err
	}
	if err != nil {
		return "", err
	}
	if top, _, _ := strings.Cut(text, ","); top != nothing {
		return s.chainOf(topOf(top))
	}
	return "", nil
}

// chainOf is the chain ID of the layer with that name.
func (s *Store) chainOf(name string) (oci.Digest, error) {
	chain, err := state.ReadFile(filepath.Join(s.layerNamed(name), "chain"))
	return oci.Digest(chain), err
}

// mounts are those of an active snapshot.
func (s *Store) mounts(dir string, a activeInfo) []oci.Mount {
	options := ""
	if a.volatile {
		options = "volatile"
	}
	return []oci.Mount{s.d.active(dir, a.lower, options)}
}

// Mounts returns the mounts of an active snapshot: one oci.Mount, overlay with options
// lowerdir=A:B:C,upperdir=…,workdir=… or a bind of a directory.
func (s *Store) Mounts(name string) ([]oci.Mount, error) {
	if !validName(name) {
		return nil, fmt.Errorf("mount snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	dir := s.activeDir(name)
	a, err := s.readActive(dir)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", name, err)
	}
	return s.mounts(dir, a), nil
}

// ViewMounts returns the read-only mounts of a committed layer.
func (s *Store) ViewMounts(chain oci.Digest) ([]oci.Mount, error) {
	if err := chain.Validate(); err != nil {
		return nil, fmt.Errorf("mount layer: %w", err)
	}
	lower, err := s.lower(chain)
	if err != nil {
		return nil, fmt.Errorf("mount layer %s: %w", chain, err)
	}
	return []oci.Mount{s.d.view(lower)}, nil
}

// Tree returns the merged tree of an active snapshot as a detached mount: a directory, opened, that no path leads to.
// Closing it unmounts it.
func (s *Store) Tree(name string) (*os.File, error) {
	m, err := s.Mounts(name)
	if err != nil {
		return nil, err
	}
	return s.detached(m[0])
}

// ViewTree is Tree of a committed layer, read-only.
func (s *Store) ViewTree(chain oci.Digest) (*os.File, error) {
	m, err := s.ViewMounts(chain)
	if err != nil {
		return nil, err
	}
	return s.detached(m[0])
}

// AttachView mounts a committed layer read-only on a directory, until somebody
// unmounts it.
func (s *Store) AttachView(chain oci.Digest, dir string) error {
	m, err := s.ViewMounts(chain)
	if err != nil {
		return err
	}
	return s.attach(m[0], dir)
}

// Attach mounts an active snapshot on a directory, until somebody unmounts it.
// It may be mounted elsewhere as well: both mounts have one writable layer. An
// overlay gets options besides those of the store.
func (s *Store) Attach(name, dir string, options ...string) error {
	m, err := s.Mounts(name)
	if err != nil {
		return err
	}
	if m[0].Type == "overlay" {
		m[0].Options = append(slices.Clone(m[0].Options), options...)
	}
	return s.attach(m[0], dir)
}

func (s *Store) attach(m oci.Mount, dir string) error {
	fd, err := s.detachedMount(m)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount to %s: %w", dir, err)
	}
	return nil
}
