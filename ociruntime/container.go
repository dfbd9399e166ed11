package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/cgroup"
	"hull/oci"
	"hull/state"
)

// Errors that callers ask for with errors.Is. The texts are runc's: engines look for them.
var (
	ErrNotExist   = errors.New("container does not exist")
	ErrExist      = errors.New("container with given ID already exists")
	ErrNotRunning = errors.New("container not running")
	ErrPaused     = errors.New("container is paused")
)

// A Runtime leads the life of OCI bundles. Its state is one directory per container below Root.
type Runtime struct {
	// Root is the state directory, such as /run/hull/oci. It must be absolute.
	Root string
	// SystemdCgroup has Create make cgroups by systemd; the configuration's path is SLICE:PREFIX:NAME then.
	SystemdCgroup bool
	// Rootless goes on without a cgroup where none is delegated.
	Rootless bool
	// Warn is told what is done with less than was asked; nil drops it.
	Warn func(text string)
}

func (r *Runtime) warn(format string, args ...any) {
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}

// A Container is one that the runtime has created: what its state directory holds.
type Container struct {
	Version string    `json:"ociVersion"`
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"`
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   int       `json:"owner"`
	// Init is the container's first process; zero while it is being created.
	Init   state.ProcessID `json:"init"`
	Cgroup string          `json:"cgroup,omitempty"`
	// Unit is the unit of systemd whose group that is; "" for a plain one.
	Unit string `json:"unit,omitempty"`
	// Rdt is the container's share of caches, nil for none of its own.
	Rdt *rdtGroup `json:"rdt,omitempty"`
	// RootMount is the root's mount, where it was made in the runtime's own namespace.
	RootMount uint64    `json:"rootMount,omitempty"`
	Spec      *oci.Spec `json:"spec"`

	dir string
}

// Names of files in a container's state directory.
const (
	stateFile = "state.json"
	startPipe = "exec.fifo" // what the program waits for; it goes away with the start
)

// validID is what can be a directory's name and nothing else. See CVE-2022-… class: an id is never a path.
func validID(id string) error {
	if id == "" {
		return errors.New("container id cannot be empty")
	}
	if len(id) > 1024 || id == "." || id == ".." {
		return fmt.Errorf("invalid id format: %q", id)
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+-.", c) >= 0:
		default:
			return fmt.Errorf("invalid id format: %q", id)
		}
	}
	return nil
}

// Load reads a container. The error of one that is not there satisfies errors.Is(err, ErrNotExist).
func (r *Runtime) Load(id string) (*Container, error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	dir := filepath.Join(r.Root, id)
	data, err := state.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("load container %s: %w", id, err)
	}
	c, err := decode[Container](data)
	if err != nil {
		return nil, fmt.Errorf("load container %s: %w", id, err)
	}
	c.dir = dir
	return c, nil
}

// List reads all containers, by name. One that is being made or removed is passed over.
func (r *Runtime) List() ([]*Container, error) {
	entries, err := os.ReadDir(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var all []*Container
	for _, e := range entries {
		if !e.IsDir() || validID(e.Name()) != nil {
			continue
		}
		c, err := r.Load(e.Name())
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			r.warn("%v", err)
			continue
		}
		all = append(all, c)
	}
	return all, nil
}

func (c *Container) save() error {
	data, err := state.Marshal(c)
	if err != nil {
		return fmt.Errorf("save container %s: %w", c.ID, err)
	}
	if err := state.WriteFile(c.dir, stateFile, data, 0o600, false); err != nil {
		return fmt.Errorf("save container %s: %w", c.ID, err)
	}
	return nil
}

// Status is creating, created, running, paused or stopped. See runtime-spec runtime.md#state.
func (c *Container) Status() string {
	if c.Init.Pid == 0 {
		return "creating"
	}
	if !c.Init.Alive() {
		return "stopped"
	}
	if g, err := c.group(); err == nil && g != nil {
		if frozen, _ := g.Frozen(); frozen {
			return "paused"
		}
	}
	if _, err := os.Lstat(filepath.Join(c.dir, startPipe)); err == nil {
		return "created"
	}
	return "running"
}

// State is what state and hooks are told.
func (c *Container) State() oci.State {
	s := oci.State{Version: oci.SpecVersion, ID: c.ID, Status: oci.ContainerState(c.Status()), Bundle: c.Bundle, Annotations: c.Spec.Annotations}
	if s.Status != "stopped" {
		s.Pid = c.Init.Pid
	}
	return s
}

// group opens the container's cgroup; nil when it has none.
func (c *Container) group() (*cgroup.Group, error) {
	if c.Cgroup == "" {
		return nil, nil
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return nil, err
	}
	g, err := host.Open(c.Cgroup)
	if err != nil {
		return nil, err
	}
	return g.OfUnit(c.Unit), nil
}

// needGroup is group for what cannot be done without one.
func (c *Container) needGroup() (*cgroup.Group, error) {
	g, err := c.group()
	if err == nil && g == nil {
		err = errors.New("the container has no cgroup")
	}
	return g, err
}

// LoadBundle reads a bundle's configuration and makes its paths absolute.
func LoadBundle(bundle string) (*oci.Spec, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file config.json not found")
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	spec, err := decode[oci.Spec](data)
	if err != nil {
		return nil, fmt.Errorf("read bundle: config.json: %w", err)
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return nil, errors.New("config.json: root.path is empty")
	}
	if !filepath.IsAbs(spec.Root.Path) {
		spec.Root.Path = filepath.Join(bundle, spec.Root.Path)
	}
	if st, err := os.Stat(spec.Root.Path); err != nil {
		return nil, fmt.Errorf("invalid rootfs: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("invalid rootfs: %s is not a directory", spec.Root.Path)
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if isBind(*m) && m.Source != "" && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(bundle, m.Source)
		}
		if !filepath.IsAbs(m.Destination) {
			m.Destination = "/" + m.Destination
		}
	}
	return spec, nil
}

// decode reads JSON. encoding/json would first study each of the
// specification's types, which takes longer than a container's mounts do; it is
// asked where it explains better what is wrong.
func decode[T any](data []byte) (*T, error) {
	v := new(T)
	if state.Unmarshal(data, v) == nil {
		return v, nil
	}
	v = new(T)
	return v, json.Unmarshal(data, v)
}

// DecodeProcess reads a process of the specification, as exec gets it.
func DecodeProcess(data []byte) (*oci.Process, error) { return decode[oci.Process](data) }

// deviceRules are the configuration's between what every runtime denies and allows (CG-02):
// nothing but the default devices, unless the configuration says so.
func deviceRules(list []oci.LinuxDeviceCgroup) []oci.LinuxDeviceCgroup {
	rules := append([]oci.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, list...)
	allow := func(major, minor int64, kind, access string) {
		r := oci.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		rules = append(rules, r)
	}
	if slices.ContainsFunc(list, func(r oci.LinuxDeviceCgroup) bool {
		return r.Allow && (r.Type == "" || r.Type == "a") && r.Major == nil && r.Minor == nil
	}) {
		return rules // all devices; nothing is to be added
	}
	allow(-1, -1, "c", "m")
	allow(-1, -1, "b", "m")
	for _, d := range defaultDevices {
		allow(d.major, d.minor, "c", "rwm")
	}
	allow(136, -1, "c", "rwm") // /dev/pts/*
	allow(5, 2, "c", "rwm")    // /dev/ptmx
	return rules
}
