package monitor

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A logWriter appends output to a log file and rotates it. The container is
// never held up by its log: what cannot be written is counted and reported in
// the log once there is room again (fault F59).
type logWriter struct {
	driver string
	dir    int // descriptor of the log's directory
	name   string
	fd     int
	size   int64
	max    int64
	files  int
	tag    string
	buf    []byte
	lost   int64
	now    func() time.Time
}

var errLogFile = errors.New("open log: not a regular file of one name")

// openLog opens the log that c names, or returns nil when there is none.
func openLog(c *Config) (*logWriter, error) {
	if c.LogDriver == LogJournald {
		return openJournal(c.LogPath, c.LogTag)
	}
	if c.LogDriver != LogK8sFile && c.LogDriver != LogJSONFile || c.LogPath == "" {
		return nil, nil
	}
	dir, name := ".", c.LogPath
	if i := lastSlash(c.LogPath); i >= 0 {
		dir, name = c.LogPath[:i+1], c.LogPath[i+1:]
	}
	d, err := openRetry(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	w := &logWriter{driver: c.LogDriver, dir: d, name: name, max: c.LogMaxSize, files: max(c.LogMaxFiles, 1), tag: c.LogTag, now: time.Now}
	return w, w.open()
}

// open opens the file in the directory that was opened before, and takes
// nothing that somebody may have planted there (LOG-02).
func (w *logWriter) open() error {
	fd, err := openRetry(w.dir, w.name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		unix.Close(fd)
		return errLogFile
	}
	w.fd, w.size = fd, st.Size
	return nil
}

// write logs p, a piece of the stream named by its frame type.
func (w *logWriter) write(stream FrameType, p []byte) {
	if w == nil || len(p) == 0 {
		return
	}
	w.buf = w.buf[:0]
	if w.lost > 0 && w.driver != LogJournald {
		w.line(FrameStderr, []byte("hull: "+strconv.FormatInt(w.lost, 10)+" bytes of output were lost: the log could not be written"), true)
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.line(stream, p, false)
			break
		}
		w.line(stream, p[:i], true)
		p = p[i+1:]
	}
	if w.driver == LogJournald {
		return
	}
	w.flush(int64(len(p)))
}

func (w *logWriter) flush(n int64) {
	if w.max > 0 && w.size > 0 && w.size+int64(len(w.buf)) > w.max {
		w.rotate()
	}
	b := w.buf
	for len(b) > 0 {
		k, err := unix.Write(w.fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			// A record cut short would swallow the next one's start.
			if len(b) < len(w.buf) {
				unix.Ftruncate(w.fd, w.size)
			}
			w.lost += max(n, 1)
			return
		}
		b = b[k:]
	}
	w.lost = 0
	w.size += int64(len(w.buf))
}

// line appends one record to the buffer. full says that a newline followed.
func (w *logWriter) line(stream FrameType, text []byte, full bool) {
	if w.driver == LogJournald {
		w.journalLine(stream, text, full)
		return
	}
	if w.driver == LogJSONFile {
		w.jsonLine(stream, text, full)
		return
	}
	w.buf = appendTime(w.buf, w.now())
	if stream == FrameStderr {
		w.buf = append(w.buf, " stderr "...)
	} else {
		w.buf = append(w.buf, " stdout "...)
	}
	if full {
		w.buf = append(w.buf, "F "...)
	} else {
		w.buf = append(w.buf, "P "...)
	}
	if w.tag != "" {
		w.buf = append(append(w.buf, w.tag...), ' ')
	}
	w.buf = append(append(w.buf, text...), '\n')
}

func (w *logWriter) jsonLine(stream FrameType, text []byte, full bool) {
	w.buf = append(w.buf, `{"log":"`...)
	w.buf = appendJSON(w.buf, text)
	if full {
		w.buf = append(w.buf, `\n`...)
	}
	if stream == FrameStderr {
		w.buf = append(w.buf, `","stream":"stderr","time":"`...)
	} else {
		w.buf = append(w.buf, `","stream":"stdout","time":"`...)
	}
	w.buf = appendTime(w.buf, w.now())
	w.buf = append(w.buf, "\"}\n"...)
}

// rotate moves NAME to NAME.1, NAME.1 to NAME.2 and so on, and starts anew.
// A log of one file is emptied by being replaced, so that a reader that holds
// it open sees its end and then the new one.
func (w *logWriter) rotate() {
	for i := w.files - 1; i >= 1; i-- {
		from := w.name
		if i > 1 {
			from += "." + strconv.Itoa(i-1)
		}
		if err := unix.Renameat(w.dir, from, w.dir, w.name+"."+strconv.Itoa(i)); err != nil && err != unix.ENOENT {
			return // better one large log than a lost one
		}
	}
	if w.files == 1 {
		if err := unix.Unlinkat(w.dir, w.name, 0); err != nil {
			return
		}
	}
	old := w.fd
	if err := w.open(); err != nil {
		w.fd = old
		return
	}
	unix.Close(old)
}

// appendTime appends t as CRI logs have it: nine digits of nanoseconds, UTC.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
}

const hexDigits = "0123456789abcdef"

// appendJSON appends s as the inside of a JSON string. Bytes that are not
// UTF-8 are kept as they are read as Latin-1, so that nothing is lost silently.
func appendJSON(b, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		case c < 0x80:
			b = append(b, c)
			i++
		default:
			n := runeLen(s[i:])
			if n == 0 {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
				i++
				continue
			}
			b = append(b, s[i:i+n]...)
			i += n
		}
	}
	return b
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
