package clifull

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"hull/build"
	"hull/command"
)

// A buildView shows the steps that run, each with its time and last line, below
// those that are done.
type buildView struct {
	file *os.File

	mu      sync.Mutex
	active  []*activeStep // guarded by mu
	drawn   int           // lines of the view that are on the screen; guarded by mu
	stopped bool          // guarded by mu
	quit    chan struct{}
}

type activeStep struct {
	stage int
	text  string
	began time.Time
	last  []byte // of its output
}

func newBuildView(f *os.File) *buildView {
	v := &buildView{file: f, quit: make(chan struct{})}
	go func() {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-v.quit:
				return
			case <-t.C:
				v.mu.Lock()
				if !v.stopped && len(v.active) > 0 {
					v.draw(nil)
				}
				v.mu.Unlock()
			}
		}
	}()
	return v
}

func (v *buildView) event(e build.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := slices.IndexFunc(v.active, func(a *activeStep) bool { return a.stage == e.Stage })
	prefix := ""
	if e.Stages > 1 {
		prefix = fmt.Sprintf("[%s] ", e.Title)
	}
	switch e.Kind {
	case build.StepBegin:
		a := &activeStep{stage: e.Stage, text: fmt.Sprintf("%sSTEP %d/%d: %s", prefix, e.Step, e.Steps, oneLine(e.Text)), began: time.Now()}
		if at < 0 {
			v.active = append(v.active, a)
			return
		}
		v.active[at] = a // FROM has no end of its own
	case build.Output:
		if at >= 0 {
			v.active[at].add(e.Data)
		}
	case build.StepDone:
		if at < 0 {
			return
		}
		a := v.active[at]
		v.active = slices.Delete(v.active, at, at+1)
		took := fmt.Sprintf("%.1fs", e.Took.Seconds())
		if e.Cached {
			took = "cached"
		}
		v.draw([]string{fmt.Sprintf("%-7s %s", took, a.text)})
	case build.Commit:
		v.active = nil
		v.draw([]string{strings.TrimSpace("COMMIT " + e.Text)})
	case build.Note:
		v.draw([]string{e.Text})
	}
}

// add keeps the last line of what a program writes.
func (a *activeStep) add(p []byte) {
	text := bytes.TrimRight(append(a.last, p...), "\r\n")
	if i := bytes.LastIndexAny(text, "\r\n"); i >= 0 {
		text = text[i+1:]
	}
	if len(text) > 1024 {
		text = text[len(text)-1024:]
	}
	a.last = slices.Clone(text)
	if n := len(p); n > 0 && (p[n-1] == '\n' || p[n-1] == '\r') {
		a.last = append(a.last, '\n')
	}
}

func (v *buildView) print(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.draw([]string{line})
}

// draw puts lines above the view, and the view below them; mu is held.
func (v *buildView) draw(above []string) {
	width, height, err := term.GetSize(int(v.file.Fd()))
	if err != nil || width < 20 {
		width, height = 80, 24
	}
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
	}
	b.WriteString("\x1b[J")
	for _, l := range above {
		b.WriteString(fitLine(l, width) + "\n")
	}
	v.drawn = 0
	if !v.stopped {
		for _, a := range v.active {
			if v.drawn+2 > height/2 {
				break
			}
			b.WriteString(fitLine(fmt.Sprintf("%5.1fs  %s", time.Since(a.began).Seconds(), a.text), width) + "\n")
			v.drawn++
			if last := strings.TrimSpace(string(a.last)); last != "" {
				b.WriteString(fitLine("        "+last, width) + "\n")
				v.drawn++
			}
		}
	}
	_, _ = v.file.WriteString(b.String())
}

// fitLine cuts a line to the terminal's width, with nothing in it that could
// drive the terminal.
func fitLine(s string, width int) string {
	r := []rune(strings.ReplaceAll(command.Printable(s), "\t", " "))
	if len(r) >= width {
		r = append(r[:width-2], '…')
	}
	return string(r)
}

// stop takes the view away.
func (v *buildView) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopped {
		return
	}
	v.stopped = true
	close(v.quit)
	v.draw(nil)
}

func (v *buildView) close() { v.stop() }
