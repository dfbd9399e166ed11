package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"hull/state"
)

// Errors that callers distinguish.
var (
	ErrNotFound error = &sentinel{"no such network", fs.ErrNotExist}
	ErrExists   error = &sentinel{"network already exists", fs.ErrExist}
	ErrInUse          = errors.New("network is being used")
	ErrPort           = errors.New("port is in use")
)

// Options configure a Manager; the zero value is root's on this host.
type Options struct {
	// NetNS is the path of the network namespace that holds the bridges and
	// the packet filter; empty means the caller's. A user's is the one that
	// hull-net serves.
	NetNS string
	// Rootless says that published ports are hull-net's work: it listens in
	// the host's namespace, where this user may not rewrite packets.
	Rootless bool
	// Control is hull-net's control socket; only with Rootless.
	Control string
	// Helper is the path of hull-net. It carries connections to published
	// ports on loopback addresses; without it these are only reserved.
	Helper string
	// Outside is the program that carries what a user's containers send out
	// of his namespace, and the default of those with a stack of their own;
	// the zero value is hull-net itself. Only with Rootless.
	Outside Outside
	// PastaOptions and SlirpOptions are said to these programs before what a
	// container says.
	PastaOptions, SlirpOptions []string
	// Lasting, if it is not nil, is told of each process that is to outlive the
	// caller; one that is shared is not only for the container at hand.
	Lasting func(pid int, shared bool)
}

// A Manager keeps networks and joins containers to them. It holds no state
// that a file or the kernel does not hold; any number of processes may have
// one for the same directories.
type Manager struct {
	config, run string
	o           Options

	bootDir func() (string, error)
	netns   func() (*os.File, error)
}

// Open returns a Manager whose records are in configDir and whose leases are
// below runDir. It touches nothing: directories are made when needed.
func Open(configDir, runDir string, o Options) (*Manager, error) {
	if configDir == "" || runDir == "" {
		return nil, errors.New("open networks: no directory given")
	}
	m := &Manager{config: configDir, run: runDir, o: o}
	m.bootDir = sync.OnceValues(m.openBootDir)
	m.netns = sync.OnceValues(func() (*os.File, error) {
		if o.NetNS == "" {
			return nil, nil
		}
		return os.Open(o.NetNS)
	})
	return m, nil
}

// openBootDir makes this boot's directory. Making it for the first time, it
// removes those of earlier boots: their leases ended with their kernel.
func (m *Manager) openBootDir() (string, error) {
	dir := filepath.Join(m.run, state.BootID())
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(m.run, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(m.run)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	for _, e := range entries {
		if e.IsDir() && isBootID(e.Name()) && e.Name() != filepath.Base(dir) {
			if err := os.RemoveAll(filepath.Join(m.run, e.Name())); err != nil {
				return "", fmt.Errorf("remove the leases of an earlier boot: %w", err)
			}
		}
	}
	return dir, nil
}

func isBootID(s string) bool {
	return len(s) == 36 && s[8] == '-' && strings.Trim(s, "0123456789abcdef-") == ""
}

// NamesDir is the directory of name records that the monitors read.
func (m *Manager) NamesDir() (string, error) {
	dir, err := m.bootDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "names"), nil
}

// A record is what Setup did for a container: all that Teardown, Reload and
// Inspect need.
type record struct {
	Container string          `json:"container"`
	Name      string          `json:"name"`
	Networks  []Joined        `json:"networks"`
	Ports     []PortMapping   `json:"ports,omitempty"`
	Proxy     state.ProcessID `json:"proxy,omitzero"`
	// Outside is the container's own: see setupOwn.
	Outside state.ProcessID `json:"outside,omitzero"`
}

func (m *Manager) recordPath(container string) (string, error) {
	dir, err := m.bootDir()
	if err != nil {
		return "", err
	}
	if container == "" || strings.ContainsAny(container, "/\x00") || container[0] == '.' {
		return "", fmt.Errorf("container ID %q is not valid", container)
	}
	return filepath.Join(dir, "containers", container+".json"), nil
}

func (m *Manager) readRecord(container string) (record, error) {
	var r record
	path, err := m.recordPath(container)
	if err != nil {
		return r, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := state.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (m *Manager) writeRecord(r record) error {
	path, err := m.recordPath(r.Container)
	if err != nil {
		return err
	}
	b, err := state.Marshal(r)
	if err != nil {
		return err
	}
	return writeVolatile(path, b)
}

// records returns those of all containers of this boot; unreadable ones are
// left out, since one of them must not stop the others.
func (m *Manager) records() ([]record, error) {
	dir, err := m.bootDir()
	if err != nil {
		return nil, err
	}
	entries, err := state.ReadDir(filepath.Join(dir, "containers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		if r, err := m.readRecord(id); err == nil {
			all = append(all, r)
		}
	}
	return all, nil
}

// writeVolatile replaces a file in the run directory, which a reboot ends
// anyway, so it does not wait for the disk.
func writeVolatile(path string, data []byte) error {
	dir, name := filepath.Split(path)
	err := state.WriteFile(dir, name, data, 0o600, false)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = state.WriteFile(dir, name, data, 0o600, false)
		}
	}
	return err
}

// lock holds off, when exclusive, everybody who changes bridges and the packet
// filter; starts share it.
func (m *Manager) lock(ctx context.Context, exclusive bool) (*state.Lock, error) {
	dir, err := m.bootDir()
	if err != nil {
		return nil, err
	}
	acquire := state.AcquireShared
	if exclusive {
		acquire = state.Acquire
	}
	l, err := acquire(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock networks: %w", err)
	}
	return l, nil
}

// A host is the pair of sockets into the namespace of the bridges.
type host struct {
	routes *routes
	filter *filter
	// enter runs f on a thread in that namespace, for what sockets cannot do.
	enter func(f func() error) error
}

func (m *Manager) host() (*host, error) {
	ns, err := m.netns()
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	h := &host{enter: func(f func() error) error { return inNamespace(ns, f) }}
	err = h.enter(func() error {
		if h.routes, err = openRoutes(); err != nil {
			return err
		}
		h.filter, err = openFilter()
		return noFilter(err)
	})
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *host) Close() {
	if h.routes != nil {
		h.routes.Close()
	}
	if h.filter != nil {
		h.filter.Close()
	}
}

// sysctl writes a kernel setting in the thread's namespace; path is below
// /proc/sys/net. A setting that the kernel lacks (IPv6 off) is left alone.
func sysctl(path, value string) error {
	fd, err := unix.Open("/proc/sys/net/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(value))
	}
	if err != nil {
		return fmt.Errorf("set net/%s to %s: %w", path, value, err)
	}
	return nil
}
