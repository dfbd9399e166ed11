package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Execute runs what args (without the program's name) ask for and returns the
// exit code. Errors have been printed.
func (t *Tree) Execute(ctx context.Context, args []string) int {
	return Report(t.Stderr, t.execute(ctx, args))
}

func (t *Tree) execute(ctx context.Context, args []string) error {
	globals := newFlags(t.Program)
	globals.SetInterspersed(false)
	if t.Globals != nil {
		t.Globals(globals)
	}
	if err := globals.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return t.help("")
		}
		return &UsageError{t.Program, err}
	}
	words := globals.Args()
	if len(words) == 0 {
		if v := globals.Lookup("version"); v != nil && v.Changed {
			words = []string{"version", "--short"}
		} else {
			return t.missing("")
		}
	}
	switch words[0] {
	case "help":
		return t.helpCommand(words[1:])
	case "__complete", "__completeNoDesc":
		return t.complete(ctx, words)
	}
	row, n := t.find(words)
	switch {
	case row == nil:
		return t.unknown("", words[0])
	case row.Elsewhere:
		return t.Handoff(ctx, args)
	case row.Build == nil:
		return t.group(row, words[n:])
	}
	return t.run(ctx, row, words[n:], globals)
}

// run builds the row, parses its flags and calls it.
func (t *Tree) run(ctx context.Context, row *Node, args []string, globals *Flags) error {
	cmd := row.Build()
	if cmd.Raw {
		return cmd.Run(ctx, args)
	}
	path := t.full(row.Path)
	flags := t.flagsOf(row, cmd, globals)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return t.helpFor(row, cmd)
		}
		return &UsageError{path, err}
	}
	if cmd.Args != nil {
		if err := cmd.Args(path, flags.Args()); err != nil {
			return err
		}
	}
	return cmd.Run(ctx, flags.Args())
}

// flagsOf is the row's flag set with the globals added, unlisted, where the
// command has no flag of that name.
func (t *Tree) flagsOf(row *Node, cmd *Command, globals *Flags) *Flags {
	f := newFlags(row.Path)
	f.SetInterspersed(!cmd.ArgsEndFlags)
	if cmd.Flags != nil {
		cmd.Flags(f)
	}
	if globals == nil {
		return f
	}
	globals.VisitAll(func(g *pflag.Flag) {
		if f.Lookup(g.Name) != nil || g.Name == "version" {
			return
		}
		c := *g
		c.Hidden, c.Shorthand = true, ""
		f.AddFlag(&c)
	})
	return f
}

// ParseFlags parses args by the flags that declare declares, up to the first
// argument, and returns the arguments. It is for a command that reads the
// command line of another.
func ParseFlags(path string, args []string, declare func(*Flags)) ([]string, error) {
	f := newFlags(path)
	f.SetInterspersed(false)
	declare(f)
	if err := f.Parse(args); err != nil {
		return nil, &UsageError{path, err}
	}
	return f.Args(), nil
}

// Help prints the page of a path.
func (t *Tree) Help(path string) error { return t.help(path) }

// group answers a group's path with no command, or with one it has not.
func (t *Tree) group(row *Node, rest []string) error {
	for _, w := range rest {
		if w == "--help" || w == "-h" {
			return t.help(row.Path)
		}
		if !strings.HasPrefix(w, "-") {
			return t.unknown(row.Path, w)
		}
		return &UsageError{t.full(row.Path), fmt.Errorf("unknown flag: %s", w)}
	}
	return t.missing(row.Path)
}

func (t *Tree) missing(path string) error {
	if err := t.help(path); err != nil {
		return err
	}
	return fmt.Errorf("missing command '%s COMMAND'", t.full(path))
}

func (t *Tree) unknown(path, word string) error {
	if t.Unknown != "" {
		return fmt.Errorf(t.Unknown, word)
	}
	text := fmt.Sprintf("unrecognized command `%s %s`", t.full(path), word)
	if near := t.suggest(path, word); len(near) > 0 {
		text += "\n\nDid you mean this?\n\t" + strings.Join(near, "\n\t") + "\n"
	}
	return fmt.Errorf("%s\nTry '%s --help' for more information", text, t.full(path))
}

// suggest lists the commands below path that word may have meant.
func (t *Tree) suggest(path, word string) []string {
	var near []string
	for _, n := range t.children(path, false) {
		_, name := split(n.Path)
		if distance(word, name) <= 2 || strings.HasPrefix(name, strings.ToLower(word)) {
			near = append(near, name)
		}
	}
	return near
}

// distance is the number of letters to change, add or drop to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// Paths lists the paths of the rows, sorted, for tests and generators.
func (t *Tree) Paths() []string {
	var paths []string
	for _, n := range t.Nodes {
		paths = append(paths, n.Path)
	}
	slices.Sort(paths)
	return paths
}
