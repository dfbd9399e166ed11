package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// Exit codes of the program itself; a container's own code passes through.
const (
	CodeOK          = 0
	CodeFailed      = 1   // rm, rmi, exists: the object is not there
	CodeInUse       = 2   // rm, rmi: the object is in use
	CodeEngine      = 125 // the engine itself failed
	CodeNotRunnable = 126 // the command is there but cannot be executed
	CodeNotFound    = 127 // the command is not there
)

// Exit is an error with an exit code of its own. A nil Err prints nothing.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// WithCode gives err the exit code; nil stays nil.
func WithCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Exit{Code: code, Err: err}
}

// UsageError is a mistake in the command line; "See '… --help'" follows it.
type UsageError struct {
	Command string // full path
	Err     error
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Report prints err as the user sees it and returns the exit code.
func Report(w io.Writer, err error) int {
	if err == nil {
		return CodeOK
	}
	code := CodeEngine
	var exit *Exit
	if errors.As(err, &exit) {
		code = exit.Code
		if exit.Err == nil {
			return code
		}
	}
	if errors.Is(err, context.Canceled) && code == CodeEngine {
		return 130 // interrupted: what a shell reports for SIGINT
	}
	for _, e := range flatten(err) {
		fmt.Fprintf(w, "Error: %s\n", Printable(e.Error()))
		var h interface{ Hint() string }
		switch {
		case errors.As(e, &h) && h.Hint() != "":
			fmt.Fprintf(w, "hint: %s\n", Printable(h.Hint()))
		case errors.Is(e, syscall.ENOSPC), errors.Is(e, syscall.EDQUOT):
			fmt.Fprintln(w, "hint: make room: hull system prune removes what is not used; --root is another place")
		}
	}
	var usage *UsageError
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "See '%s --help'\n", usage.Command)
	}
	return code
}

// flatten takes joined errors apart, so that each gets its own line and hint.
func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(fmt.Sprintf("%T", err), "joinError") {
		var all []error
		for _, e := range j.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	if exit, ok := err.(*Exit); ok && exit.Err != nil {
		return flatten(exit.Err)
	}
	return []error{err}
}

// Printable escapes the control bytes of s except tab and newline, so that a
// name, label or message that somebody else chose cannot drive the terminal
// (LOG-03). Valid UTF-8 text is left alone.
func Printable(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= 0x20 && s[i] < 0x7f || s[i] == '\t' || s[i] == '\n'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\t' || r == '\n':
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r >= 0x80 && r < 0xa0 || bidi(r): // C1 controls; text direction overrides
			fmt.Fprintf(&b, `\u%04x`, r)
		case r == 0xfffd && s[i] != 0xef: // not UTF-8
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// bidi reports the runes that reorder the text around them.
func bidi(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
