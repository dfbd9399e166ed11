package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// ManPage is the name of the manual page of a path, without the section.
func (t *Tree) ManPage(path string) string {
	return strings.ReplaceAll(t.full(path), " ", "-")
}

// Man writes the manual page, section 1, of the row with the path; "" is the
// program's own. Its text is that of help.
func (t *Tree) Man(w io.Writer, path string) error {
	m := manWriter{}
	m.linef(`.TH "%s" 1 "" "%s" "User Commands"`, strings.ToUpper(t.ManPage(path)), t.Program)
	row := t.node(path)
	switch {
	case path == "":
		m.name(t.ManPage(path), t.Long)
		m.synopsis(t.Program, "[options] [command]")
		m.section("DESCRIPTION")
		m.text(t.Long + ".")
		m.children(t, path)
		if t.Globals != nil {
			f := newFlags(t.Program)
			t.Globals(f)
			m.flags(f)
		}
	case row == nil:
		return fmt.Errorf("bug: no command %q", path)
	case row.Build == nil:
		m.name(t.ManPage(path), row.Short)
		m.synopsis(t.full(path), "[command]")
		m.children(t, path)
	default:
		m.command(t, row, row.Build())
	}
	_, err := io.WriteString(w, m.String())
	return err
}

// manWriter writes the few requests of man(7) that the pages need.
type manWriter struct{ strings.Builder }

func (m *manWriter) linef(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }
func (m *manWriter) section(name string)              { m.linef(".SH %s", name) }

// text writes paragraphs; each line of s keeps its end.
func (m *manWriter) text(s string) {
	for i, line := range strings.Split(strings.TrimSpace(s), "\n") {
		if i > 0 {
			m.linef(".br")
		}
		m.linef("%s", roff(line))
	}
}

func (m *manWriter) name(page, short string) {
	m.section("NAME")
	m.linef(`%s \- %s`, roff(page), roff(short))
}

func (m *manWriter) synopsis(command, usage string) {
	m.section("SYNOPSIS")
	m.linef(`\fB%s\fR %s`, roff(command), roff(usage))
}

func (m *manWriter) children(t *Tree, path string) {
	m.section("COMMANDS")
	for _, n := range t.children(path, false) {
		m.linef(".TP")
		m.linef(`\fB%s\fR(1)`, roff(t.ManPage(n.Path)))
		m.linef("%s", roff(n.Short))
	}
}

func (m *manWriter) command(t *Tree, row *Node, cmd *Command) {
	m.name(t.ManPage(row.Path), row.Short)
	m.synopsis(t.full(row.Path), cmd.Usage)
	for _, same := range t.aliases(row) {
		m.linef(".PP")
		m.linef(`\fB%s\fR %s`, roff(same), roff(cmd.Usage))
	}
	m.section("DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = row.Short + "."
	}
	m.text(long)
	if cmd.Flags != nil {
		f := newFlags(row.Path)
		cmd.Flags(f)
		m.flags(f)
	}
	if len(cmd.Examples) > 0 {
		m.section("EXAMPLES")
		m.linef(".nf")
		for _, e := range cmd.Examples {
			m.linef("%s", roff("$ "+t.Program+" "+e))
		}
		m.linef(".fi")
	}
	m.section("SEE ALSO")
	parent, _ := split(row.Path)
	m.linef(`\fB%s\fR(1)`, roff(t.ManPage(parent)))
}

func (m *manWriter) flags(f *Flags) {
	if !f.HasAvailableFlags() {
		return
	}
	m.section("OPTIONS")
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden {
			return
		}
		kind, usage := pflag.UnquoteUsage(flag)
		names := `\fB` + roff("--"+flag.Name) + `\fR`
		if flag.Shorthand != "" {
			names += `, \fB` + roff("-"+flag.Shorthand) + `\fR`
		}
		if kind != "" {
			names += ` \fI` + roff(kind) + `\fR`
		}
		m.linef(".TP")
		m.linef("%s", names)
		m.linef("%s", roff(usage))
	})
}

// roff is s as roff shows it: no request, no escape, hyphens that can be
// searched for.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
