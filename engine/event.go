package engine

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// An eventRecord is one line of the event log.
type eventRecord struct {
	Time       time.Time
	Type       string            // container, image, volume, network, system
	Action     string            // podman's words
	ID         string            `json:",omitempty"`
	Name       string            `json:",omitempty"`
	Image      string            `json:",omitempty"`
	Attributes map[string]string `json:",omitempty"`
}

func (e *Engine) eventsFile() string { return filepath.Join(e.o.RunRoot, "events") }

// event notes what was done to a container. An event that cannot be written is
// no reason to fail what it tells of.
func (e *Engine) event(ctx context.Context, kind, action string, r *record, attributes map[string]string) {
	ev := eventRecord{Time: time.Now(), Type: kind, Action: action, ID: r.ID, Name: r.Name, Image: r.ImageName, Attributes: attributes}
	if len(r.Options.Labels) > 0 {
		all := maps.Clone(r.Options.Labels)
		maps.Copy(all, attributes)
		ev.Attributes = all
	}
	e.appendEvent(ev)
}

// appendEvent writes one whole line by one call: lines of several processes
// do not mix.
func (e *Engine) appendEvent(ev eventRecord) {
	if e.o.NoEvents {
		return
	}
	line, err := json.Marshal(ev)
	if err != nil {
		return
	}
	fd, err := unix.Open(e.eventsFile(), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err == unix.ENOENT {
		if os.MkdirAll(e.o.RunRoot, 0o700) == nil {
			fd, err = unix.Open(e.eventsFile(), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
		}
	}
	if err != nil {
		return
	}
	unix.Write(fd, append(line, '\n'))
	unix.Close(fd)
}
