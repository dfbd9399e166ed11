package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// F61: an event log with zeros, half a line, other people's text, a line of 64
// MB and bytes that are no UTF-8: what is whole is shown, in order, and the rest
// costs no memory; new events are noted.
func TestF61DamagedEvents(t *testing.T) {
	e := secretEngine(t)
	note := func(name string) {
		e.appendEvent(eventRecord{Time: time.Now(), Type: "volume", Action: "create", Name: name})
	}
	damage := func(p []byte) {
		t.Helper()
		f, err := os.OpenFile(e.eventsFile(), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.Write(p)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	note("a")
	for i, p := range [][]byte{make([]byte, 4096), []byte(`{"Time":"2026-01-01T00:00:00Z","Type":"volu`), []byte("not JSON"), {0xff, 0xfe, 0x80}, []byte(`{"Time":17}`), []byte(`[]`), []byte(`null`), bytes.Repeat([]byte("x"), 64<<20)} {
		damage(append(p, '\n'))
		note(string(rune('b' + i)))
		if st, err := os.Stat(e.eventsFile()); err != nil || st.Size() > maxEvents {
			continue // the last was put aside
		}
	}
	note("z")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var names string
	err := e.Events(context.Background(), EventOptions{Filters: Filters{"type": {"volume"}}}, func(ev Event) error { names += ev.Name; return nil })
	runtime.ReadMemStats(&after)
	if err != nil || names != "abcdefghiz" {
		t.Errorf("Events = %q, %v, want abcdefghiz", names, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("reading took %d MB", grown>>20)
	}
	// In the middle of a line, as a power cut leaves it: the next event is lost with it, no more.
	damage([]byte(`{"Time":"2026`))
	note("y")
	note("x")
	names = ""
	if err := e.Events(context.Background(), EventOptions{Filters: Filters{"type": {"volume"}}}, func(ev Event) error { names += ev.Name; return nil }); err != nil || !strings.HasSuffix(names, "x") {
		t.Errorf("Events after half a line = %q, %v", names, err)
	}
}

// F69: a clock that jumps: the log's order is that of its lines, and times
// before 1970, after 2038 and after 2106 are times.
func TestF69ClockJumps(t *testing.T) {
	h := newHarness(t)
	id, err := h.e.Create(t.Context(), h.options("true"))
	if err != nil {
		t.Fatal(err)
	}
	times := []string{"2026-05-01T12:00:00.000000000Z", "1969-12-31T23:59:59.000000000Z", "2106-02-07T06:28:16.000000000Z", "2038-01-19T03:14:08.000000000Z", "1970-01-01T00:00:00.000000000Z", "2026-05-01T12:00:01.000000000Z"}
	var log strings.Builder
	for i, at := range times {
		fmt.Fprintf(&log, "%s stdout F line %d\n", at, i)
	}
	if err := os.WriteFile(filepath.Join(h.e.containerDir(id), "ctr.log"), []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    LogsOptions
		want string
	}{
		{LogsOptions{Tail: -1}, "012345"}, {LogsOptions{Tail: 2}, "45"},
		{LogsOptions{Tail: -1, Since: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}, "23"},
	} {
		var got string
		if err := h.e.Logs(t.Context(), id, c.o, func(l LogLine) error { got += string(l.Text[len(l.Text)-1:]); return nil }); err != nil || got != c.want {
			t.Errorf("logs %+v = %q, %v, want %q", c.o, got, err, c.want)
		}
	}
	// A state of another time: began in the future, ended before it began.
	r, s, err := h.e.open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{time.Unix(0, 0), time.Unix(-1e9, 0), time.Date(2106, 2, 7, 6, 28, 16, 0, time.UTC), time.Date(2039, 1, 1, 0, 0, 0, 0, time.UTC)} {
		s.Status, s.StartedAt, s.FinishedAt = StatusExited, at, at.Add(-time.Hour)
		if err := h.e.saveState(r, s); err != nil {
			t.Fatal(err)
		}
		x, err := h.e.Inspect(t.Context(), id, false)
		if err != nil || !x.State.StartedAt.Equal(at) {
			t.Errorf("inspect of one that started at %v: %+v, %v", at, x, err)
		}
		if list, err := h.e.List(t.Context(), ListOptions{All: true}); err != nil || len(list) != 1 {
			t.Errorf("list at %v = %v, %v", at, list, err)
		}
	}
	// The clock goes back while the container runs: its end is seen all the same.
	s.StartedAt, s.FinishedAt, s.Status = time.Time{}, time.Time{}, StatusCreated
	if err := h.e.saveState(r, s); err != nil {
		t.Fatal(err)
	}
	if err := h.e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	h.eventually("its end is seen", func() bool { return h.status(id).Status == StatusExited })
}
