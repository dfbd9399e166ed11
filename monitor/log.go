package monitor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
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
	text   int64  // bytes of output that buf has
	stamp  []byte // the time of what is written now
	head   []byte // of its lines
	lost   int64
	now    func() time.Time
}

// logPiece is how much is written to the file at once, about: newlines alone
// become fifty times as long.
const logPiece = 128 << 10

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
	fd, err := openRetry(w.dir, w.name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
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
	// What follows half a record of a writer that was killed is another record.
	var last [1]byte
	if n, err := unix.Pread(fd, last[:], st.Size-1); st.Size > 0 && err == nil && n == 1 && last[0] != '\n' {
		if n, err := unix.Write(fd, []byte{'\n'}); err == nil {
			w.size += int64(n)
		}
	}
	return nil
}

// write logs p, a piece of the stream named by its frame type. All its lines
// have one time: that of their arrival here.
func (w *logWriter) write(stream FrameType, p []byte) {
	if w == nil || len(p) == 0 {
		return
	}
	if w.driver == LogJournald {
		w.lines(p, func(text []byte, full bool) { w.journalLine(stream, text, full) })
		return
	}
	w.buf, w.text = w.buf[:0], 0
	w.stamp = appendTime(w.stamp[:0], w.now())
	line := w.k8sLine
	if w.driver == LogJSONFile {
		line = w.jsonLine
	}
	if w.lost > 0 {
		w.begin(FrameStderr)
		line([]byte("hull: "+strconv.FormatInt(w.lost, 10)+" bytes of output were lost: the log could not be written"), true)
		w.text = 0
	}
	w.begin(stream)
	w.lines(p, line)
	w.flush()
}

// lines calls f with each line of p; full says that a newline followed.
func (w *logWriter) lines(p []byte, f func(text []byte, full bool)) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			f(p, false)
			return
		}
		f(p[:i], true)
		p = p[i+1:]
		if len(w.buf) > logPiece && w.driver != LogJournald {
			w.flush()
		}
	}
}

// flush writes what is in the buffer, or counts it as lost.
func (w *logWriter) flush() {
	if w.max > 0 && w.size > 0 && w.size+int64(len(w.buf)) > w.max {
		w.rotate()
	}
	n := w.text
	b := w.buf
	w.buf, w.text = w.buf[:0], 0
	for whole := len(b); len(b) > 0; {
		k, err := rawWrite(w.fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			// A record cut short would swallow the next one's start.
			if len(b) < whole {
				unix.Ftruncate(w.fd, w.size)
			}
			w.lost += max(n, 1)
			return
		}
		if b = b[k:]; len(b) == 0 {
			w.lost = 0
			w.size += int64(whole)
		}
	}
}

// begin makes what the lines of a stream begin with, or in JSON end with.
func (w *logWriter) begin(stream FrameType) {
	name := "stdout"
	if stream == FrameStderr {
		name = "stderr"
	}
	w.head = w.head[:0]
	if w.driver == LogJSONFile {
		w.head = append(append(w.head, `","stream":"`...), name...)
		w.head = append(append(w.head, `","time":"`...), w.stamp...)
		w.head = append(w.head, "\"}\n"...)
		return
	}
	w.head = append(append(w.head, w.stamp...), ' ')
	w.head = append(append(w.head, name...), " F "...)
	if w.tag != "" {
		w.head = append(append(w.head, w.tag...), ' ')
	}
}

// k8sLine appends one record to the buffer.
func (w *logWriter) k8sLine(text []byte, full bool) {
	begin := len(w.buf)
	w.buf = append(w.buf, w.head...)
	if !full {
		w.buf[begin+len(w.stamp)+len(" stdout ")] = 'P'
	}
	w.buf = append(append(w.buf, text...), '\n')
	w.text += int64(len(text)) + 1
}

func (w *logWriter) jsonLine(text []byte, full bool) {
	w.buf = append(w.buf, `{"log":"`...)
	w.buf = appendJSON(w.buf, text)
	if full {
		w.buf = append(w.buf, `\n`...)
	}
	w.buf = append(w.buf, w.head...)
	w.text += int64(len(text)) + 1
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
	for {
		n := plainRun(s)
		b = append(b, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			return b
		}
		// Where one of these is, the next often is one too.
		for len(s) > 0 && !plainByte(s[0]) {
			c, n := s[0], 1
			if c >= 0x80 {
				n = runeLen(s)
			}
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < 0x80 || n == 0:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
				n = 1
			default:
				b = append(b, s[:n]...)
			}
			s = s[n:]
		}
	}
}

// plainByte says whether a JSON string has a byte as it is.
func plainByte(c byte) bool { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' }

// plainRun is how many bytes at the front of s are plain, looked for by eight at
// a time.
func plainRun(s []byte) int {
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		if m := odd(binary.LittleEndian.Uint64(s[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	if i == len(s) {
		return i
	}
	if i > 0 { // the last eight again: those before i are plain
		if m := odd(binary.LittleEndian.Uint64(s[len(s)-8:])); m != 0 {
			return len(s) - 8 + bits.TrailingZeros64(m)/8
		}
		return len(s)
	}
	for i < len(s) && plainByte(s[i]) {
		i++
	}
	return i
}

// odd has the high bit of the lowest byte of x that is not plain, and maybe bits
// above it. A subtraction reaches that bit when the byte is less, which for one
// that was compared by exclusive or is equality; bytes of 0x80 and more are odd
// anyway.
func odd(x uint64) uint64 {
	const each = 0x0101010101010101
	del, control := x+each, x-' '*each
	quote, backslash := (x^'"'*each)-each, (x^'\\'*each)-each
	return (x | del | control | quote | backslash) & (0x80 * each)
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
