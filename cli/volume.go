package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"hull/command"
	"hull/engine"
	"hull/format"
)

func (s *session) volumeNodes() []command.Node {
	return []command.Node{
		{Path: "volume", Short: "Manage volumes"},
		{Path: "volume create", Short: "Create a new volume", Build: s.volumeCreate},
		{Path: "volume exists", Short: "Check if volume exists", Build: s.volumeExists},
		{Path: "volume export", Short: "Export volumes", Build: s.volumeExport},
		{Path: "volume import", Short: "Import a tarball contents into a volume", Build: s.volumeImport},
		{Path: "volume inspect", Short: "Display detailed information on one or more volumes", Build: s.volumeInspect},
		{Path: "volume ls", Short: "List volumes", Build: s.volumeList},
		{Path: "volume list", Short: "List volumes", Build: s.volumeList, Hidden: true},
		{Path: "volume mount", Short: "Mount volume", Build: s.volumeMount},
		{Path: "volume unmount", Short: "Unmount volume", Build: s.volumeUnmount},
		{Path: "volume reload", Short: "Reload all volumes from volume plugins", Build: s.volumeReload},
		{Path: "volume prune", Short: "Remove all unused volumes", Build: s.volumePrune},
		{Path: "volume rm", Short: "Remove one or more volumes", Build: s.volumeRemove},
		{Path: "volume remove", Short: "Remove one or more volumes", Build: s.volumeRemove, Hidden: true},
	}
}

// isNotFound reports an object that is not there, of whatever kind.
func isNotFound(err error) bool {
	return errors.Is(err, engine.ErrNotFound) || errors.Is(err, os.ErrNotExist) || isImageNotFound(err)
}

func (s *session) completeVolumes(ctx context.Context, _ []string, _ string) []string {
	e, err := s.open(ctx)
	if err != nil {
		return nil
	}
	all, err := e.VolumeList(ctx, nil)
	if err != nil {
		return nil
	}
	var names []string
	for _, v := range all {
		names = append(names, v.Name)
	}
	return names
}

func (s *session) volumeCreate() *command.Command {
	var o engine.VolumeCreateOptions
	var labels, options []string
	var uid, gid *int
	return &command.Command{
		Usage: "[options] [NAME]", Long: "Creates an empty volume.  If no name is given, one is made up.",
		Examples: []string{"volume create myvol", "volume create", "volume create --label foo=bar myvol"},
		Args:     command.AtMost(1),
		Flags: func(f *command.Flags) {
			f.StringVarP(&o.Driver, "driver", "d", "local", "Specify volume driver name")
			command.Optional(f, &gid, "gid", "", "int", "Set the GID of the volume owner", strconv.Atoi)
			f.BoolVar(&o.Ignore, "ignore", false, "Don't fail if volume already exists")
			f.StringArrayVarP(&labels, "label", "l", nil, "Set metadata for a volume")
			f.StringArrayVarP(&options, "opt", "o", nil, "Set driver specific options")
			command.Optional(f, &uid, "uid", "", "int", "Set the UID of the volume owner", strconv.Atoi)
			f.Alias("name", "driver")
			f.Lookup("name").Value = (*nameFlag)(&o.Name)
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				o.Name = args[0]
			}
			var err error
			if o.Labels, err = keyValues(labels); err != nil {
				return err
			}
			if o.Options, err = keyValues(options); err != nil {
				return err
			}
			o.UID, o.GID = uid, gid
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, err := e.VolumeCreate(ctx, o)
			if err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, name)
			return nil
		},
	}
}

// nameFlag is docker's old --name.
type nameFlag string

func (n *nameFlag) String() string     { return string(*n) }
func (n *nameFlag) Type() string       { return "string" }
func (n *nameFlag) Set(v string) error { *n = nameFlag(v); return nil }

func (s *session) volumeExists() *command.Command {
	return &command.Command{
		Usage: "VOLUME", Long: "Ends with 0 when the volume exists, with 1 when it does not.",
		Args: command.Exactly(1), Complete: s.completeVolumes,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			ok, err := e.VolumeExists(ctx, args[0])
			return exists(ok, err)
		},
	}
}

func (s *session) volumeExport() *command.Command {
	var output string
	return &command.Command{
		Usage: "[options] VOLUME", Long: "Exports the content of a volume as a tar archive, by default to standard output.",
		Examples: []string{"volume export myvol", "volume export --output myvol.tar myvol"},
		Args:     command.Exactly(1), Complete: s.completeVolumes,
		Flags: func(f *command.Flags) {
			f.StringVarP(&output, "output", "o", "", "Write to a specified file (default: stdout, which must be redirected)")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			return s.toFile(output, func(w io.Writer) error { return e.VolumeExport(ctx, args[0], w) })
		},
	}
}

func (s *session) volumeImport() *command.Command {
	return &command.Command{
		Usage: "VOLUME [SOURCE]", Long: "Imports the content of a tar archive, compressed or not, into a volume; - or nothing is standard input.",
		Examples: []string{"volume import my_vol /home/user/import.tar", "cat ctr.tar | volume import my_vol -"},
		Args:     command.Between(1, 2), Complete: s.completeVolumes,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			in := io.Reader(s.stdin)
			if len(args) > 1 && args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return fmt.Errorf("open archive: %w", err)
				}
				defer f.Close()
				in = f
			}
			return e.VolumeImport(ctx, args[0], in)
		},
	}
}

func (s *session) volumeInspect() *command.Command {
	var all bool
	var text string
	return &command.Command{
		Usage: "[options] VOLUME [VOLUME...]", Long: "Displays detailed information on one or more volumes.",
		Examples: []string{"volume inspect myvol", "volume inspect --all", "volume inspect --format \"{{.Driver}} {{.Scope}}\" myvol"},
		Complete: s.completeVolumes,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Inspect all volumes")
			f.StringVarP(&text, "format", "f", "json", "Format volume output using Go template")
			f.Completion("format", completeFormat(engine.Volume{}))
		},
		Run: func(ctx context.Context, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("provide one or more volume names, or --all and none")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if all {
				args = s.completeVolumes(ctx, nil, "")
			}
			return s.inspectAll(args, inspectFlags{format: text}, func(name string) (any, error) { return e.VolumeInspect(ctx, name) })
		},
	}
}

func (s *session) volumeList() *command.Command {
	var filters []string
	var text string
	var quiet, noHeading bool
	return &command.Command{
		Usage: "[options]", Long: "Lists volumes.", Args: command.NoArgs,
		Examples: []string{"volume ls", "volume ls --format json", "volume ls --filter name=x,label=key=value"},
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&filters, "filter", "f", nil, "Filter volume output")
			f.StringVar(&text, "format", "", "Format volume output using JSON or a Go template")
			f.BoolVarP(&noHeading, "noheading", "n", false, "Do not print headers")
			f.BoolVarP(&quiet, "quiet", "q", false, "Print volume output in quiet mode")
			f.Completion("format", completeFormat(engine.Volume{}))
		},
		Run: func(ctx context.Context, _ []string) error {
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			list, err := e.VolumeList(ctx, parsed)
			if err != nil {
				return err
			}
			return s.showVolumes(list, text, quiet, noHeading)
		},
	}
}

func (s *session) showVolumes(list []*engine.Volume, text string, quiet, noHeading bool) error {
	switch {
	case quiet:
		for _, v := range list {
			fmt.Fprintln(s.stdout, v.Name)
		}
		return nil
	case format.IsJSON(text):
		if list == nil {
			list = []*engine.Volume{}
		}
		return format.JSON(s.stdout, list, "     ")
	case text != "" && !format.IsTable(text):
		t, err := format.Parse("volume ls", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, list, map[string]string{"Name": "VOLUME NAME"}, noHeading)
	}
	header := []string{"DRIVER", "VOLUME NAME"}
	if noHeading {
		header = nil
	}
	var rows [][]string
	for _, v := range list {
		rows = append(rows, []string{v.Driver, v.Name})
	}
	if len(rows) == 0 {
		return nil
	}
	return format.Table(s.stdout, header, rows)
}

func (s *session) volumePrune() *command.Command {
	var all, dry, force bool
	var filters []string
	return &command.Command{
		Usage: "[options]", Long: "Removes volumes that no container uses: those without a name, or with --all every one.", Args: command.NoArgs,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
			f.BoolVar(&dry, "dry-run", false, "Show the volumes that would be removed, and remove none")
			f.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
			f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
		},
		Run: func(ctx context.Context, _ []string) error {
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			if !force && !dry {
				ok, err := s.confirm("WARNING! This will remove all volumes not used by at least one container.\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			removed, err := e.VolumePrune(ctx, all, dry, parsed)
			return errors.Join(s.printRemoved(removed), err)
		},
	}
}

// printRemoved prints what went, and returns what did not.
func (s *session) printRemoved(removed []engine.Removed) error {
	var errs []error
	for _, r := range removed {
		if r.Err != nil {
			errs = append(errs, r.Err)
			continue
		}
		fmt.Fprintln(s.stdout, r.ID)
	}
	return errors.Join(errs...)
}

func (s *session) volumeRemove() *command.Command {
	var all, force bool
	var stop stopFlags
	return &command.Command{
		Usage: "[options] VOLUME [VOLUME...]", Long: "Removes one or more volumes that no container uses; with --force such containers are removed first.",
		Examples: []string{"volume rm myvol1 myvol2", "volume rm --all", "volume rm --force myvol"},
		Complete: s.completeVolumes,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all volumes")
			f.BoolVarP(&force, "force", "f", false, "Remove a volume by force, even if it is being used by a container")
			stop.declare(f, false)
		},
		Run: func(ctx context.Context, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("choose either one or more volumes or all")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if all {
				args = s.completeVolumes(ctx, nil, "")
			}
			return each(args, func(name string) error {
				removed, err := e.VolumeRemove(ctx, name, force, stop.timeout)
				switch {
				case isNotFound(err) && force:
					return nil
				case isNotFound(err):
					return command.WithCode(command.CodeFailed, err)
				case errors.Is(err, engine.ErrInUse):
					return command.WithCode(command.CodeInUse, err)
				case err != nil:
					return err
				}
				fmt.Fprintln(s.stdout, removed)
				return nil
			})
		},
	}
}
