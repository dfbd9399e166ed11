package clifull

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"hull/build"
	"hull/command"
)

// buildProgress shows a build: a line for each step, or a live view, or JSON.
type buildProgress struct {
	s      *session
	out    io.Writer // steps and output of programs
	errs   io.Writer
	quiet  bool
	json   bool
	view   *buildView // nil without a terminal
	closer io.Closer

	mu    sync.Mutex
	lines map[int][]byte // of each stage: output without its newline; guarded by mu
	open  bool           // the last output had no newline; guarded by mu
	began time.Time
}

func (s *session) buildProgress(b *buildFlags) (*buildProgress, error) {
	p := &buildProgress{s: s, out: s.stdout, errs: s.stderr, quiet: b.quiet || b.progress == "quiet", json: b.progress == "json" || b.progress == "rawjson", lines: map[int][]byte{}, began: time.Now()}
	file := s.stdout
	for _, o := range b.output {
		if kind, dest, err := parseOutput(o); err == nil && kind == "tar" && (dest == "-" || dest == "") {
			p.out, file = s.stderr, s.stderr
		}
	}
	if s.docker() || p.json {
		p.out, file = s.stderr, s.stderr
	}
	if b.logFile != "" {
		return p, p.logTo(b.logFile)
	}
	if !p.quiet && !p.json && (b.progress == "tty" || b.progress == "auto" && term.IsTerminal(int(file.Fd()))) {
		p.view = newBuildView(file)
	}
	return p, nil
}

// logTo sends everything to a file from now on.
func (p *buildProgress) logTo(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("open --logfile: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closer != nil {
		p.closer.Close()
	}
	p.out, p.errs, p.closer = f, f, f
	return nil
}

func (p *buildProgress) close() {
	if p.view != nil {
		p.view.close()
	}
	if p.closer != nil {
		p.closer.Close()
	}
}

func (p *buildProgress) event(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.json:
		p.jsonLine(e)
	case e.Kind == build.Warning:
		if p.view != nil {
			p.view.print("Warning: " + command.Printable(e.Text))
			return
		}
		p.s.warn(e.Text)
	case p.view != nil:
		p.view.event(e)
	case p.quiet:
	default:
		p.plain(e)
	}
}

var kindNames = map[build.Kind]string{build.StepBegin: "step", build.StepCached: "cached", build.StepDone: "done",
	build.Output: "output", build.Note: "note", build.Warning: "warning", build.Commit: "commit"}

func (p *buildProgress) jsonLine(e build.Event) {
	line, err := json.Marshal(struct {
		Kind   string  `json:"kind"`
		Stage  int     `json:"stage,omitempty"`
		Stages int     `json:"stages,omitempty"`
		Title  string  `json:"title,omitempty"`
		Step   int     `json:"step,omitempty"`
		Steps  int     `json:"steps,omitempty"`
		Text   string  `json:"text,omitempty"`
		ID     string  `json:"id,omitempty"`
		Output string  `json:"output,omitempty"`
		Stderr bool    `json:"stderr,omitempty"`
		Took   float64 `json:"seconds,omitempty"`
		Cached bool    `json:"cached,omitempty"`
	}{kindNames[e.Kind], e.Stage, e.Stages, e.Title, e.Step, e.Steps, e.Text, e.ID, string(e.Data), e.Stderr, e.Took.Seconds(), e.Cached})
	if err == nil {
		fmt.Fprintf(p.out, "%s\n", line)
	}
}

// plain prints what podman prints.
func (p *buildProgress) plain(e build.Event) {
	prefix := ""
	if e.Stages > 1 {
		prefix = fmt.Sprintf("[%d/%d] ", e.Stage, e.Stages)
	}
	if e.Kind != build.Output && p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
	switch e.Kind {
	case build.StepBegin:
		fmt.Fprintf(p.out, "%sSTEP %d/%d: %s\n", prefix, e.Step, e.Steps, command.Printable(oneLine(e.Text)))
	case build.StepCached:
		fmt.Fprintf(p.out, "%s--> Using cache %s\n", prefix, e.ID)
	case build.StepDone:
		p.flush(e.Stage, prefix)
		fmt.Fprintf(p.out, "%s--> %.12s\n", prefix, e.ID)
	case build.Output:
		p.output(e, prefix)
	case build.Commit:
		fmt.Fprintln(p.out, strings.TrimSpace(prefix+"COMMIT "+e.Text))
	case build.Note:
		fmt.Fprintln(p.out, command.Printable(e.Text))
	}
}

// oneLine joins the lines of an instruction.
func oneLine(s string) string {
	if !strings.Contains(s, "\n") {
		return s
	}
	var words []string
	for l := range strings.Lines(s) {
		words = append(words, strings.TrimSpace(l))
	}
	return strings.Join(words, " ")
}

// output passes a program's output on; that of stages side by side by lines.
func (p *buildProgress) output(e build.Event, prefix string) {
	to := p.out
	if e.Stderr {
		to = p.errs
	}
	if prefix == "" {
		_, _ = to.Write(e.Data)
		if n := len(e.Data); n > 0 {
			p.open = e.Data[n-1] != '\n'
		}
		return
	}
	buf := append(p.lines[e.Stage], e.Data...)
	for {
		line, rest, ok := bytes.Cut(buf, []byte("\n"))
		if !ok {
			break
		}
		fmt.Fprintf(to, "%s%s\n", prefix, line)
		buf = rest
	}
	p.lines[e.Stage] = buf
}

func (p *buildProgress) flush(stage int, prefix string) {
	if rest := p.lines[stage]; len(rest) > 0 {
		fmt.Fprintf(p.out, "%s%s\n", prefix, rest)
		delete(p.lines, stage)
	}
}

// pause shows what a program that failed wrote last, and then nothing until the
// returned function is called.
func (p *buildProgress) pause(failed *build.RunError) (resume func()) {
	p.failed(failed)
	p.mu.Lock()
	return p.mu.Unlock
}

// failed shows what a live view kept back of the program that failed.
func (p *buildProgress) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var r *build.RunError
	if (p.view != nil || p.quiet) && errors.As(err, &r) {
		text := strings.Join(r.Tail, "\n")
		if p.view != nil {
			p.view.stop()
		}
		if text != "" {
			fmt.Fprintln(p.errs, command.Printable(text))
		}
	}
}

// done prints the names and the ID.
func (p *buildProgress) done(o build.Options, res build.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := res.Image.ID.Hex()
	if p.view != nil {
		p.view.stop()
		fmt.Fprintf(p.view.file, "Built in %.1fs: %d steps, %d from the cache\n", time.Since(p.began).Seconds(), res.Steps, res.Cached)
	}
	switch {
	case p.quiet && p.s.docker():
		fmt.Fprintln(p.s.stdout, res.Image.ID)
		return
	case p.quiet, p.json:
		fmt.Fprintln(p.s.stdout, id)
		return
	}
	if n := len(res.Warnings); n > 0 {
		fmt.Fprintf(p.errs, "Warnings about the Containerfile: %d; %s build --check shows them\n", n, p.s.program)
	}
	if p.view == nil {
		fmt.Fprintf(p.out, "--> %.12s\n", id)
	}
	for _, n := range o.Names {
		fmt.Fprintf(p.out, "Successfully tagged %s\n", n)
	}
	fmt.Fprintln(p.out, id)
}
