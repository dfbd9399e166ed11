package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An Event is one thing that was done.
type Event = eventRecord

// Details are the words in parentheses of an event's line.
func (e eventRecord) Details() string {
	var words []string
	for _, w := range []struct{ k, v string }{{"image", e.Image}, {"name", e.Name}} {
		if w.v != "" {
			words = append(words, w.k+"="+w.v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(e.Attributes)) {
		words = append(words, k+"="+e.Attributes[k])
	}
	return strings.Join(words, ", ")
}

// Status is Action by docker's name for it.
func (e eventRecord) Status() string { return e.Action }

// EventOptions choose events.
type EventOptions struct {
	Filters      Filters // container event image label type volume
	Since, Until time.Time
	Stream       bool // wait for more, until Until or the end of the context
}

// Events calls f with the events that the options choose, oldest first.
func (e *Engine) Events(ctx context.Context, o EventOptions, f func(Event) error) error {
	match, err := eventFilter(o.Filters)
	if err != nil {
		return err
	}
	show := func(ev Event) error {
		if ev.Time.Before(o.Since) || !o.Until.IsZero() && ev.Time.After(o.Until) || !match(ev) {
			return nil
		}
		return f(ev)
	}
	if e.o.JournalEvents {
		return e.journalEvents(ctx, o, show)
	}
	file, err := openEvents(e.eventsFile() + ".1")
	if err != nil {
		return err
	}
	if file != nil {
		_, err := readEvents(file, nil, show)
		file.Close()
		if err != nil {
			return err
		}
		file = nil
	}
	var rest []byte
	defer func() { file.Close() }()
	for {
		// One that was put aside is read to its end before the next.
		aside := file != nil && !isFile(file, e.eventsFile())
		if file == nil {
			if file, err = openEvents(e.eventsFile()); err != nil {
				return err
			}
		}
		if file != nil {
			if rest, err = readEvents(file, rest, show); err != nil {
				return err
			}
		}
		if aside {
			file.Close()
			file, rest = nil, nil
			continue
		}
		if !o.Stream || !o.Until.IsZero() && time.Now().After(o.Until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// openEvents opens a log; nil when there is none.
func openEvents(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return file, nil
}

// isFile reports whether path leads to the opened file.
func isFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// maxEvent is the longest line that may be an event.
const maxEvent = 1 << 20

// readEvents reads whole lines to the file's end; what is left of one is
// returned.
func readEvents(file *os.File, rest []byte, f func(Event) error) ([]byte, error) {
	r := bufio.NewReader(file)
	for {
		line, err := r.ReadSlice('\n')
		if len(rest) <= maxEvent { // what is longer is no event
			rest = append(rest, line...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return rest, nil
		}
		var ev Event
		if json.Unmarshal(bytes.TrimSpace(rest), &ev) == nil {
			if err := f(ev); err != nil {
				return nil, err
			}
		}
		rest = rest[:0]
	}
}

// eventFilter: values of one key are alternatives, labels must all hold.
func eventFilter(f Filters) (func(Event) bool, error) {
	for k := range f {
		switch k {
		case "container", "event", "image", "label", "type", "user", "volume", "pod":
		default:
			return nil, fmt.Errorf("%q is an invalid event filter", k)
		}
	}
	users := map[string]int64{}
	for _, v := range f["user"] {
		uid, err := userNumber(v)
		if err != nil {
			return nil, fmt.Errorf("event filter user=%s: %w", v, err)
		}
		users[v] = uid
	}
	return func(ev Event) bool {
		for k, values := range f {
			one := func(v string) bool {
				switch k {
				case "container":
					return ev.Type == "container" && (ev.Name == v || strings.HasPrefix(ev.ID, v))
				case "event":
					return ev.Action == v
				case "image":
					return ev.Image == v || strings.HasPrefix(ev.Image, v+":") || ev.Type == "image" && (ev.Name == v || strings.HasPrefix(ev.ID, v))
				case "type":
					return ev.Type == v
				case "user":
					return ev.Who.is(users[v])
				case "pod":
					return ev.Type == "pod" && (ev.Name == v || strings.HasPrefix(ev.ID, v))
				case "volume":
					return ev.Type == "volume" && ev.Name == v
				case "label":
					return hasLabel(ev.Attributes, v)
				}
				return false
			}
			if k == "label" {
				for _, v := range values {
					if !one(v) {
						return false
					}
				}
				continue
			}
			if !slices.ContainsFunc(values, one) {
				return false
			}
		}
		return true
	}, nil
}

// is says whether a user did it: whose session it was, also after su and sudo,
// or, of a process without one, whose process it was.
func (w *Who) is(uid int64) bool {
	if w.LoginUID != nil {
		return int64(*w.LoginUID) == uid
	}
	return int64(w.UID) == uid
}

// userNumber is a number, or the one of a name that this machine knows.
func userNumber(name string) (int64, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return int64(n), nil
	}
	u, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return 0, fmt.Errorf("no user of that name: %w", ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return int64(n), err
}
