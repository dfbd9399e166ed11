package build

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"hull/containerfile"
)

// Check reads the Containerfile of o and applies the rules to it. Nothing is
// built or pulled.
func Check(ctx context.Context, o Options) (*containerfile.File, []containerfile.Warning, error) {
	f, _, err := read(ctx, o, func(b *building, f *containerfile.File, g *containerfile.Graph) error {
		f.Lint(g)
		return b.lintIgnored(f, g)
	})
	if err != nil {
		return nil, nil, err
	}
	return f, f.Warnings, nil
}

// Bases are the images that the stages which the target needs begin with.
func Bases(ctx context.Context, o Options) ([]string, error) {
	_, g, err := read(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, s := range g.Order {
		if s.Parent == nil && !s.Context && s.Base != containerfile.Scratch && !slices.Contains(all, s.Base) {
			all = append(all, s.Base)
		}
	}
	return all, nil
}

// read reads the Containerfile of o, and lets look see it while the context is there.
func read(ctx context.Context, o Options, look func(*building, *containerfile.File, *containerfile.Graph) error) (*containerfile.File, *containerfile.Graph, error) {
	tmp, err := os.MkdirTemp("", "hull-check-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(tmp)
	b := &Builder{Show: func(Event) {}, Dir: tmp, RunDir: tmp}
	bg, err := b.begin(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	defer bg.close()
	f, err := bg.file(ctx)
	if err != nil {
		return nil, nil, err
	}
	g, err := f.Graph(containerfile.GraphOptions{
		Args: o.Args, Target: o.Target, From: o.From, Platform: bg.o.Platform, Build: bg.self, Contexts: bg.contextNames(),
	})
	if err != nil {
		return nil, nil, err
	}
	if look != nil {
		err = look(bg, f, g)
	}
	return f, g, err
}

// lintIgnored finds what is copied and ignored.
func (b *building) lintIgnored(f *containerfile.File, g *containerfile.Graph) error {
	if b.main == nil || b.main.ignore == nil {
		return nil
	}
	for _, s := range g.Stages {
		for _, cmd := range s.Commands {
			var c copying
			switch x := cmd.(type) {
			case *instructions.CopyCommand:
				c = copyOf(x)
			case *instructions.AddCommand:
				c = addOf(x)
			default:
				continue
			}
			if c.from != "" {
				continue
			}
			for _, src := range c.sources {
				if isRemote(src) || strings.ContainsAny(src, `*?[$`) {
					continue
				}
				out, err := b.main.ignored(src)
				if err != nil {
					return err
				}
				if out && !b.main.ignore.Below(clean(src)) {
					f.Warn("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore",
						fmt.Sprintf("Attempting to %s file %q that is excluded by .dockerignore", c.word, src), cmd.Location())
				}
			}
		}
	}
	return nil
}
