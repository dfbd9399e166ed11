package quadlet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxFile is how large a unit file may be.
const maxFile = 1 << 20

// Search says where units are looked for.
type Search struct {
	User bool
	UID  int
	// Home, ConfigHome and RuntimeDir are the user's; ConfigHome is
	// Home/.config when empty.
	Home, ConfigHome, RuntimeDir string
	// Dirs, separated by colons, are all directories when not empty.
	Dirs string

	root string // of the system's directories; "" is /, tests have another
}

// SearchFor is the search of this process's user and environment.
func SearchFor(user bool) Search {
	return Search{
		User: user, UID: os.Getuid(), Home: os.Getenv("HOME"), ConfigHome: os.Getenv("XDG_CONFIG_HOME"),
		RuntimeDir: os.Getenv("XDG_RUNTIME_DIR"), Dirs: os.Getenv("QUADLET_UNIT_DIRS"),
	}
}

const (
	runDir    = "/run/containers/systemd"
	adminDir  = "/etc/containers/systemd"
	distroDir = "/usr/share/containers/systemd"
)

// root is a directory below which units lie.
type root struct {
	path string
	skip func(sub string) bool // of directories directly below
}

func (s Search) roots() ([]root, error) {
	var all []root
	if s.Dirs != "" {
		for _, d := range strings.Split(s.Dirs, ":") {
			if !filepath.IsAbs(d) {
				return nil, fmt.Errorf("look for units: QUADLET_UNIT_DIRS: %q is not an absolute path", d)
			}
			all = append(all, root{path: d})
		}
		return all, nil
	}
	users := func(sub string) bool { return sub == "users" }
	if !s.User {
		return []root{{s.root + runDir, users}, {s.root + adminDir, users}, {s.root + distroDir, users}}, nil
	}
	if s.RuntimeDir != "" {
		all = append(all, root{path: filepath.Join(s.RuntimeDir, "containers/systemd")})
	}
	if d := s.config(); d != "" {
		all = append(all, root{path: d})
	}
	// Directories with a number for a name are those of single users.
	number := func(sub string) bool { return strings.Trim(sub, "0123456789") == "" }
	for _, d := range []string{s.root + adminDir, s.root + distroDir} {
		all = append(all, root{path: filepath.Join(d, "users", strconv.Itoa(s.UID))}, root{filepath.Join(d, "users"), number})
	}
	return all, nil
}

// config is the directory of a user's own units.
func (s Search) config() string {
	switch {
	case s.ConfigHome != "":
		return filepath.Join(s.ConfigHome, "containers/systemd")
	case s.Home != "":
		return filepath.Join(s.Home, ".config/containers/systemd")
	}
	return ""
}

// InstallDir is where units are installed.
func (s Search) InstallDir() (string, error) {
	roots, err := s.roots()
	switch {
	case err != nil:
		return "", err
	case s.Dirs != "":
		return roots[0].path, nil
	case !s.User:
		return s.root + adminDir, nil
	case s.config() == "":
		return "", errors.New("find the directory of units: HOME is not set")
	}
	return s.config(), nil
}

// dirs are the roots and what is below them, links followed, each once. That
// it is not there is no error.
func (s Search) dirs() ([]string, error) {
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	var all []string
	seen := map[string]bool{}
	for _, r := range roots {
		all = walk(all, seen, r.path, r.skip)
	}
	return all, nil
}

func walk(all []string, seen map[string]bool, dir string, skip func(string) bool) []string {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || seen[real] {
		return all
	}
	seen[real] = true
	entries, err := os.ReadDir(real)
	if err != nil {
		return all
	}
	all = append(all, dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if skip != nil && skip(e.Name()) || strings.HasSuffix(e.Name(), ".d") {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			all = walk(all, seen, path, nil)
		}
	}
	return all
}

// Load reads all units. Of several of one name the first counts. Errors are of
// single files.
func (s Search) Load() ([]*Unit, error) {
	dirs, err := s.dirs()
	if err != nil {
		return nil, err
	}
	known := kinds()
	var units []*Unit
	var errs []error
	seen := map[string]bool{}
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		if err != nil {
			errs = append(errs, fmt.Errorf("look for units: %w", err))
			continue
		}
		for _, e := range entries {
			path := filepath.Join(d, e.Name())
			if known[filepath.Ext(e.Name())] == nil || seen[e.Name()] || isDir(path) {
				continue
			}
			seen[e.Name()] = true
			u, err := load(path, dirs)
			if err != nil {
				errs = append(errs, err)
			} else if u != nil {
				units = append(units, u)
			}
		}
	}
	slices.SortStableFunc(units, func(a, b *Unit) int { return cmp.Compare(a.Name, b.Name) })
	return units, errors.Join(errs...)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// load reads a unit and its drop-ins; it is nil when the file is a link to
// /dev/null, which hides others of the name.
func load(path string, dirs []string) (*Unit, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil && real == os.DevNull {
		return nil, nil
	}
	u, err := readUnit(path)
	if err != nil {
		return nil, err
	}
	ins, err := dropIns(u.Name, dirs)
	if err != nil {
		return nil, err
	}
	for _, p := range ins {
		in, err := readUnit(p)
		if err != nil {
			return nil, err
		}
		u.merge(in)
	}
	return u, nil
}

func readUnit(path string) (*Unit, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read unit: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read unit %s: it is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read unit: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read unit: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read unit %s: it is larger than %d bytes", path, maxFile)
	}
	return Parse(path, data)
}

// dropIns are the files of a unit's .d directories, in the order in which they
// are added: by name. Of one name that in the most particular directory counts.
func dropIns(name string, dirs []string) ([]string, error) {
	of := map[string]string{}
	for _, in := range dropInDirs(name) {
		for _, d := range dirs {
			entries, err := os.ReadDir(filepath.Join(d, in))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("look for drop-ins: %w", err)
			}
			for _, e := range entries {
				if _, ok := of[e.Name()]; !ok && filepath.Ext(e.Name()) == ".conf" {
					of[e.Name()] = filepath.Join(d, in, e.Name())
				}
			}
		}
	}
	names := make([]string, 0, len(of))
	for n := range of {
		names = append(names, n)
	}
	slices.Sort(names)
	var paths []string
	for _, n := range names {
		if real, err := filepath.EvalSymlinks(of[n]); err != nil || real != os.DevNull {
			paths = append(paths, of[n])
		}
	}
	return paths, nil
}

// dropInDirs are the names of a unit's drop-in directories, the most
// particular first: a-b@1.container.d, a-b@.container.d, a-.container.d,
// container.d.
func dropInDirs(name string) []string {
	ext := filepath.Ext(name)
	all := []string{name + ".d"}
	base, instance, template := strings.Cut(strings.TrimSuffix(name, ext), "@")
	if template && instance != "" {
		all = append(all, base+"@"+ext+".d")
	}
	for i := strings.LastIndexByte(base, '-'); i > 0; i = strings.LastIndexByte(base[:i], '-') {
		if d := base[:i+1] + ext + ".d"; d != all[0] {
			all = append(all, d)
		}
	}
	return append(all, ext[1:]+".d")
}
