package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/image"
)

// builderNodes are the commands on what builds keep.
func (s *session) builderNodes() []command.Node {
	return []command.Node{
		{Path: "builder prune", Short: "Remove build cache", Build: s.builderPrune},
		{Path: "buildx prune", Short: "Remove build cache", Build: s.builderPrune},
		{Path: "buildx du", Short: "Show what builds keep", Build: s.builderUsage},
	}
}

func (s *session) builderPrune() *command.Command {
	var all, force bool
	var filters []string
	var keep, maxUsed, reserved int64
	return &command.Command{
		Usage: "[options]",
		Long: "Removes results of build steps, and with --all the directories of RUN --mount=type=cache too.\n" +
			"Images stay; their layers as well.",
		Examples: []string{"builder prune --force", "builder prune --all --filter until=24h", "builder prune --keep-storage 2g"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove the directories of cache mounts too")
			f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
			f.StringArrayVar(&filters, "filter", nil, "Provide filter values: until=DURATION keeps what was used since")
			f.Bytes(&keep, "keep-storage", "", "How much of the latest used to keep")
			f.Bytes(&reserved, "reserved-space", "", "Same as --keep-storage")
			f.Bytes(&maxUsed, "max-used-space", "", "Same as --keep-storage")
			f.Words("filter", "until=", "unused-for=")
			f.String("builder", "", "Docker's: there is one builder, hull itself")
			f.Hide("builder")
		},
		Run: func(ctx context.Context, _ []string) error {
			o := engine.PruneBuildOptions{Steps: true, Caches: all, MaxBytes: max(keep, maxUsed, reserved)}
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			for key, values := range parsed {
				if key != "until" && key != "unused-for" {
					return fmt.Errorf("filter %q is not known: there is until", key)
				}
				if o.Unused, err = time.ParseDuration(values[0]); err != nil {
					return fmt.Errorf("filter %s: %w", key, err)
				}
			}
			if !force {
				ok, err := s.confirm("WARNING! This command removes what builds kept to be quick.\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			done, err := e.PruneBuild(ctx, o)
			fmt.Fprintf(s.stdout, "Steps: %d\nCaches: %d\nTotal reclaimed space: %s\n", done.Steps, done.Caches, format.Size(done.Bytes))
			return err
		},
	}
}

func (s *session) builderUsage() *command.Command {
	return &command.Command{
		Long:     "Lists results of build steps and directories of cache mounts, those used last first.",
		Examples: []string{"buildx du"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.String("builder", "", "Docker's: there is one builder, hull itself")
			f.Hide("builder")
		},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return s.printUsage(ctx, e)
		},
	}
}

func (s *session) printUsage(ctx context.Context, e *engine.Engine) error {
	images, err := e.Images()
	if err != nil {
		return err
	}
	steps, err := images.Steps()
	if err != nil {
		return err
	}
	caches, err := e.BuildCaches(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(caches, func(a, b engine.BuildCache) int { return b.Used.Compare(a.Used) })
	var total int64
	now := time.Now()
	var rows [][]string
	for _, c := range caches {
		rows = append(rows, []string{"cache", format.Size(c.Size), format.Ago(now, c.Used), c.ID})
		total += c.Size
	}
	slices.SortFunc(steps, func(a, b image.Step) int { return b.Used.Compare(a.Used) })
	for _, st := range steps {
		if st.Layer == nil {
			continue
		}
		text := []rune(st.Text)
		rows = append(rows, []string{"step", format.Size(st.Layer.Size), format.Ago(now, st.Used), string(text[:min(len(text), 60)])})
		total += st.Layer.Size
	}
	if err := format.Table(s.stdout, []string{"KIND", "SIZE", "LAST USED", "WHAT"}, rows); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Total: %s\n", format.Size(total))
	return nil
}
