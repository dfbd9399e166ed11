package command

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Shells are those that completion scripts can be written for.
var Shells = []string{"bash", "zsh", "fish", "powershell"}

// CompletionScript writes the script of a shell; without descriptions when
// descriptions is false.
func (t *Tree) CompletionScript(w io.Writer, shell string, descriptions bool) error {
	root := &cobra.Command{Use: t.Program}
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(w, descriptions)
	case "zsh":
		if descriptions {
			return root.GenZshCompletion(w)
		}
		return root.GenZshCompletionNoDesc(w)
	case "fish":
		return root.GenFishCompletion(w, descriptions)
	case "powershell":
		if descriptions {
			return root.GenPowerShellCompletionWithDesc(w)
		}
		return root.GenPowerShellCompletion(w)
	}
	return fmt.Errorf("invalid argument %q for \"%s completion\"", shell, t.Program)
}

// complete answers the scripts' question: `__complete WORD... LAST`.
func (t *Tree) complete(ctx context.Context, words []string) error {
	var built *Node
	if len(words) > 1 {
		built, _ = t.find(plain(words[1 : len(words)-1]))
	}
	root := t.Cobra(func(n *Node) bool { return n == built })
	root.SetArgs(words)
	root.SetOut(t.Stdout)
	root.SetErr(t.Stderr)
	return root.ExecuteContext(ctx)
}

// plain drops leading global flags, which stand before the words of a command.
func plain(words []string) []string {
	for i, w := range words {
		if len(w) > 0 && w[0] != '-' {
			return words[i:]
		}
	}
	return nil
}

// Cobra is the tree as cobra's, for completion and the manual pages: every row
// is there, but only those that want are built with their flags.
func (t *Tree) Cobra(want func(*Node) bool) *cobra.Command {
	root := &cobra.Command{Use: t.Program, Long: t.Long, SilenceErrors: true, SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error { return nil }}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "help", Short: "Help about any command", Hidden: true})
	if t.Globals != nil {
		f := newFlags(t.Program)
		t.Globals(f)
		adopt(root, root.PersistentFlags(), f)
	}
	made := map[string]*cobra.Command{"": root}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		parent, name := split(n.Path)
		c := &cobra.Command{Use: name, Short: n.Short, Hidden: n.Hidden, DisableFlagsInUseLine: true,
			RunE: func(*cobra.Command, []string) error { return nil }}
		if n.Build != nil && want(n) {
			t.dress(c, n)
		}
		made[n.Path] = c
		if p := made[parent]; p != nil {
			p.AddCommand(c)
		}
	}
	return root
}

// dress gives the cobra command what the built row knows.
func (t *Tree) dress(c *cobra.Command, n *Node) {
	cmd := n.Build()
	if cmd.Usage != "" {
		c.Use += " " + cmd.Usage
	}
	c.Long = cmd.Long
	for i, e := range cmd.Examples {
		if i > 0 {
			c.Example += "\n"
		}
		c.Example += t.Program + " " + e
	}
	if cmd.Flags != nil {
		f := newFlags(n.Path)
		cmd.Flags(f)
		adopt(c, c.Flags(), f)
		if cmd.ArgsEndFlags {
			c.Flags().SetInterspersed(false)
		}
		if c.Flags().Lookup("help") == nil && c.Flags().ShorthandLookup("h") != nil {
			// cobra would add a help flag with the letter that is taken.
			c.Flags().Bool("help", false, "help for "+n.Path)
		}
	}
	if cmd.Complete != nil {
		c.ValidArgsFunction = bridge(cmd.Complete)
	}
}

// adopt moves the flags of f with their completers to a cobra command.
func adopt(c *cobra.Command, to *pflag.FlagSet, f *Flags) {
	f.VisitAll(func(flag *pflag.Flag) {
		to.AddFlag(flag)
		if complete := f.completers[flag.Name]; complete != nil {
			// The only error is a second registration of the same flag.
			_ = c.RegisterFlagCompletionFunc(flag.Name, bridge(complete))
		}
	})
}

func bridge(complete Completer) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(c *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return complete(c.Context(), args, toComplete), cobra.ShellCompDirectiveNoFileComp
	}
}
