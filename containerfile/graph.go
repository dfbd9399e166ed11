package containerfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"hull/oci"
)

// Scratch is the base of a stage that begins with nothing.
const Scratch = "scratch"

// GraphOptions for Graph.
type GraphOptions struct {
	Args map[string]string // --build-arg
	// Target is a stage's name or number; "" is the last.
	Target string
	// From replaces the base of the first stage that is not scratch or a stage.
	From string
	// Platform is the target's, Build the machine's.
	Platform, Build oci.Platform
	// Contexts are the names of named contexts: they go before stages and images.
	Contexts []string
}

// A Graph is the stages with what each needs.
type Graph struct {
	File   *File
	Stages []*Stage
	Target *Stage
	// Order are the stages that the target needs and itself, each after what it needs.
	Order []*Stage

	o      GraphOptions
	global map[string]string
	used   *sync.Map  // names of arguments that were given and used; stages are read side by side
	lex    *shell.Lex // the graph's own: one is for one goroutine
}

// A Stage is one FROM with what follows.
type Stage struct {
	Index    int
	Name     string // as FROM … AS says, "" none
	Base     string // image, context or stage, expanded
	Parent   *Stage // the base, when it is a stage
	Context  bool   // the base is a named context
	Platform string // of FROM --platform, expanded
	Commands []instructions.Command
	Source   string // the FROM line
	Location []parser.Range
	Needs    []*Stage // with Parent; without those of triggers in the base image
}

// Title names a stage for people.
func (s *Stage) Title() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.Itoa(s.Index)
}

// Graph finds out what is to be built. Its errors are *Error where they have a line.
func (f *File) Graph(o GraphOptions) (*Graph, error) {
	g := &Graph{File: f, o: o, used: new(sync.Map), lex: shell.NewLex(f.Escape)}
	if err := g.globals(); err != nil {
		return nil, err
	}
	for i := range f.Stages {
		if err := g.add(i, &f.Stages[i]); err != nil {
			return nil, f.At(f.Stages[i].Location, err)
		}
	}
	for _, s := range g.Stages {
		if err := g.needs(s); err != nil {
			return nil, err
		}
	}
	if err := g.target(); err != nil {
		return nil, err
	}
	return g, g.order()
}

// platformArgs are the arguments that need no --build-arg.
func platformArgs(target, build oci.Platform, stage string) map[string]string {
	all := map[string]string{"TARGETSTAGE": stage}
	for prefix, p := range map[string]oci.Platform{"TARGET": target, "BUILD": build} {
		all[prefix+"PLATFORM"], all[prefix+"OS"], all[prefix+"ARCH"] = p.String(), p.OS, p.Architecture
		all[prefix+"VARIANT"], all[prefix+"OSVERSION"] = p.Variant, p.OSVersion
	}
	return all
}

// globals settles the arguments before the first FROM.
func (g *Graph) globals() error {
	stage := g.o.Target
	if n := len(g.File.Stages); stage == "" && n > 0 {
		stage = g.File.Stages[n-1].Name
	}
	if stage == "" {
		stage = "default"
	}
	g.global = platformArgs(g.o.Platform, g.o.Build, stage)
	for k := range g.global {
		if v, ok := g.o.Args[k]; ok {
			g.global[k] = v
			g.used.Store(k, true)
		}
	}
	for _, cmd := range g.File.Global {
		scope := g.globalScope()
		for _, a := range cmd.Args {
			value, ok := g.o.Args[a.Key]
			if ok {
				g.used.Store(a.Key, true)
			} else if a.Value != nil {
				var err error
				if value, err = scope.Expand(*a.Value); err != nil {
					return g.File.At(cmd.Location(), err)
				}
			} else {
				continue // it has the predefined value, or none
			}
			g.global[a.Key] = value
			scope = g.globalScope()
		}
	}
	return nil
}

func (g *Graph) globalScope() *Scope {
	s := &Scope{lex: g.lex}
	for _, k := range slices.Sorted(maps.Keys(g.global)) {
		s.Args = append(s.Args, instructions.KeyValuePair{Key: k, Value: g.global[k]})
	}
	return s
}

// Scope is what names mean at a stage's begin.
func (g *Graph) Scope(env []string) *Scope {
	return &Scope{Env: env, lex: shell.NewLex(g.File.Escape), global: g.global, given: g.o.Args, used: g.used}
}

// UnusedArgs are those of --build-arg that nothing declared, when the stages
// that need building have been built; sorted.
func (g *Graph) UnusedArgs() []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(g.o.Args)) {
		if _, used := g.used.Load(k); !used && !IsProxy(k) && !strings.HasPrefix(k, "BUILDKIT_") && k != "SOURCE_DATE_EPOCH" {
			all = append(all, k)
		}
	}
	return all
}

// add settles a FROM line.
func (g *Graph) add(i int, in *instructions.Stage) error {
	s := &Stage{Index: i, Name: in.Name, Commands: in.Commands, Source: in.SourceCode, Location: in.Location}
	if s.Name != "" && (slices.ContainsFunc(g.Stages, func(old *Stage) bool { return strings.EqualFold(old.Name, s.Name) })) {
		g.File.lint.Run(&linter.RuleDuplicateStageName, in.Location, linter.RuleDuplicateStageName.Format(s.Name))
	}
	if strings.EqualFold(s.Name, Scratch) || strings.EqualFold(s.Name, "context") {
		g.File.lint.Run(&linter.RuleReservedStageName, in.Location, linter.RuleReservedStageName.Format(s.Name))
	}
	scope := g.globalScope()
	base, err := g.expandFrom(scope, in.BaseName, "base name", in.Location)
	if err != nil {
		return err
	}
	if s.Platform, err = g.expandFrom(scope, in.Platform, "platform", in.Location); err != nil {
		return err
	}
	if base == "" {
		return fmt.Errorf("base name (%s) should not be blank", in.BaseName)
	}
	s.Base = base
	switch {
	case slices.Contains(g.o.Contexts, base):
		s.Context = true
	case g.stage(base) != nil:
		s.Parent = g.stage(base)
	case g.o.From != "" && base != Scratch && !slices.ContainsFunc(g.Stages, func(old *Stage) bool { return old.Base == g.o.From }):
		s.Base = g.o.From
	}
	g.Stages = append(g.Stages, s)
	return nil
}

func (g *Graph) expandFrom(scope *Scope, word, what string, where []parser.Range) (string, error) {
	r, err := g.lex.ProcessWordWithMatches(word, scope)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", what, word, err)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unmatched)) {
		if g.File.declares(name) {
			continue // without a value: another rule's matter
		}
		g.File.lint.Run(&linter.RuleUndefinedArgInFrom, where, linter.RuleUndefinedArgInFrom.Format(name, ""))
	}
	return r.Result, nil
}

// declares says whether an ARG before the first FROM has that name.
func (f *File) declares(name string) bool {
	return slices.ContainsFunc(f.Global, func(c instructions.ArgCommand) bool {
		return slices.ContainsFunc(c.Args, func(a instructions.KeyValuePairOptional) bool { return a.Key == name })
	})
}

// stage finds the last stage of that name among those before.
func (g *Graph) stage(name string) *Stage {
	for _, s := range slices.Backward(g.Stages) {
		if s.Name != "" && strings.EqualFold(s.Name, name) {
			return s
		}
	}
	return nil
}

// Find is the stage that "from" of an instruction in stage s means: a name, or
// a number of an earlier one; nil when it is an image or a context.
func (g *Graph) Find(s *Stage, from string) (*Stage, error) {
	if slices.Contains(g.o.Contexts, from) {
		return nil, nil
	}
	if n, err := strconv.Atoi(from); err == nil {
		if n < 0 || n >= len(g.Stages) || n >= s.Index {
			return nil, fmt.Errorf("stage %d: there is none of that number before this one", n)
		}
		return g.Stages[n], nil
	}
	for _, other := range slices.Backward(g.Stages[:s.Index]) {
		if other.Name != "" && strings.EqualFold(other.Name, from) {
			return other, nil
		}
	}
	for _, other := range g.Stages[s.Index:] {
		if other.Name != "" && strings.EqualFold(other.Name, from) {
			return other, nil
		}
	}
	return nil, nil
}

// needs finds what a stage copies or mounts from.
func (g *Graph) needs(s *Stage) error {
	if s.Parent != nil {
		s.Needs = append(s.Needs, s.Parent)
	}
	for _, cmd := range s.Commands {
		for _, from := range Sources(cmd) {
			other, err := g.Find(s, from)
			if err != nil {
				return g.File.At(cmd.Location(), err)
			}
			if other != nil && !slices.Contains(s.Needs, other) {
				s.Needs = append(s.Needs, other)
			}
		}
	}
	return nil
}

// Sources are what an instruction reads from besides the context.
func Sources(cmd instructions.Command) []string {
	var all []string
	switch c := cmd.(type) {
	case *instructions.CopyCommand:
		if c.From != "" {
			all = append(all, c.From)
		}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			if m.From != "" {
				all = append(all, m.From)
			}
		}
	}
	return all
}

func (g *Graph) target() error {
	g.Target = g.Stages[len(g.Stages)-1]
	if g.o.Target == "" {
		return nil
	}
	if g.Target = g.stage(g.o.Target); g.Target != nil {
		return nil
	}
	if n, err := strconv.Atoi(g.o.Target); err == nil && n >= 0 && n < len(g.Stages) {
		g.Target = g.Stages[n]
		return nil
	}
	var names []string
	for _, s := range g.Stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return &unknownTarget{g.o.Target, g.File.Name, names}
}

type unknownTarget struct {
	name, file string
	names      []string
}

func (e *unknownTarget) Error() string {
	return fmt.Sprintf("the target %q was not found in the provided %s", e.name, e.file)
}

func (e *unknownTarget) Hint() string {
	if len(e.names) == 0 {
		return "no stage has a name: give it one with FROM … AS NAME"
	}
	return "its stages are: " + strings.Join(e.names, ", ")
}

// order sorts the stages that are needed, and refuses cycles.
func (g *Graph) order() error {
	const visiting, done = 1, 2
	seen := map[*Stage]int{}
	var visit func(s *Stage, path []string) error
	visit = func(s *Stage, path []string) error {
		path = append(path, s.Title())
		switch seen[s] {
		case done:
			return nil
		case visiting:
			return g.File.At(s.Location, errors.New("stages need each other in a circle: "+strings.Join(path, " → ")))
		}
		seen[s] = visiting
		for _, n := range s.Needs {
			if err := visit(n, path); err != nil {
				return err
			}
		}
		seen[s] = done
		g.Order = append(g.Order, s)
		return nil
	}
	return visit(g.Target, nil)
}
