package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/monitor"
	"hull/network"
	"hull/state"
)

// A runState is a container as it runs, or as it ended.
type runState struct {
	Boot         string
	Status       string
	Pid          int       `json:",omitempty"`
	PidStart     uint64    `json:",omitempty"`
	Monitor      int       `json:",omitempty"`
	MonitorStart uint64    `json:",omitempty"`
	StartedAt    time.Time `json:",omitzero"`
	FinishedAt   time.Time `json:",omitzero"`
	RestoredAt   time.Time `json:",omitzero"` // the start of this run, when it was of a checkpoint
	ExitCode     int       `json:",omitempty"`
	OOMKilled    bool      `json:",omitempty"`
	Error        string    `json:",omitempty"`

	Cgroup   string           `json:",omitempty"`
	Networks []network.Joined `json:",omitempty"`
	Ports    []PortMapping    `json:",omitempty"`
	// Restarts counts those by policy; Stopped says that a user ended it, so
	// that the policy does not begin it again.
	Restarts uint   `json:",omitempty"`
	Stopped  bool   `json:",omitempty"`
	Shutdown bool   `json:",omitempty"` // it was ended by Shutdown, not by a user
	Health   string `json:",omitempty"`
	// Named says that the monitor of this run answers for names.
	Named  bool `json:",omitempty"`
	Streak int  `json:",omitempty"`
	// StartupPassed are the startup check's successes in a row.
	StartupPassed int  `json:",omitempty"`
	Started       bool `json:",omitempty"` // ever

	// unsaid says that it has ended, and that its monitor is about to write how:
	// ExitCode is not known yet.
	unsaid bool
}

func (s *runState) process() state.ProcessID {
	return state.ProcessID{Pid: s.Pid, Start: s.PidStart}
}

// running says whether the state is one that has a process.
func (s *runState) running() bool {
	switch s.Status {
	case StatusRunning, StatusPaused, StatusStopping, StatusInitialized:
		return true
	}
	return false
}

// loadState returns the state as the files say it, without asking the kernel.
func (e *Engine) loadState(r *record) (*runState, error) {
	for _, dir := range []string{e.containerRun(r.ID), e.containerDir(r.ID)} {
		data, err := state.ReadFile(filepath.Join(dir, "state.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read container %s: %w", r.ID, err)
		}
		if len(strings.Trim(string(data), "\x00")) == 0 {
			// A power cut came before the bytes of a start's or an end's note.
			return &runState{Status: StatusExited, ExitCode: 255, Error: "how it ended was lost in a power cut", FinishedAt: r.Created}, nil
		}
		s := new(runState)
		if err := state.Unmarshal(data, s); err != nil {
			return nil, fmt.Errorf("read container %s: state: %w", r.ID, err)
		}
		return s, nil
	}
	return &runState{Status: StatusCreated}, nil
}

// state returns the state as it is: what the files say, held against the
// kernel. It changes nothing; a container that has ended but was not yet
// cleaned up is "stopped".
func (e *Engine) state(r *record) (*runState, error) {
	e.refind()
	s, err := e.loadState(r)
	if err != nil || !s.running() {
		return s, err
	}
	if s.Boot != state.BootID() {
		s.Status, s.Pid = StatusExited, 0
		s.Networks = nil
		if x, err := monitor.ReadExit(e.containerDir(r.ID)); err == nil && x.UnixNano > s.StartedAt.UnixNano() {
			s.ExitCode, s.FinishedAt = x.Code, time.Unix(0, x.UnixNano)
		} else {
			s.Error = "the machine was restarted while the container ran"
			s.ExitCode = 255
		}
		return s, nil
	}
	if s.process().Alive() && !e.exited(r.ID) {
		return s, nil
	}
	pid := s.Pid
	s.Status, s.Pid = StatusStopped, 0
	if x, err := monitor.ReadExit(e.containerRun(r.ID)); err == nil {
		s.ExitCode, s.FinishedAt = x.Code, time.Unix(0, x.UnixNano)
		return s, nil
	}
	if (state.ProcessID{Pid: s.Monitor, Start: s.MonitorStart}).Alive() {
		s.unsaid = true
		return s, nil
	}
	// The monitor may have been killed between its two notes of the end.
	if x, err := monitor.ReadExit(e.containerDir(r.ID)); err == nil && x.UnixNano > s.StartedAt.UnixNano() {
		s.ExitCode, s.FinishedAt = x.Code, time.Unix(0, x.UnixNano)
		return s, nil
	}
	s.ExitCode = 255
	s.Error = fmt.Sprintf("the container's monitor (of process %d) was killed; its exit status is lost", pid)
	if e.o.Rootless {
		s.Error += " (the end of a login session kills a user's processes, unless loginctl enable-linger says otherwise)"
	}
	return s, nil
}

func (e *Engine) exited(id string) bool {
	st, err := os.Lstat(filepath.Join(e.containerRun(id), monitor.ExitFile))
	return err == nil && (st.Mode().IsRegular() || st.Mode().Type() == fs.ModeSymlink)
}

// saveState writes s below RUN, or, when the container does not run, below
// ROOT, where it outlives the boot. Neither is synced: it can be told anew.
func (e *Engine) saveState(r *record, s *runState) error {
	s.Boot = state.BootID()
	dir := e.containerRun(r.ID)
	if !s.running() && !r.transient {
		dir = e.containerDir(r.ID)
	}
	err := writeState(dir, s)
	if noRoom(err) && dir != e.containerRun(r.ID) {
		// Whoever makes room must get on: until the next boot the end is known
		// below RUN, where it is looked for first.
		if err = os.MkdirAll(e.containerRun(r.ID), 0o700); err == nil {
			err = writeState(e.containerRun(r.ID), s)
		}
	}
	if err != nil {
		return fmt.Errorf("write state of %s: %w", r.ID, err)
	}
	return nil
}

// noteStart keeps the state of a container that has just started beside its
// record: after a power cut or a reboot, which empties the run directory, it
// has run, and is not as it was made. It is not synced, as no state is.
func (e *Engine) noteStart(r *record, s *runState) error {
	if r.transient {
		return nil
	}
	if err := writeState(e.containerDir(r.ID), s); err != nil {
		return fmt.Errorf("note the start of %s: %w", r.ID, err)
	}
	return nil
}

// writeState writes s to a directory, not synced.
func writeState(dir string, s *runState) error {
	data, err := state.Marshal(s)
	if err != nil {
		return err
	}
	return state.WriteFile(dir, "state.json", data, 0o600, false)
}

// noRoom reports an error of a disk that takes nothing more.
func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS)
}

// startAnew forgets what a user's stop and earlier restarts left in the state.
// The policy "unless-stopped" asks for that after a boot, when the state of
// the run is lost.
func (e *Engine) startAnew(r *record, s *runState) error {
	was := s.Stopped
	s.Stopped, s.Shutdown, s.Restarts = false, false, 0
	if policy, _, _ := parseRestart(r.Options.Restart); !was || policy != "unless-stopped" || r.transient {
		return nil
	}
	return e.saveState(r, s)
}
