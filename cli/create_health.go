package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
)

// healthFlags are the flags about health checks, of run, create and update.
type healthFlags struct {
	none                                                            bool
	command, interval, timeout, startPeriod, onFailure, destination string
	startInterval, startupCommand, startupInterval, startupTimeout  string
	retries, startupRetries, startupSuccess, logCount, logSize      *uint
}

func (h *healthFlags) declare(f *command.Flags) {
	f.BoolVar(&h.none, "no-healthcheck", false, "Disable healthchecks on container")
	f.StringVar(&h.command, "health-cmd", "", "Set a healthcheck command for the container ('none' disables the existing healthcheck)")
	f.StringVar(&h.interval, "health-interval", "", `Set an interval for the healthcheck (a value of disable results in no automatic timer setup) (default "30s")`)
	f.StringVar(&h.timeout, "health-timeout", "", `The maximum time allowed to complete the healthcheck before an interval is considered failed (default "30s")`)
	f.StringVar(&h.startPeriod, "health-start-period", "", `The initialization time needed for a container to bootstrap (default "0s")`)
	f.StringVar(&h.startInterval, "health-start-interval", "", `The interval of checks during the start period (default the health interval)`)
	command.Optional(f, &h.retries, "health-retries", "", "uint", "The number of retries allowed before a healthcheck is considered to be unhealthy (default 3)", parseUint)
	f.StringVar(&h.onFailure, "health-on-failure", "", `Action to take once the container turns unhealthy ("none"|"kill"|"restart"|"stop")`)
	f.StringVar(&h.destination, "health-log-destination", "", "Set the destination of the HealthCheck log. Directory path, local or events_logger")
	command.Optional(f, &h.logCount, "health-max-log-count", "", "uint", "Set maximum number of attempts in the HealthCheck log file. ('0' value means an infinite number of attempts in the log file)", parseUint)
	command.Optional(f, &h.logSize, "health-max-log-size", "", "uint", "Set maximum length in characters of stored HealthCheck log. ('0' value means an infinite log length)", parseUint)
	f.StringVar(&h.startupCommand, "health-startup-cmd", "", "Set a startup healthcheck command for the container")
	f.StringVar(&h.startupInterval, "health-startup-interval", "", `Set an interval for the startup healthcheck (default "30s")`)
	f.StringVar(&h.startupTimeout, "health-startup-timeout", "", "Set the maximum amount of time that the startup healthcheck may take before it is considered failed")
	command.Optional(f, &h.startupRetries, "health-startup-retries", "", "uint", "Set the maximum number of retries before the startup healthcheck will restart the container", parseUint)
	command.Optional(f, &h.startupSuccess, "health-startup-success", "", "uint", "Set the number of consecutive successes before the startup healthcheck is marked as successful and the normal healthcheck begins", parseUint)
	f.Words("health-on-failure", "none", "kill", "restart", "stop")
}

// options is nil when no flag about health was given.
func (h *healthFlags) options() (*engine.Health, error) {
	if *h == (healthFlags{}) {
		return nil, nil
	}
	if h.none {
		if h.command != "" || h.interval != "" || h.timeout != "" || h.startPeriod != "" || h.retries != nil {
			return nil, errors.New("cannot specify both --no-healthcheck and other HEALTHCHECK flags")
		}
		return &engine.Health{Disable: true, Test: []string{"NONE"}}, nil
	}
	o := &engine.Health{Test: healthTest(h.command), StartupTest: healthTest(h.startupCommand), LogDestination: h.destination}
	if len(o.Test) == 1 && o.Test[0] == "NONE" {
		o.Disable = true
	}
	for _, d := range []struct {
		flag, text string
		to         *time.Duration
	}{
		{"health-interval", h.interval, &o.Interval},
		{"health-timeout", h.timeout, &o.Timeout},
		{"health-start-period", h.startPeriod, &o.StartPeriod},
		{"health-start-interval", h.startInterval, &o.StartInterval},
		{"health-startup-interval", h.startupInterval, &o.StartupInterval},
		{"health-startup-timeout", h.startupTimeout, &o.StartupTimeout},
	} {
		if err := healthTime(d.flag, d.text, d.to); err != nil {
			return nil, err
		}
	}
	switch h.onFailure {
	case "", "none":
	case "kill", "restart", "stop":
		o.OnFailure = h.onFailure
	default:
		return nil, fmt.Errorf("invalid action %q for health check: choose from none, kill, restart, stop", h.onFailure)
	}
	for _, n := range []struct {
		from *uint
		to   *int
	}{{h.retries, &o.Retries}, {h.startupRetries, &o.StartupRetries}, {h.startupSuccess, &o.StartupSuccess}} {
		if n.from != nil {
			*n.to = int(*n.from)
		}
	}
	if h.retries != nil && *h.retries == 0 {
		return nil, errors.New("healthcheck-retries must be greater than 0")
	}
	o.MaxLogCount, o.MaxLogSize = h.logCount, h.logSize
	switch d := h.destination; {
	case d == "", d == "local", d == "events_logger":
	case !filepath.IsAbs(d):
		return nil, fmt.Errorf("invalid health log destination %q: want local, events_logger or the path of a directory", d)
	}
	return o, nil
}

// healthTest: "none" is none, a JSON list the words, other text a shell's.
func healthTest(s string) []string {
	switch {
	case s == "":
		return nil
	case strings.EqualFold(s, "none"):
		return []string{"NONE"}
	}
	var words []string
	if json.Unmarshal([]byte(s), &words) == nil && len(words) > 0 {
		if words[0] == "CMD" || words[0] == "CMD-SHELL" || words[0] == "NONE" {
			return words
		}
		return append([]string{"CMD"}, words...)
	}
	return []string{"CMD-SHELL", s}
}

// healthTime reads a duration; a bare number is seconds, "disable" is -1: no
// timer.
func healthTime(flag, s string, to *time.Duration) error {
	if s == "" {
		return nil
	}
	if s == "disable" && strings.HasSuffix(flag, "interval") {
		*to = -1
		return nil
	}
	d, err := seconds(s)
	if err != nil || d < 0 {
		return fmt.Errorf("invalid %s %q: want a duration such as 30s", strings.ReplaceAll(flag, "health-", "healthcheck-"), s)
	}
	*to = d
	return nil
}

// seconds reads a Go duration or a bare number of seconds.
func seconds(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(n * float64(time.Second)), nil
	}
	return time.ParseDuration(s)
}
