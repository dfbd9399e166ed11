package clifull

import (
	"context"
	"fmt"
	"slices"

	"hull/build"
	"hull/command"
	"hull/containerfile"
)

// runCheck prints what the rules say of the Containerfile; exit status 1 when
// they say something.
func (s *session) runCheck(ctx context.Context, o build.Options) error {
	f, warnings, err := build.Check(ctx, o)
	if err != nil {
		return err
	}
	slices.SortStableFunc(warnings, func(a, b containerfile.Warning) int { return a.Line - b.Line })
	for _, w := range warnings {
		fmt.Fprintf(s.stdout, "%s:%d: %s: %s\n", f.Name, w.Line, w.Rule, command.Printable(w.Text))
		if w.Line > 0 && w.Line <= len(f.Lines) {
			fmt.Fprintf(s.stdout, "%6d | %s\n", w.Line, command.Printable(f.Lines[w.Line-1]))
		}
	}
	if len(warnings) == 0 {
		fmt.Fprintln(s.stdout, "Check complete, no warnings found.")
		return nil
	}
	fmt.Fprintf(s.stdout, "Check complete, %d warnings have been found!\n", len(warnings))
	return &command.Exit{Code: command.CodeFailed}
}

// runTargets lists the stages that can be built.
func (s *session) runTargets(ctx context.Context, o build.Options) error {
	f, _, err := build.Check(ctx, o)
	if err != nil {
		return err
	}
	for i := range f.Stages {
		st := &f.Stages[i]
		name := st.Name
		if name == "" {
			name = fmt.Sprint(i)
		}
		mark := ""
		if i == len(f.Stages)-1 {
			mark = " (default)"
		}
		fmt.Fprintf(s.stdout, "%s%s\n", name, mark)
	}
	return nil
}
