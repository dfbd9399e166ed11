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

// An Ignore says which paths of a context do not belong to it. A nil one
// ignores nothing.
type Ignore struct {
	m     *patternmatcher.PatternMatcher
	lines []string
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
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return &Ignore{m, patterns}, nil
}

// Patterns are those that it was made of.
func (g *Ignore) Patterns() []string {
	if g == nil {
		return nil
	}
	return g.lines
}

// A Parent is what Match said of the directory above.
type Parent = patternmatcher.MatchInfo

// Match says whether path, relative and with slashes, is ignored. parent is
// what it said of its directory.
func (g *Ignore) Match(path string, parent Parent) (bool, Parent, error) {
	if g == nil {
		return false, parent, nil
	}
	return g.m.MatchesUsingParentResults(filepath.FromSlash(path), parent)
}

// Below says whether something in an ignored directory may not be ignored
// after all, because a pattern with "!" could match it.
func (g *Ignore) Below(dir string) bool {
	if g == nil || !g.m.Exclusions() {
		return false
	}
	for _, p := range g.m.Patterns() {
		if !p.Exclusion() {
			continue
		}
		text := p.String()
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
