package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"hull/monitor"
)

// journalThere says whether this machine has a journal of systemd.
func journalThere() error {
	if err := monitor.JournalThere(); err != nil {
		return hint(fmt.Errorf("log driver journald: %w", err), "choose --log-driver k8s-file")
	}
	return nil
}

// journalFields are the fields of every entry of a container, by podman's
// names; --log-opt labels= adds labels, in capitals.
func journalFields(r *record, tag string) string {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" && !strings.ContainsAny(value, "\n\x00") {
			b.WriteString(name + "=" + value + "\n")
		}
	}
	field("CONTAINER_ID", r.ID[:12])
	field("CONTAINER_ID_FULL", r.ID)
	field("CONTAINER_NAME", r.Name)
	field("CONTAINER_TAG", tag)
	field("IMAGE_NAME", r.ImageName)
	field("SYSLOG_IDENTIFIER", firstOf(tag, r.Name))
	for _, opt := range r.Options.LogOpts {
		list, ok := strings.CutPrefix(opt, "labels=")
		for _, label := range strings.Split(list, ",") {
			if value, has := r.Options.Labels[label]; ok && has {
				field(journalName(label), value)
			}
		}
	}
	return b.String()
}

// journalName is a label as the name of a field: capitals, digits and _, not
// with _ at the beginning, which is the journal's own.
func journalName(label string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, label)
	return "LABEL_" + name
}

// journalLogs reads a container's log through journalctl.
func (e *Engine) journalLogs(ctx context.Context, r *record, o LogsOptions, f func(LogLine) error) error {
	args := []string{"--output=json", "--quiet", "--all", "--no-pager", "CONTAINER_ID_FULL=" + r.ID}
	if !o.Since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(o.Since.Unix(), 10))
	}
	l := logReader{o: o, parse: parseJournal, f: f}
	if o.Tail >= 0 {
		l.kept = make([]LogLine, 0, min(o.Tail, 4096))
	}
	if o.Follow {
		args = append(args, "--follow", "--lines=all")
		if o.Tail >= 0 {
			args[len(args)-1] = "--lines=" + strconv.Itoa(o.Tail)
			l.kept = nil
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if !o.Follow {
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
		return hint(fmt.Errorf("logs of %s: %w", r.Name, err), "its log is in the journal, which journalctl reads")
	}
	if o.Follow {
		go e.stopFollowing(ctx, r, stop)
	}
	err = l.read(out)
	if err == nil {
		err = l.flush()
	}
	if errors.Is(err, errLogEnd) || err != nil {
		stop()
	}
	werr := c.Wait()
	switch {
	case errors.Is(err, errLogEnd) || o.Follow && err != nil && ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case werr != nil && !o.Follow:
		return fmt.Errorf("logs of %s: journalctl: %w: %s", r.Name, werr, bytes.TrimSpace(errs.Bytes()))
	}
	return nil
}

// stopFollowing ends the reading a little after the container.
func (e *Engine) stopFollowing(ctx context.Context, r *record, stop func()) {
	for ctx.Err() == nil {
		if s, err := e.state(r); err != nil || !s.running() {
			time.Sleep(time.Second)
			stop()
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// parseJournal reads an object of journalctl --output=json.
func parseJournal(b []byte) (LogLine, bool) {
	var v struct {
		Message json.RawMessage `json:"MESSAGE"`
		Time    string          `json:"__REALTIME_TIMESTAMP"` // µs
		Level   string          `json:"PRIORITY"`
		Partial string          `json:"CONTAINER_PARTIAL_MESSAGE"`
	}
	if json.Unmarshal(b, &v) != nil {
		return LogLine{}, false
	}
	text, ok := journalText(v.Message)
	if !ok {
		return LogLine{}, false
	}
	us, err := strconv.ParseInt(v.Time, 10, 64)
	if err != nil {
		return LogLine{}, false
	}
	return LogLine{Time: time.UnixMicro(us), Stderr: v.Level == "3", Partial: v.Partial == "true", Text: []byte(text)}, true
}

// journalText is a field of journalctl --output=json. A text that is no UTF-8
// is a list of bytes there.
func journalText(field json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(field, &text) == nil {
		return text, true
	}
	var numbers []int
	if json.Unmarshal(field, &numbers) != nil {
		return "", false
	}
	list := make([]byte, len(numbers))
	for i, n := range numbers {
		list[i] = byte(n)
	}
	return string(list), true
}
