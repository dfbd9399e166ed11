package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/monitor"
	"hull/state"
	"hull/userns"
)

// Fields of an event in the journal that are Hull's own: the event as the file
// would have it, and whose store it is of. Beside them are podman's, for those
// who look with journalctl.
const (
	journalEvent = "HULL_EVENT"
	journalStore = "HULL_RUNROOT"
)

// eventPatience is how many milliseconds an event waits for a busy journal
// before it is lost.
const eventPatience = 1000

// journalEntry is an event by the journal's native protocol. A value may be of
// several lines, so that each comes with its length.
func journalEntry(ev eventRecord, runRoot string) ([]byte, error) {
	line, err := state.Marshal(ev)
	if err != nil {
		return nil, err
	}
	b := []byte("PRIORITY=6\nSYSLOG_IDENTIFIER=hull\n")
	field := func(name, value string) {
		if value == "" {
			return
		}
		b = append(append(b, name...), '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
		b = append(append(b, value...), '\n')
	}
	field("MESSAGE", strings.TrimSpace(ev.Type+" "+ev.Action+" "+ev.ID)+" ("+ev.Details()+")")
	field("PODMAN_EVENT", ev.Action)
	field("PODMAN_TYPE", ev.Type)
	field("PODMAN_TIME", ev.Time.Format(time.RFC3339Nano))
	field("PODMAN_ID", ev.ID)
	field("PODMAN_NAME", ev.Name)
	field("PODMAN_IMAGE", ev.Image)
	if code, ok := ev.Attributes["containerExitCode"]; ok {
		field("PODMAN_EXIT_CODE", code)
	}
	field(journalStore, runRoot)
	field(journalEvent, string(line))
	return b, nil
}

// sendEvent gives an event to the journal at path. Like a line that cannot be
// written, an event that it does not take is lost: it is no reason to fail what
// it tells of.
func sendEvent(path string, ev eventRecord, runRoot string) error {
	entry, err := journalEntry(ev, runRoot)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	for end := time.Now().Add(eventPatience * time.Millisecond); ; {
		switch err = unix.Send(fd, entry, unix.MSG_NOSIGNAL); {
		case err == unix.EMSGSIZE && ev.Attributes != nil:
			// The event itself is more than its labels.
			ev.Attributes = nil
			if entry, err = journalEntry(ev, runRoot); err != nil {
				return err
			}
		case err == unix.EAGAIN && time.Now().Before(end):
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, eventPatience)
		case err != unix.EINTR:
			return err
		}
	}
}

// journalEvents reads the store's events through journalctl, oldest first. Only
// what the store's own user wrote counts: anybody may write to the journal.
func (e *Engine) journalEvents(ctx context.Context, o EventOptions, show func(Event) error) error {
	args := []string{"--output=json", "--quiet", "--all", "--no-pager", "--output-fields=" + journalEvent,
		"_UID=" + strconv.Itoa(userns.HostUID()), journalStore + "=" + e.o.RunRoot}
	if !o.Since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(o.Since.Unix(), 10))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if o.Stream {
		args = append(args, "--follow", "--lines=all")
		if !o.Until.IsZero() {
			ctx, stop = context.WithDeadline(ctx, o.Until)
			defer stop()
		}
	} else {
		journalSync(ctx)
	}
	c := exec.CommandContext(ctx, "journalctl", args...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return hint(fmt.Errorf("read events: %w", err), "they are in the journal, which journalctl reads")
	}
	err = readJournalEvents(out, show)
	ended := ctx.Err() != nil
	stop()
	werr := c.Wait()
	switch {
	case ended:
		return nil
	case err != nil:
		return err
	case werr != nil:
		return fmt.Errorf("read events: journalctl: %w: %s", werr, bytes.TrimSpace(errs.Bytes()))
	}
	return nil
}

// readJournalEvents reads objects of journalctl --output=json.
func readJournalEvents(in io.Reader, show func(Event) error) error {
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		var v map[string]json.RawMessage
		if json.Unmarshal(line, &v) == nil {
			var ev Event
			if text, ok := journalText(v[journalEvent]); ok && json.Unmarshal([]byte(text), &ev) == nil {
				if err := show(ev); err != nil {
					return err
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read events: %w", err)
		}
	}
}

// journalSync lets the journal write what it was sent, so that a reader who
// comes after the writer finds it. Only root may ask for it.
func journalSync(ctx context.Context) {
	if userns.HostUID() != 0 || monitor.JournalThere() != nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	exec.CommandContext(ctx, "journalctl", "--sync").Run()
}
