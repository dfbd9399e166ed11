package monitor

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// JournalSocket is where the journal takes entries, by its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// JournalThere says whether this machine has a journal of systemd.
func JournalThere() error {
	var st unix.Stat_t
	if err := unix.Stat(JournalSocket, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("this machine has no journal of systemd at " + JournalSocket)
	}
	return nil
}

// journalPatience is how many milliseconds an entry waits for a busy journal
// before it is lost: the container is not held up (F59).
const journalPatience = 20

// openJournal connects to the journal at path. fields are those of every entry,
// "NAME=value\n" each.
func openJournal(path, fields string) (*logWriter, error) {
	w := &logWriter{driver: LogJournald, name: path, tag: fields, fd: -1}
	return w, w.connect()
}

func (w *logWriter) connect() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: w.name}); err != nil {
		unix.Close(fd)
		return err
	}
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
	w.fd = fd
	return nil
}

// journalLine sends one entry. full says that a newline followed.
func (w *logWriter) journalLine(stream FrameType, text []byte, full bool) {
	if w.lost > 0 && stream != frameLost {
		n := w.lost
		w.lost = 0
		w.journalLine(frameLost, []byte("hull: "+strconv.FormatInt(n, 10)+" bytes of output were lost: the journal took none"), true)
		if w.lost > 0 { // not even that
			w.lost = n + int64(len(text))
			return
		}
	}
	w.buf = append(w.buf[:0], w.tag...)
	if stream == FrameStdout {
		w.buf = append(w.buf, "PRIORITY=6\n"...)
	} else {
		w.buf = append(w.buf, "PRIORITY=3\n"...)
	}
	if !full {
		w.buf = append(w.buf, "CONTAINER_PARTIAL_MESSAGE=true\n"...)
	}
	// The length says where the text ends, whatever bytes it has.
	w.buf = append(w.buf, "MESSAGE\n"...)
	for n, i := uint64(len(text)), 0; i < 8; i++ {
		w.buf = append(w.buf, byte(n>>(8*i)))
	}
	w.buf = append(append(w.buf, text...), '\n')
	for attempt := 0; attempt < 3; attempt++ {
		err := unix.Send(w.fd, w.buf, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return
		case unix.EAGAIN:
			unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}}, journalPatience)
		case unix.ECONNREFUSED, unix.ENOTCONN, unix.EDESTADDRREQ, unix.ECONNRESET:
			if w.connect() != nil {
				attempt = 3
			}
		case unix.EINTR:
		default:
			attempt = 3
		}
	}
	w.lost += max(int64(len(text)), 1)
}

// frameLost marks the monitor's own line about what was lost.
const frameLost = FrameType(0xff)
