package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
)

// psOptions are the flags of ps.
type psOptions struct {
	list                                        engine.ListOptions
	filters                                     []string
	latest, namespaces, noTrunc, noHeading, pod bool
	quiet                                       bool
	format, sort                                string
	watch                                       uint
	sync, external                              bool
}

func (s *session) ps() *command.Command {
	var o psOptions
	return &command.Command{
		Usage: "[options]",
		Long:  "Prints out information about the containers",
		Examples: []string{"ps -a", `ps -a --format "{{.ID}}  {{.Image}}  {{.Labels}}  {{.Mounts}}"`,
			"ps --size --sort names"},
		Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&o.list.All, "all", "a", false, "Show all the containers, default is only running containers")
			f.BoolVar(&o.external, "external", false, "Show containers in storage that the engine does not control; there are none")
			f.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions given")
			f.StringVar(&o.format, "format", "", "Pretty-print containers to JSON or using a Go template")
			f.IntVarP(&o.list.Last, "last", "n", -1, "Print the n last created containers (all states)")
			f.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container")
			f.BoolVar(&o.namespaces, "namespace", false, "Display namespace information")
			f.BoolVar(&o.noTrunc, "no-trunc", false, "Display the extended information")
			f.BoolVar(&o.noHeading, "noheading", false, "Do not print headers")
			f.BoolVarP(&o.pod, "pod", "p", false, "Print the ID and name of the pod the containers are associated with")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Print the numeric IDs of the containers only")
			f.BoolVarP(&o.list.Size, "size", "s", false, "Display the total file sizes")
			f.Choice(&o.sort, "sort", "", "created", "Sort output by", "command", "created", "id", "image", "names", "runningfor", "size", "status")
			f.BoolVar(&o.sync, "sync", false, "Look at the processes and not only at the records; always done")
			f.UintVarP(&o.watch, "watch", "w", 0, "Watch the ps output on an interval in seconds")
			f.Alias("ns", "namespace")
			f.Completion("filter", s.completePsFilter)
			f.Completion("format", completeFormat(psRow{}))
		},
		Run: func(ctx context.Context, _ []string) error {
			if o.quiet && (o.namespaces || o.list.Size) {
				return errors.New("quiet conflicts with size and namespace")
			}
			if o.list.Last >= 0 && o.latest {
				return errors.New("last and latest are mutually exclusive")
			}
			if o.list.Size && o.namespaces {
				return errors.New("size and namespace options conflict")
			}
			if o.latest {
				o.list.Last = 1
			}
			o.list.All = o.list.All || len(o.filters) > 0 && hasStateFilter(o.filters)
			o.list.Size = o.list.Size || strings.Contains(o.format, ".Size")
			o.list.Namespaces = o.namespaces || o.format != "" && !format.IsTable(o.format)
			var err error
			if o.list.Filters, err = engine.ParseFilters(o.filters); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			for {
				if err := s.psOnce(ctx, e, &o); err != nil || o.watch == 0 {
					return err
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Duration(o.watch) * time.Second):
					io.WriteString(s.stdout, "\033[2J\033[1;1H")
				}
			}
		},
	}
}

// hasStateFilter: these look at containers in every state, as podman does.
func hasStateFilter(filters []string) bool {
	return slices.ContainsFunc(filters, func(f string) bool {
		return strings.HasPrefix(f, "status=") || strings.HasPrefix(f, "exited=")
	})
}

func (s *session) psOnce(ctx context.Context, e *engine.Engine, o *psOptions) error {
	entries, err := e.List(ctx, o.list)
	if err != nil {
		return err
	}
	sortPs(entries, o.sort)
	now := time.Now()
	switch {
	case format.IsJSON(o.format) && !s.docker():
		for i := range entries {
			entries[i].CreatedAt = format.Ago(now, entries[i].CreatedTime)
		}
		if entries == nil {
			entries = []engine.PsEntry{}
		}
		return format.JSON(s.stdout, entries, "  ")
	case o.quiet && o.format == "":
		for _, c := range entries {
			if o.noTrunc {
				fmt.Fprintln(s.stdout, c.ID)
			} else {
				fmt.Fprintln(s.stdout, format.ShortID(c.ID))
			}
		}
		return nil
	}
	rows := make([]psRow, len(entries))
	for i := range entries {
		rows[i] = psRow{entries[i], now, o.noTrunc, s.docker()}
	}
	if o.format != "" && !format.IsTable(o.format) {
		return s.psTemplate(rows, o)
	}
	return psTable(s.stdout, rows, o)
}

func (s *session) psTemplate(rows []psRow, o *psOptions) error {
	text := o.format
	if format.IsJSON(text) { // docker: one object a line
		for _, r := range rows {
			if err := format.JSON(s.stdout, r.PsEntry, ""); err != nil {
				return err
			}
		}
		return nil
	}
	t, err := format.Parse("ps", text)
	if err != nil {
		return err
	}
	return t.Rows(s.stdout, rows, psTitles, o.noHeading)
}

// psTitles are the headings that are not the field's own name.
var psTitles = map[string]string{
	"ID": "CONTAINER ID", "CreatedHuman": "CREATED", "Pod": "POD ID", "PodName": "PODNAME", "Cgroup": "CGROUPNS", "User": "USERNS",
	"PIDNS": "PIDNS", "CGROUPNS": "CGROUPNS", "USERNS": "USERNS", "Pid": "PID",
}

// psColumns are the columns that were asked for, each with its value.
func psColumns(o *psOptions) (header []string, cells func(psRow) []string) {
	if o.namespaces {
		return []string{"CONTAINER ID", "NAMES", "PID", "CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS"},
			func(r psRow) []string {
				return []string{r.ID(), r.Names(), strconv.Itoa(r.PID()), r.CGROUPNS(), r.IPC(), r.MNT(), r.NET(), r.PIDNS(), r.USERNS(), r.UTS()}
			}
	}
	header = []string{"CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"}
	if o.pod {
		header = append(header, "POD ID", "PODNAME")
	}
	if o.list.Size {
		header = append(header, "SIZE")
	}
	return header, func(r psRow) []string {
		c := []string{r.ID(), r.Image(), r.Command(), r.CreatedHuman(), r.Status(), r.Ports(), r.Names()}
		if o.pod {
			c = append(c, r.Pod(), r.PsEntry.PodName)
		}
		if o.list.Size {
			c = append(c, r.Size())
		}
		return c
	}
}

func psTable(w io.Writer, rows []psRow, o *psOptions) error {
	header, cells := psColumns(o)
	if o.noHeading {
		header = nil
	}
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = cells(r)
	}
	return format.Table(w, header, lines)
}

// sortPs sorts by one of the words of --sort. Entries come sorted by creation.
func sortPs(entries []engine.PsEntry, by string) {
	key := map[string]func(a, b *engine.PsEntry) bool{
		"command":    func(a, b *engine.PsEntry) bool { return strings.Join(a.Command, " ") < strings.Join(b.Command, " ") },
		"id":         func(a, b *engine.PsEntry) bool { return a.ID < b.ID },
		"image":      func(a, b *engine.PsEntry) bool { return a.Image < b.Image },
		"names":      func(a, b *engine.PsEntry) bool { return strings.Join(a.Names, ",") < strings.Join(b.Names, ",") },
		"runningfor": func(a, b *engine.PsEntry) bool { return a.StartedAt < b.StartedAt },
		"status":     func(a, b *engine.PsEntry) bool { return a.State < b.State },
		"size": func(a, b *engine.PsEntry) bool {
			return a.Size != nil && b.Size != nil && a.Size.RootFsSize < b.Size.RootFsSize
		},
	}[by]
	if key != nil {
		sort.SliceStable(entries, func(i, j int) bool { return key(&entries[i], &entries[j]) })
	}
}
