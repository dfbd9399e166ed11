package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// holderPatience is how long a lock is waited for before it is asked who holds
// it. One that is at work is waited for longer; one that is stopped may never go on.
const holderPatience = 8 * time.Second

// A StoppedError is a lock that a process holds which is stopped: by a signal,
// by a debugger, or by a terminal.
type StoppedError struct {
	Path string
	Pid  int
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("lock %s: it is held by process %d, which is stopped", e.Path, e.Pid)
}

func (e *StoppedError) Unwrap() error { return ErrLocked }

// Hint is the cure.
func (e *StoppedError) Hint() string {
	return fmt.Sprintf("let it go on (kill -CONT %d), or end it (kill -KILL %d): what it was about is then completed or undone", e.Pid, e.Pid)
}

// stoppedHolder returns the process that locked the file, when it is stopped;
// 0 when it is not, or is not to be found. The kernel lists who has each lock by
// device and inode.
func stoppedHolder(path string) int {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, err := ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK ADVISORY WRITE 708 00:16:1234 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != file {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err == nil && pid > 0 && stopped(pid) {
			return pid
		}
	}
	return 0
}

func stopped(pid int) bool {
	b, err := ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	i := strings.LastIndexByte(string(b), ')')
	if err != nil || i < 0 || i+2 >= len(b) {
		return false
	}
	return b[i+2] == 'T' || b[i+2] == 't'
}

// A Lock is held by the open file description it made, so goroutines of one
// process exclude each other like processes do, and a killed holder's lock
// ends with it.
type Lock struct {
	f     *os.File
	found bool
}

// Acquire locks the file at path, which it makes, and waits for it until ctx
// ends.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	return acquire(ctx, path, unix.LOCK_EX)
}

// AcquireShared is Acquire for holders that exclude only Acquire's.
func AcquireShared(ctx context.Context, path string) (*Lock, error) {
	return acquire(ctx, path, unix.LOCK_SH)
}

// TryAcquire locks the file at path if nobody holds it; ok reports that.
func TryAcquire(path string) (l *Lock, ok bool, err error) {
	l, err = lockOnce(path, unix.LOCK_EX)
	if errors.Is(err, ErrLocked) {
		return nil, false, nil
	}
	return l, err == nil, err
}

func acquire(ctx context.Context, path string, how int) (*Lock, error) {
	// flock that waits cannot be interrupted by a context. The holders are
	// short, so asking again soon is as good, and a stopped holder is named.
	look := time.Now().Add(holderPatience)
	for wait := 200 * time.Microsecond; ; wait = min(wait*2, 20*time.Millisecond) {
		l, err := lockOnce(path, how)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		if time.Now().After(look) {
			if pid := stoppedHolder(path); pid != 0 {
				return nil, &StoppedError{path, pid}
			}
			look = time.Now().Add(holderPatience)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w: %w", path, ErrLocked, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func lockOnce(path string, how int) (*Lock, error) {
	for {
		// Made or found is worth knowing: see Found.
		found := false
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, ErrExist) {
			found = true
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		}
		if errors.Is(err, ErrNotExist) {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return nil, fmt.Errorf("lock: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		_, err = retry(func() (int, error) { return 0, unix.Flock(int(f.Fd()), how|unix.LOCK_NB) })
		if err != nil {
			f.Close()
			if err == unix.EWOULDBLOCK {
				return nil, ErrLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The object, and with it this file, may be gone since it was opened.
		size, ok := same(f, path)
		if !ok {
			f.Close()
			continue
		}
		if size > 0 {
			if found = false; how == unix.LOCK_EX {
				if err := f.Truncate(0); err != nil {
					f.Close()
					return nil, fmt.Errorf("lock: %w", err)
				}
			}
		}
		return &Lock{f, found}, nil
	}
}

func same(f *os.File, path string) (size int64, ok bool) {
	var a, b unix.Stat_t
	ok = unix.Fstat(int(f.Fd()), &a) == nil && unix.Lstat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
	return a.Size, ok
}

// File is the open file that holds the lock. Who has a descriptor of it, by
// inheritance or over a socket, holds the lock as well, beyond Release.
func (l *Lock) File() *os.File { return l.f }

// Found reports that the lock's file was there before. Where every holder ends
// with Remove, one before was killed. The file of a Remove that failed says so
// by not being empty: it does not count.
func (l *Lock) Found() bool { return l.found }

// Release gives the lock back. A nil Lock and one released twice do no harm.
func (l *Lock) Release() {
	if l != nil {
		l.f.Close()
	}
}

// Remove removes the lock's file, when the object it guards is gone, and
// releases it. Others that wait for it make a new one.
func (l *Lock) Remove() error {
	err := os.Remove(l.f.Name())
	if err != nil && !errors.Is(err, ErrNotExist) {
		_, _ = l.f.WriteString("released\n") // for Found
	}
	l.Release()
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("remove lock: %w", err)
	}
	return nil
}
