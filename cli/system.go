package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/network"
	"hull/oci"
)

func (s *session) systemNodes() []command.Node {
	return []command.Node{
		{Path: "events", Short: "Show the engine's events", Build: s.events},
		{Path: "info", Short: "Display system information", Build: s.info},
		{Path: "system", Short: "Manage the system"},
		{Path: "system check", Short: "Check storage consistency", Build: s.systemCheck},
		{Path: "system df", Short: "Show disk usage", Build: s.systemDF},
		{Path: "system events", Short: "Show the engine's events", Build: s.events},
		{Path: "system info", Short: "Display system information", Build: s.info},
		{Path: "system migrate", Short: "Migrate containers", Build: s.systemMigrate},
		{Path: "system prune", Short: "Remove unused data", Build: s.systemPrune},
		{Path: "system renumber", Short: "Migrate lock numbers", Build: s.systemRenumber},
		{Path: "system reset", Short: "Reset storage", Build: s.systemReset},
	}
}

// versionOut is what version prints.
type versionOut struct{ Client versionClient }

type versionClient struct {
	APIVersion string
	Version    string
	GoVersion  string
	GitCommit  string
	OsArch     string
	Os         string
}

func (s *session) version() *command.Command {
	var text string
	var short bool
	return &command.Command{
		Usage: "[options]", Long: "Displays the version of the program.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "", "Change the output format to JSON or a Go template")
			f.BoolVar(&short, "short", false, "")
			f.Hide("short")
			f.Words("format", "json", "{{.Client.Version}}")
		},
		Run: func(_ context.Context, _ []string) error {
			v := engine.Version()
			out := versionOut{versionClient{v, v, runtime.Version(), v, "linux/" + runtime.GOARCH, "linux"}}
			switch {
			case short && text == "":
				fmt.Fprintf(s.stdout, "%s version %s\n", s.program, v)
				return nil
			case format.IsJSON(text):
				return format.JSON(s.stdout, out, "  ")
			case text != "":
				t, err := format.Parse("version", text)
				if err != nil {
					return err
				}
				return t.One(s.stdout, out)
			}
			fmt.Fprintf(s.stdout, "Client:       Hull Engine\nVersion:      %s\nAPI Version:  %s\nGo Version:   %s\nOCI Runtime:  %s\nOS/Arch:      linux/%s\n",
				v, v, runtime.Version(), oci.SpecVersion, runtime.GOARCH)
			return nil
		},
	}
}

func (s *session) info() *command.Command {
	var text string
	return &command.Command{
		Usage: "[options]", Long: "Displays information pertaining to the host, current storage stats, and build of the program.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "", "Change the output format to JSON or a Go template")
			f.BoolP("debug", "D", false, "")
			f.Hide("debug")
			f.Completion("format", completeFormat(engine.Info{}))
		},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			s.warnForeign()
			i, err := e.Info(ctx)
			if err != nil {
				return err
			}
			switch {
			case format.IsJSON(text):
				return format.JSON(s.stdout, i, "  ")
			case text != "":
				t, err := format.Parse("info", text)
				if err != nil {
					return err
				}
				return t.One(s.stdout, i)
			}
			return format.YAML(s.stdout, i)
		},
	}
}

func (s *session) systemPrune() *command.Command {
	var all, force, volumes bool
	var filters []string
	return &command.Command{
		Usage: "[options]", Long: "Removes stopped containers, unused networks, nameless images and, when asked, unused volumes and all unused images.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all unused data")
			f.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
			f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation.  The default is false")
			f.BoolVar(&volumes, "volumes", false, "Prune volumes")
		},
		Run: func(ctx context.Context, _ []string) error {
			if _, err := engine.ParseFilters(filters); err != nil {
				return err
			}
			if !force {
				ok, err := s.confirm("WARNING! This command removes:\n\t- all stopped containers\n\t- all networks not used by at least one container\n\t- all dangling images\n\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, m, err := s.networks(ctx)
			if err != nil {
				return err
			}
			return s.pruneAll(ctx, e, m, filters, all, volumes)
		},
	}
}

func (s *session) pruneAll(ctx context.Context, e *engine.Engine, m *network.Manager, filters []string, all, volumes bool) error {
	f, err := engine.ParseFilters(filters)
	if err != nil {
		return err
	}
	var freed uint64
	title := func(n int, text string) {
		if n > 0 {
			fmt.Fprintln(s.stdout, text)
		}
	}
	containers, err := e.Prune(ctx, f)
	if err != nil {
		return err
	}
	title(len(containers), "Deleted Containers")
	// What could not be removed is told in the end: the rest makes room too.
	failed := s.printRemoved(containers)
	for _, r := range containers {
		freed += r.Size
	}
	if volumes {
		removed, err := e.VolumePrune(ctx, true, false, f)
		if err != nil {
			return err
		}
		title(len(removed), "Deleted Volumes")
		failed = errors.Join(failed, s.printRemoved(removed))
		for _, r := range removed {
			freed += r.Size
		}
	}
	images, err := e.PruneImages(ctx, all, engine.ImageListOptions{Filters: f})
	if err != nil {
		return err
	}
	title(len(images.Deleted), "Deleted Images")
	for _, d := range images.Deleted {
		fmt.Fprintln(s.stdout, d.Hex())
	}
	if all {
		// As docker has it: what builds kept is unused data as well.
		built, err := e.PruneBuild(ctx, engine.PruneBuildOptions{Steps: true})
		if err != nil {
			return err
		}
		freed += uint64(built.Bytes)
	}
	names, err := pruneNetworks(ctx, e, m, filters)
	title(len(names), "Deleted Networks")
	for _, n := range names {
		fmt.Fprintln(s.stdout, n)
	}
	fmt.Fprintf(s.stdout, "Total reclaimed space: %s\n", format.ShortSize(int64(freed)+images.Freed))
	return errors.Join(failed, err)
}

func (s *session) systemCheck() *command.Command {
	var quick, repair, force bool
	var age string
	return &command.Command{
		Usage: "[options]", Long: "Verifies every blob by its digest, every image's layers, and every record of a container or volume.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&quick, "quick", "q", false, "Skip the blobs' content, which takes the time")
			f.BoolVarP(&repair, "repair", "r", false, "Mend what can be made again, remove what cannot")
			f.BoolVarP(&force, "force", "f", false, "With --repair, remove damaged containers as well; they are")
			f.StringVarP(&age, "max", "m", "24h", "Age of what is not yet looked at; everything is")
			f.Hide("force", "max")
		},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			found, err := e.Check(ctx, repair || force, quick)
			if err != nil {
				return err
			}
			left := 0
			for _, p := range found {
				text := "damaged"
				if p.Repaired {
					text = "repaired"
				} else {
					left++
				}
				fmt.Fprintf(s.stdout, "%s: %s: %v\n", text, p.Subject, p.Err)
			}
			if left > 0 {
				return command.WithCode(command.CodeFailed, fmt.Errorf("damage detected in the store: %d objects", left))
			}
			return nil
		},
	}
}

func (s *session) events() *command.Command {
	var filters []string
	var text, since, until string
	var noTrunc, stream bool
	return &command.Command{
		Usage: "[options]", Long: "Shows what was done to containers, images and volumes, and by default waits for more.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&filters, "filter", "f", nil, "filter output")
			f.StringVar(&text, "format", "", "format the output using a Go template")
			f.BoolVar(&noTrunc, "no-trunc", true, "do not truncate the output")
			f.StringVar(&since, "since", "", "show all events created since timestamp")
			f.BoolVar(&stream, "stream", true, "stream events and do not exit when returning the last known event")
			f.StringVar(&until, "until", "", "show all events until timestamp")
			f.Completion("format", completeFormat(engine.Event{}))
		},
		Run: func(ctx context.Context, _ []string) error {
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			o := engine.EventOptions{Filters: parsed, Stream: stream}
			now := time.Now()
			for _, t := range []struct {
				text string
				to   *time.Time
			}{{since, &o.Since}, {until, &o.Until}} {
				if t.text != "" {
					if *t.to, err = format.ParseTime(now, t.text); err != nil {
						return err
					}
				}
			}
			if o.Stream && since == "" && until == "" {
				o.Since = now
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			show, err := s.eventPrinter(text, noTrunc)
			if err != nil {
				return err
			}
			return e.Events(ctx, o, show)
		},
	}
}

func (s *session) eventPrinter(text string, noTrunc bool) (func(engine.Event) error, error) {
	if format.IsJSON(text) {
		return func(ev engine.Event) error { return format.JSON(s.stdout, ev, "") }, nil
	}
	if text != "" {
		t, err := format.Parse("events", text)
		if err != nil {
			return nil, err
		}
		return func(ev engine.Event) error { return t.One(s.stdout, ev) }, nil
	}
	return func(ev engine.Event) error {
		id := ev.ID
		if !noTrunc {
			id = format.ShortID(id)
		}
		_, err := fmt.Fprintf(s.stdout, "%s %s %s %s (%s)\n", ev.Time.Format("2006-01-02 15:04:05.999999999 -0700 MST"), ev.Type, ev.Action, id, command.Printable(ev.Details()))
		return err
	}, nil
}
