package containerfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Names are the file names that are looked for in a context, in this order.
var Names = []string{"Containerfile", "Dockerfile"}

// MaxSize is how large a Containerfile may be.
const MaxSize = 16 << 20

// A File is a parsed Containerfile.
type File struct {
	Name   string // for messages
	Lines  []string
	Escape rune
	// Stages are in the order of the file. Their commands are not expanded.
	Stages []instructions.Stage
	// Global are the ARG instructions before the first FROM.
	Global   []instructions.ArgCommand
	Warnings []Warning

	lint *linter.Linter
}

// A Warning is what a rule found.
type Warning struct {
	Rule, Description, URL, Text string
	Line                         int // 1 is the first; 0 is none
}

// ParseOptions for Parse.
type ParseOptions struct {
	Name string // "" is Containerfile
	// SkipRules are lint rules not to be applied; AllRules applies the experimental ones too.
	SkipRules []string
	AllRules  bool
}

// Parse reads a Containerfile. Its errors are *Error, with a line.
func Parse(data []byte, o ParseOptions) (*File, error) {
	f := &File{Name: o.Name, Escape: '\\'}
	if f.Name == "" {
		f.Name = Names[0]
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", f.Name, MaxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	f.Lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, f.errorAt(1+bytes.Count(data[:i], []byte("\n")), errors.New("a zero byte is in it: it is no text"))
	}
	if f.empty() {
		return nil, fmt.Errorf("read %s: it has no instructions: it must begin with FROM", f.Name)
	}
	if err := f.checkDirective(data, o); err != nil {
		return nil, err
	}
	result, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, f.wrap(err)
	}
	f.Escape = result.EscapeToken
	for _, w := range result.Warnings {
		line := 0
		if w.Location != nil {
			line = w.Location.Start.Line
		}
		f.Warnings = append(f.Warnings, Warning{Rule: "NoEmptyContinuation", Description: "Empty continuation lines will become errors in a future release", URL: w.URL, Text: w.Short, Line: line})
	}
	dropRelabel(result.AST)
	if f.Stages, f.Global, err = instructions.Parse(result.AST, f.lint); err != nil {
		return nil, f.wrap(err)
	}
	if len(f.Stages) == 0 {
		return nil, fmt.Errorf("read %s: it has no FROM: there is no stage to build", f.Name)
	}
	return f, nil
}

// dropRelabel takes the words of podman's RUN --mount away that say how files
// are labelled: there is nothing to label in a build's mounts.
func dropRelabel(ast *parser.Node) {
	for _, n := range ast.Children {
		for i, flag := range n.Flags {
			if !strings.EqualFold(n.Value, "run") || !strings.HasPrefix(flag, "--mount=") {
				continue
			}
			words := strings.Split(flag, ",")
			n.Flags[i] = strings.Join(slices.DeleteFunc(words, func(w string) bool {
				return w == "z" || w == "Z" || w == "relabel=shared" || w == "relabel=private"
			}), ",")
		}
	}
}

func (f *File) empty() bool {
	for _, l := range f.Lines {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			return false
		}
	}
	return true
}

// checkDirective reads "# check=skip=…;error=true" and makes the linter.
func (f *File) checkDirective(data []byte, o ParseOptions) error {
	config := &linter.Config{}
	if text, _, where, ok := parser.ParseDirective("check", data); ok {
		c, err := linter.ParseLintOptions(text)
		if err != nil {
			line := 1
			if len(where) > 0 {
				line = where[0].Start.Line
			}
			return f.errorAt(line, err)
		}
		config = c
	}
	config.SkipRules = append(config.SkipRules, o.SkipRules...)
	config.ExperimentalAll = config.ExperimentalAll || o.AllRules
	config.Warn = func(rule, description, url, text string, location []parser.Range) {
		w := Warning{Rule: rule, Description: description, URL: url, Text: text}
		if len(location) > 0 {
			w.Line = location[0].Start.Line
		}
		f.Warnings = append(f.Warnings, w)
	}
	f.lint = linter.New(config)
	return nil
}

// FailOnWarnings says whether the file itself asks for it (check=error=true),
// and has some.
func (f *File) FailOnWarnings() error { return f.lint.Error() }

// Find returns the Containerfile of a context directory.
func Find(dir string) (string, error) {
	for _, n := range Names {
		p := filepath.Join(dir, n)
		st, err := os.Stat(p)
		if err == nil && !st.IsDir() {
			return p, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find the Containerfile: %w", err)
		}
	}
	return "", &notFound{dir}
}

type notFound struct{ dir string }

func (e *notFound) Error() string {
	return fmt.Sprintf("find the Containerfile: neither %s in %s: %v", strings.Join(Names, " nor "), e.dir, fs.ErrNotExist)
}
func (e *notFound) Unwrap() error { return fs.ErrNotExist }
func (e *notFound) Hint() string  { return "name it with --file, or the directory that has it" }
