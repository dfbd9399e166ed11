package containerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// An Error is a mistake at a place of a Containerfile. Its text is
// "FILE:LINE: what", and the lines it is about with a mark under them.
type Error struct {
	File        string
	First, Last int      // lines, from 1
	Text        []string // of these lines
	Column      int      // from 1; 0 is not known
	Err         error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: %v", e.File, e.First, e.Err)
	for i, l := range e.Text {
		if i == maxQuoted {
			fmt.Fprintf(&b, "\n       | … %d more lines", len(e.Text)-i)
			break
		}
		fmt.Fprintf(&b, "\n%6d | %s", e.First+i, l)
	}
	if e.Column > 0 && len(e.Text) == 1 {
		pad := strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, e.Text[0][:min(e.Column-1, len(e.Text[0]))])
		fmt.Fprintf(&b, "\n       | %s^", pad)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// maxQuoted is how many lines of a long instruction an error shows.
const maxQuoted = 8

// At makes err an *Error at the lines of an instruction.
func (f *File) At(where []parser.Range, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	first, last := 0, 0
	for _, r := range where {
		if first == 0 || r.Start.Line < first {
			first = r.Start.Line
		}
		last = max(last, r.End.Line)
	}
	if first == 0 {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return f.lines(first, last, err)
}

func (f *File) errorAt(line int, err error) error { return f.lines(line, line, err) }

func (f *File) lines(first, last int, err error) error {
	e := &Error{File: f.Name, First: first, Last: last, Err: err}
	if first <= len(f.Lines) {
		for _, line := range f.Lines[first-1 : min(max(last, first), len(f.Lines))] {
			e.Text = append(e.Text, Redact(line))
		}
	}
	return e
}

// wrap turns an error of the parser into ours: without its own words about the
// line, and with a mark at the word where that is known.
func (f *File) wrap(err error) error {
	var where []parser.Range
	var located *parser.LocationError
	if errors.As(err, &located) && len(located.Locations) > 0 {
		where = located.Locations[0]
	}
	cause := err
	for {
		// What remains below the last wrapper that only says where.
		var l *parser.LocationError
		if errors.As(cause, &l) && l.Unwrap() != nil {
			cause = l.Unwrap()
			continue
		}
		break
	}
	text := cause.Error()
	if _, rest, ok := strings.Cut(text, "dockerfile parse error on line "); ok {
		if _, rest, ok = strings.Cut(rest, ": "); ok {
			text = rest
		}
	}
	out := f.At(where, errors.New(text))
	var e *Error
	if !errors.As(out, &e) || len(e.Text) == 0 {
		return out
	}
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) {
		if i := strings.Index(strings.ToLower(e.Text[0]), strings.ToLower(unknown.Instruction)); i >= 0 {
			e.Text, e.Column = e.Text[:1], i+1
		}
	}
	return e
}
