package engine

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// A full log is put aside and both are read, in order; who did it is told.
func TestEventsRotate(t *testing.T) {
	e := secretEngine(t)
	long := strings.Repeat("x", 1<<20)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		e.appendEvent(eventRecord{Time: time.Now(), Type: "volume", Action: "create", Name: name, Attributes: map[string]string{"long": long}})
	}
	if _, err := os.Stat(e.eventsFile() + ".1"); err != nil {
		t.Errorf("five megabytes were not put aside: %v", err)
	}
	e.appendEvent(eventRecord{Time: time.Now(), Type: "volume", Action: "create", Name: "f"})
	var names string
	err := e.Events(context.Background(), EventOptions{Filters: Filters{"type": {"volume"}}}, func(ev Event) error {
		names += ev.Name
		if ev.Who.UID != os.Getuid() || len(ev.Who.Command) == 0 {
			t.Errorf("event %s: by %+v", ev.Name, ev.Who)
		}
		return nil
	})
	if err != nil || names != "abcdef" {
		t.Errorf("Events = %q, %v, want abcdef", names, err)
	}
}

// A stream goes on in the next file.
func TestEventsStreamOverRotation(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	e := secretEngine(t)
	note := func(name string) {
		e.appendEvent(eventRecord{Time: time.Now(), Type: "volume", Action: "create", Name: name})
	}
	note("a")
	var names string
	err := e.Events(ctx, EventOptions{Stream: true}, func(ev Event) error {
		names += ev.Name
		switch ev.Name {
		case "a":
			note("b")
			os.Rename(e.eventsFile(), e.eventsFile()+".1")
			note("c")
		case "c":
			cancel()
		}
		return nil
	})
	if err != nil || names != "abc" {
		t.Errorf("Events = %q, %v, want abc", names, err)
	}
}

// Who did it is asked by name or number; the session's user counts, not
// whom he became.
func TestEventsOfUser(t *testing.T) {
	login := uint32(1000)
	root, ann := Event{Who: Who{UID: 0}}, Event{Who: Who{UID: 0, LoginUID: &login}}
	for _, c := range []struct {
		user      string
		root, ann bool
	}{{"root", true, false}, {"0", true, false}, {"1000", false, true}} {
		match, err := eventFilter(Filters{"user": {c.user}})
		if err != nil || match(root) != c.root || match(ann) != c.ann {
			t.Errorf("user=%s: %v", c.user, err)
		}
	}
	if _, err := eventFilter(Filters{"user": {"no such user"}}); err == nil {
		t.Error("a user that does not exist: no error")
	}
}
