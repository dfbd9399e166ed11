package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"hull/state"
)

// A Config is what is known of other hosts. The zero value knows none.
type Config struct {
	Connections map[string]Destination
	Default     string // a connection
	Farms       map[string][]string
	DefaultFarm string
}

// Known is both: what containers.conf says, and the user's file above it.
type Known struct {
	Static, Own Config
}

// file is podman-connections.json.
type file struct {
	Connection struct {
		Default     string                 `json:",omitempty"`
		Connections map[string]Destination `json:",omitempty"`
	}
	Farm struct {
		Default string              `json:",omitempty"`
		List    map[string][]string `json:",omitempty"`
	}
}

// Path is the file that commands change: PODMAN_CONNECTIONS_CONF, or
// podman-connections.json in the user's directory of configuration.
func Path() (string, error) {
	if p := os.Getenv("PODMAN_CONNECTIONS_CONF"); p != "" {
		return filepath.Abs(p)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the file of connections: %w", err)
	}
	return filepath.Join(dir, "containers", "podman-connections.json"), nil
}

// Read reads the user's file. Without one nothing is known.
func Read(path string) (Config, error) {
	var f file
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return Config{}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read connections %s: %w", path, err)
	}
	return Config{f.Connection.Connections, f.Connection.Default, f.Farm.List, f.Farm.Default}, nil
}

// Change has change look at the user's file and alter what it was given, and
// writes that. Others who change it wait.
func Change(ctx context.Context, path string, change func(*Config) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write connections: %w", err)
	}
	lock, err := state.Acquire(ctx, path+".lock")
	if err != nil {
		return err
	}
	defer lock.Release()
	c, err := Read(path)
	if err != nil {
		return err
	}
	if c.Connections == nil {
		c.Connections = map[string]Destination{}
	}
	if c.Farms == nil {
		c.Farms = map[string][]string{}
	}
	if err := change(&c); err != nil {
		return err
	}
	var f file
	f.Connection.Connections, f.Connection.Default = c.Connections, c.Default
	f.Farm.List, f.Farm.Default = c.Farms, c.DefaultFarm
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write connections: %w", err)
	}
	return state.WriteFile(filepath.Dir(path), filepath.Base(path), append(data, '\n'), 0o600, true)
}

// Connection finds one by name; own says that it is the user's file's.
func (k *Known) Connection(name string) (d Destination, own, ok bool) {
	if d, ok = k.Own.Connections[name]; ok {
		return d, true, true
	}
	d, ok = k.Static.Connections[name]
	return d, false, ok
}

// Default is the connection, and DefaultFarm the farm, used when none is named.
func (k *Known) Default() string     { return or(k.Own.Default, k.Static.Default) }
func (k *Known) DefaultFarm() string { return or(k.Own.DefaultFarm, k.Static.DefaultFarm) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Farm finds the connections of a farm.
func (k *Known) Farm(name string) (connections []string, own, ok bool) {
	if connections, ok = k.Own.Farms[name]; ok {
		return connections, true, true
	}
	connections, ok = k.Static.Farms[name]
	return connections, false, ok
}

// ConnectionNames and FarmNames are all, sorted.
func (k *Known) ConnectionNames() []string { return names(k.Own.Connections, k.Static.Connections) }
func (k *Known) FarmNames() []string       { return names(k.Own.Farms, k.Static.Farms) }

func names[T any](maps ...map[string]T) []string {
	var all []string
	for _, m := range maps {
		for name := range m {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
