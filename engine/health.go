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
	h.StartupInterval, h.StartupTimeout = orDuration(h.StartupInterval, defaultHealthInterval), orDuration(h.StartupTimeout, defaultHealthTimeout)
	h.StartupSuccess = max(h.StartupSuccess, 1)
	if h.Retries == 0 {
		h.Retries = defaultHealthRetries
	}
	return h, true
}

// startingUp says whether the startup check is still the one that counts.
func (h *Health) startingUp(s *runState) bool {
	return len(h.StartupTest) > 0 && s.StartupPassed < h.StartupSuccess
}

// wait is how long to the next check.
func (h *Health) wait(s *runState) time.Duration {
	switch {
	case h.startingUp(s):
		return h.StartupInterval
	case h.StartInterval > 0 && s.Health == HealthStarting && time.Since(s.StartedAt) < h.StartPeriod:
		return h.StartInterval
	}
	return h.Interval
}

func orDuration(a, b time.Duration) time.Duration {
	if a != 0 {
		return a
	}
	return b
}

// healthWords is a test's command line.
func healthWords(test []string) []string {
	switch {
	case test[0] == "CMD":
		return test[1:]
	case test[0] == "CMD-SHELL" && len(test) > 1:
		return []string{"/bin/sh", "-c", test[1]}
	}
	return test
}

// A HealthResult is what one check has seen.
type HealthResult struct {
	Status string
	Code   int
	Output string

	start, end time.Time
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
	test, timeout := h.Test, h.Timeout
	if h.startingUp(s) {
		test, timeout = h.StartupTest, h.StartupTimeout
	}
	out := limitedBuffer{limit: 4096}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result := HealthResult{start: time.Now()}
	x := &execution{e: e, r: r, s: s, id: newID(), o: ExecOptions{Command: healthWords(test), Streams: Streams{Stdout: &out, Stderr: &out}}}
	defer x.close()
	err := x.prepare()
	if err == nil {
		result.Code, _, err = x.run(ctx)
	}
	result.Output, result.end = out.b.String(), time.Now()
	if err != nil {
		result.Code = max(ExitCode(err), 1)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it did not end within %v", timeout)
		}
		result.Output += err.Error()
	}
	return result
}

// A limitedBuffer keeps the beginning of what is written.
type limitedBuffer struct {
	b     bytes.Buffer
	limit int
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if room := l.limit - l.b.Len(); room > 0 {
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
	again := h.note(s, result.Code)
	result.Status = s.Health
	if err := e.saveState(r, s); err != nil {
		return err
	}
	if s.Health == HealthHealthy && old != HealthHealthy {
		notifyHealthy(&r.Options)
	}
	if err := e.logHealth(ctx, r, h, result); err != nil {
		e.warn("%v", err)
	}
	e.event(ctx, "container", "health_status", r, map[string]string{"health_status": s.Health})
	if again {
		l.Release()
		return e.Restart(ctx, r.ID, StopOptions{})
	}
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

// note counts a result in s. again says that the container did not come up and
// is to begin anew.
func (h *Health) note(s *runState, code int) (again bool) {
	switch {
	case h.startingUp(s) && code == 0:
		s.StartupPassed++
		s.Streak = 0
	case h.startingUp(s):
		s.StartupPassed = 0
		s.Streak++
		return h.StartupRetries > 0 && s.Streak >= h.StartupRetries
	case code == 0:
		s.Health, s.Streak = HealthHealthy, 0
	case time.Since(s.StartedAt) > h.StartPeriod || s.Health == HealthHealthy:
		if s.Streak++; s.Streak >= h.Retries {
			s.Health = HealthUnhealthy
		}
	}
	return false
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
		for end := time.Now().Add(h.wait(s)); time.Now().Before(end); {
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

// healthEnv are the variables of the process that checks a container's health.
func healthEnv(r *record) []string {
	env := cleanupEnv()
	if socket := os.Getenv("NOTIFY_SOCKET"); socket != "" && r.Options.SdNotify == "healthy" {
		env = append(env, "NOTIFY_SOCKET="+socket)
	}
	return env
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
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, Env: healthEnv(r), Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return fmt.Errorf("watch health of container %s: %w", r.Name, err)
	}
	return nil
}
