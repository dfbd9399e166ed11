package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/quadlet"
)

// quadletNodes are the commands of installed units.
func (s *session) quadletNodes() []command.Node {
	return []command.Node{
		{Path: "quadlet", Short: "Allows users to manage Quadlets"},
		{Path: "quadlet install", Short: "Install one or more quadlets", Build: s.quadletInstall},
		{Path: "quadlet list", Short: "List Quadlets", Build: s.quadletList},
		{Path: "quadlet ls", Short: "List Quadlets", Build: s.quadletList, Hidden: true},
		{Path: "quadlet print", Short: "Display the contents of a quadlet", Build: s.quadletPrint},
		{Path: "quadlet rm", Short: "Remove Quadlets", Build: s.quadletRemove},
	}
}

// units is where this user's are.
func units() quadlet.Search { return quadlet.SearchFor(os.Geteuid() != 0) }

// completeQuadlets proposes the names of units.
func (s *session) completeQuadlets(context.Context, []string, string) []string {
	all, err := units().List()
	if err != nil {
		return nil
	}
	var names []string
	for _, x := range all {
		names = append(names, x.Name)
	}
	return names
}

func (s *session) quadletInstall() *command.Command {
	var reload, replace bool
	return &command.Command{
		Usage: "[options] QUADLET-PATH-OR-URL [FILES-PATH-OR-URL]...",
		Long: "Installs a unit file, a directory of them, or a .quadlets file of several for the current user.\n" +
			"Further files are those that the units read. What is installed by one command from several files is removed together.",
		Examples: []string{"quadlet install /path/to/myquadlet.container", "quadlet install /path/to/app/", "quadlet install https://example.org/web.container"},
		Args:     command.AtLeast(1),
		Flags: func(f *command.Flags) {
			f.BoolVar(&reload, "reload-systemd", true, "Reload systemd after installing Quadlets")
			f.BoolVarP(&replace, "replace", "r", false, "Replace the installation even if the quadlet already exists")
		},
		Run: func(ctx context.Context, args []string) error {
			o, err := s.quadletFiles(ctx, args)
			if err != nil {
				return err
			}
			o.Replace = replace
			search := units()
			paths, err := search.Install(o)
			for _, p := range paths {
				fmt.Fprintln(s.stdout, p)
			}
			if err != nil {
				return err
			}
			s.warnQuadlets(search, paths)
			if reload {
				return reloadSystemd(ctx)
			}
			return nil
		},
	}
}

// quadletFiles reads what is to be installed.
func (s *session) quadletFiles(ctx context.Context, args []string) (quadlet.InstallOptions, error) {
	var o quadlet.InstallOptions
	for i, a := range args {
		if info, err := os.Stat(a); i == 0 && err == nil && info.IsDir() {
			entries, err := os.ReadDir(a)
			if err != nil {
				return o, fmt.Errorf("install quadlets: %w", err)
			}
			for _, e := range entries {
				if e.IsDir() {
					return o, fmt.Errorf("install quadlet %s: it is not a file", filepath.Join(a, e.Name()))
				}
				data, err := os.ReadFile(filepath.Join(a, e.Name()))
				if err != nil {
					return o, fmt.Errorf("install quadlet: %w", err)
				}
				o.Files = append(o.Files, quadlet.File{Name: e.Name(), Data: data})
			}
			abs, err := filepath.Abs(a)
			if err != nil {
				return o, err
			}
			o.App = "." + filepath.Base(abs) + ".app"
			continue
		}
		f, err := s.readQuadlet(ctx, a)
		switch {
		case err != nil:
			return o, err
		case filepath.Ext(f.Name) == ".quadlets":
			several, err := quadlet.Sections(f.Name, f.Data)
			if err != nil {
				return o, err
			}
			o.Files = append(o.Files, several...)
			o.App = "." + strings.TrimSuffix(f.Name, ".quadlets") + ".app"
		case i == 0 && !quadlet.IsUnit(f.Name):
			return o, fmt.Errorf("install %s: %q is not a supported Quadlet file type", a, filepath.Ext(f.Name))
		default:
			o.Files = append(o.Files, f)
		}
	}
	if o.App == "" && len(o.Files) > 1 {
		o.App = "." + o.Files[0].Name + ".app"
	}
	return o, nil
}

// readQuadlet reads a file or what is behind a URL.
func (s *session) readQuadlet(ctx context.Context, from string) (quadlet.File, error) {
	const most = 1 << 20
	f := quadlet.File{Name: filepath.Base(from)}
	var in io.ReadCloser
	var err error
	if isURL(from) {
		name, _, _ := strings.Cut(from, "?")
		f.Name = path.Base(name)
		in, err = s.fetch(ctx, from)
	} else {
		in, err = os.Open(from)
	}
	if err != nil {
		return f, fmt.Errorf("install quadlet: %w", err)
	}
	defer in.Close()
	if f.Data, err = io.ReadAll(io.LimitReader(in, most+1)); err != nil {
		return f, fmt.Errorf("install quadlet %s: %w", from, err)
	}
	if len(f.Data) > most {
		return f, fmt.Errorf("install quadlet %s: it is larger than %d bytes", from, most)
	}
	return f, nil
}

// warnQuadlets says what keeps installed units from becoming services, such as
// another that is not installed yet.
func (s *session) warnQuadlets(search quadlet.Search, paths []string) {
	all, err := search.Load()
	if err != nil {
		return
	}
	_, err = quadlet.Translate(all, quadlet.Options{Program: "hull", User: search.User})
	if err == nil {
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		if slices.ContainsFunc(paths, func(p string) bool { return strings.Contains(line, p+":") }) {
			s.warn(line)
		}
	}
}

func (s *session) quadletList() *command.Command {
	var filters []string
	var text string
	var noHeading bool
	return &command.Command{
		Usage: "[options]", Long: "Lists all Quadlets of the current user.", Args: command.NoArgs,
		Examples: []string{"quadlet list", "quadlet list --format '{{ .UnitName }}'", "quadlet list --filter 'name=test*'"},
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&filters, "filter", "f", nil, "Filter output based on conditions given (name, status, pod)")
			f.StringVar(&text, "format", "", "Pretty-print output to JSON or using a Go template")
			f.BoolVarP(&noHeading, "noheading", "n", false, "Do not print headers")
			f.Completion("format", completeFormat(quadlet.Installed{}))
			f.Words("filter", "name=", "status=", "pod=")
		},
		Run: func(ctx context.Context, _ []string) error {
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			list, err := s.installed(ctx, parsed)
			if err != nil {
				return err
			}
			return s.showQuadlets(list, text, noHeading)
		},
	}
}

// installed are the units that the filters let through, with what systemd says
// of their services.
func (s *session) installed(ctx context.Context, f engine.Filters) ([]quadlet.Installed, error) {
	for key := range f {
		if key != "name" && key != "status" && key != "pod" {
			return nil, fmt.Errorf("parse filter: %s is not a valid filter", key)
		}
	}
	all, err := units().List()
	if err != nil {
		return nil, err
	}
	states, err := unitStates(ctx, all)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if x := &all[i]; x.Status == "" {
			x.Status = states[x.UnitName].status()
		}
	}
	matches := func(key, value string) bool {
		wants := f[key]
		return len(wants) == 0 || slices.ContainsFunc(wants, func(w string) bool {
			ok, err := path.Match(w, value)
			return ok && err == nil || w == value
		})
	}
	return slices.DeleteFunc(all, func(x quadlet.Installed) bool {
		return !matches("name", x.Name) || !matches("status", x.Status) || !matches("pod", x.Pod)
	}), nil
}

func (s *session) showQuadlets(list []quadlet.Installed, text string, noHeading bool) error {
	switch {
	case format.IsJSON(text):
		if list == nil {
			list = []quadlet.Installed{}
		}
		return format.JSON(s.stdout, list, "  ")
	case text != "" && !format.IsTable(text):
		t, err := format.Parse("quadlet list", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, list, map[string]string{"UnitName": "UNIT NAME", "Path": "PATH ON DISK", "App": "APPLICATION"}, noHeading)
	}
	header := []string{"NAME", "UNIT NAME", "PATH ON DISK", "STATUS", "APPLICATION", "POD"}
	if noHeading {
		header = nil
	}
	var rows [][]string
	for _, x := range list {
		rows = append(rows, []string{x.Name, x.UnitName, x.Path, x.Status, x.App, x.Pod})
	}
	return format.Table(s.stdout, header, rows)
}

func (s *session) quadletPrint() *command.Command {
	return &command.Command{
		Usage: "QUADLET", Long: "Prints the contents of a Quadlet file.", Args: command.Exactly(1),
		Examples: []string{"quadlet print myquadlet.container"},
		Complete: s.completeQuadlets,
		Run: func(_ context.Context, args []string) error {
			x, err := units().Find(args[0])
			if err != nil {
				return err
			}
			data, err := os.ReadFile(x.Path)
			if err != nil {
				return fmt.Errorf("print quadlet: %w", err)
			}
			_, err = s.stdout.Write(data)
			return err
		},
	}
}

func (s *session) quadletRemove() *command.Command {
	var o quadletRemove
	return &command.Command{
		Usage: "[options] QUADLET [QUADLET]...",
		Long: "Removes installed Quadlets of the current user. A Quadlet that belongs to an application is removed with all of it;\n" +
			"an application may be named too.",
		Examples: []string{"quadlet rm test.container", "quadlet rm --force mysql.container", "quadlet rm --all"},
		Complete: s.completeQuadlets,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&o.all, "all", "a", false, "Remove all Quadlets for the current user")
			f.BoolVarP(&o.force, "force", "f", false, "Remove running Quadlets")
			f.BoolVarP(&o.ignore, "ignore", "i", false, "Do not error for Quadlets that do not exist")
			f.BoolVar(&o.reload, "reload-systemd", true, "Reload systemd after removal")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) == 0 && !o.all {
				return errors.New("must provide at least 1 quadlet to remove")
			}
			search := units()
			if o.all {
				all, err := search.List()
				if err != nil {
					return err
				}
				for _, x := range all {
					args = append(args, x.Name)
				}
			}
			err := each(args, func(name string) error { return s.removeQuadlet(ctx, search, name, o) })
			if o.reload {
				err = errors.Join(err, reloadSystemd(ctx))
			}
			return err
		},
	}
}

type quadletRemove struct{ all, force, ignore, reload bool }

// removeQuadlet removes a unit and what belongs to it, after its services are
// stopped.
func (s *session) removeQuadlet(ctx context.Context, search quadlet.Search, name string, o quadletRemove) error {
	var paths []string
	var err error
	if strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".app") {
		paths, err = search.Application(name)
	} else {
		var x quadlet.Installed
		if x, err = search.Find(name); err == nil {
			paths, err = search.Together(x)
		}
	}
	if (o.ignore || o.all) && errors.Is(err, quadlet.ErrNotFound) {
		if !o.all {
			fmt.Fprintln(s.stdout, name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	all, err := search.List()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(x quadlet.Installed) bool { return !slices.Contains(paths, x.Path) })
	if err := stopUnits(ctx, all, o.force); err != nil {
		return err
	}
	for _, p := range paths {
		if err := quadlet.Remove(p); err != nil {
			return err
		}
		if base := filepath.Base(p); quadlet.IsUnit(base) {
			fmt.Fprintln(s.stdout, base)
		}
	}
	return nil
}
