package network

import (
	"context"
	"fmt"
	"os"

	"hull/state"
)

// vethPrefix begins the name of every host end, so that one filter rule can
// know them.
const vethPrefix = "hull-"

// SetupOptions say what a container gets.
type SetupOptions struct {
	ContainerID   string
	ContainerName string
	// Netns is the container's network namespace, as NewNamespace made it.
	Netns    *os.File
	Networks []Attach // none: the default network
	Ports    []PortMapping
	// Own gives the container an outside of its own, and no network; its zero
	// value is the default program. See ParseOutside.
	Own *Outside
}

// A Status is what a container got.
type Status struct {
	Networks []Joined
	Ports    []PortMapping // as asked for, with chosen host ports filled in
	// Held are the sockets that reserve the published ports, one for each
	// mapping and port, and receive what comes to loopback addresses. With
	// Options.Helper a process that Setup started has them, and these are
	// copies, to be closed.
	Held []*os.File
}

// Close closes the held sockets.
func (s Status) Close() {
	for _, f := range s.Held {
		f.Close()
	}
}

// Setup joins a container's namespace to its networks and publishes its ports.
// After an error nothing of it is left.
func (m *Manager) Setup(ctx context.Context, o SetupOptions) (_ Status, err error) {
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	if o.Own != nil {
		return m.setupOwn(ctx, o)
	}
	if len(o.Networks) == 0 {
		o.Networks = []Attach{{Name: DefaultName}}
	}
	s, err := m.begin(ctx, o.ContainerID, o.ContainerName, o.Netns)
	if err != nil {
		return Status{}, err
	}
	defer s.close()
	defer func() {
		if err != nil {
			s.undo()
		}
	}()
	for _, a := range o.Networks {
		if err := s.plan(ctx, a); err != nil {
			return Status{}, err
		}
	}
	s.publishes = len(o.Ports) > 0
	if err := s.connect(); err != nil {
		return Status{}, err
	}
	if err := s.ensureOutside(ctx); err != nil {
		return Status{}, err
	}
	status := Status{}
	if len(o.Ports) > 0 {
		if m.servesUser() {
			if s.transparent, err = s.h.acceptTransparent(); err != nil {
				return Status{}, err
			}
		}
		if status.Held, err = s.publish(o.Ports); err != nil {
			return Status{}, err
		}
	}
	if err := s.record(); err != nil {
		status.Close()
		return Status{}, err
	}
	if len(status.Held) > 0 && m.o.Helper != "" {
		if err = s.startProxy(status.Held); err == nil {
			err = m.writeRecord(s.rec)
		}
		if err != nil {
			status.Close()
			return Status{}, err
		}
	}
	if err := s.commitPorts(); err != nil {
		status.Close()
		return Status{}, err
	}
	status.Networks, status.Ports = s.rec.Networks, s.rec.Ports
	return status, nil
}

// A setup is one Setup or Connect under way.
type setup struct {
	m         *Manager
	h         *host
	lock      *state.Lock
	netns     *os.File
	rec       record
	old       int // interfaces that rec had before
	nets      []*planned
	publishes bool // ports, as asked for or, when joining later, as recorded
	// transparent says that the proxy of published ports can be.
	transparent bool
}

func (m *Manager) begin(ctx context.Context, id, name string, netns *os.File) (*setup, error) {
	if _, err := m.recordPath(id); err != nil {
		return nil, err
	}
	lock, err := m.lock(ctx, false)
	if err != nil {
		return nil, err
	}
	h, err := m.host()
	if err != nil {
		lock.Release()
		return nil, err
	}
	s := &setup{m: m, h: h, lock: lock, netns: netns, rec: record{Container: id, Name: name}}
	if err := s.ensureTable(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *setup) close() {
	s.h.Close()
	if s.lock != nil {
		s.lock.Release()
	}
}

// exclusively runs f under the exclusive lock and goes back to the shared one.
func (s *setup) exclusively(ctx context.Context, f func() error) error {
	s.lock.Release()
	var err error
	if s.lock, err = s.m.lock(ctx, true); err != nil {
		return err
	}
	err = f()
	s.lock.Release()
	var relock error
	if s.lock, relock = s.m.lock(ctx, false); err == nil {
		err = relock
	}
	return err
}

// ensureTable lays the packet filter's table when it is missing or damaged.
func (s *setup) ensureTable(ctx context.Context) error {
	ok, err := s.h.filter.laid()
	if err != nil || ok {
		return noFilter(err)
	}
	return s.exclusively(ctx, func() error {
		if ok, err := s.h.filter.laid(); err != nil || ok {
			return err
		}
		return s.m.restore(s.h)
	})
}

// record writes down what was done; from here on Teardown can undo it.
func (s *setup) record() error {
	for _, p := range s.nets {
		s.rec.Networks = append(s.rec.Networks, p.joined)
	}
	if err := s.m.writeRecord(s.rec); err != nil {
		return fmt.Errorf("record the networks of container %s: %w", short(s.rec.Container), err)
	}
	for _, p := range s.nets {
		if err := s.m.writeNames(s.rec, p.joined); err != nil {
			return err
		}
	}
	return nil
}

// undo takes back what a failed setup did.
func (s *setup) undo() {
	if s.old == 0 {
		s.rec.endProxy()
	}
	dir, err := s.m.bootDir()
	if err != nil {
		return
	}
	for _, p := range s.nets {
		if p.joined.HostName != "" {
			if l, err := s.h.routes.link(p.joined.HostName); err == nil {
				s.h.routes.linkDelete(l.index, l.name)
			}
		}
		l := s.m.leases(dir, p.network.Name, nil)
		for _, a := range p.taken {
			_ = l.release(a, s.rec.Container)
		}
		_ = s.m.removeNames(s.rec.Container, p.network.Name) // as of the rest, Teardown looks for it once more
	}
	_ = s.h.routes.flush()
	if s.old > 0 {
		old := s.rec
		old.Networks = old.Networks[:s.old]
		_ = s.m.writeRecord(old)
		return
	}
	if path, err := s.m.recordPath(s.rec.Container); err == nil {
		os.Remove(path)
	}
}
