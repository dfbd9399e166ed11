package containerfile

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"hull/oci"
)

// Warn adds a warning, unless its rule is left out.
func (f *File) Warn(rule, description, text string, where []parser.Range) {
	r := linter.LinterRule[func() string]{Name: rule, Description: description, Format: func() string { return text }}
	f.lint.Run(&r, where, text)
}

// Lint applies the rules that need the whole file; those of single lines were
// applied when it was read.
func (f *File) Lint(g *Graph) {
	f.lintCase()
	for _, s := range g.Stages {
		l := stageLint{f: f, g: g, s: s}
		l.run()
	}
}

// lintCase: instructions are written all in one case.
func (f *File) lintCase() {
	upper, lower := 0, 0
	var words []string
	var where [][]parser.Range
	add := func(word string, loc []parser.Range) {
		words, where = append(words, word), append(where, loc)
		switch word {
		case strings.ToUpper(word):
			upper++
		case strings.ToLower(word):
			lower++
		}
	}
	for i := range f.Stages {
		add(f.word(f.Stages[i].Location), f.Stages[i].Location)
		for _, c := range f.Stages[i].Commands {
			add(f.word(c.Location()), c.Location())
		}
	}
	majority, fix := "uppercase", strings.ToUpper
	if lower > upper {
		majority, fix = "lowercase", strings.ToLower
	}
	for i, w := range words {
		if w != fix(w) {
			f.lint.Run(&linter.RuleConsistentInstructionCasing, where[i], linter.RuleConsistentInstructionCasing.Format(w, majority))
		}
	}
}

// word is the first word of the line where an instruction begins.
func (f *File) word(where []parser.Range) string {
	if len(where) == 0 || where[0].Start.Line > len(f.Lines) || where[0].Start.Line < 1 {
		return ""
	}
	words := strings.Fields(f.Lines[where[0].Start.Line-1])
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// A stageLint checks one stage.
type stageLint struct {
	f *File
	g *Graph
	s *Stage

	cmds, entries, health []instructions.Command
	workdir               bool
	names                 []string
}

func (l *stageLint) run() {
	l.from()
	scope := l.g.Scope([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
	for p := l.s.Parent; p != nil; p = p.Parent { // a stage has the arguments of the one it begins with
		for _, c := range p.Commands {
			if c, ok := c.(*instructions.ArgCommand); ok {
				for _, a := range c.Args {
					scope.Declare(a)
				}
			}
		}
	}
	for _, c := range l.s.Commands {
		l.command(c, scope)
	}
	for _, list := range [][]instructions.Command{l.cmds, l.entries, l.health} {
		for _, c := range list[:max(0, len(list)-1)] {
			name := strings.ToUpper(c.Name())
			l.f.lint.Run(&linter.RuleMultipleInstructionsDisallowed, c.Location(), linter.RuleMultipleInstructionsDisallowed.Format(name))
		}
	}
}

// from checks the FROM line.
func (l *stageLint) from() {
	s := l.s
	if p := s.Platform; p != "" {
		raw := l.f.Stages[s.Index].Platform
		if raw == "$TARGETPLATFORM" || raw == "${TARGETPLATFORM}" {
			l.f.lint.Run(&linter.RuleRedundantTargetPlatform, s.Location, linter.RuleRedundantTargetPlatform.Format(raw))
		} else if !strings.Contains(raw, "$") && s.Parent == nil {
			l.f.lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, s.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(raw))
		}
	}
	l.defaultBase()
	if s.Parent == nil && !s.Context && s.Base != Scratch && !strings.Contains(s.Base, "@") {
		_, tag, _ := strings.Cut(path.Base(s.Base), ":")
		if tag == "" || tag == "latest" {
			l.f.Warn("UnpinnedFrom", "The base image is not pinned to a version",
				fmt.Sprintf("FROM %s means another image as time goes by: name a version, or a digest", s.Base), s.Location)
		}
	}
}

// defaultBase: the name of the base image is one without any --build-arg too.
func (l *stageLint) defaultBase() {
	word := l.f.Stages[l.s.Index].BaseName
	if !strings.Contains(word, "$") {
		return
	}
	g := &Graph{File: l.f, o: GraphOptions{Platform: l.g.o.Platform, Build: l.g.o.Build, Target: l.g.o.Target}, used: new(sync.Map), lex: l.g.lex}
	if g.globals() != nil {
		return // the same file as before
	}
	name, err := g.globalScope().Expand(word)
	if err == nil && name != "" {
		_, err = oci.ParseReference(name)
	}
	if err != nil || name == "" {
		l.f.lint.Run(&linter.RuleInvalidDefaultArgInFrom, l.s.Location, linter.RuleInvalidDefaultArgInFrom.Format(word))
	}
}

func (l *stageLint) command(c instructions.Command, scope *Scope) {
	switch c := c.(type) {
	case *instructions.CmdCommand:
		l.cmds = append(l.cmds, c)
		l.shellForm("CMD", c.PrependShell, c)
	case *instructions.EntrypointCommand:
		l.entries = append(l.entries, c)
		l.shellForm("ENTRYPOINT", c.PrependShell, c)
	case *instructions.HealthCheckCommand:
		l.health = append(l.health, c)
	case *instructions.WorkdirCommand:
		if !path.IsAbs(c.Path) && !strings.HasPrefix(c.Path, "$") && !l.workdir && l.s.Parent == nil {
			l.f.lint.Run(&linter.RuleWorkdirRelativePath, c.Location(), linter.RuleWorkdirRelativePath.Format(c.Path))
		}
		l.workdir = true
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			scope.Declare(a)
			l.names = append(l.names, a.Key)
			if secretName(a.Key) {
				l.f.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, c.Location(), linter.RuleSecretsUsedInArgOrEnv.Format("ARG", a.Key))
			}
		}
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			if kv.NoDelim {
				l.f.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
			}
			l.undefined(kv.Value, scope, c)
			scope.SetEnv(kv.Key, kv.Value)
			if secretName(kv.Key) {
				l.f.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, c.Location(), linter.RuleSecretsUsedInArgOrEnv.Format("ENV", kv.Key))
			}
		}
	case *instructions.LabelCommand:
		for _, kv := range c.Labels {
			if kv.NoDelim {
				l.f.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
			}
			l.undefined(kv.Value, scope, c)
		}
	case *instructions.CopyCommand:
		l.undefinedAll(append(slices.Clone(c.SourcePaths), c.DestPath, c.Chown, c.Chmod), scope, c)
	case *instructions.AddCommand:
		l.undefinedAll(append(slices.Clone(c.SourcePaths), c.DestPath, c.Chown, c.Chmod), scope, c)
	case *instructions.UserCommand:
		l.undefined(c.User, scope, c)
	case *instructions.ExposeCommand:
		l.expose(c)
	}
}

func (l *stageLint) expose(c *instructions.ExposeCommand) {
	for _, p := range c.Ports {
		if strings.Contains(p, "$") {
			continue
		}
		if strings.Count(p, ":") > 0 {
			l.f.lint.Run(&linter.RuleExposeInvalidFormat, c.Location(), linter.RuleExposeInvalidFormat.Format(p))
		}
		if _, proto, ok := strings.Cut(p, "/"); ok && proto != strings.ToLower(proto) {
			l.f.lint.Run(&linter.RuleExposeProtoCasing, c.Location(), linter.RuleExposeProtoCasing.Format(p))
		}
	}
}

func (l *stageLint) shellForm(name string, shell bool, c instructions.Command) {
	// A SHELL of one's own says that this is meant.
	for _, x := range l.s.Commands {
		if _, ok := x.(*instructions.ShellCommand); ok {
			return
		}
	}
	if shell {
		l.f.lint.Run(&linter.RuleJSONArgsRecommended, c.Location(), linter.RuleJSONArgsRecommended.Format(name))
	}
}

func (l *stageLint) undefinedAll(words []string, scope *Scope, c instructions.Command) {
	for _, w := range words {
		l.undefined(w, scope, c)
	}
}

// undefined finds variables that nothing declares. What a base image declares
// is not known here, so a stage upon another or an image is only held to what
// its own lines say when the name looks like a misspelling of one of them.
func (l *stageLint) undefined(word string, scope *Scope, c instructions.Command) {
	r, err := l.g.lex.ProcessWordWithMatches(word, scope)
	if err != nil {
		return
	}
	for name := range r.Unmatched {
		if slices.Contains(l.names, name) || l.s.Base != Scratch && !l.close(name, scope) {
			continue
		}
		l.f.lint.Run(&linter.RuleUndefinedVar, c.Location(), linter.RuleUndefinedVar.Format(name, ""))
	}
}

// close says whether a declared name differs from name in its case only, or by
// one letter.
func (l *stageLint) close(name string, scope *Scope) bool {
	for _, k := range append(scope.Keys(), l.names...) {
		if strings.EqualFold(k, name) || oneOff(k, name) {
			return true
		}
	}
	return false
}

// oneOff says whether two words of the same length, or of lengths that differ
// by one, differ in one letter.
func oneOff(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || len(a) < 3 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i < len(a) && a[i+1:] == b[i+1:]
	}
	return a[i:] == b[i+1:]
}

// secretName says whether a name is that of a secret: by its words, as
// BuildKit's rule has them.
func secretName(name string) bool {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '_' || r == '-' })
	for _, w := range words {
		switch w {
		case "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token":
			return !slices.Contains(words, "public")
		}
	}
	return false
}
