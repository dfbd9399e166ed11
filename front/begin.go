package front

import (
	"context"
	"fmt"
	"os"
)

// A Place is where a command works.
type Place struct {
	Root, RunRoot string
	// ImageRoot is the directory of the images and what is built upon them: Root,
	// or that of --imagestore.
	ImageRoot string
	// ImageStores are the roots of further stores, whose images are read.
	// ForeignStores are the errors of those that are not this program's.
	ImageStores   []string
	ForeignStores []error
	// Stdout is where its output goes: the file of --out, or what was there.
	Stdout *os.File
}

// Begin is the first thing that a command with a store does: it checks the
// global flags, becomes root of the user's namespace, and finds the directories.
func (g *Globals) Begin(ctx context.Context, stdout *os.File) (Place, error) {
	if err := g.Check(); err != nil {
		return Place{}, err
	}
	if err := enter(ctx); err != nil {
		return Place{}, err
	}
	p := Place{Stdout: stdout}
	var err error
	if p.Root, p.RunRoot, err = directories(g.Root, g.RunRoot); err != nil {
		return Place{}, err
	}
	p.ImageRoot = p.Root
	if g.ImageStore != "" {
		if p.ImageRoot, err = directory(g.ImageStore, nil); err != nil {
			return Place{}, err
		}
	}
	if p.ImageStores, p.ForeignStores, err = g.imageStores(); err != nil {
		return Place{}, err
	}
	if g.Out != "" {
		if p.Stdout, err = os.OpenFile(g.Out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644); err != nil {
			return Place{}, fmt.Errorf("open --out: %w", err)
		}
	}
	return p, nil
}
