package command

import (
	"context"
	"io"
	"strings"
)

// Node is one row of the table. A row with neither Build nor Elsewhere is a
// group: the words before its children's.
type Node struct {
	// Path is the words after the program's name, "container ls".
	Path string
	// Short is the line shown in the list of commands.
	Short string
	// Build makes the command; it is called only for the row that was asked
	// for, or that is being documented or completed.
	Build func() *Command
	// Elsewhere marks a command that another binary holds: Tree.Handoff gets
	// its arguments unparsed.
	Elsewhere bool
	// Hidden rows work but are not listed: aliases and internal entries.
	Hidden bool
	// Over rows come before a row of a shorter path, which would take all that
	// stands behind it.
	Over bool
}

// Command is a built row.
type Command struct {
	// Usage follows the path in the usage line: "[options] IMAGE [ARG...]".
	Usage string
	// Long is the description; the row's Short stands in when it is empty.
	Long string
	// Examples are shown with the program's name put before each.
	Examples []string
	// Args checks the positional arguments; nil takes any.
	Args ArgRule
	// Flags declares the flags; nil declares none.
	Flags func(*Flags)
	// ArgsEndFlags stops flag parsing at the first argument, so that
	// what follows belongs to the container: run, exec, top.
	ArgsEndFlags bool
	// Raw passes everything after the path to Run, flags and all.
	Raw bool
	// Complete proposes positional arguments; nil leaves it to the shell's
	// own file names.
	Complete Completer
	// Run does the work.
	Run func(ctx context.Context, args []string) error
}

// Completer proposes words for what is being typed after args. A word may be
// followed by a tab and a description. It must not fail: what cannot be read
// is not proposed.
type Completer func(ctx context.Context, args []string, toComplete string) []string

// Tree is a whole command line.
type Tree struct {
	// Program is the name shown in help and errors: hull, podman or docker.
	Program string
	// Long describes the program.
	Long string
	// Nodes are the rows, in the order they are listed.
	Nodes []Node
	// Globals declares the program's own flags.
	Globals func(*Flags)
	// Handoff is called for a row that lives Elsewhere with the whole argument
	// vector (after the program's name). It returns only on failure.
	Handoff func(ctx context.Context, args []string) error
	// Unknown is how a word is told that is no command, with %s for it; empty is podman's way.
	Unknown string
	// Stdout gets help; Stderr gets errors.
	Stdout, Stderr io.Writer
}

// find walks words down the table and returns the deepest row they name and
// how many of them it took. A nil row means the first word is unknown.
func (t *Tree) find(words []string) (*Node, int) {
	var found *Node
	path := ""
	n := 0
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " ") {
			break
		}
		if i > 0 {
			path += " "
		}
		path += w
		row := t.node(path)
		if row == nil {
			break
		}
		found, n = row, i+1
		if row.Build != nil || row.Elsewhere {
			if i+1 < len(words) {
				if over := t.node(path + " " + words[i+1]); over != nil && over.Over {
					return over, i + 2
				}
			}
			break
		}
	}
	return found, n
}

func (t *Tree) node(path string) *Node {
	for i := range t.Nodes {
		if t.Nodes[i].Path == path {
			return &t.Nodes[i]
		}
	}
	return nil
}

// children lists the rows directly below path that are shown in help.
func (t *Tree) children(path string, hidden bool) []*Node {
	var rows []*Node
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.Hidden && !hidden {
			continue
		}
		parent, _ := split(n.Path)
		if parent == path {
			rows = append(rows, n)
		}
	}
	return rows
}

// split cuts a path into its parent and its last word.
func split(path string) (parent, name string) {
	if i := strings.LastIndexByte(path, ' '); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// full is the path with the program's name, as help and errors show it.
func (t *Tree) full(path string) string {
	if path == "" {
		return t.Program
	}
	return t.Program + " " + path
}
