package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"hull/monitor"
)

// UnitFacts are what a service around a container must know of it.
type UnitFacts struct {
	ID, Name string
	Pod      string   // the name of its pod
	Requires []string // IDs of containers that it needs
	// Restart is its restart policy, with Retries at most for on-failure.
	Restart       string
	Retries       uint
	StopTimeout   uint // seconds
	CreateCommand []string
	// PIDFile gets its monitor's process ID when a service starts it.
	PIDFile string
}

// PodUnitFacts are those of a pod: its infra container's, and its members'.
type PodUnitFacts struct {
	ID, Name      string
	CreateCommand []string
	Infra         UnitFacts
	Members       []UnitFacts
}

// UnitFacts looks a container up.
func (e *Engine) UnitFacts(ctx context.Context, name string) (UnitFacts, error) {
	r, _, err := e.open(ctx, name)
	if err != nil {
		return UnitFacts{}, err
	}
	return e.unitFacts(r)
}

func (e *Engine) unitFacts(r *record) (UnitFacts, error) {
	f := UnitFacts{
		ID: r.ID, Name: r.Name, Requires: r.Depends, StopTimeout: r.stopTimeout(e),
		CreateCommand: r.Options.CreateCommand, PIDFile: firstOf(r.Options.ConmonPidFile, e.servicePIDFile(r)),
	}
	f.Restart, f.Retries, _ = parseRestart(r.Options.Restart)
	if r.Pod != "" {
		p, err := e.loadPod(r.Pod)
		if err != nil {
			return f, err
		}
		f.Pod = p.Name
	}
	return f, nil
}

// PodUnitFacts looks a pod up.
func (e *Engine) PodUnitFacts(_ context.Context, name string) (PodUnitFacts, error) {
	p, err := e.openPod(name)
	if err != nil {
		return PodUnitFacts{}, err
	}
	f := PodUnitFacts{ID: p.ID, Name: p.Name, CreateCommand: p.Options.CreateCommand}
	list, err := e.members(p.ID)
	if err != nil {
		return f, err
	}
	for _, m := range list {
		u, err := e.unitFacts(m.r)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return f, err
		case m.r.Infra:
			f.Infra = u
		default:
			f.Members = append(f.Members, u)
		}
	}
	return f, nil
}

// RunRoot is the directory of what a boot ends.
func (e *Engine) RunRoot() string { return e.o.RunRoot }

// servicePIDFile is where systemd looks for the process of a container that
// its service has started.
func (e *Engine) servicePIDFile(r *record) string {
	return filepath.Join(e.containerRun(r.ID), "monitor.pid")
}

// inService says whether systemd started this process for a service, or for
// something else that has a unit: a file too many does no harm.
func inService() bool { return os.Getenv("INVOCATION_ID") != "" }

// LastExit is the exit code that a container's monitor has just written down;
// 0 when a user stopped it, which is no failure of its service.
func (e *Engine) LastExit(id string) int {
	r, err := e.loadRecord(id)
	if err != nil {
		return 0
	}
	if s, err := e.loadState(r); err != nil || s.Stopped {
		return 0
	}
	x, err := monitor.ReadExit(e.containerRun(id))
	if err != nil {
		return 0
	}
	return x.Code
}
