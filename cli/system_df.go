package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
)

// dfRow is a line of system df.
type dfRow struct{ engine.DiskUse }

func (r dfRow) Size() string { return format.ShortSize(r.RawSize) }
func (r dfRow) Reclaimable() string {
	share := 0
	if r.RawSize > 0 {
		share = int(100 * r.DiskUse.Reclaimable / r.RawSize)
	}
	return fmt.Sprintf("%s (%d%%)", format.ShortSize(r.DiskUse.Reclaimable), share)
}

func (s *session) systemDF() *command.Command {
	var text string
	var verbose bool
	return &command.Command{
		Usage: "[options]", Long: "Shows disk usage of images, containers and volumes.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVar(&text, "format", "", "Pretty-print images using a Go template")
			f.BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on disk usage")
		},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if verbose && text != "" {
				return errors.New("cannot combine --format and --verbose flags")
			}
			if verbose {
				return s.verboseDF(ctx, e)
			}
			list, err := e.DiskUsage(ctx)
			if err != nil {
				return err
			}
			rows := make([]dfRow, len(list))
			for i := range list {
				rows[i] = dfRow{list[i]}
			}
			switch {
			case format.IsJSON(text):
				return format.JSON(s.stdout, list, "  ")
			case text != "" && !format.IsTable(text):
				t, err := format.Parse("df", text)
				if err != nil {
					return err
				}
				return t.Rows(s.stdout, rows, nil, false)
			}
			var lines [][]string
			for _, r := range rows {
				lines = append(lines, []string{r.Type, fmt.Sprint(r.Total), fmt.Sprint(r.Active), r.Size(), r.Reclaimable()})
			}
			return format.Table(s.stdout, []string{"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"}, lines)
		},
	}
}

// verboseDF lists every object with its size.
func (s *session) verboseDF(ctx context.Context, e *engine.Engine) error {
	d, err := e.DiskDetails(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var lines [][]string
	for _, i := range d.Images {
		lines = append(lines, []string{i.Repository, i.Tag, format.ShortID(i.ImageID), format.Ago(now, i.Created),
			format.ShortSize(i.Size), format.ShortSize(i.SharedSize), format.ShortSize(i.UniqueSize), strconv.Itoa(i.Containers)})
	}
	fmt.Fprint(s.stdout, "Images space usage:\n\n")
	if err := format.Table(s.stdout, []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"}, lines); err != nil {
		return err
	}
	lines = nil
	for _, c := range d.Containers {
		lines = append(lines, []string{format.ShortID(c.ContainerID), c.Image, format.Truncate(strings.Join(c.Command, " "), 17), strconv.Itoa(c.LocalVolumes),
			format.ShortSize(c.Size), format.Ago(now, c.Created), c.Status, c.Names})
	}
	fmt.Fprint(s.stdout, "\nContainers space usage:\n\n")
	if err := format.Table(s.stdout, []string{"CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"}, lines); err != nil {
		return err
	}
	lines = nil
	for _, v := range d.Volumes {
		lines = append(lines, []string{v.VolumeName, strconv.Itoa(v.Links), format.ShortSize(v.Size)})
	}
	fmt.Fprint(s.stdout, "\nLocal Volumes space usage:\n\n")
	return format.Table(s.stdout, []string{"VOLUME NAME", "LINKS", "SIZE"}, lines)
}
