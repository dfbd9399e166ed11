package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
)

// podRow is what a template of pod ps sees of a pod.
type podRow struct {
	engine.PodEntry
	now     time.Time
	noTrunc bool
}

func (r podRow) short(id string) string {
	if r.noTrunc {
		return id
	}
	return format.ShortID(id)
}

func (r podRow) ID() string              { return r.short(r.PodEntry.ID) }
func (r podRow) Name() string            { return r.PodEntry.Name }
func (r podRow) Status() string          { return r.PodEntry.Status }
func (r podRow) InfraID() string         { return r.short(r.PodEntry.InfraID) }
func (r podRow) Cgroup() string          { return r.PodEntry.Cgroup }
func (r podRow) Created() string         { return format.Ago(r.now, r.PodEntry.Created) }
func (r podRow) Networks() string        { return strings.Join(r.PodEntry.Networks, ",") }
func (r podRow) RestartPolicy() string   { return r.PodEntry.Restart }
func (r podRow) NumberOfContainers() int { return len(r.PodEntry.Containers) }
func (r podRow) Labels() map[string]string {
	return r.PodEntry.Labels
}

// Label is the value of one label.
func (r podRow) Label(name string) string { return r.PodEntry.Labels[name] }

func (r podRow) join(f func(c engine.PodEntryContainer) string) string {
	var words []string
	for _, c := range r.PodEntry.Containers {
		words = append(words, f(c))
	}
	return strings.Join(words, ",")
}

func (r podRow) ContainerIds() string {
	return r.join(func(c engine.PodEntryContainer) string { return r.short(c.ID) })
}
func (r podRow) ContainerNames() string {
	return r.join(func(c engine.PodEntryContainer) string { return c.Names })
}
func (r podRow) ContainerStatuses() string {
	return r.join(func(c engine.PodEntryContainer) string { return c.Status })
}

// podListOptions are the flags of pod ps.
type podListOptions struct {
	ids, names, status, latest, namespaces, noTrunc, noHeading, quiet bool
	filters                                                           []string
	format, sort                                                      string
}

func (s *session) podList() *command.Command {
	var o podListOptions
	return &command.Command{
		Usage: "[options]", Long: "Lists all pods with their names, IDs and current state.", Args: command.NoArgs,
		Examples: []string{"pod ps", "pod ps --ctr-names", `pod ps --format "{{.ID}} {{.Name}} {{.Status}}" --filter status=running`},
		Flags: func(f *command.Flags) {
			f.BoolVar(&o.ids, "ctr-ids", false, "Display the container UUIDs. If no-trunc is not set they will be truncated")
			f.BoolVar(&o.names, "ctr-names", false, "Display the container names")
			f.BoolVar(&o.status, "ctr-status", false, "Display the container status")
			f.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions given")
			f.StringVar(&o.format, "format", "", "Pretty-print pods to JSON or using a Go template")
			f.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest pod")
			f.BoolVar(&o.namespaces, "namespace", false, "Display namespace information of the pod")
			f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate pod and container IDs")
			f.BoolVarP(&o.noHeading, "noheading", "n", false, "Do not print headers")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Print the numeric IDs of the pods only")
			f.Choice(&o.sort, "sort", "", "created", "Sort output by", "created", "id", "name", "number", "status")
			f.Alias("ns", "namespace")
			f.Completion("format", completeFormat(podRow{}))
			f.Words("filter", "ctr-ids=", "ctr-names=", "ctr-number=", "ctr-status=", "id=", "label=", "name=", "network=", "status=", "until=")
		},
		Run: func(ctx context.Context, _ []string) error { return s.listPods(ctx, &o) },
	}
}

func (s *session) listPods(ctx context.Context, o *podListOptions) error {
	filters, err := engine.ParseFilters(o.filters)
	if err != nil {
		return err
	}
	e, err := s.open(ctx)
	if err != nil {
		return err
	}
	list, err := e.PodList(ctx, filters)
	if err != nil {
		return err
	}
	if o.latest {
		list = list[:min(1, len(list))]
	}
	sortPods(list, o.sort)
	rows := make([]podRow, len(list))
	for i := range list {
		rows[i] = podRow{list[i], time.Now(), o.noTrunc}
	}
	switch {
	case format.IsJSON(o.format):
		return format.JSON(s.stdout, list, "  ")
	case o.quiet && o.format == "":
		for _, r := range rows {
			fmt.Fprintln(s.stdout, r.ID())
		}
		return nil
	case o.format != "" && !format.IsTable(o.format):
		// The peers' templates say .Id as their JSON does.
		text := strings.NewReplacer(".Id}", ".ID}", ".Id ", ".ID ", ".InfraId", ".InfraID").Replace(o.format)
		t, err := format.Parse("pod ps", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, map[string]string{"ID": "POD ID", "InfraID": "INFRA ID", "NumberOfContainers": "# OF CONTAINERS",
			"ContainerIds": "IDS", "ContainerNames": "NAMES", "ContainerStatuses": "STATUS"}, o.noHeading)
	}
	header, cells := podColumns(o)
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = cells(r)
	}
	if o.noHeading {
		header = nil
	}
	return format.Table(s.stdout, header, lines)
}

// podColumns are the columns that were asked for, each with its value.
func podColumns(o *podListOptions) (header []string, cells func(podRow) []string) {
	type column struct {
		title string
		value func(podRow) string
	}
	columns := []column{{"POD ID", podRow.ID}, {"NAME", podRow.Name}, {"STATUS", podRow.Status}, {"CREATED", podRow.Created}, {"INFRA ID", podRow.InfraID}}
	if o.ids {
		columns = append(columns, column{"IDS", podRow.ContainerIds})
	}
	if o.names {
		columns = append(columns, column{"NAMES", podRow.ContainerNames})
	}
	if o.status {
		columns = append(columns, column{"STATUS", podRow.ContainerStatuses})
	}
	if o.namespaces {
		columns = append(columns, column{"CGROUP", podRow.Cgroup}, column{"NAMESPACES", func(r podRow) string { return r.Namespace }})
	}
	if !o.ids && !o.names && !o.status && !o.namespaces {
		columns = append(columns, column{"# OF CONTAINERS", func(r podRow) string { return strconv.Itoa(r.NumberOfContainers()) }})
	}
	for _, c := range columns {
		header = append(header, c.title)
	}
	return header, func(r podRow) []string {
		var out []string
		for _, c := range columns {
			out = append(out, c.value(r))
		}
		return out
	}
}

// sortPods sorts by one of the words of --sort; they come the newest first.
func sortPods(list []engine.PodEntry, by string) {
	compare := map[string]func(a, b engine.PodEntry) int{
		"id":     func(a, b engine.PodEntry) int { return strings.Compare(a.ID, b.ID) },
		"name":   func(a, b engine.PodEntry) int { return strings.Compare(a.Name, b.Name) },
		"number": func(a, b engine.PodEntry) int { return len(a.Containers) - len(b.Containers) },
		"status": func(a, b engine.PodEntry) int { return strings.Compare(a.Status, b.Status) },
	}[by]
	if compare != nil {
		slices.SortStableFunc(list, compare)
	}
}

func (s *session) podInspect() *command.Command {
	var x podSelection
	var text string
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Displays the configuration of pods by name or ID.",
		Examples: []string{"pod inspect podID", "pod inspect --latest --format '{{.State}}'"},
		Complete: s.completePods,
		Flags: func(f *command.Flags) {
			x.declare(f, "l", "")
			f.StringVarP(&text, "format", "f", "json", "Format the output to a Go template or json")
			f.Completion("format", completeFormat(engine.PodInspect{}))
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			names, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			if len(names) == 1 && (text == "" || format.IsJSON(text)) {
				// One pod is an object, as scripts expect it.
				p, err := e.PodInspect(ctx, names[0])
				if err != nil {
					return err
				}
				return format.JSON(s.stdout, p, "     ")
			}
			return s.inspectAll(names, inspectFlags{format: text}, func(name string) (any, error) { return e.PodInspect(ctx, name) })
		},
	}
}
