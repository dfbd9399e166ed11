package containerfile

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// IgnoreNames are the ignore files of a context, in the order in which they
// are looked for. One that bears the Containerfile's name goes before.
var IgnoreNames = []string{".containerignore", ".dockerignore"}

// An Ignore says which paths of a context do not belong to it: of the patterns
// that match a path or a directory above it, the last one counts. A nil one
// ignores nothing.
type Ignore struct {
	lines []string
	rules []rule
}

// A rule is one pattern. The matcher has each alone: of many it does not always
// remember, for what a directory holds, that one of them matched the directory.
type rule struct {
	m    *patternmatcher.PatternMatcher
	text string
	keep bool // begins with "!"
}

// ParseIgnore reads an ignore file.
func ParseIgnore(name string, data []byte) (*Ignore, error) {
	lines, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return NewIgnore(name, lines)
}

// NewIgnore makes one of patterns.
func NewIgnore(name string, patterns []string) (*Ignore, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	g := &Ignore{lines: patterns}
	for _, p := range patterns {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		text, keep := strings.CutPrefix(p, "!")
		if text == "" {
			return nil, fmt.Errorf("read %s: illegal exclusion pattern: %q", name, p)
		}
		m, err := patternmatcher.New([]string{text})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if len(m.Patterns()) > 0 {
			g.rules = append(g.rules, rule{m, m.Patterns()[0].String(), keep})
		}
	}
	return g, nil
}

// Patterns are those that it was made of.
func (g *Ignore) Patterns() []string {
	if g == nil {
		return nil
	}
	return g.lines
}

// A Parent is what is known of a directory, for what is in it.
type Parent struct {
	matched []bool // by rule: it, or a directory above it
	info    []patternmatcher.MatchInfo
}

// Match says whether path, relative and with slashes, is ignored. parent is
// what it said of its directory; of the zero value nothing is known.
func (g *Ignore) Match(path string, parent Parent) (bool, Parent, error) {
	if g == nil {
		return false, parent, nil
	}
	path = filepath.FromSlash(path)
	here := Parent{make([]bool, len(g.rules)), make([]patternmatcher.MatchInfo, len(g.rules))}
	out := false
	for i, r := range g.rules {
		var above patternmatcher.MatchInfo
		if i < len(parent.info) {
			here.matched[i], above = parent.matched[i], parent.info[i]
		}
		if !here.matched[i] {
			var err error
			if here.matched[i], here.info[i], err = r.m.MatchesUsingParentResults(path, above); err != nil {
				return false, here, err
			}
		}
		if here.matched[i] {
			out = !r.keep
		}
	}
	return out, here, nil
}

// Below says whether something in an ignored directory may not be ignored
// after all, because a pattern with "!" could match it.
func (g *Ignore) Below(dir string) bool {
	if g == nil {
		return false
	}
	for _, r := range g.rules {
		text := r.text
		if !r.keep {
			continue
		}
		if strings.HasPrefix(text+"/", dir+"/") || strings.HasPrefix(dir+"/", literal(text)) {
			return true
		}
		if strings.HasPrefix(literal(text), dir+"/") {
			return true
		}
	}
	return false
}

// literal is what of a pattern comes before the first wildcard. The matcher
// hands some characters to a regular expression as they are: of a pattern that
// has one nothing is known.
func literal(p string) string {
	if strings.ContainsAny(p, "^+(){}|") {
		return ""
	}
	if i := strings.IndexAny(p, `*?[\`); i >= 0 {
		return p[:i]
	}
	return p
}
