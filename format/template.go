package format

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"

	"hull/command"
)

// Template is a parsed --format.
type Template struct {
	t     *template.Template
	table bool
	// whole is true when the template ranges over the rows itself.
	whole bool
}

// Parse reads the text of --format: an optional word "table", then a Go
// template in which \n and \t stand for newline and tab. name is the command's,
// for errors.
func Parse(name, text string) (*Template, error) {
	f := &Template{}
	text, f.table = cutTable(text)
	text = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\\`, `\`).Replace(text)
	f.whole = strings.HasPrefix(strings.TrimSpace(text), "{{range")
	t, err := template.New(name).Funcs(functions()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse --format: %w", err)
	}
	f.t = t
	return f, nil
}

// cutTable takes the word "table" off the front.
func cutTable(text string) (string, bool) {
	s := strings.TrimLeft(text, " ")
	if rest, ok := strings.CutPrefix(s, "table"); ok && (rest == "" || strings.IndexFunc(rest, unicode.IsSpace) == 0 || strings.HasPrefix(rest, `\t`) || rest[0] == '{') {
		return strings.TrimLeft(rest, " "), true
	}
	return text, false
}

// IsTable reports whether text is the word "table" and nothing more: the
// command's own columns.
func IsTable(text string) bool {
	rest, ok := cutTable(text)
	return ok && strings.TrimSpace(rest) == ""
}

// Rows writes one line for each of rows, a slice, and above them, for a
// "table" template without noHeading, the names of the columns: titles[field],
// or the field's own name in capitals ("CreatedAt" is CREATED AT).
func (f *Template) Rows(w io.Writer, rows any, titles map[string]string, noHeading bool) error {
	var text strings.Builder
	if f.table && !noHeading {
		if err := f.header(&text, titles); err != nil {
			return err
		}
	}
	v := reflect.ValueOf(rows)
	if f.whole {
		if err := f.t.Execute(&text, rows); err != nil {
			return err
		}
	} else {
		for i := range v.Len() {
			if err := f.t.Execute(&text, v.Index(i).Interface()); err != nil {
				return err
			}
			text.WriteByte('\n')
		}
	}
	if !f.table {
		_, err := io.WriteString(w, command.Printable(text.String()))
		return err
	}
	var b bytes.Buffer
	tw := newTabs(&b)
	if _, err := io.WriteString(tw, command.Printable(text.String())); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// One writes a single object and a newline.
func (f *Template) One(w io.Writer, v any) error {
	var text strings.Builder
	if err := f.t.Execute(&text, v); err != nil {
		return err
	}
	_, err := io.WriteString(w, command.Printable(text.String())+"\n")
	return err
}

// header executes the template on the names of its own fields.
func (f *Template) header(w io.Writer, titles map[string]string) error {
	names := map[string]any{}
	walk(f.t.Root, func(fields []string) {
		m := names
		for i, field := range fields {
			if i == len(fields)-1 {
				if _, there := m[field]; !there {
					m[field] = title(field, titles)
				}
				return
			}
			next, ok := m[field].(map[string]any)
			if !ok {
				next = map[string]any{}
				m[field] = next
			}
			m = next
		}
	})
	t, err := f.t.Clone()
	if err != nil {
		return err
	}
	if err := t.Funcs(headerFunctions()).Execute(w, names); err != nil {
		return fmt.Errorf("make the header of --format: %w", err)
	}
	_, err = io.WriteString(w, "\n")
	return err
}

// title is the column's name: "CreatedAt" is CREATED AT.
func title(field string, titles map[string]string) string {
	if t, ok := titles[field]; ok {
		return t
	}
	var b strings.Builder
	runes := []rune(field)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// walk calls found with each chain of fields in the template.
func walk(n parse.Node, found func([]string)) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, c := range n.Nodes {
				walk(c, found)
			}
		}
	case *parse.ActionNode:
		walk(n.Pipe, found)
	case *parse.PipeNode:
		if n != nil {
			for _, c := range n.Cmds {
				walk(c, found)
			}
		}
	case *parse.CommandNode:
		for _, a := range n.Args {
			walk(a, found)
		}
	case *parse.FieldNode:
		found(n.Ident)
	case *parse.IfNode:
		walkBranch(&n.BranchNode, found)
	case *parse.WithNode:
		walkBranch(&n.BranchNode, found)
	case *parse.RangeNode:
		walkBranch(&n.BranchNode, found)
	}
}

func walkBranch(n *parse.BranchNode, found func([]string)) {
	walk(n.Pipe, found)
	walk(n.List, found)
	walk(n.ElseList, found)
}

// functions are those that podman and docker give to templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := encode(v, "")
			return strings.TrimSuffix(string(b), "\n"), err
		},
		"jsonpretty": func(v any) (string, error) {
			b, err := encode(v, "    ")
			return strings.TrimSuffix(string(b), "\n"), err
		},
		"join":     join,
		"split":    strings.Split,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"title":    titleCase,
		"pad":      pad,
		"truncate": func(s string, n int) string { return string([]rune(s)[:min(n, len([]rune(s)))]) },
	}
}

// headerFunctions hand the name of a column through.
func headerFunctions() template.FuncMap {
	same := func(v ...any) any {
		if len(v) == 0 {
			return ""
		}
		return v[0]
	}
	m := template.FuncMap{"pad": pad, "index": same, "slice": same, "printf": func(_ string, v ...any) any { return same(v...) }, "len": same}
	for _, n := range []string{"json", "jsonpretty", "join", "split", "lower", "upper", "title", "truncate"} {
		m[n] = same
	}
	return m
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

func titleCase(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		first := start
		start = unicode.IsSpace(r)
		if first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// join puts sep between the elements of a list of any kind.
func join(list any, sep string) (string, error) {
	if s, ok := list.(string); ok {
		return s, nil
	}
	v := reflect.ValueOf(list)
	if !v.IsValid() {
		return "", nil
	}
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return "", fmt.Errorf("join: %T is not a list", list)
	}
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(parts, sep), nil
}
