// Docs writes the manual pages and shell completions of hull from its table of
// commands: docs DIR makes DIR/man/hull-….1 and DIR/completions/….
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hull/cli"
	"hull/command"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docs DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	tree := cli.Tree("hull")
	pages := []string{""}
	for _, n := range tree.Nodes {
		if !n.Hidden && !n.Elsewhere {
			pages = append(pages, n.Path)
		}
	}
	for _, path := range pages {
		err := file(filepath.Join(dir, "man", tree.ManPage(path)+".1"), func(w io.Writer) error { return tree.Man(w, path) })
		if err != nil {
			return err
		}
	}
	names := map[string]string{"bash": "hull", "zsh": "_hull", "fish": "hull.fish", "powershell": "hull.ps1"}
	for _, shell := range command.Shells {
		err := file(filepath.Join(dir, "completions", shell, names[shell]), func(w io.Writer) error { return tree.CompletionScript(w, shell, true) })
		if err != nil {
			return err
		}
	}
	return nil
}

func file(path string, fill func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(f); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}
