package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"hull/blob"
	"hull/oci"
)

// A stream is a blob that may still be coming in: one writes it, others read
// it from its file as far as it is there. The file is the buffer between
// them, so that a slow disk does not hold up a download and nothing is kept
// in memory.
type stream struct {
	digest oci.Digest

	mu   sync.Mutex
	more *sync.Cond // n, done or err changed
	f    *os.File   // guarded by mu; nil before the first byte
	n    int64      // bytes that may be read; guarded by mu
	// attempt counts how often the writing began anew; guarded by mu.
	attempt int
	done    bool  // n is all; guarded by mu
	err     error // no more will come; guarded by mu
}

func newStream(d oci.Digest) *stream {
	st := &stream{digest: d}
	st.more = sync.NewCond(&st.mu)
	return st
}

// whole makes the stream one of a stored blob.
func (st *stream) whole(f *os.File, size int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.replace(f)
	st.n, st.done = size, true
	st.more.Broadcast()
}

// attach makes the stream follow a writer that has n bytes.
func (st *stream) attach(f *os.File, n int64) error {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("follow blob %s: %w", st.digest, err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.replace(os.NewFile(uintptr(fd), f.Name()))
	st.n = n
	st.attempt++
	st.more.Broadcast()
	return nil
}

func (st *stream) replace(f *os.File) {
	if st.f != nil {
		st.f.Close()
	}
	st.f = f
}

func (st *stream) set(change func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	change()
	st.more.Broadcast()
}

// fail wakes the readers with an error; a stream that is whole stays so.
func (st *stream) fail(err error) {
	st.set(func() {
		if !st.done && st.err == nil {
			st.err = err
		}
	})
}

func (st *stream) close() {
	st.fail(errors.New("closed"))
	st.mu.Lock()
	defer st.mu.Unlock()
	st.replace(nil)
}

// begun waits for the first bytes.
func (st *stream) begun() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.n == 0 && !st.done && st.err == nil {
		st.more.Wait()
	}
	return st.err
}

// reader reads the stream from its start.
func (st *stream) reader() io.Reader { return &streamReader{st: st} }

type streamReader struct {
	st  *stream
	off int64
}

func (r *streamReader) Read(p []byte) (int, error) {
	st := r.st
	st.mu.Lock()
	defer st.mu.Unlock()
	for {
		for r.off >= st.n && !st.done && st.err == nil {
			st.more.Wait()
		}
		if st.err != nil || st.f == nil {
			return 0, errors.Join(st.err, fmt.Errorf("follow blob %s: it did not come", st.digest))
		}
		if r.off >= st.n {
			return 0, io.EOF
		}
		attempt, whole := st.attempt, st.done
		k, err := r.readAt(p[:min(int64(len(p)), st.n-r.off)])
		r.off += int64(k)
		if k > 0 {
			return k, nil
		}
		if err != io.EOF || whole {
			return 0, unexpectedEOF(err)
		}
		// An attempt that goes on first drops the end of what came: what is
		// missing comes again, the same.
		for st.attempt == attempt && !st.done && st.err == nil {
			st.more.Wait()
		}
	}
}

// readAt reads without the lock, from a duplicate, since the descriptor may be
// replaced meanwhile.
func (r *streamReader) readAt(p []byte) (int, error) {
	fd, err := unix.FcntlInt(r.st.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("follow blob %s: %w", r.st.digest, err)
	}
	r.st.mu.Unlock()
	defer r.st.mu.Lock()
	f := os.NewFile(uintptr(fd), "blob")
	defer f.Close()
	return f.ReadAt(p, r.off)
}

func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A Sink takes the stored bytes of one layer's blob while the layer is
// unpacked from them. It is for one goroutine.
type Sink struct {
	a  *Assembly
	st *stream
	w  *blob.Writer
}

// Offset is how many bytes are here already of an earlier attempt: where the
// source must go on.
func (k *Sink) Offset() int64 { return k.w.Offset() }

// Write takes the next bytes.
func (k *Sink) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	k.st.set(func() { k.st.n += int64(n) })
	return n, err
}

// Restart drops what came, for a source that cannot go on at Offset.
func (k *Sink) Restart() error {
	k.st.set(func() { k.st.n = 0; k.st.attempt++ })
	return k.w.Restart()
}

// Commit verifies the blob and stores it.
func (k *Sink) Commit() error {
	_, _, err := k.w.Commit()
	if errors.Is(err, blob.ErrDigest) {
		// What was unpacked of it is wrong too; a new attempt must not go on there.
		k.a.fail(err)
		return err
	}
	if err != nil {
		return err
	}
	k.a.came(k.st.digest)
	k.st.set(func() { k.st.done = true })
	return nil
}

// Close gives the blob up for now: what came stays, and another Sink for the
// layer goes on there. After Commit it does nothing.
func (k *Sink) Close() error { return k.w.Close() }

// Abort gives the blob up and removes what came of it.
func (k *Sink) Abort() error { return k.w.Abort() }

// Copy writes r, which begins at Offset, and commits.
func (k *Sink) Copy(ctx context.Context, r io.Reader) error {
	defer k.Close()
	if _, err := io.CopyBuffer(onlyWriter{k}, contextReader{ctx, r}, make([]byte, 256<<10)); err != nil {
		if noRoom(err) {
			k.Abort() // what cannot go on gives its room back
		}
		return err
	}
	return k.Commit()
}

func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

type onlyWriter struct{ io.Writer }

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
