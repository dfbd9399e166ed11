package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hull/state"
)

// A HealthEntry is what one check said, with podman's JSON names.
type HealthEntry struct {
	Start, End string // RFC 3339, with nanoseconds
	ExitCode   int
	Output     string
}

const (
	healthLogFile  = "health.json"
	healthLogCount = 5
	healthLogSize  = 500 // characters
)

// healthLog is the path of a container's health log; "" when it goes to the
// events.
func (e *Engine) healthLog(r *record, h *Health) string {
	switch h.LogDestination {
	case "", "local":
		return filepath.Join(e.containerRun(r.ID), healthLogFile)
	case "events_logger":
		return ""
	}
	return filepath.Join(h.LogDestination, r.ID+"-healthcheck.log")
}

// readHealthLog returns the entries, the oldest first.
func (e *Engine) readHealthLog(r *record, h *Health) ([]HealthEntry, error) {
	path := e.healthLog(r, h)
	if path == "" {
		return nil, nil
	}
	data, err := state.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var entries []HealthEntry
	if err == nil {
		err = json.Unmarshal(data, &entries)
	}
	if err != nil {
		return nil, fmt.Errorf("read health log %s: %w", path, err)
	}
	return entries, nil
}

// logHealth adds a result to the log, of which the last ones are kept.
func (e *Engine) logHealth(ctx context.Context, r *record, h *Health, result *HealthResult) error {
	out := []rune(result.Output)
	if limit := sizeOr(h.MaxLogSize, healthLogSize); limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	entry := HealthEntry{Start: result.start.Format(time.RFC3339Nano), End: result.end.Format(time.RFC3339Nano), ExitCode: result.Code, Output: string(out)}
	path := e.healthLog(r, h)
	if path == "" {
		e.event(ctx, "container", "health_log", r, map[string]string{"exitCode": fmt.Sprint(entry.ExitCode), "output": entry.Output})
		return nil
	}
	entries, err := e.readHealthLog(r, h)
	if err != nil {
		entries = nil // one that cannot be read is begun anew
	}
	entries = append(entries, entry)
	if n := sizeOr(h.MaxLogCount, healthLogCount); n > 0 && len(entries) > n {
		entries = entries[len(entries)-n:]
	}
	data, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	if err := state.WriteFile(dir, name, data, os.FileMode(0o600), false); err != nil {
		return fmt.Errorf("write health log: %w", err)
	}
	return nil
}

// sizeOr is a limit that was given, 0 being none, or the usual one.
func sizeOr(given *uint, usual int) int {
	if given != nil {
		return int(*given)
	}
	return usual
}
