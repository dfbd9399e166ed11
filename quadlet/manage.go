package quadlet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/state"
)

// ErrNotFound reports a unit that is not installed.
var ErrNotFound = errors.New("no such quadlet")

// File is one to install: a unit, or one that units read.
type File struct {
	Name string
	Data []byte
}

// InstallOptions say what to install.
type InstallOptions struct {
	Files []File
	// App is the name of what the files are together; they are removed
	// together then.
	App     string
	Replace bool
}

// Installed is a unit that is there.
type Installed struct {
	Name, UnitName, Path, Status, App, Pod string
}

// IsUnit says whether a file's name is that of a unit.
func IsUnit(name string) bool { return kinds()[filepath.Ext(name)] != nil }

// Sections takes a file of several units apart: "---" stands between them, and
// each says its name in a comment, # FileName=web.
func Sections(name string, data []byte) ([]File, error) {
	var all []File
	number := 0
	for _, part := range strings.Split("\n"+string(data), "\n---\n") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		number++
		u, err := Parse(name, []byte(part))
		if err != nil {
			return nil, err
		}
		file, ext := "", ""
		for _, l := range strings.Split(part, "\n") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(l), "#"); ok && file == "" {
				file, _ = strings.CutPrefix(strings.TrimSpace(text), "FileName=")
				if file == strings.TrimSpace(text) {
					file = ""
				}
			}
		}
		for _, k := range kinds() {
			if u.find(k.section) != nil {
				ext = k.ext
			}
		}
		switch {
		case file == "" || strings.ContainsAny(file, `/\`):
			return nil, fmt.Errorf("read %s: part %d has no comment # FileName=NAME", name, number)
		case ext == "":
			return nil, fmt.Errorf("read %s: part %d (%s) has no section of a unit", name, number, file)
		}
		all = append(all, File{Name: file + ext, Data: []byte(strings.TrimSpace(part) + "\n")})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read %s: it has no units", name)
	}
	return all, nil
}

// Check parses a unit and looks at its keys.
func Check(path string, data []byte) error {
	u, err := Parse(path, data)
	if err != nil {
		return err
	}
	k := kinds()[filepath.Ext(path)]
	if k == nil {
		return fmt.Errorf("read %s: %q is no kind of unit", path, filepath.Ext(path))
	}
	t := &translation{set: &set{}, self: &target{unit: u, service: serviceName(u, k)}, unit: u, kind: k}
	return t.check()
}

// Install writes files to the user's directory of units: all of them, or none
// when one is in error or is there already. It returns their paths.
func (s Search) Install(o InstallOptions) ([]string, error) {
	dir, err := s.InstallDir()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, f := range o.Files {
		if !filepath.IsLocal(f.Name) || strings.Contains(f.Name, "/") {
			errs = append(errs, fmt.Errorf("install %q: it is no file's name", f.Name))
		}
		if IsUnit(f.Name) {
			errs = append(errs, Check(f.Name, f.Data))
		}
		if _, err := os.Lstat(filepath.Join(dir, f.Name)); err == nil && !o.Replace {
			errs = append(errs, fmt.Errorf("install %s: a quadlet of this name exists, refusing to overwrite", f.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("install units: %w", err)
	}
	if o.App != "" {
		// First, so that whatever is written can be removed.
		names, err := members(filepath.Join(dir, o.App))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, f := range o.Files {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
		if err := state.WriteFile(dir, o.App, []byte(strings.Join(names, "\n")+"\n"), 0o644, true); err != nil {
			return nil, err
		}
	}
	var paths []string
	for _, f := range o.Files {
		if err := state.WriteFile(dir, f.Name, f.Data, 0o644, true); err != nil {
			return paths, err
		}
		paths = append(paths, filepath.Join(dir, f.Name))
	}
	return paths, nil
}

// members are the files of an application, which its file lists.
func members(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read application: %w", err)
	}
	var names []string
	for _, n := range strings.Split(string(data), "\n") {
		if n = strings.TrimSpace(n); filepath.IsLocal(n) && !strings.Contains(n, "/") {
			names = append(names, n)
		}
	}
	return names, nil
}

// apps are the applications of the user's directory: file names to the name of
// the application's file.
func (s Search) apps() map[string]string {
	of := map[string]string{}
	dir, err := s.InstallDir()
	if err != nil {
		return of
	}
	lists, _ := filepath.Glob(filepath.Join(dir, ".*.app")) // fails for bad patterns only
	for _, l := range lists {
		names, err := members(l)
		if err != nil {
			continue
		}
		for _, n := range names {
			of[n] = filepath.Base(l)
		}
	}
	return of
}

// List are all units of the user, whether or not they can be translated: then
// Status says why.
func (s Search) List() ([]Installed, error) {
	dirs, err := s.dirs()
	if err != nil {
		return nil, err
	}
	apps, known := s.apps(), kinds()
	var all []Installed
	seen := map[string]bool{}
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		if err != nil {
			continue
		}
		for _, e := range entries {
			name, path := e.Name(), filepath.Join(d, e.Name())
			k := known[filepath.Ext(name)]
			if k == nil || seen[name] || isDir(path) {
				continue
			}
			seen[name] = true
			x := Installed{Name: name, Path: path, App: apps[name]}
			u, err := load(path, dirs)
			switch {
			case err != nil:
				x.Status = err.Error()
			case u == nil:
				x.Status = "masked"
			default:
				x.UnitName, x.Pod = serviceName(u, k)+".service", u.last("Container", "Pod")
			}
			all = append(all, x)
		}
	}
	return all, nil
}

// Find is the installed unit of that name.
func (s Search) Find(name string) (Installed, error) {
	if !IsUnit(name) {
		return Installed{}, fmt.Errorf("find quadlet: %q is no kind of unit", name)
	}
	all, err := s.List()
	if err != nil {
		return Installed{}, err
	}
	for _, x := range all {
		if x.Name == name {
			return x, nil
		}
	}
	return Installed{}, fmt.Errorf("find quadlet %s: %w", name, ErrNotFound)
}

// Together are the files that are removed with one: its application's, or
// itself. The application's own file is the last.
func (s Search) Together(x Installed) ([]string, error) {
	if x.App == "" {
		return []string{x.Path}, nil
	}
	return s.Application(x.App)
}

// Application are the files of an application.
func (s Search) Application(app string) ([]string, error) {
	dir, err := s.InstallDir()
	if err != nil {
		return nil, err
	}
	if !filepath.IsLocal(app) || strings.Contains(app, "/") {
		return nil, fmt.Errorf("find application %q: %w", app, ErrNotFound)
	}
	names, err := members(filepath.Join(dir, app))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find application %s: %w", app, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, n := range append(names, app) {
		paths = append(paths, filepath.Join(dir, n))
	}
	return paths, nil
}

// Remove removes a unit's file. What a distribution has is not the user's.
func Remove(path string) error {
	if strings.HasPrefix(path, distroDir+"/") {
		return fmt.Errorf("remove %s: it belongs to the distribution: to hide it, make %s a link to /dev/null", path, filepath.Join(adminDir, filepath.Base(path)))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove quadlet: %w", err)
	}
	return nil
}
