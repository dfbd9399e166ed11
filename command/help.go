package command

import (
	"fmt"
	"io"
	"strings"
)

// help prints the page of a path: a command's, or a group's list.
func (t *Tree) help(path string) error {
	if row := t.node(path); row != nil && row.Build != nil {
		return t.helpFor(row, row.Build())
	}
	return t.helpGroup(path)
}

// helpCommand is `help [COMMAND...]`.
func (t *Tree) helpCommand(words []string) error {
	if len(words) == 0 {
		return t.help("")
	}
	row, n := t.find(words)
	if row == nil || n < len(words) {
		parent := ""
		if row != nil {
			parent = row.Path
		}
		return t.unknown(parent, words[n])
	}
	if row.Elsewhere {
		return t.Handoff(nil, append(strings.Fields(row.Path), "--help"))
	}
	return t.help(row.Path)
}

func (t *Tree) helpGroup(path string) error {
	var b strings.Builder
	if row := t.node(path); row != nil {
		fmt.Fprintf(&b, "%s\n\nDescription:\n  %s\n\nUsage:\n  %s [command]\n", row.Short, row.Short, t.full(path))
	} else {
		fmt.Fprintf(&b, "%s\n\nUsage:\n  %s [options] [command]\n", t.Long, t.Program)
	}
	rows := t.children(path, false)
	width := 0
	for _, n := range rows {
		_, name := split(n.Path)
		width = max(width, len(name))
	}
	b.WriteString("\nAvailable Commands:\n")
	for _, n := range rows {
		_, name := split(n.Path)
		fmt.Fprintf(&b, "  %-*s %s\n", width, name, n.Short)
	}
	if path == "" && t.Globals != nil {
		f := newFlags(t.Program)
		t.Globals(f)
		fmt.Fprintf(&b, "\nOptions:\n%s", usages(f))
	}
	_, err := io.WriteString(t.Stdout, b.String())
	return err
}

func (t *Tree) helpFor(row *Node, cmd *Command) error {
	_, err := io.WriteString(t.Stdout, t.page(row, cmd))
	return err
}

// page is the help text of one command.
func (t *Tree) page(row *Node, cmd *Command) string {
	var b strings.Builder
	long := cmd.Long
	if long == "" {
		long = row.Short + "."
	}
	fmt.Fprintf(&b, "%s\n\nDescription:\n  %s\n", row.Short, strings.ReplaceAll(strings.TrimSpace(long), "\n", "\n  "))
	usage := t.full(row.Path)
	if cmd.Usage != "" {
		usage += " " + cmd.Usage
	}
	fmt.Fprintf(&b, "\nUsage:\n  %s\n", usage)
	if same := t.aliases(row); len(same) > 0 {
		fmt.Fprintf(&b, "\nAliases:\n  %s\n", strings.Join(same, ", "))
	}
	if len(cmd.Examples) > 0 {
		b.WriteString("\nExamples:\n")
		for _, e := range cmd.Examples {
			fmt.Fprintf(&b, "  %s %s\n", t.Program, e)
		}
	}
	if cmd.Flags != nil {
		f := newFlags(row.Path)
		cmd.Flags(f)
		if u := usages(f); u != "" {
			fmt.Fprintf(&b, "\nOptions:\n%s", u)
		}
	}
	return b.String()
}

// aliases are the other paths with the same description under which the
// command is found.
func (t *Tree) aliases(row *Node) []string {
	var same []string
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.Short == row.Short && n.Build != nil && n.Path != row.Path {
			same = append(same, t.full(n.Path))
		}
	}
	return same
}

// usages are the flags' lines as docker and podman write them: a switch has no
// value, though it takes one.
func usages(f interface{ FlagUsages() string }) string {
	const value = "[=true|false]"
	return strings.ReplaceAll(f.FlagUsages(), value, strings.Repeat(" ", len(value)))
}
