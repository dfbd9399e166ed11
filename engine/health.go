package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"hull/state"
)

// Words of a container's health.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

const (
	defaultHealthInterval = 30 * time.Second
	defaultHealthTimeout  = 30 * time.Second
	defaultHealthRetries  = 3
)

// health is how to see that the container is well, with the defaults filled
// in; ok is false when nobody looks.
func (r *record) health() (h Health, ok bool) {
	if o := r.Options.Health; o != nil {
		h = *o
	}
	if i := r.Image.Healthcheck; i != nil && !h.Disable && len(h.Test) == 0 {
		h.Test = i.Test
		h.Interval, h.Timeout = orDuration(h.Interval, i.Interval), orDuration(h.Timeout, i.Timeout)
		h.StartPeriod = orDuration(h.StartPeriod, i.StartPeriod)
		if h.Retries == 0 {
			h.Retries = i.Retries
		}
	}
	if h.Disable || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return h, false
	}
	h.Interval, h.Timeout = orDuration(h.Interval, defaultHealthInterval), orDuration(h.Timeout, defaultHealthTimeout)
	if h.Retries == 0 {
		h.Retries = defaultHealthRetries
	}
	return h, true
}

func orDuration(a, b time.Duration) time.Duration {
	if a != 0 {
		return a
	}
	return b
}

// words is the check's command line.
func (h *Health) words() []string {
	switch {
	case h.Test[0] == "CMD":
		return h.Test[1:]
	case h.Test[0] == "CMD-SHELL" && len(h.Test) > 1:
		return []string{"/bin/sh", "-c", h.Test[1]}
	}
	return h.Test
}

// A HealthResult is what one check has seen.
type HealthResult struct {
	Status string
	Code   int
	Output string
}

// HealthCheck runs a container's check once and notes what it says.
func (e *Engine) HealthCheck(ctx context.Context, name string) (HealthResult, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return HealthResult{}, err
	}
	h, ok := r.health()
	if !ok {
		return HealthResult{}, fmt.Errorf("check health of container %s: it has no health check", r.Name)
	}
	if s.Status != StatusRunning {
		return HealthResult{}, fmt.Errorf("check health of container %s: it is %s, not running: %w", r.Name, s.Status, ErrState)
	}
	result := e.check(ctx, r, s, &h)
	return result, e.noteHealth(ctx, r, s.process(), &h, &result)
}

// check runs the command; one that does not end in time has failed.
func (e *Engine) check(ctx context.Context, r *record, s *runState, h *Health) HealthResult {
	var out limitedBuffer
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	x := &execution{e: e, r: r, s: s, id: newID(), o: ExecOptions{Command: h.words(), Streams: Streams{Stdout: &out, Stderr: &out}}}
	defer x.close()
	err := x.prepare()
	code := 0
	if err == nil {
		code, _, err = x.run(ctx)
	}
	if err != nil {
		return HealthResult{Code: max(ExitCode(err), 1), Output: err.Error()}
	}
	return HealthResult{Code: code, Output: out.b.String()}
}

// A limitedBuffer keeps the beginning of what is written.
type limitedBuffer struct{ b bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if room := 4096 - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// noteHealth writes a result to the state of the run that p names.
func (e *Engine) noteHealth(ctx context.Context, r *record, p state.ProcessID, h *Health, result *HealthResult) error {
	_, s, l, err := e.openLocked(ctx, r.ID)
	if err != nil {
		return err
	}
	defer l.Release()
	if s.process() != p || s.Status != StatusRunning {
		result.Status = s.Health
		return nil
	}
	old := s.Health
	if result.Code == 0 {
		s.Health, s.Streak = HealthHealthy, 0
	} else if time.Since(s.StartedAt) > h.StartPeriod || old == HealthHealthy {
		if s.Streak++; s.Streak >= h.Retries {
			s.Health = HealthUnhealthy
		}
	}
	result.Status = s.Health
	if err := e.saveState(r, s); err != nil {
		return err
	}
	e.event(ctx, "container", "health_status", r, map[string]string{"health_status": s.Health})
	if s.Health != HealthUnhealthy || old == HealthUnhealthy {
		return nil
	}
	switch h.OnFailure {
	case "kill":
		return e.endProcess(ctx, r, s, syscall.SIGKILL, 0)
	case "stop":
		return e.stop(ctx, r, s, StopOptions{})
	case "restart":
		l.Release()
		return e.Restart(ctx, r.ID, StopOptions{})
	}
	return nil
}

// HealthLoop checks a container at its interval for as long as this run of it
// lasts. A process of its own does that, since the engine has no daemon and a
// monitor only watches.
func (e *Engine) HealthLoop(ctx context.Context, id string) error {
	r, s, err := e.open(ctx, id)
	if err != nil || !s.running() {
		return err
	}
	h, ok := r.health()
	if !ok || h.Interval < 0 {
		return nil
	}
	p := s.process()
	for {
		interval := h.Interval
		if h.StartInterval > 0 && s.Health == HealthStarting {
			interval = h.StartInterval
		}
		for end := time.Now().Add(interval); time.Now().Before(end); {
			// A second at most, so that no process outlives its container long.
			time.Sleep(min(time.Until(end), time.Second))
			if !p.Alive() {
				return nil
			}
		}
		if r, s, err = e.open(ctx, id); err != nil || s.process() != p {
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		}
		if s.Status != StatusRunning {
			continue
		}
		result := e.check(ctx, r, s, &h)
		if err := e.noteHealth(ctx, r, p, &h, &result); err != nil {
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		}
	}
}

// watchHealth leaves a process that runs HealthLoop.
func (e *Engine) watchHealth(r *record) error {
	if h, ok := r.health(); !ok || h.Interval < 0 {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	argv := append(append([]string{e.o.Executable}, e.o.GlobalArgs...), "internal-health", r.ID)
	_, err = syscall.ForkExec(e.o.Executable, argv, &syscall.ProcAttr{
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, Env: cleanupEnv(), Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return fmt.Errorf("watch health of container %s: %w", r.Name, err)
	}
	return nil
}
