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
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// A Writer takes one blob. It is for one goroutine.
type Writer struct {
	s      *Store
	want   oci.Digest // empty: whatever comes
	size   int64      // -1: however much comes
	offset int64
	n      int64
	pushed int64 // bytes that the disk was told to write
	hash   hash.Hash
	alg    string
	f      *os.File
	lock   *state.Lock
	done   bool
}

var anonymous atomic.Uint64

// anonymousPrefix begins the name of a partial whose digest is not known.
const anonymousPrefix = ".new-"

// Writer begins to store a blob. With want known it first waits for any other
// writer of the same blob, and the error is fs.ErrExist when the blob is there
// (or has come in the meantime). Bytes of an earlier, cut-off attempt are kept:
// writing goes on at Offset. With want empty the digest is computed. size is
// what was announced, -1 for unknown.
func (s *Store) Writer(ctx context.Context, want oci.Digest, size int64) (*Writer, error) {
	w := &Writer{s: s, want: want, size: size, alg: "sha256"}
	name := anonymousPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(anonymous.Add(1), 10)
	if want != "" {
		if err := want.Validate(); err != nil {
			return nil, fmt.Errorf("store blob: %w", err)
		}
		w.alg, name = want.Algorithm(), want.Hex()
		lock, err := state.Acquire(ctx, filepath.Join(s.root, "partial", name+".lock"))
		if err != nil {
			return nil, fmt.Errorf("store blob %s: %w", want, err)
		}
		w.lock = lock
		if _, err := s.stat(want, true); err == nil {
			w.lock.Remove()
			return nil, fmt.Errorf("store blob %s: %w", want, fs.ErrExist)
		}
	}
	w.hash = oci.Digest(w.alg + ":").Hash()
	if err := s.disk.Begin(s.root); err != nil {
		w.unlock()
		return nil, fmt.Errorf("store blob %s: %w", want, err)
	}
	f, err := os.OpenFile(filepath.Join(s.root, "partial", name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		w.unlock()
		return nil, fmt.Errorf("store blob %s: %w", want, err)
	}
	w.f = f
	if err := w.resume(ctx); err != nil {
		f.Close()
		w.unlock()
		return nil, fmt.Errorf("resume blob %s: %w", want, err)
	}
	return w, nil
}

// resume hashes what an earlier attempt left.
func (w *Writer) resume(ctx context.Context) error {
	fi, err := w.f.Stat()
	if err != nil {
		return err
	}
	n := fi.Size()
	if n == 0 {
		return nil
	}
	// As much as was announced, or more, cannot be a part of it; and after a
	// power cut the last pages may be zeros, which only the digest would show,
	// in the end. Fetch a little again rather than everything.
	if w.want == "" || w.size >= 0 && n >= w.size {
		n = 0
	}
	n = max(n-resumeMargin, 0)
	if err := w.f.Truncate(n); err != nil {
		return err
	}
	if err := hashAll(ctx, w.hash, io.LimitReader(w.f, n)); err != nil {
		return err
	}
	w.offset, w.n = n, n
	_, err = w.f.Seek(n, io.SeekStart)
	return err
}

// resumeMargin is how much of a partial is fetched again.
const resumeMargin = 64 << 10

// Offset is how many bytes of the blob are here already: where to go on.
func (w *Writer) Offset() int64 { return w.offset }

// File is the partial, for reading what came before Offset: a layer that is
// unpacked while it streams needs it from the start.
func (w *Writer) File() *os.File { return w.f }

// Write appends p. More than the announced size is ErrSize.
func (w *Writer) Write(p []byte) (int, error) {
	if w.size >= 0 && w.n+int64(len(p)) > w.size {
		return 0, fmt.Errorf("store blob %s: more than %d bytes: %w", w.want, w.size, ErrSize)
	}
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.n += int64(n)
	if err != nil {
		return n, fmt.Errorf("store blob %s: %w", w.want, err)
	}
	if w.n-w.pushed >= pushEvery {
		if err := state.CheckRoom(w.f); err != nil {
			return n, fmt.Errorf("store blob %s: %w", w.want, err)
		}
		// The disk begins now rather than at Sync, which then waits for less.
		// It is a wish: an error of it is Sync's to report.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.pushed, w.n-w.pushed, unix.SYNC_FILE_RANGE_WRITE)
		w.pushed = w.n
	}
	return n, nil
}

// pushEvery is how many bytes the disk is told of at once.
const pushEvery = 8 << 20

// Restart drops what was written, for a source that cannot resume.
func (w *Writer) Restart() error {
	w.hash.Reset()
	w.n, w.offset, w.pushed = 0, 0, 0
	if err := w.f.Truncate(0); err != nil {
		return fmt.Errorf("store blob %s: %w", w.want, err)
	}
	_, err := w.f.Seek(0, io.SeekStart)
	return err
}

// Commit verifies digest and size and gives the blob its name. What does not
// match is removed. The blob is on disk after the next Sync.
func (w *Writer) Commit() (oci.Digest, int64, error) {
	if w.size >= 0 && w.n != w.size {
		err := fmt.Errorf("store blob %s: %d of %d bytes: %w", w.want, w.n, w.size, ErrSize)
		if w.n < w.size {
			w.Close() // the rest may still come
		} else {
			w.Abort()
		}
		return "", 0, err
	}
	got := sumDigest(w.alg, w.hash)
	if w.want != "" && got != w.want {
		w.Abort()
		return "", 0, fmt.Errorf("store blob %s: got %s: %w", w.want, got, ErrDigest)
	}
	if w.alg == "sha512" {
		if err := os.MkdirAll(filepath.Join(w.s.root, w.alg), 0o700); err != nil {
			w.Abort()
			return "", 0, fmt.Errorf("store blob %s: %w", got, err)
		}
	}
	if w.want == "" {
		// One that is there already may be on the disk; this one is not.
		if _, err := w.s.Stat(got); err == nil {
			w.Abort()
			return got, w.n, nil
		}
	}
	err := w.s.mark(got)
	if err == nil {
		err = os.Rename(w.f.Name(), w.s.Path(got))
	}
	if err != nil {
		w.Abort()
		_ = os.Remove(w.s.markPath(got)) // one that stays is for no blob
		return "", 0, fmt.Errorf("store blob %s: %w", got, err)
	}
	w.finish(true)
	return got, w.n, nil
}

// Close gives the blob up for now and keeps what came, to be resumed. After
// Commit or Abort it does nothing.
func (w *Writer) Close() error {
	if w.want == "" {
		return w.Abort()
	}
	w.finish(false)
	return nil
}

// Abort gives the blob up and removes what came.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	err := os.Remove(w.f.Name())
	w.finish(true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove partial blob: %w", err)
	}
	return nil
}

// finish lets go of the file, and of the lock's file too when no partial
// needs it any more.
func (w *Writer) finish(removeLock bool) {
	if w.done {
		return
	}
	w.done = true
	w.f.Close()
	if removeLock && w.lock != nil {
		w.lock.Remove()
		return
	}
	w.unlock()
}

func (w *Writer) unlock() {
	if w.lock != nil {
		w.lock.Release()
	}
}
