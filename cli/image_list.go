package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/oci"
)

// imagesOptions are the flags of images.
type imagesOptions struct {
	list                                        engine.ImageListOptions
	filters                                     []string
	digests, history, noTrunc, noHeading, quiet bool
	format, sort                                string
}

func (s *session) images() *command.Command {
	var o imagesOptions
	return &command.Command{
		Usage:    "[options] [IMAGE]",
		Long:     "Lists images previously pulled to the system or created on the system.",
		Examples: []string{"images --format json", "images --sort repository --format \"table {{.ID}} {{.Repository}} {{.Tag}}\"", "images --filter dangling=true"},
		Args:     command.AtMost(1),
		Complete: s.completeImages,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&o.list.All, "all", "a", false, "Show all images (default hides intermediate images)")
			f.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions provided (default [])")
			f.StringVar(&o.format, "format", "", "Change the output format to JSON or a Go template")
			f.BoolVar(&o.digests, "digests", false, "Show digests")
			f.BoolVarP(&o.noHeading, "noheading", "n", false, "Do not print column headings")
			f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Display only image IDs")
			f.Choice(&o.sort, "sort", "", "created", "Sort by", "created", "id", "repository", "size", "tag")
			f.BoolVar(&o.history, "history", false, "Display the image name history")
			f.Words("filter", imageFilterWords...)
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 && len(o.filters) > 0 {
				return errors.New("cannot specify an image and a filter(s)")
			}
			if o.quiet && o.format != "" {
				return errors.New("quiet and format are mutually exclusive")
			}
			for _, a := range args {
				o.filters = append(o.filters, "reference="+a)
			}
			var err error
			if o.list.Filters, err = engine.ParseFilters(o.filters); err != nil {
				return err
			}
			o.list.ParseTime = pastTime
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			s.warnForeign()
			list, err := e.ListImages(ctx, o.list)
			return errors.Join(s.showImages(list, &o), err)
		},
	}
}

var imageFilterWords = []string{"before=", "containers=", "dangling=", "digest=", "id=", "intermediate=", "label=", "manifest=", "readonly=", "reference=", "since=", "until="}

// pastTime reads a time as filters take it.
func pastTime(v string) (time.Time, error) { return format.ParseTime(time.Now(), v) }

func (s *session) showImages(list []engine.ImageEntry, o *imagesOptions) error {
	now := time.Now()
	if format.IsJSON(o.format) && !s.docker() {
		rows := imageRows(list, now, o, false)
		sortImages(rows, o.sort)
		return format.JSON(s.stdout, imageJSON(rows), "    ")
	}
	rows := imageRows(list, now, o, true)
	for i := range rows {
		rows[i].docker = s.docker()
	}
	sortImages(rows, o.sort)
	switch {
	case o.quiet:
		s.printImageIDs(rows)
		return nil
	case format.IsJSON(o.format):
		for _, r := range rows {
			if err := format.JSON(s.stdout, r.dockerJSON(), ""); err != nil {
				return err
			}
		}
		return nil
	case o.format != "" && !format.IsTable(o.format):
		t, err := format.Parse("images", o.format)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, imageTitles, o.noHeading)
	}
	return s.imagesTable(rows, o)
}

// printImageIDs prints each ID once.
func (s *session) printImageIDs(rows []imageRow) {
	seen := map[oci.Digest]bool{}
	for _, r := range rows {
		if !seen[r.entry.ID] {
			seen[r.entry.ID] = true
			fmt.Fprintln(s.stdout, r.ID())
		}
	}
}

// imageTitles are the headings that are not the field's own name.
var imageTitles = map[string]string{"ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Repository": "REPOSITORY", "ReadOnly": "R/O"}

func (s *session) imagesTable(rows []imageRow, o *imagesOptions) error {
	header := []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}
	if o.digests {
		header = slices.Insert(header, 2, "DIGEST")
	}
	readOnly := slices.ContainsFunc(rows, func(r imageRow) bool { return r.entry.ReadOnly })
	if readOnly {
		header = append(header, "R/O")
	}
	if o.history {
		header = append(header, "HISTORY")
	}
	lines := make([][]string, len(rows))
	for i, r := range rows {
		line := []string{r.Repository(), r.Tag(), r.ID(), r.Created(), r.Size()}
		if o.digests {
			line = slices.Insert(line, 2, r.Digest())
		}
		if readOnly {
			line = append(line, fmt.Sprint(r.ReadOnly()))
		}
		if o.history {
			line = append(line, r.History())
		}
		lines[i] = line
	}
	if o.noHeading {
		header = nil
	}
	return format.Table(s.stdout, header, lines)
}

// imageRows makes a row of each image, or of each of its names.
func imageRows(list []engine.ImageEntry, now time.Time, o *imagesOptions, perName bool) []imageRow {
	var rows []imageRow
	for _, e := range list {
		if !perName || len(e.Names) == 0 {
			rows = append(rows, imageRow{entry: e, now: now, noTrunc: o.noTrunc})
			continue
		}
		for _, n := range e.Names {
			rows = append(rows, imageRow{entry: e, name: n, now: now, noTrunc: o.noTrunc})
		}
	}
	return rows
}

// sortImages sorts by one of the words of --sort; rows come sorted by creation.
func sortImages(rows []imageRow, by string) {
	compare := map[string]func(a, b imageRow) int{
		"id":         func(a, b imageRow) int { return cmp.Compare(a.entry.ID, b.entry.ID) },
		"repository": func(a, b imageRow) int { return cmp.Compare(a.Repository(), b.Repository()) },
		"tag":        func(a, b imageRow) int { return cmp.Compare(a.Tag(), b.Tag()) },
		"size":       func(a, b imageRow) int { return cmp.Compare(a.entry.Size, b.entry.Size) },
	}[by]
	if compare != nil {
		slices.SortStableFunc(rows, compare)
	}
}

// imageRow is what a template of images sees of an image under one name.
type imageRow struct {
	entry   engine.ImageEntry
	name    oci.Reference // zero: it has none
	now     time.Time
	noTrunc bool
	docker  bool
}

func (r imageRow) ID() string {
	if r.noTrunc {
		return string(r.entry.ID)
	}
	return format.ShortID(string(r.entry.ID))
}

func (r imageRow) Repository() string {
	if r.name.Path == "" {
		return "<none>"
	}
	n := r.name
	n.Tag, n.Digest = "", ""
	if r.docker {
		return n.Familiar()
	}
	return n.Name()
}

func (r imageRow) Tag() string {
	if r.name.Tag == "" {
		return "<none>"
	}
	return r.name.Tag
}

func (r imageRow) Digest() string {
	if r.name.Digest != "" {
		return string(r.name.Digest)
	}
	return string(r.entry.Manifest)
}

func (r imageRow) Created() string      { return format.Ago(r.now, r.entry.Created) }
func (r imageRow) CreatedSince() string { return r.Created() }
func (r imageRow) CreatedTime() string  { return r.CreatedAt() }
func (r imageRow) CreatedAt() string {
	return r.entry.Created.UTC().Format("2006-01-02 15:04:05 -0700 MST")
}
func (r imageRow) VirtualSize() string       { return r.Size() }
func (r imageRow) SharedSize() string        { return "0" }
func (r imageRow) History() string           { return strings.Join(refTexts(r.entry.Names), ", ") }
func (r imageRow) Labels() map[string]string { return r.entry.Config.Config.Labels }
func (r imageRow) ReadOnly() bool            { return r.entry.ReadOnly }
func (r imageRow) RepoTags() []string        { return refTexts(r.entry.Names) }
func (r imageRow) Names() []string           { return refTexts(r.entry.Names) }
func (r imageRow) RepoDigests() []string     { return refTexts(r.entry.Digests) }
func (r imageRow) Containers() int           { return len(r.entry.Containers) }
func (r imageRow) ParentId() string          { return r.entry.Parent.Hex() }
func (r imageRow) Dangling() bool            { return r.entry.Dangling }
func (r imageRow) IsManifestList() bool      { return r.entry.List != nil }

func (r imageRow) Size() string {
	if r.docker {
		return format.ShortSize(r.entry.Size)
	}
	return format.SpacedSize(r.entry.Size)
}

func refTexts(refs []oci.Reference) []string {
	out := make([]string, len(refs))
	for i, n := range refs {
		out[i] = n.String()
	}
	return out
}

// dockerJSON is the object that docker prints for a row.
func (r imageRow) dockerJSON() map[string]string {
	digest := "<none>"
	if len(r.entry.Digests) > 0 {
		digest = r.Digest()
	}
	return map[string]string{
		"Containers": "N/A", "CreatedAt": r.CreatedAt(), "CreatedSince": r.CreatedSince(), "Digest": digest, "ID": r.ID(),
		"Repository": r.Repository(), "SharedSize": "N/A", "Size": r.Size(), "Tag": r.Tag(), "UniqueSize": "N/A", "VirtualSize": r.Size(),
	}
}

// imageListEntry is podman's JSON of an image in a list.
type imageListEntry struct {
	ID          string `json:"Id"`
	ParentID    string `json:"ParentId"`
	RepoTags    []string
	RepoDigests []string
	Size        int64
	SharedSize  int
	VirtualSize int64
	Labels      map[string]string
	Containers  int
	ReadOnly    bool `json:",omitempty"`
	Dangling    bool `json:",omitempty"`
	Arch        string
	Os          string
	Names       []string
	Digest      oci.Digest
	History     []string
	Created     int64
	CreatedAt   string
}

func imageJSON(rows []imageRow) []imageListEntry {
	list := []imageListEntry{}
	for _, r := range rows {
		e := &r.entry
		list = append(list, imageListEntry{
			ID: e.ID.Hex(), ParentID: e.Parent.Hex(), RepoTags: r.RepoTags(), RepoDigests: r.RepoDigests(), Size: e.Size, VirtualSize: e.Size,
			Labels: r.Labels(), Containers: r.Containers(), ReadOnly: e.ReadOnly, Dangling: e.Dangling, Arch: e.Config.Architecture, Os: e.Config.OS,
			Names: r.Names(), Digest: e.Manifest, History: r.RepoTags(), Created: e.Created.Unix(), CreatedAt: e.Created.UTC().Format(time.RFC3339Nano),
		})
	}
	return list
}
