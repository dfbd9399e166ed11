package command

import (
	"strings"
	"testing"
)

func TestMan(t *testing.T) {
	tree := &Tree{Program: "hull", Long: "Run containers", Nodes: []Node{
		{Path: "box", Short: "Manage boxes"},
		{Path: "box ls", Short: "List boxes", Build: func() *Command {
			var all bool
			return &Command{Usage: "[options]", Long: ".dot first\nand \\ more", Examples: []string{"box ls -a"},
				Flags: func(f *Flags) { f.BoolVarP(&all, "all", "a", false, "Show all") }}
		}},
	}}
	for path, want := range map[string][]string{
		"":       {`.TH "HULL" 1`, `\fBhull\-box\fR(1)`},
		"box":    {`hull\-box \- Manage boxes`, `\fBhull\-box\-ls\fR(1)`},
		"box ls": {`\fBhull box ls\fR [options]`, "\n\\&.dot first\n.br\nand \\e more\n", "\n\\fB\\-\\-all\\fR, \\fB\\-a\\fR\nShow all\n", "\n$ hull box ls \\-a\n"},
	} {
		var b strings.Builder
		if err := tree.Man(&b, path); err != nil {
			t.Errorf("Man(%q): %v", path, err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("Man(%q) lacks %q:\n%s", path, w, b.String())
			}
		}
	}
	if err := tree.Man(&strings.Builder{}, "nothing"); err == nil {
		t.Error("Man of no command: no error")
	}
}
