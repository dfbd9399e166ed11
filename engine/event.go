package engine

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/monitor"
	"hull/state"
	"hull/userns"
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
	Who        Who               `json:",omitzero"`
}

// Who did something: for the audit of a machine that several people use.
type Who struct {
	// LoginUID is whom the session belongs to, also after su and sudo, and
	// Session its number, as the kernel's audit has them; nil when it has none.
	LoginUID, Session *uint32  `json:",omitempty"`
	UID               int      // of the process, outside of its user namespace
	Command           []string `json:",omitempty"` // its arguments, cut after 2 KiB
}

// whoami is the process that this engine is in: it is looked up once, not at
// each of a start's events.
func (e *Engine) whoami() Who {
	w, _ := e.who.get(func() (Who, error) { return whoami(), nil })
	return w
}

func whoami() Who {
	w := Who{UID: userns.HostUID(), LoginUID: auditNumber("loginuid"), Session: auditNumber("sessionid")}
	room := 2048
	for _, a := range os.Args {
		if room -= len(a); room < 0 {
			break
		}
		w.Command = append(w.Command, a)
	}
	return w
}

// auditNumber reads a number that is all ones when nobody set it.
func auditNumber(name string) *uint32 {
	b, err := state.ReadFile("/proc/self/" + name)
	if err != nil {
		return nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil || n == 1<<32-1 {
		return nil
	}
	id := uint32(n)
	return &id
}

// maxEvents is the size in bytes at which the event log is put aside as
// "events.1"; the one that was there goes.
const maxEvents = 4 << 20

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

// appendEvent writes one whole line by one call, or sends one message to the
// journal: those of several processes do not mix.
func (e *Engine) appendEvent(ev eventRecord) {
	if e.o.NoEvents {
		return
	}
	ev.Who = e.whoami()
	if e.o.JournalEvents {
		sendEvent(monitor.JournalSocket, ev, e.o.RunRoot)
		return
	}
	line, err := state.Marshal(ev)
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
	var st unix.Stat_t
	full := unix.Fstat(fd, &st) == nil && st.Size > maxEvents
	unix.Close(fd)
	if full {
		e.rotateEvents()
	}
}

// rotateEvents puts a full log aside. Of several that find it full one does.
func (e *Engine) rotateEvents() {
	l, ok, err := state.TryAcquire(filepath.Join(e.locksDir(), "events"))
	if err != nil || !ok {
		return
	}
	defer l.Remove()
	if st, err := os.Lstat(e.eventsFile()); err == nil && st.Size() > maxEvents {
		os.Rename(e.eventsFile(), e.eventsFile()+".1")
	}
}
