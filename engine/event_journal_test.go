package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// entryFields takes an entry of the native protocol apart.
func entryFields(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		if name, value, short := strings.Cut(string(line), "="); short {
			fields[name], b = value, rest
			continue
		}
		n := binary.LittleEndian.Uint64(rest)
		fields[string(line)] = string(rest[8 : 8+n])
		if rest[8+n] != '\n' {
			t.Fatalf("field %s does not end with its line", line)
		}
		b = rest[8+n+1:]
	}
	return fields
}

// An event that went into the journal comes back as it was, also with labels of
// several lines; what is no event of Hull is passed over.
func TestEventsInTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ev := eventRecord{Time: time.Now().Round(0).UTC(), Type: "container", Action: "died", ID: "abc", Name: "c", Image: "i:1",
		Attributes: map[string]string{"containerExitCode": "3", "l": "two\nlines=\x01"}, Who: Who{UID: 7, Command: []string{"hull", "run"}}}
	if err := sendEvent(path, ev, "/run/x"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fields := entryFields(t, buf[:n])
	for k, v := range map[string]string{"PODMAN_EVENT": "died", "PODMAN_TYPE": "container", "PODMAN_ID": "abc", "PODMAN_NAME": "c",
		"PODMAN_IMAGE": "i:1", "PODMAN_EXIT_CODE": "3", journalStore: "/run/x", "PRIORITY": "6"} {
		if fields[k] != v {
			t.Errorf("%s = %q, want %q", k, fields[k], v)
		}
	}
	line, _ := json.Marshal(map[string]string{journalEvent: fields[journalEvent]})
	var got []Event
	in := "{\"MESSAGE\":\"other\"}\nno JSON\n" + string(line) + "\n"
	if err := readJournalEvents(strings.NewReader(in), func(ev Event) error { got = append(got, ev); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !got[0].Time.Equal(ev.Time) {
		t.Fatalf("read back %+v", got)
	}
	got[0].Time = ev.Time
	if !reflect.DeepEqual(got[0], ev) {
		t.Errorf("read back %+v, want %+v", got[0], ev)
	}
}

// Labels that no message can hold cost the labels, not the event.
func TestEventTooLargeForTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ev := eventRecord{Time: time.Now(), Type: "volume", Action: "create", Name: "v", Attributes: map[string]string{"l": strings.Repeat("x", 1<<20)}}
	if err := sendEvent(path, ev, "/run/x"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if f := entryFields(t, buf[:n]); f["PODMAN_NAME"] != "v" || strings.Contains(f[journalEvent], "xxx") {
		t.Errorf("sent %.300s", buf[:n])
	}
}
