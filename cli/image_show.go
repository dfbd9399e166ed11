package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/image"
	"hull/layer"
)

// imageStore opens the engine and finds an image.
func (s *session) imageStore(ctx context.Context, name string) (*image.Store, image.Image, error) {
	e, err := s.open(ctx)
	if err != nil {
		return nil, image.Image{}, err
	}
	store, err := e.Images()
	if err != nil {
		return nil, image.Image{}, err
	}
	img, err := store.Resolve(ctx, name)
	return store, img, err
}

// historyOptions are the flags of history.
type historyOptions struct {
	human, noTrunc, quiet bool
	format                string
}

func (s *session) history() *command.Command {
	var o historyOptions
	return &command.Command{
		Usage:    "[options] IMAGE",
		Long:     "Displays the history of an image. The information can be printed out in an easy to read, or user specified format, or untruncated.",
		Examples: []string{"history quay.io/fedora/fedora", "history --format json alpine", "history --no-trunc --format \"{{.CreatedBy}}\" alpine"},
		Args:     command.Exactly(1),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.StringVar(&o.format, "format", "", "Change the output to JSON or a Go template")
			f.BoolVarP(&o.human, "human", "H", true, "Display sizes and dates in human readable format")
			f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Display the numeric IDs only")
			f.Completion("format", command.Fixed("json", "{{.ID}}", "{{.Created}}", "{{.CreatedAt}}", "{{.CreatedBy}}", "{{.CreatedSince}}", "{{.Size}}", "{{.Comment}}", "{{.Tags}}"))
		},
		Run: func(ctx context.Context, args []string) error {
			store, img, err := s.imageStore(ctx, args[0])
			if err != nil {
				return err
			}
			list, err := store.History(ctx, img)
			if err != nil {
				return err
			}
			return s.showHistory(list, &o)
		},
	}
}

func (s *session) showHistory(list []image.HistoryEntry, o *historyOptions) error {
	rows := make([]historyRow, len(list))
	for i, h := range list {
		rows[i] = historyRow{h, time.Now(), o, s.docker()}
	}
	switch {
	case format.IsJSON(o.format):
		return format.JSON(s.stdout, historyJSON(list), "  ")
	case o.quiet:
		for _, r := range rows {
			fmt.Fprintln(s.stdout, r.ID())
		}
		return nil
	case o.format != "" && !format.IsTable(o.format):
		t, err := format.Parse("history", o.format)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, map[string]string{"CreatedSince": "CREATED", "ID": "ID"}, false)
	}
	header := []string{"ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"}
	if s.docker() {
		header[0] = "IMAGE"
	}
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = []string{r.ID(), r.Created(), r.CreatedBy(), r.Size(), r.Comment()}
	}
	return format.Table(s.stdout, header, lines)
}

// historyRow is what a template of history sees of a step.
type historyRow struct {
	h      image.HistoryEntry
	now    time.Time
	o      *historyOptions
	docker bool
}

func (r historyRow) ID() string {
	switch {
	case r.h.ID == "":
		return "<missing>"
	case r.o.noTrunc:
		return r.h.ID.Hex()
	}
	return format.ShortID(string(r.h.ID))
}

func (r historyRow) Created() string {
	if r.o.human {
		return format.Ago(r.now, r.h.Created)
	}
	return r.CreatedAt()
}

func (r historyRow) CreatedSince() string { return format.Ago(r.now, r.h.Created) }
func (r historyRow) CreatedAt() string    { return r.h.Created.Format(time.RFC3339) }
func (r historyRow) Comment() string      { return r.h.Comment }
func (r historyRow) Tags() string         { return strings.Join(refTexts(r.h.Tags), ", ") }

func (r historyRow) CreatedBy() string {
	by := strings.Join(strings.Fields(r.h.CreatedBy), " ")
	if r.o.noTrunc {
		return by
	}
	return format.Truncate(by, 45)
}

func (r historyRow) Size() string {
	switch {
	case !r.o.human:
		return fmt.Sprint(r.h.Size)
	case r.docker:
		return format.ShortSize(r.h.Size)
	}
	return format.ShortSize(r.h.Size)
}

type historyJSONEntry struct {
	ID        string    `json:"id"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"CreatedBy"`
	Size      int64     `json:"size"`
	Comment   string    `json:"comment"`
	Tags      []string  `json:"tags"`
}

func historyJSON(list []image.HistoryEntry) []historyJSONEntry {
	out := []historyJSONEntry{}
	for _, h := range list {
		id := h.ID.Hex()
		if id == "" {
			id = "<missing>"
		}
		out = append(out, historyJSONEntry{id, h.Created, h.CreatedBy, h.Size, h.Comment, refTexts(h.Tags)})
	}
	return out
}

func (s *session) imageInspect() *command.Command {
	var text string
	return &command.Command{
		Usage:    "[options] IMAGE [IMAGE...]",
		Long:     "Displays the low-level information of an image identified by name or ID.",
		Examples: []string{"image inspect alpine", "image inspect --format \"imageId: {{.Id}} size: {{.Size}}\" alpine"},
		Args:     command.AtLeast(1),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "json", "Format the output to a Go template or json")
			f.Completion("format", command.Fixed("json", "{{.Id}}", "{{.Digest}}", "{{.RepoTags}}", "{{.Architecture}}", "{{.Os}}", "{{.Size}}", "{{.Config}}"))
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return s.inspectImages(ctx, e, args, text)
		},
	}
}

// inspectImages shows what can be found, and then what could not.
func (s *session) inspectImages(ctx context.Context, e *engine.Engine, names []string, text string) error {
	found := []*engine.ImageInspect{}
	err := each(names, func(name string) error {
		v, err := e.InspectImage(ctx, name)
		if err == nil {
			if s.docker() {
				v.ID = "sha256:" + v.ID
			}
			found = append(found, v)
		}
		return err
	})
	if text == "" || format.IsJSON(text) {
		return errors.Join(format.JSON(s.stdout, found, "     "), err)
	}
	t, perr := format.Parse("inspect", text)
	if perr != nil {
		return perr
	}
	for _, v := range found {
		if err := t.One(s.stdout, v); err != nil {
			return err
		}
	}
	return err
}

func (s *session) imageTree() *command.Command {
	var requires bool
	return &command.Command{
		Usage:    "[options] IMAGE",
		Long:     "Prints layer hierarchy of an image in a tree format.",
		Examples: []string{"image tree alpine:latest", "image tree --whatrequires alpine:latest"},
		Args:     command.Exactly(1),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVar(&requires, "whatrequires", false, "Show all child images and layers of the specified image")
		},
		Run: func(ctx context.Context, args []string) error {
			store, img, err := s.imageStore(ctx, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "Image ID: %s\nTags:     [%s]\nSize:     %s\n", format.ShortID(string(img.ID)), strings.Join(refTexts(img.Names), " "), format.ShortSize(img.Size))
			if requires {
				top, err := store.WhatRequires(ctx, img)
				if err != nil {
					return err
				}
				fmt.Fprintf(s.stdout, "Image Layers\n")
				s.printTree(top, "", true)
				return nil
			}
			layers, err := store.Tree(ctx, img)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "Image Layers\n")
			for i, l := range layers {
				branch := "├── "
				if i == len(layers)-1 {
					branch = "└── "
				}
				fmt.Fprintln(s.stdout, branch+treeLine(&l))
			}
			return nil
		},
	}
}

func treeLine(l *image.TreeLayer) string {
	line := fmt.Sprintf("ID: %s Size: %7s", format.ShortID(string(l.Chain)), format.ShortSize(l.Size))
	if len(l.Tags) > 0 {
		line += fmt.Sprintf(" Top Layer of: [%s]", strings.Join(refTexts(l.Tags), " "))
	}
	return command.Printable(line)
}

func (s *session) printTree(l *image.TreeLayer, indent string, last bool) {
	branch, below := "├── ", "│   "
	if last {
		branch, below = "└── ", "    "
	}
	fmt.Fprintln(s.stdout, indent+branch+treeLine(l))
	for i, above := range l.Above {
		s.printTree(above, indent+below, i == len(l.Above)-1)
	}
}

func (s *session) imageDiff() *command.Command {
	var text string
	return &command.Command{
		Usage:    "[options] IMAGE [IMAGE]",
		Long:     "Displays changes to the image's file system: of its top layer, or to the second image.",
		Examples: []string{"image diff myImage", "image diff --format json redis:old redis:alpine"},
		Args:     command.Between(1, 2),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.StringVar(&text, "format", "", "Change the output format (json)")
			f.Words("format", "json")
		},
		Run: func(ctx context.Context, args []string) error {
			if text != "" && text != "json" {
				return fmt.Errorf("only supported value for '--format' is 'json'")
			}
			base := ""
			if len(args) == 2 {
				base = args[1]
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			changes, err := e.DiffImages(ctx, base, args[0])
			if err != nil {
				return err
			}
			return s.showImageChanges(changes, text == "json")
		},
	}
}

// showImageChanges prints one line a path, or lists of paths.
func (s *session) showImageChanges(changes []layer.Change, asJSON bool) error {
	words := map[layer.Kind][2]string{layer.Added: {"A", "added"}, layer.Modified: {"C", "changed"}, layer.Deleted: {"D", "deleted"}}
	lists := map[string][]string{}
	for _, c := range changes {
		w := words[c.Kind]
		lists[w[1]] = append(lists[w[1]], c.Path)
		if !asJSON {
			fmt.Fprintln(s.stdout, w[0]+" "+command.Printable(c.Path))
		}
	}
	if asJSON {
		return format.JSON(s.stdout, lists, "     ")
	}
	return nil
}
