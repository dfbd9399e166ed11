package monitor

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// OOMFile is the name, in Config.RunDir, of what says that the kernel killed a
// process at the memory limit.
const OOMFile = "oom"

// An oomWatch looks at a group's memory.events as long as it is there: systemd
// removes a group with its last process.
type oomWatch struct {
	fd   int
	path string
	seen bool
	buf  [512]byte
}

// newOOMWatch watches the file at path.
func newOOMWatch(path string) *oomWatch {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	w := &oomWatch{fd: fd, path: path}
	w.look() // the kernel tells of changes since the last read
	return w
}

func (w *oomWatch) watch(add func(fd int, events int16)) {
	if w != nil && !w.seen {
		add(w.fd, unix.POLLPRI)
	}
}

func (w *oomWatch) handle(fd int) bool {
	if w == nil || fd != w.fd {
		return false
	}
	w.look()
	return true
}

// look notes a kill. A group that is gone has told what it had to.
func (w *oomWatch) look() {
	if w == nil || w.seen {
		return
	}
	n, err := unix.Pread(w.fd, w.buf[:], 0)
	if err == unix.ENODEV {
		w.seen = true // no more is coming, and poll would not wait
		return
	}
	if err != nil || !killed(w.buf[:n]) {
		return
	}
	w.seen = true
	if fd, err := openRetry(unix.AT_FDCWD, OOMFile, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600); err == nil { // the run directory is the current one
		unix.Close(fd)
	}
}

// killed reads memory.events.
func killed(events []byte) bool {
	for line := range bytes.SplitSeq(events, []byte("\n")) {
		if n, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			return len(n) > 0 && !bytes.Equal(n, []byte("0"))
		}
	}
	return false
}
