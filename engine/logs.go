package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hull/monitor"
)

// A LogLine is one record of a container's log.
type LogLine struct {
	Time    time.Time
	Stderr  bool
	Partial bool // the line goes on in the next record of the stream
	Text    []byte
}

// maxLogLine is the longest record that is read.
const maxLogLine = 1 << 20

// Logs calls f with the container's output, oldest first, over all files of a
// rotated log, and with o.Follow until the container ends.
func (e *Engine) Logs(ctx context.Context, name string, o LogsOptions, f func(LogLine) error) error {
	r, _, err := e.open(ctx, name)
	if err != nil {
		return err
	}
	path := e.logPath(r)
	if e.logDriver(r) == monitor.LogJournald {
		return e.journalLogs(ctx, r, o, f)
	}
	if path == "" {
		return hint(fmt.Errorf("logs of %s: its log driver keeps none", name), "create the container with --log-driver k8s-file")
	}
	parse := parseK8s
	if e.logDriver(r) == "json-file" {
		parse = parseJSONLog
	}
	l := logReader{o: o, parse: parse, f: f}
	if o.Tail >= 0 {
		l.kept = make([]LogLine, 0, min(o.Tail, 4096))
	}
	file, err := l.readAll(path)
	if err == nil {
		err = l.tellGap()
	}
	if err == nil {
		err = l.flush()
	}
	if file != nil {
		defer file.Close()
	}
	if err == errLogEnd || err != nil || !o.Follow {
		if err == errLogEnd {
			return nil
		}
		return err
	}
	if err := e.followLog(ctx, r, path, file, &l); err != errLogEnd {
		return err
	}
	return nil
}

// errLogEnd ends reading: the lines that follow are after --until.
var errLogEnd = errors.New("end of the lines that were asked for")

type logReader struct {
	o     LogsOptions
	parse func([]byte) (LogLine, bool)
	f     func(LogLine) error
	kept  []LogLine // with --tail: the last lines so far; nil shows each at once
	whole int       // lines in kept; one in parts counts once
	rest  []byte    // not yet a whole record
	gap   int       // bytes since the last record that are none
	last  time.Time // of the last record
}

// readAll reads the rotated files, the oldest first, then the log, which is returned open.
func (l *logReader) readAll(path string) (*os.File, error) {
	// A rotation that was cut off leaves one number out.
	old := 0
	for n := 1; n <= old+2 && n < 1000; n++ {
		if _, err := os.Lstat(path + "." + strconv.Itoa(n)); err == nil {
			old = n
		}
	}
	for n := old; n > 0; n-- {
		f, err := openLogFile(path + "." + strconv.Itoa(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = l.read(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	f, err := openLogFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f, l.read(f)
}

// openLogFile opens a regular file that nobody has planted (LOG-02).
func openLogFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open log %s: not a regular file", path)
	}
	return f, nil
}

func (l *logReader) read(r io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := l.feed(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
}

func (l *logReader) feed(p []byte) error {
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			if len(l.rest) > maxLogLine { // no record is so long
				l.gap += len(l.rest)
				l.rest = l.rest[:0]
			}
			return nil
		}
		// Zeroes are what a power cut leaves of a write, before the next one.
		record := bytes.TrimLeft(l.rest[:i], "\x00")
		line, ok := l.parse(record)
		if l.gap += i - len(record); !ok {
			l.gap += len(record) + 1
			l.rest = l.rest[i+1:]
			continue
		}
		line.Text = bytes.Clone(line.Text)
		l.rest, l.last = l.rest[i+1:], line.Time
		if err := l.tellGap(); err != nil {
			return err
		}
		if !l.o.Since.IsZero() && line.Time.Before(l.o.Since) {
			continue
		}
		if !l.o.Until.IsZero() && line.Time.After(l.o.Until) {
			if err := l.flush(); err != nil {
				return err
			}
			return errLogEnd
		}
		if err := l.take(line); err != nil {
			return err
		}
	}
}

// tellGap says, in the place of what cannot be read, how much it is.
func (l *logReader) tellGap() error {
	n := l.gap
	if l.gap = 0; n == 0 || !l.o.Since.IsZero() && l.last.Before(l.o.Since) || !l.o.Until.IsZero() && l.last.After(l.o.Until) {
		return nil
	}
	return l.take(LogLine{Time: l.last, Stderr: true, Text: fmt.Appendf(nil, "hull: %d bytes of the log are damaged", n)})
}

func (l *logReader) take(line LogLine) error {
	if l.kept == nil {
		return l.f(line)
	}
	l.kept = append(l.kept, line)
	if !line.Partial {
		l.whole++
	}
	for l.whole > l.o.Tail {
		if !l.kept[0].Partial {
			l.whole--
		}
		l.kept = l.kept[1:]
	}
	return nil
}

// flush shows what --tail kept; from then on lines are shown at once.
func (l *logReader) flush() error {
	kept := l.kept
	l.kept = nil
	for _, line := range kept {
		if err := l.f(line); err != nil {
			return err
		}
	}
	return nil
}

// followLog reads on until the container has ended and its log is read.
func (e *Engine) followLog(ctx context.Context, r *record, path string, file *os.File, l *logReader) error {
	for {
		s, err := e.state(r)
		gone := errors.Is(err, ErrNotFound) || err != nil && errors.Is(err, fs.ErrNotExist)
		if err != nil && !gone {
			return err
		}
		if file == nil {
			if file, err = openLogFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if file != nil {
			if err := l.read(file); err != nil {
				return err
			}
			if file, err = l.reopen(path, file); err != nil {
				return err
			}
		}
		if gone || !s.running() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// reopen goes on with the new file when the log was rotated.
func (l *logReader) reopen(path string, file *os.File) (*os.File, error) {
	now, err := os.Lstat(path)
	if err != nil {
		return file, nil // between two renames, or removed
	}
	was, err := file.Stat()
	if err != nil || os.SameFile(now, was) {
		return file, nil
	}
	if err := l.read(file); err != nil {
		return file, err
	}
	file.Close()
	next, err := openLogFile(path)
	if err != nil {
		return nil, nil
	}
	return next, l.read(next)
}

// parseK8s reads TIME STREAM P|F TEXT.
func parseK8s(b []byte) (LogLine, bool) {
	when, rest, ok1 := bytes.Cut(b, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	t, err := time.Parse(time.RFC3339Nano, string(when))
	if !ok1 || !ok2 || !ok3 || err != nil {
		return LogLine{}, false
	}
	return LogLine{Time: t, Stderr: string(stream) == "stderr", Partial: string(tag) == "P", Text: text}, true
}

// parseJSONLog reads docker's {"log":…,"stream":…,"time":…}.
func parseJSONLog(b []byte) (LogLine, bool) {
	var v struct {
		Log, Stream string
		Time        time.Time
	}
	if json.Unmarshal(b, &v) != nil {
		return LogLine{}, false
	}
	text, whole := bytes.CutSuffix([]byte(v.Log), []byte("\n"))
	return LogLine{Time: v.Time, Stderr: v.Stream == "stderr", Partial: !whole, Text: text}, true
}
