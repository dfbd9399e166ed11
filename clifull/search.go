package clifull

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hull/command"
	"hull/format"
	"hull/oci"
	"hull/registry"
)

// found is a row of search, with the names that templates know.
type found struct {
	Index, Name, Description, Tag string
	Stars                         int
	Official, Automated           string
}

// foundTags is a row of search --list-tags as JSON.
type foundTags struct {
	Name string
	Tags []string
}

type searchOptions struct {
	r                         registryFlags
	filters                   []string
	format                    string
	limit                     int
	compatible, tags, noTrunc bool
}

func (s *session) search() *command.Command {
	var o searchOptions
	return &command.Command{
		Usage:    "[options] TERM",
		Long:     "Searches registries for images: those of registries.conf, or the one that TERM begins with.",
		Examples: []string{"search alpine", "search --list-tags registry.example.com/app"},
		Args:     command.Exactly(1),
		Flags: func(f *command.Flags) {
			o.r.declare(f)
			o.r.declareCreds(f)
			f.BoolVar(&o.compatible, "compatible", false, "List stars, official and automated columns (Docker compatibility)")
			f.StringSliceVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions provided (stars=N, is-official=BOOL, is-automated=BOOL)")
			f.StringVar(&o.format, "format", "", "Change the output format to JSON or a Go template")
			f.IntVar(&o.limit, "limit", 25, "Limit the number of results")
			f.BoolVar(&o.tags, "list-tags", false, "List the tags of the input registry")
			f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
		},
		Run: func(ctx context.Context, args []string) error { return s.runSearch(ctx, o, args[0]) },
	}
}

func (s *session) runSearch(ctx context.Context, o searchOptions, term string) error {
	if err := s.globals.Check(); err != nil {
		return err
	}
	if o.limit < 1 {
		o.limit = 25
	}
	c, err := s.client(o.r)
	if err != nil {
		return err
	}
	if o.tags {
		if len(o.filters) > 0 {
			return errors.New("filters are not applicable to list tags result")
		}
		return s.listTags(ctx, c, o, term)
	}
	keep, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	registries, err := c.SearchRegistries()
	if err != nil {
		return err
	}
	if host, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		registries, term = []string{host}, rest
	}
	var rows []found
	var errs []error
	for _, reg := range registries {
		hits, err := c.Search(ctx, reg, term, o.limit)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, h := range hits {
			if keep(h) && len(rows) < o.limit {
				rows = append(rows, row(reg, h, o.noTrunc))
			}
		}
	}
	if len(errs) == len(registries) {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		s.warn(err.Error())
	}
	return s.showFound(o, rows)
}

func row(index string, h registry.Hit, noTrunc bool) found {
	name := h.Name
	if index == oci.DefaultDomain && !strings.Contains(name, "/") {
		name = "library/" + name
	}
	if !strings.HasPrefix(name, index+"/") {
		name = index + "/" + name
	}
	d := strings.Join(strings.Fields(h.Description), " ")
	if !noTrunc && len([]rune(d)) > 44 {
		d = string([]rune(d)[:44]) + "..."
	}
	f := found{Index: index, Name: name, Description: d, Stars: h.Stars}
	if h.Official {
		f.Official = "[OK]"
	}
	if h.Automated {
		f.Automated = "[OK]"
	}
	return f
}

// showFound prints the hits: nothing at all when there are none.
func (s *session) showFound(o searchOptions, rows []found) error {
	titles := map[string]string{"Name": "NAME"}
	switch {
	case format.IsJSON(o.format):
		if rows == nil {
			rows = []found{}
		}
		return format.JSON(s.stdout, rows, "    ")
	case len(rows) == 0:
		return nil
	case o.format != "" && !format.IsTable(o.format):
		t, err := format.Parse("search", o.format)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, titles, false)
	}
	header := []string{"NAME", "DESCRIPTION"}
	if o.compatible || s.docker() {
		header = append(header, "STARS", "OFFICIAL", "AUTOMATED")
	}
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{r.Name, r.Description, strconv.Itoa(r.Stars), r.Official, r.Automated}[:len(header)])
	}
	return format.Table(s.stdout, header, cells)
}

func (s *session) listTags(ctx context.Context, c *registry.Client, o searchOptions, term string) error {
	ref, err := oci.ParseReference(strings.TrimPrefix(term, "docker://"))
	if err != nil {
		return fmt.Errorf("list tags: %w", err)
	}
	if ref.Tag != "" || ref.Digest != "" {
		return fmt.Errorf("list tags of %s: reference %q must be a docker reference without a tag", term, term)
	}
	candidates, _, err := c.Resolve(ref)
	if err != nil {
		return err
	}
	full := candidates[0].Reference
	full.Tag = ""
	sources, err := c.Sources(ctx, full)
	if err != nil {
		return err
	}
	tags, err := sources[len(sources)-1].Tags(ctx)
	if err != nil {
		return err
	}
	tags = tags[:min(len(tags), o.limit)]
	if format.IsJSON(o.format) {
		return format.JSON(s.stdout, []foundTags{{full.String(), tags}}, "    ")
	}
	var rows []found
	var cells [][]string
	for _, t := range tags {
		rows = append(rows, found{Name: full.String(), Tag: t})
		cells = append(cells, []string{full.String(), t})
	}
	if o.format != "" && !format.IsTable(o.format) {
		t, err := format.Parse("search", o.format)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, nil, false)
	}
	return format.Table(s.stdout, []string{"NAME", "TAG"}, cells)
}

// parseFilters makes the condition that all filters set.
func parseFilters(filters []string) (func(registry.Hit) bool, error) {
	conditions := []func(registry.Hit) bool{}
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "stars":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, fmt.Errorf("incorrect value type for stars filter: %q", value)
			}
			conditions = append(conditions, func(h registry.Hit) bool { return h.Stars >= n })
		case "is-automated", "is-official":
			want := true
			if value != "" {
				b, err := strconv.ParseBool(value)
				if err != nil {
					return nil, fmt.Errorf("incorrect value type for %s filter: %q", key, value)
				}
				want = b
			}
			conditions = append(conditions, func(h registry.Hit) bool {
				if key == "is-official" {
					return h.Official == want
				}
				return h.Automated == want
			})
		default:
			return nil, fmt.Errorf("invalid filter type %q", f)
		}
	}
	return func(h registry.Hit) bool {
		for _, c := range conditions {
			if !c(h) {
				return false
			}
		}
		return true
	}, nil
}
