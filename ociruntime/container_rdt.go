package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// An rdtGroup is a container's directory in the resctrl file system: its share of caches and
// memory bandwidth. See runtime-spec config-linux.md#intelrdt.
type rdtGroup struct {
	Dir string `json:"dir"`
	// Made says that Dir goes with the container.
	Made bool `json:"made,omitempty"`
	// Monitor is a directory for counters, which goes with the container.
	Monitor string `json:"monitor,omitempty"`
}

func validateRdt(r *oci.LinuxIntelRdt) error {
	if r == nil {
		return nil
	}
	if r.ClosID != "" && r.ClosID != "/" && (strings.ContainsAny(r.ClosID, "/\n\x00") || r.ClosID == "." || r.ClosID == ".." || slices.Contains(rdtOwn, r.ClosID)) {
		return fmt.Errorf("linux.intelRdt.closID %q is not a name", r.ClosID)
	}
	for _, s := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if strings.ContainsAny(s, "\n\x00") {
			return fmt.Errorf("linux.intelRdt: schema %q is more than a line", s)
		}
	}
	if r.MemBwSchema != "" && !strings.HasPrefix(r.MemBwSchema, "MB:") {
		return fmt.Errorf(`linux.intelRdt.memBwSchema %q does not begin with "MB:"`, r.MemBwSchema)
	}
	return nil
}

// rdtOwn are the file system's own directories.
var rdtOwn = []string{"info", "mon_groups", "mon_data"}

// rdtRoot is where the host has resctrl mounted.
func rdtRoot() (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("set cache allocation: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		left, right, _ := strings.Cut(line, " - ")
		w := strings.Fields(left)
		if len(w) >= 5 && strings.HasPrefix(right, "resctrl ") {
			return unescapeMount.Replace(w[4]), nil
		}
	}
	return "", errors.New("linux.intelRdt: this host has no resctrl file system mounted, which sets cache allocation and memory bandwidth")
}

// makeRdt makes the group of container id, or finds the one that is meant. After an error
// nothing of it is left.
func makeRdt(root, id string, r *oci.LinuxIntelRdt) (g *rdtGroup, err error) {
	name := r.ClosID
	if name == "" {
		name = id
	}
	g = &rdtGroup{Dir: filepath.Join(root, name)}
	schemas := r.L3CacheSchema != "" || r.MemBwSchema != "" || len(r.Schemata) > 0
	if r.ClosID != "" && !schemas {
		// One that somebody has set up.
		if _, err := os.Stat(g.Dir); err != nil {
			return nil, fmt.Errorf("linux.intelRdt: closID %s is not there, and the configuration has no schema for it: %w", r.ClosID, err)
		}
	} else {
		err = os.Mkdir(g.Dir, 0o755)
	}
	made := err == nil && (r.ClosID == "" || schemas)
	g.Made = made
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
			g = nil
			return
		}
		g.Made = made && r.ClosID == "" // a class with a name stays
	}()
	switch {
	case errors.Is(err, unix.ENOSPC):
		return g, fmt.Errorf("linux.intelRdt: make %s: all classes of service of this processor are in use: %w", g.Dir, unix.ENOSPC)
	case err != nil && !errors.Is(err, fs.ErrExist):
		return g, fmt.Errorf("linux.intelRdt: %w", err)
	}
	if err := g.setSchemas(r, made); err != nil {
		return g, err
	}
	if r.EnableMonitoring {
		monitor := filepath.Join(g.Dir, "mon_groups", id)
		if err := os.Mkdir(monitor, 0o755); err != nil {
			return g, fmt.Errorf("linux.intelRdt: make monitoring group: %w", err)
		}
		g.Monitor = monitor
	}
	return g, nil
}

// setSchemas writes the schemas in the specification's order; those of a class that was there
// before must be what it has.
func (g *rdtGroup) setSchemas(r *oci.LinuxIntelRdt, made bool) error {
	file := filepath.Join(g.Dir, "schemata")
	for _, s := range []string{r.L3CacheSchema, r.MemBwSchema} {
		if s == "" {
			continue
		}
		if made || r.ClosID == "" {
			if err := writeSchema(file, s); err != nil {
				return err
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("linux.intelRdt: %w", err)
		}
		if !hasSchema(string(have), s) {
			return fmt.Errorf("linux.intelRdt: closID %s has other schemas than %q: %q", r.ClosID, s, have)
		}
	}
	for _, s := range r.Schemata {
		if err := writeSchema(file, s); err != nil {
			return err
		}
	}
	return nil
}

func writeSchema(file, schema string) error {
	if err := os.WriteFile(file, []byte(schema+"\n"), 0o644); err != nil {
		return fmt.Errorf("linux.intelRdt: set schema %q: %w", schema, err)
	}
	return nil
}

// hasSchema compares by cache: the kernel prints all of a resource's, in its own form.
func hasSchema(have, want string) bool {
	resource, list, _ := strings.Cut(strings.TrimSpace(want), ":")
	for line := range strings.Lines(have) {
		name, all, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != resource {
			continue
		}
		values := make(map[string]string)
		for entry := range strings.SplitSeq(all, ";") {
			id, v, _ := strings.Cut(strings.TrimSpace(entry), "=")
			values[id] = strings.TrimLeft(v, "0 ")
		}
		for entry := range strings.SplitSeq(list, ";") {
			id, v, _ := strings.Cut(strings.TrimSpace(entry), "=")
			if got, ok := values[id]; !ok || !strings.EqualFold(got, strings.TrimLeft(v, "0 ")) {
				return false
			}
		}
		return true
	}
	return false
}

// enter are the files that a process writes itself to, in their order. nil has none.
func (g *rdtGroup) enter() []string {
	if g == nil {
		return nil
	}
	files := []string{g.Dir + "/tasks"}
	if g.Monitor != "" {
		files = append(files, g.Monitor+"/tasks")
	}
	return files
}

// remove removes what was made for the container; what is gone is no error.
func (g *rdtGroup) remove() error {
	if g == nil {
		return nil
	}
	dirs := []string{g.Monitor}
	if g.Made {
		dirs = append(dirs, g.Dir)
	}
	for _, dir := range dirs {
		if err := unix.Rmdir(dir); dir != "" && err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return nil
}

// UpdateRdt changes the schemas that are not empty of a container that has a share of its own.
func (r *Runtime) UpdateRdt(id string, schemas *oci.LinuxIntelRdt) error {
	if schemas.L3CacheSchema == "" && schemas.MemBwSchema == "" {
		return nil
	}
	if err := validateRdt(schemas); err != nil {
		return err
	}
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	if c.Rdt == nil {
		return errors.New("update cache allocation: the container was made without linux.intelRdt")
	}
	return c.Rdt.setSchemas(schemas, true)
}
