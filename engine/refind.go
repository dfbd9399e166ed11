package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hull/state"
)

// refind makes the states of running containers anew when somebody has deleted
// the run directory under them. It is asked at each first look at a state, and
// does something only where the directory is not there: after a boot it finds
// nobody.
func (e *Engine) refind() {
	e.refound.Do(func() {
		dir := filepath.Dir(e.containerRun("x"))
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return
		}
		for id, pid := range lostMonitors(dir) {
			if err := e.takeBack(id, pid); err != nil {
				e.warn("container %s runs, but its state is lost: %v", id, err)
			}
		}
	})
}

// lostMonitors are those whose directory, which they are in, was deleted.
func lostMonitors(dir string) map[string]int {
	out := make(map[string]int)
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if comm, err := os.ReadFile("/proc/" + p.Name() + "/comm"); err != nil || strings.TrimSpace(string(comm)) != "hull-monitor" {
			continue
		}
		cwd, err := os.Readlink("/proc/" + p.Name() + "/cwd")
		if err != nil {
			continue
		}
		if at, ok := strings.CutSuffix(cwd, " (deleted)"); ok && filepath.Dir(at) == dir && isHex(filepath.Base(at)) {
			out[filepath.Base(at)] = pid
		}
	}
	return out
}

// takeBack writes the state of a container whose monitor is known.
func (e *Engine) takeBack(id string, mon int) error {
	r, err := e.loadRecord(id)
	if err != nil {
		return err // of --rm: its record was in the directory, too
	}
	m, err := state.IdentifyProcess(mon)
	if err != nil {
		return nil // it has just ended
	}
	first := children(mon)
	if len(first) != 1 {
		return errors.New("its monitor has not one child")
	}
	pid, err := strconv.Atoi(first[0])
	if err != nil {
		return err
	}
	p, err := state.IdentifyProcess(pid)
	if err != nil {
		return nil
	}
	if err := os.MkdirAll(e.containerRun(id), 0o700); err != nil {
		return err
	}
	s, err := e.loadState(r)
	if err != nil {
		return err
	}
	if s.running() && s.process() == p {
		return e.saveState(r, s)
	}
	*s = runState{Status: StatusRunning, Pid: p.Pid, PidStart: p.Start, Monitor: m.Pid, MonitorStart: m.Start,
		StartedAt: time.Now(), Restarts: s.Restarts, Started: true, Cgroup: e.cgroupText(r)}
	return e.saveState(r, s)
}
