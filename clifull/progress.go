package clifull

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"hull/command"
	"hull/oci"
	"hull/transfer"
)

// A progress shows what a transfer does.
type progress struct {
	s     *session
	out   io.Writer // lines; nil shows none
	quiet bool
	warn  []string

	mu   sync.Mutex
	pool *mpb.Progress           // nil without a terminal
	bars map[oci.Digest]*mpb.Bar // guarded by mu
	said map[string]bool         // guarded by mu: lines that come once
}

// progress begins to show one transfer: as bars on a terminal, as lines
// elsewhere. Podman's go to standard error, docker's to standard output.
func (s *session) progress(quiet bool) *progress {
	p := &progress{s: s, quiet: quiet, bars: map[oci.Digest]*mpb.Bar{}, said: map[string]bool{}}
	if quiet {
		return p
	}
	file := s.stderr
	if s.docker() {
		file = s.stdout
	}
	p.out = file
	if term.IsTerminal(int(file.Fd())) {
		p.pool = mpb.New(mpb.WithOutput(file), mpb.WithWidth(40), mpb.WithRefreshRate(150*time.Millisecond))
	}
	return p
}

// event is what transfer tells.
func (p *progress) event(e transfer.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Kind == transfer.Warning {
		p.warn = append(p.warn, e.Text)
		return
	}
	if p.quiet {
		return
	}
	if p.s.docker() {
		p.docker(e)
		return
	}
	id := short(e.Blob)
	switch e.Kind {
	case transfer.Trying:
		if e.Text != "" {
			p.line("%s", e.Text)
		} else {
			p.line("Trying to pull %s...", e.Ref)
		}
	case transfer.Signatures:
		p.once("Getting image source signatures")
	case transfer.Blob:
		p.begin(e, "Copying blob "+id)
	case transfer.Config:
		p.begin(e, "Copying config "+id)
	case transfer.Exists:
		if p.drop(e.Blob); e.Text == "" {
			e.Text = "already exists"
		}
		p.once("Copying blob " + id + " skipped: " + e.Text)
	case transfer.Progress:
		if b := p.bars[e.Blob]; b != nil {
			b.SetCurrent(e.Current)
		}
	case transfer.Done:
		p.finish(e, "Copying blob "+id+" done   |")
	case transfer.Instance:
		clear(p.said) // the same may be said of each image
		p.line("Copying image %s (%s)", e.Blob, e.Text)
	case transfer.Manifest:
		if e.Text == "list" {
			p.line("Writing manifest list to image destination")
			return
		}
		p.once("Writing manifest to image destination")
	}
}

func (p *progress) docker(e transfer.Event) {
	id := short(e.Blob)
	switch e.Kind {
	case transfer.Trying:
		if ref, err := oci.ParseReference(e.Ref); err == nil {
			short := ref
			short.Tag, short.Digest = "", ""
			p.line("%s: Pulling from %s", ref.Tag, short.Path)
		}
	case transfer.Blob:
		p.begin(e, id+": Pulling fs layer")
	case transfer.Exists:
		p.drop(e.Blob)
		p.once(id + ": Already exists")
	case transfer.Progress:
		if b := p.bars[e.Blob]; b != nil {
			b.SetCurrent(e.Current)
		}
	case transfer.Done:
		p.finish(e, id+": Pull complete")
	}
}

// begin shows a blob that is being moved.
func (p *progress) begin(e transfer.Event, text string) {
	if p.pool == nil || e.Size < minBar {
		if p.pool == nil {
			p.once(text)
		}
		return
	}
	if p.bars[e.Blob] != nil {
		return
	}
	p.bars[e.Blob] = p.pool.AddBar(e.Size,
		mpb.PrependDecorators(decor.Name(text, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.OnComplete(decor.CountersKibiByte("%.1f / %.1f"), "done"), decor.OnComplete(decor.Name(" "), ""),
			decor.OnComplete(decor.AverageSpeed(decor.SizeB1024(0), "%.1f"), "")),
	)
}

// minBar is a size that is not worth a bar.
const minBar = 32 << 10

func (p *progress) finish(e transfer.Event, text string) {
	if b := p.bars[e.Blob]; b != nil {
		b.SetTotal(e.Size, true)
		return
	}
	if p.pool != nil {
		p.once(text)
	}
}

func (p *progress) drop(d oci.Digest) {
	if b := p.bars[d]; b != nil {
		b.Abort(true)
		delete(p.bars, d)
	}
}

func (p *progress) line(format string, a ...any) {
	text := command.Printable(fmt.Sprintf(format, a...))
	if p.pool != nil {
		// The pool owns the terminal: its writer puts lines above the bars.
		_, _ = fmt.Fprintln(p.pool, text)
		return
	}
	fmt.Fprintln(p.out, text)
}

func (p *progress) once(text string) {
	if !p.said[text] {
		p.said[text] = true
		p.line("%s", text)
	}
}

// end leaves the terminal as it is and shows the warnings.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool != nil {
		for _, b := range p.bars {
			if !b.Completed() {
				b.Abort(false)
			}
		}
		p.pool.Wait()
	}
	for _, w := range p.warn {
		p.s.warn(w)
	}
}

func short(d oci.Digest) string {
	h := d.Hex()
	return h[:min(len(h), 12)]
}
