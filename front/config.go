package front

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"hull/engine"
	"hull/remote"
)

// A Config is what containers.conf says, as far as its keys mean something
// here. The zero value is the built-in configuration.
type Config struct {
	Defaults engine.Defaults

	EventsLogger       string
	CgroupManager      string
	HooksDirs, CDIDirs []string
	// Runtimes are the programs of [engine.runtimes], by name.
	Runtimes map[string][]string
	// Remote are the connections and farms.
	Remote remote.Config
}

// Connections are the hosts and farms that containers.conf and the user's own
// file name.
func (g *Globals) Connections() (remote.Known, error) {
	conf, err := LoadConfig(g.Modules)
	if err != nil {
		return remote.Known{}, err
	}
	path, err := remote.Path()
	if err != nil {
		return remote.Known{}, err
	}
	own, err := remote.Read(path)
	return remote.Known{Static: conf.Remote, Own: own}, err
}

// LoadConfig reads the files that there are, the later above the earlier: the
// distribution's, the administrator's, the user's, then the modules asked for.
// CONTAINERS_CONF names the one that is read instead of all these,
// CONTAINERS_CONF_OVERRIDE one that stands above them.
func LoadConfig(modules []string) (Config, error) {
	var c Config
	files, err := configFiles(modules)
	if err != nil {
		return Config{}, err
	}
	for _, f := range files {
		data, err := os.ReadFile(f.path)
		if errors.Is(err, fs.ErrNotExist) && f.optional {
			continue
		}
		if err == nil {
			err = c.read(data)
		}
		if err != nil {
			return Config{}, fmt.Errorf("read configuration %s: %w", f.path, err)
		}
	}
	return c, nil
}

type configFile struct {
	path     string
	optional bool
}

func configFiles(modules []string) ([]configFile, error) {
	var files []configFile
	dirs := []string{"/usr/share/containers", "/etc/containers"}
	if InUserNamespace() || os.Geteuid() != 0 {
		if home, err := os.UserConfigDir(); err == nil {
			dirs = append(dirs, filepath.Join(home, "containers"))
		}
	}
	if path := os.Getenv("CONTAINERS_CONF"); path != "" {
		files = []configFile{{path, false}}
	} else {
		for _, d := range dirs {
			files = append(files, configFile{filepath.Join(d, "containers.conf"), true})
			if d == dirs[0] {
				continue
			}
			drops, err := filepath.Glob(filepath.Join(d, "containers.conf.d", "*.conf"))
			if err != nil {
				return nil, err
			}
			for _, f := range drops { // sorted
				files = append(files, configFile{f, true})
			}
		}
	}
	for _, m := range modules {
		path, err := findModule(m, dirs)
		if err != nil {
			return nil, err
		}
		files = append(files, configFile{path, false})
	}
	if path := os.Getenv("CONTAINERS_CONF_OVERRIDE"); path != "" {
		files = append(files, configFile{path, false})
	}
	return files, nil
}

// findModule looks a module up by its path, or by its name in the directories
// of modules, the user's first.
func findModule(name string, dirs []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, d := range slices.Backward(dirs) {
		path := filepath.Join(d, "containers.conf.modules", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find module %s: none of that name in containers.conf.modules of %s: %w", name, strings.Join(dirs, ", "), fs.ErrNotExist)
}

// read takes what a file says.
func (c *Config) read(data []byte) error {
	if onlyComments(data) {
		return nil
	}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, column := at.Position()
			return fmt.Errorf("line %d, column %d: %w", line, column, err)
		}
		return err
	}
	for section, v := range tree {
		keys, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: want a section", section)
		}
		for key, v := range keys {
			set, known := configKeys[section+"."+key]
			if !known {
				continue // of another program's, or of another version's
			}
			if err := set(c, v); err != nil {
				return fmt.Errorf("%s.%s: %w", section, key, err)
			}
		}
	}
	return nil
}

// onlyComments spares the parser the file that distributions ship, in which
// everything is a comment.
func onlyComments(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		section := bytes.HasPrefix(line, []byte("[")) && bytes.HasSuffix(line, []byte("]"))
		if len(line) > 0 && line[0] != '#' && !section {
			return false
		}
	}
	return true
}
