package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Names are the files that are read if none is named, in this order; a later
// one adds to the earlier ones, and wins.
var Names = []string{"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl"}

// ErrNoFile reports that there is no bake file.
var ErrNoFile = errors.New("there is no bake file")

// Options for Load.
type Options struct {
	// Vars are values of variables, from the command line; they win over Env.
	Vars map[string]string
	// Env looks a variable up in the environment.
	Env func(name string) (string, bool)
	// Builtin are values that every file knows, as BAKE_LOCAL_PLATFORM.
	Builtin map[string]string
	// Set are "PATTERN.KEY=VALUE": attributes of targets, as --set says them.
	Set []string
}

// A File is all bake files that were read.
type File struct {
	o         Options
	texts     map[string][]byte // of the files, for messages
	variables map[string]*variable
	functions map[string]*userFunction
	groups    []*block
	targets   []*block // matrices are not expanded
	values    map[string]cty.Value
	expanded  map[string]*target
	order     []string // of expanded
	busy      map[string]bool
	depth     int                          // of calls
	callables map[string]function.Function // functions, and the standard ones
}

// A block is a group or target as it is written; later files add attributes.
type block struct {
	name  string
	attrs map[string]hcl.Expression
}

// top is what a file may have.
var top = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "variable", LabelNames: []string{"name"}},
	{Type: "function", LabelNames: []string{"name"}},
	{Type: "group", LabelNames: []string{"name"}},
	{Type: "target", LabelNames: []string{"name"}},
}}

// Find returns the bake files of a directory.
func Find(dir string) []string {
	var all []string
	for _, n := range Names {
		if p := filepath.Join(dir, n); exists(p) {
			all = append(all, p)
		}
	}
	return all
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// Load reads files; "-" is what read returns for it.
func Load(files []string, read func(name string) ([]byte, error), o Options) (*File, error) {
	if len(files) == 0 {
		return nil, ErrNoFile
	}
	f := &File{o: o, texts: map[string][]byte{}, variables: map[string]*variable{}, functions: map[string]*userFunction{}, values: map[string]cty.Value{}, expanded: map[string]*target{}, busy: map[string]bool{}}
	for _, name := range files {
		data, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("read bake file: %w", err)
		}
		if err := f.add(name, data); err != nil {
			return nil, err
		}
	}
	for k, v := range o.Builtin {
		f.values[k] = cty.StringVal(v)
	}
	return f, f.expand()
}

// add reads one file.
func (f *File) add(name string, data []byte) error {
	f.texts[name] = data
	var parsed *hcl.File
	var diags hcl.Diagnostics
	if isJSON(name, data) {
		parsed, diags = json.Parse(data, name)
	} else {
		parsed, diags = hclsyntax.ParseConfig(data, name, hcl.InitialPos)
	}
	if diags.HasErrors() {
		return f.explain(diags)
	}
	content, rest, diags := parsed.Body.PartialContent(top)
	if diags.HasErrors() {
		return f.explain(diags)
	}
	for _, b := range content.Blocks {
		if err := f.addBlock(b); err != nil {
			return err
		}
	}
	attrs, diags := topAttributes(parsed.Body, rest)
	if diags.HasErrors() {
		return f.explain(diags)
	}
	for n, a := range attrs {
		f.variables[n] = &variable{value: a.Expr, fixed: true}
	}
	return nil
}

// topAttributes are what a file has besides its blocks: variables that the
// environment does not change.
func topAttributes(body, rest hcl.Body) (hcl.Attributes, hcl.Diagnostics) {
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		return rest.JustAttributes()
	}
	attrs := hcl.Attributes{}
	for n, a := range native.Attributes {
		attrs[n] = a.AsHCLAttribute()
	}
	for _, b := range native.Blocks {
		if !slices.ContainsFunc(top.Blocks, func(s hcl.BlockHeaderSchema) bool { return s.Type == b.Type }) {
			at := b.TypeRange
			return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Unknown block", Detail: fmt.Sprintf("There are variable, function, group and target, and no %q.", b.Type), Subject: &at}}
		}
	}
	return attrs, nil
}

func isJSON(name string, data []byte) bool {
	if strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".hcl") {
		return strings.HasSuffix(name, ".json")
	}
	return strings.HasPrefix(strings.TrimSpace(string(data)), "{")
}

func (f *File) addBlock(b *hcl.Block) error {
	name := b.Labels[0]
	switch b.Type {
	case "variable":
		v, err := f.newVariable(b.Body)
		if err != nil {
			return err
		}
		f.variables[name] = v
		return nil
	case "function":
		fn, err := f.newFunction(b.Body)
		if err != nil {
			return err
		}
		f.functions[name] = fn
		return nil
	}
	attrs, diags := b.Body.JustAttributes()
	if diags.HasErrors() {
		return f.explain(diags)
	}
	list := &f.targets
	if b.Type == "group" {
		list = &f.groups
	}
	known := targetKeys
	if b.Type == "group" {
		known = []string{"targets", "description"}
	}
	var to *block
	for _, have := range *list {
		if have.name == name {
			to = have
		}
	}
	if to == nil {
		to = &block{name: name, attrs: map[string]hcl.Expression{}}
		*list = append(*list, to)
	}
	for n, a := range attrs {
		if !contains(known, n) {
			return f.explain(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Unknown attribute", Detail: fmt.Sprintf("%s %q has no attribute %q.", b.Type, name, n), Subject: &a.NameRange}})
		}
		if old := to.attrs[n]; old != nil && contains(mapKeys, n) {
			to.attrs[n] = &both{old, a.Expr}
			continue
		}
		to.attrs[n] = a.Expr
	}
	return nil
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// explain makes an error of what HCL found: its place, the line and a mark.
func (f *File) explain(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		what := strings.TrimSuffix(d.Summary, ".") + ": " + strings.TrimSuffix(d.Detail, ".")
		if d.Subject == nil {
			return errors.New(what)
		}
		at := d.Subject
		out := fmt.Sprintf("%s:%d: %s", at.Filename, at.Start.Line, what)
		lines := strings.Split(string(f.texts[at.Filename]), "\n")
		if n := at.Start.Line; n >= 1 && n <= len(lines) {
			pad := strings.Map(func(r rune) rune {
				if r == '\t' {
					return r
				}
				return ' '
			}, lines[n-1][:min(max(at.Start.Column-1, 0), len(lines[n-1]))])
			out += fmt.Sprintf("\n%6d | %s\n       | %s^", n, lines[n-1], pad)
		}
		return errors.New(out)
	}
	return nil
}
