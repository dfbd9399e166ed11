package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/layer"
	"hull/oci"
	"hull/state"
)

// ErrInUse reports a layer that others stand on.
var ErrInUse = errors.New("layer is in use")

// Options open a Store.
type Options struct {
	// Driver is one of Drivers, or "" for that of the store. A store that was
	// made with another is not opened.
	Driver string
	// DefaultDriver says which driver a new store gets without Driver; nil, and
	// an empty answer, are overlay.
	DefaultDriver func() (string, error)
	// Rootless says that this process is root in a user's namespace only.
	Rootless bool
	// MountOptions are added to the mounts of containers (storage-opt mountopt=).
	MountOptions []string
	// MaxLayerSize and MaxLayerFiles bound what one layer may unpack to, in bytes
	// and entries; 0 is a limit that no real layer meets, below 0 is none.
	MaxLayerSize, MaxLayerFiles int64
	// IgnoreChown gives every file of a layer to the caller.
	IgnoreChown bool
	// Also are the directories of further stores, whose layers are only read.
	Also []string
	// BootID names the time since the last boot; "" is what the kernel says.
	BootID string

	fileSystem func(dir string) (int64, error) // fileSystemOf, but for tests
}

// A Store keeps committed snapshots, named by chain ID, and active ones, named by whoever prepared them
// (a container's ID). Any number of processes may use it.
type Store struct {
	dir  string
	o    Options
	name string // of the driver
	d    driver

	mu       sync.Mutex
	unsynced map[string]string // marks of layers seen or made, by directory; guarded by mu
	disk     state.DiskWatch   // of dir
	leave    bool              // see Leave; guarded by mu, as is
	left     []string          // what was left to another
}

// Open opens the store in dir. It makes nothing until something is stored.
func Open(dir string, o Options) (*Store, error) {
	if o.fileSystem == nil {
		o.fileSystem = fileSystemOf
	}
	s := &Store{dir: dir, o: o}
	err := s.chooseDriver()
	if err == nil {
		err = s.checkAlso()
	}
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	return s, nil
}

// Driver returns the name of the driver.
func (s *Store) Driver() string { return s.name }

// Layered reports that a layer's directory holds only what it changes above
// those below.
func (s *Store) Layered() bool { return s.d.layered() }

// Parallel reports whether a draft can be filled before its parent is committed.
func (s *Store) Parallel() bool { return s.d.layered() }

func (s *Store) whiteouts() layer.Whiteouts { return s.d.whiteouts() }

func short(chain oci.Digest) string { return chain.Hex()[:16] }

func (s *Store) layerDir(chain oci.Digest) string { return s.layerNamed(short(chain)) }

// layerNamed is where a layer is, or would be made: one that is not here may be
// in another store.
func (s *Store) layerNamed(name string) string {
	own := filepath.Join(s.dir, "l", name)
	if len(s.o.Also) == 0 {
		return own
	}
	if _, err := os.Lstat(own); err == nil {
		return own
	}
	for _, dir := range s.o.Also {
		path := filepath.Join(dir, "l", name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return own
}

func (s *Store) activeDir(name string) string { return filepath.Join(s.dir, "a", name) }

// Exists reports whether the layer of that chain ID is there whole.
func (s *Store) Exists(chain oci.Digest) bool { return s.look(chain) == whole }

// validName accepts what containers are named by: it becomes a directory.
func validName(name string) bool {
	if name == "" || len(name) > 128 || name[0] == '.' || name[0] == '-' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

var drafts atomic.Uint64

// tempName is a new name below t that says whose it is.
func (s *Store) tempName() string {
	self := state.Self()
	return filepath.Join(s.dir, "t", fmt.Sprintf("%d-%d-%d", self.Pid, self.Start, drafts.Add(1)))
}

// temp makes a directory that belongs to this process.
func (s *Store) temp() (string, error) {
	dir := s.tempName()
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.ensure(); err != nil {
			return "", err
		}
		err = os.Mkdir(dir, 0o700)
	}
	return dir, err
}

// lock holds removal of layers off (shared), or everybody else (exclusive).
func (s *Store) lock(ctx context.Context, exclusive bool) (*state.Lock, error) {
	if exclusive {
		return state.Acquire(ctx, filepath.Join(s.dir, "lock"))
	}
	return state.AcquireShared(ctx, filepath.Join(s.dir, "lock"))
}

// removeTree removes a directory that holds what the driver made.
func (s *Store) removeTree(dir string) error {
	for _, name := range []string{"d", "u", "l/d", "a/u"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		s.d.destroy(path)
		if !s.d.layered() { // a subvolume is removed by itself: nothing can be moved out of it
			if err := removeTree(path); err != nil {
				return err
			}
		}
	}
	return removeTree(dir)
}

func removeTree(dir string) error {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	err = inroot.RemoveAll(parent, filepath.Base(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lower is the list of a layer and what is below it, the top first.
func (s *Store) lower(chain oci.Digest) (string, error) {
	if s.look(chain) != whole {
		return "", s.missing(chain)
	}
	text, err := state.ReadFile(filepath.Join(s.layerDir(chain), "lower"))
	return string(text), err
}

// isLink reports whether path is a symbolic link.
func isLink(path string) bool {
	_, err := os.Readlink(path)
	return err == nil
}

// An Info describes one snapshot in List.
type Info struct {
	Name   string     // of an active one
	Chain  oci.Digest // of a committed one
	Parent oci.Digest
}

// List returns all snapshots.
func (s *Store) List() ([]Info, error) {
	var out []Info
	for _, kind := range []string{"l", "a"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		for _, e := range entries {
			dir := filepath.Join(s.dir, kind, e.Name())
			if kind == "a" {
				parent, err := s.parentOf(dir)
				if err == nil || errors.Is(err, fs.ErrNotExist) && isLink(filepath.Join(dir, "base")) {
					out = append(out, Info{Name: e.Name(), Parent: parent})
				}
				continue // else it is being made or removed
			}
			parent, err := state.ReadFile(filepath.Join(dir, "parent"))
			if err != nil {
				continue
			}
			i := Info{Parent: oci.Digest(parent)}
			if chain, err := state.ReadFile(filepath.Join(dir, "chain")); err == nil {
				i.Chain = oci.Digest(chain)
			} else {
				continue
			}
			out = append(out, i)
		}
	}
	return out, nil
}

// RemoveLayer removes a committed layer that nothing stands on (else ErrInUse).
func (s *Store) RemoveLayer(ctx context.Context, chain oci.Digest) error {
	l, err := s.lock(ctx, true)
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", chain, err)
	}
	dir, err := s.detach(chain)
	l.Release()
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", chain, err)
	}
	return errors.Join(s.removeTree(dir), s.removeDerived(ctx, chain))
}

// detach takes a layer's name away, with the lock held.
func (s *Store) detach(chain oci.Digest) (string, error) {
	if !s.Exists(chain) || s.layerDir(chain) != filepath.Join(s.dir, "l", short(chain)) {
		return "", fs.ErrNotExist
	}
	all, err := s.List()
	if err != nil {
		return "", err
	}
	for _, i := range all {
		if i.Parent == chain {
			return "", ErrInUse
		}
	}
	dir, err := s.temp()
	if err == nil {
		err = s.detachPoints(chain, dir)
	}
	if err == nil {
		err = os.Rename(s.layerDir(chain), filepath.Join(dir, "l"))
	}
	if noRoom(err) {
		err = errors.Join(s.dropPoints(chain), s.dropInPlace(short(chain)))
	}
	return dir, err
}

// noRoom reports an error of a disk, or of a quota, that takes nothing more. A
// file system that copies what it changes has then no room for another name of
// what is there, but can still remove.
func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// dropInPlace removes a layer, with the lock held, where it cannot be moved out
// of sight before. What makes it one goes first.
func (s *Store) dropInPlace(name string) error {
	dir := filepath.Join(s.dir, "l", name)
	if err := os.Remove(filepath.Join(dir, "chain")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.removeTree(dir)
}

// removedPrefix begins the names of active snapshots that are being removed.
const removedPrefix = "removed-"

// Has reports whether an active snapshot of that name is there.
func (s *Store) Has(name string) bool {
	_, err := os.Lstat(s.activeDir(name))
	return err == nil
}

// Remove removes an active snapshot; fs.ErrNotExist when it is not there. One
// whose removal was cut off, or failed, is there no longer, and Remove goes on
// with it. After Leave its files may go later than its name.
func (s *Store) Remove(ctx context.Context, name string) error {
	if !validName(name) {
		return fmt.Errorf("remove snapshot %q: not a name of one: %w", name, fs.ErrNotExist)
	}
	dir := filepath.Join(s.dir, "t", removedPrefix+name)
	err := os.Rename(s.activeDir(name), dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) { // of another of that name
		if err = s.removeTree(dir); err == nil {
			err = os.Rename(s.activeDir(name), dir)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(dir); lerr == nil {
			err = nil
		}
	}
	if noRoom(err) {
		dir = s.activeDir(name)
		err = s.removeTree(dir)
	}
	if err != nil {
		return fmt.Errorf("remove snapshot %s: %w", name, err)
	}
	project := ProjectOf(dir)
	if project == 0 && s.leaves(dir) {
		return nil
	}
	if err := s.removeTree(dir); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", name, err)
	}
	_ = Unlimit(s.dir, project) // a limit that stays is on nothing
	return nil
}

// Leave lets Remove return when a snapshot is out of everybody's sight, which
// is one rename. Its files, which may be many, are left to somebody else, who
// hears of them by Left; should he not come to it, Collect does.
func (s *Store) Leave(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = on
}

// Left returns the directories that Remove left since the last call.
func (s *Store) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.left
	s.left = nil
	return left
}

// leaves notes dir as left, where that is wanted and a walk removes it.
func (s *Store) leaves(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave && s.d.layered() {
		s.left = append(s.left, dir)
		return true
	}
	return false
}

// CollectRemoved ends removals that were cut off, or left to a process that was killed.
func (s *Store) CollectRemoved() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "t"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("collect snapshots: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removedPrefix) { // whoever is at it too does not mind
			errs = append(errs, s.removeTree(filepath.Join(s.dir, "t", e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Collect removes drafts and half-removed snapshots whose owner is dead, and
// layers that a power cut may have damaged.
func (s *Store) Collect(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "t"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect snapshots: %w", err)
	}
	errs := []error{s.collectStale(ctx)}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removedPrefix) { // whoever is at it too does not mind
			errs = append(errs, s.removeTree(filepath.Join(s.dir, "t", e.Name())))
			continue
		}
		w := strings.Split(e.Name(), "-")
		if len(w) != 3 {
			continue
		}
		pid, _ := strconv.Atoi(w[0])
		start, _ := strconv.ParseUint(w[1], 10, 64)
		if !(state.ProcessID{Pid: pid, Start: start}).Alive() {
			errs = append(errs, s.removeTree(filepath.Join(s.dir, "t", e.Name())))
		}
	}
	return errors.Join(errs...)
}
