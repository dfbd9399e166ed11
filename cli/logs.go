package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"hull/command"
	"hull/engine"
	"hull/format"
)

// logFlags are the flags that logs and pod logs share.
type logFlags struct {
	engine.LogsOptions
	since, until string
	names, color bool
}

// declare declares them; short and tail are letters for --names and --tail.
func (o *logFlags) declare(f *command.Flags, short, tail string) {
	f.BoolVar(&o.color, "color", false, "Output the containers with different colors in the log.")
	f.BoolVarP(&o.Follow, "follow", "f", false, "Follow log output.  The default is false")
	f.BoolVarP(&o.names, "names", short, false, "Output the container name in the log")
	f.StringVar(&o.since, "since", "", "Show logs since TIMESTAMP")
	o.Tail = -1
	f.Func("tail", tail, "int", "Output the specified number of LINES at the end of the logs.  Defaults to -1, which prints all lines", func(v string) error {
		if v == "all" {
			o.Tail = -1
			return nil
		}
		n, err := strconv.Atoi(v)
		o.Tail = n
		return err
	})
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Output the timestamps in the log")
	f.StringVar(&o.until, "until", "", "Show logs until TIMESTAMP")
}

// parse reads the times.
func (o *logFlags) parse() (err error) {
	if o.Since, err = when("since", o.since); err != nil {
		return err
	}
	o.Until, err = when("until", o.until)
	return err
}

func (s *session) logs() *command.Command {
	var x selection
	var o logFlags
	return &command.Command{
		Usage: "[options] CONTAINER [CONTAINER...]",
		Long:  "Retrieves logs for one or more containers.",
		Examples: []string{"logs ctrID", "logs --names ctrID1 ctrID2", "logs --tail 2 mywebserver",
			"logs --follow=true --since 10m ctrID", "logs mywebserver mydbserver"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			short, tail := "n", ""
			if s.docker() {
				short, tail = "", "n"
			}
			o.declare(f, short, tail)
			x.declare(f, "l", "")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) == 0 && !x.latest {
				return errors.New("specify at least one container name or ID to log")
			}
			if err := o.parse(); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			containers, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			return s.showLogs(ctx, e, containers, o.LogsOptions, o.names, o.color)
		},
	}
}

// when reads a time; "" is the zero time.
func when(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := format.ParseTime(time.Now(), text)
	if err != nil {
		return t, fmt.Errorf("parsing --%s %q: %w", flag, text, err)
	}
	return t, nil
}

// showLogs shows the logs of one container, or of several at once, each line
// with its container's ID or name before it.
func (s *session) showLogs(ctx context.Context, e *engine.Engine, containers []string, o engine.LogsOptions, names, color bool) error {
	p := &logPrinter{out: s.stdout, err: s.stderr, timestamps: o.Timestamps, open: map[string]bool{}}
	// A terminal gets what the container wrote to its own terminal, raw, and
	// other logs without control bytes that were not meant for it.
	p.clean = term.IsTerminal(int(s.stdout.Fd()))
	if len(containers) == 1 && !names {
		return p.follow(ctx, e, containers[0], "", o)
	}
	prefixes := make([]string, len(containers))
	for i, name := range containers {
		c, err := e.Inspect(ctx, name, false)
		if err != nil {
			return err
		}
		prefixes[i] = format.ShortID(c.ID)
		if names {
			prefixes[i] = c.Name
		}
		if color {
			prefixes[i] = fmt.Sprintf("\033[%dm%s\033[0m", 31+i%6, prefixes[i])
		}
	}
	if !o.Follow {
		return eachIndex(containers, func(i int, name string) error { return p.follow(ctx, e, name, prefixes[i], o) })
	}
	errs := make([]error, len(containers))
	var wg sync.WaitGroup
	for i, name := range containers {
		wg.Go(func() { errs[i] = p.follow(ctx, e, name, prefixes[i], o) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func eachIndex(names []string, do func(int, string) error) error {
	var errs []error
	for i, n := range names {
		if err := do(i, n); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// logPrinter writes log lines of several containers without mixing them.
type logPrinter struct {
	out, err   io.Writer
	timestamps bool
	clean      bool

	mu sync.Mutex
	// open says which streams are in the middle of a partial line; guarded by mu.
	open map[string]bool
}

func (p *logPrinter) follow(ctx context.Context, e *engine.Engine, name, prefix string, o engine.LogsOptions) error {
	raw := !p.clean
	if p.clean {
		c, err := e.Inspect(ctx, name, false)
		if err != nil {
			return err
		}
		raw = c.Config.Tty
	}
	return e.Logs(ctx, name, o, func(l engine.LogLine) error { return p.line(prefix, l, raw) })
}

func (p *logPrinter) line(prefix string, l engine.LogLine, raw bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, key := p.out, prefix+"o"
	if l.Stderr {
		w, key = p.err, prefix+"e"
	}
	var b bytes.Buffer
	if !p.open[key] {
		if prefix != "" {
			b.WriteString(prefix + " ")
		}
		if p.timestamps {
			b.WriteString(l.Time.Format(time.RFC3339Nano) + " ")
		}
	}
	text := string(l.Text)
	if !raw {
		text = command.Printable(strings.TrimSuffix(text, "\r"))
	}
	b.WriteString(text)
	if !l.Partial {
		b.WriteByte('\n')
	}
	p.open[key] = l.Partial
	_, err := w.Write(b.Bytes())
	return err
}
