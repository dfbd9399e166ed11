// Package blob keeps content under its digest: layers as they were pulled,
// manifests and configurations, each a file
//
//	ROOT/sha256/HEX            whole and verified
//	ROOT/partial/HEX           a download that was cut off, to be resumed
//	ROOT/partial/HEX.lock
//	ROOT/sha256/HEX.unsynced   says that the disk may not have all of it yet
//
// Content is hashed while it streams in and gets its name only when the digest
// is right, so what has a name is good unless the disk broke it; Verify looks.
// A blob is not synced by itself: a pull commits many and calls Sync once,
// before it publishes the record that refers to them.
//
// A partial survives the process that wrote it. The next Writer for the digest
// hashes what is there and goes on from its Offset, which a registry client
// asks for by Range. Partials are a cache: the old ones go (see Tidy).
package blob

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// ErrDigest reports content that is not what its digest says.
var ErrDigest = errors.New("content does not match its digest")

// ErrSize reports content that is longer or shorter than was announced.
var ErrSize = errors.New("content does not have the announced size")

// A Store is a directory of blobs. Any number of processes may use it at once.
type Store struct {
	// Also are the roots of further stores, which are only read: what this one
	// lacks is looked for there.
	Also []string

	root string
	boot string // the time since the last boot, by name

	mu       sync.Mutex
	unsynced map[oci.Digest]bool // blobs seen or made that have a mark; guarded by mu
	disk     state.DiskWatch     // of the root
}

// Open returns the store in the directory root, which is made with mode 0700
// when it is not there.
func Open(root string) (*Store, error) {
	for _, d := range []string{"sha256", "partial"} {
		path := filepath.Join(root, d)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	return &Store{root: root, boot: "boot-" + state.BootID()}, nil
}

// Path returns where the blob d is, or would be.
func (s *Store) Path(d oci.Digest) string { return filepath.Join(s.root, d.Algorithm(), d.Hex()) }

// find is Path, or where another store has the blob that this one lacks.
func (s *Store) find(d oci.Digest) string {
	own := s.Path(d)
	if len(s.Also) == 0 {
		return own
	}
	if _, err := os.Lstat(own); err == nil {
		return own
	}
	for _, root := range s.Also {
		path := filepath.Join(root, d.Algorithm(), d.Hex())
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return own
}

// Open opens a blob for reading. The error of one that is not there satisfies
// errors.Is(err, fs.ErrNotExist).
func (s *Store) Open(d oci.Digest) (*os.File, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	if err := s.settle(d, false); err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	f, err := os.OpenFile(s.find(d), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return f, nil
}

// Read returns a small blob whole: a manifest, an index or a config. More than
// oci.MaxManifestSize is an error.
func (s *Store) Read(d oci.Digest) ([]byte, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if int64(len(data)) > oci.MaxManifestSize {
		return nil, fmt.Errorf("read blob %s: it is larger than %d bytes", d, oci.MaxManifestSize)
	}
	if d.Algorithm() == "sha256" && oci.FromBytes(data) != d {
		return nil, fmt.Errorf("read blob %s: %w", d, ErrDigest)
	}
	return data, nil
}

// Stat returns the size of a blob in bytes.
func (s *Store) Stat(d oci.Digest) (int64, error) { return s.stat(d, false) }

func (s *Store) stat(d oci.Digest, locked bool) (int64, error) {
	err := d.Validate()
	if err == nil {
		err = s.settle(d, locked)
	}
	if err != nil {
		return 0, fmt.Errorf("look up blob: %w", err)
	}
	fi, err := os.Lstat(s.find(d))
	if err != nil {
		return 0, fmt.Errorf("look up blob %s: %w", d, err)
	}
	return fi.Size(), nil
}

// Remove removes a blob; one that is not there is no error.
func (s *Store) Remove(d oci.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("remove blob: %w", err)
	}
	if err := os.Remove(s.Path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob %s: %w", d, err)
	}
	_ = os.Remove(s.markPath(d)) // one that stays is for no blob
	return nil
}

// Walk calls f for each blob, in no order, until f fails.
func (s *Store) Walk(f func(d oci.Digest, size int64) error) error {
	for _, alg := range []string{"sha256", "sha512"} {
		entries, err := state.ReadDir(filepath.Join(s.root, alg))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, e := range entries {
			d := oci.Digest(alg + ":" + e.Name())
			fi, err := e.Info()
			if err != nil || d.Validate() != nil {
				continue // removed meanwhile, or no blob's name
			}
			if err := f(d, fi.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Verify reads the whole blob and compares it with its digest.
func (s *Store) Verify(ctx context.Context, d oci.Digest) error {
	f, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := d.Hash()
	if err := hashAll(ctx, h, f); err != nil {
		return fmt.Errorf("verify blob %s: %w", d, err)
	}
	if sumDigest(d.Algorithm(), h) != d {
		return fmt.Errorf("verify blob %s: %w", d, ErrDigest)
	}
	return nil
}

// Put stores data, synced, and returns its digest.
func (s *Store) Put(data []byte) (oci.Digest, error) {
	d := oci.FromBytes(data)
	if size, err := s.Stat(d); err == nil && size == int64(len(data)) {
		return d, nil
	}
	if err := state.WriteFile(filepath.Join(s.root, "sha256"), d.Hex(), data, 0o600, true); err != nil {
		return "", fmt.Errorf("store blob %s: %w", d, err)
	}
	return d, nil
}

// Tidy removes partials that nobody has touched since before, and returns the
// bytes it freed. Those that somebody writes are left alone; what killed
// writers left otherwise goes at once.
func (s *Store) Tidy(before time.Time) (freed int64, err error) {
	for _, alg := range []string{"sha256", "sha512"} {
		if err := state.CleanTemp(filepath.Join(s.root, alg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("tidy blobs: %w", err)
		}
	}
	dir := filepath.Join(s.root, "partial")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("tidy partial blobs: %w", err)
	}
	for _, e := range entries {
		if of, is := strings.CutSuffix(e.Name(), ".lock"); is {
			s.tidyLock(filepath.Join(dir, of))
			continue
		}
		if deadAnonymous(e.Name()) { // nobody can resume it
			if fi, err := e.Info(); err == nil && os.Remove(filepath.Join(dir, e.Name())) == nil {
				freed += fi.Size()
			}
			continue
		}
		fi, err := e.Info()
		if err != nil || fi.ModTime().After(before) {
			continue
		}
		lock, ok, err := state.TryAcquire(filepath.Join(dir, e.Name()+".lock"))
		if err != nil || !ok {
			continue
		}
		if os.Remove(filepath.Join(dir, e.Name())) == nil {
			freed += fi.Size()
		}
		lock.Remove()
	}
	return freed, nil
}

// deadAnonymous reports a partial without a digest whose writer is dead.
func deadAnonymous(name string) bool {
	rest, is := strings.CutPrefix(name, anonymousPrefix)
	text, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(text)
	return is && err == nil && unix.Kill(pid, 0) == unix.ESRCH
}

// tidyLock removes the lock of a partial that is not there.
func (s *Store) tidyLock(partial string) {
	lock, ok, err := state.TryAcquire(partial + ".lock")
	if err != nil || !ok {
		return
	}
	if _, err := os.Lstat(partial); errors.Is(err, fs.ErrNotExist) {
		lock.Remove()
	}
	lock.Release()
}

func sumDigest(alg string, h hash.Hash) oci.Digest {
	return oci.Digest(fmt.Sprintf("%s:%x", alg, h.Sum(nil)))
}

func hashAll(ctx context.Context, h hash.Hash, r io.Reader) error {
	buf := make([]byte, 1<<20)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
