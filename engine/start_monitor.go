package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hull/monitor"
	"hull/plan"
)

// spawnOptions are what a monitor is started with.
func (e *Engine) spawnOptions(o startOptions) monitor.StartOptions {
	return monitor.StartOptions{
		Binary: filepath.Join(e.o.LibexecDir, "hull-monitor"), Attach: o.attach, Stdio: o.stdio,
		Sibling: !o.attach && !o.needed && os.Getenv("NOTIFY_SOCKET") != "",
	}
}

// launch hands the plan to a monitor.
func (t *starting) launch() (*monitor.Session, error) {
	image, err := t.plan.Memfd()
	if err != nil {
		return nil, err
	}
	t.keep(image)
	cfg, err := t.e.monitorConfig(t.r)
	if err != nil {
		return nil, err
	}
	cfg.Wait = t.control != nil
	cfg.Reaper = cfg.Reaper || t.o.restore != nil
	cfg.NotifyTo = t.facts.Activation.Notify
	if t.group != nil && t.group.Unit() != "" {
		cfg.MemoryEvents = t.group.Events("memory.events")
	}
	if t.names[0] != nil {
		if err := t.e.nameConfig(t.r, &cfg); err != nil {
			return nil, err
		}
	}
	so := t.e.spawnOptions(t.o)
	so.Names, so.Notify = t.names, t.notify
	so.Config, so.Flags, so.Plan, so.PlanFiles, so.Hold = cfg, t.o.flags, image, t.plan.Files(), t.o.lock.file()
	spare := t.o.spare
	if spare == nil {
		if spare, err = monitor.Spawn(so); err != nil {
			return nil, err
		}
	}
	t.o.signals.Catch()
	session, err := spare.Start(so)
	if err != nil {
		return nil, t.e.foreignReason(t.r, t.o.restore, startError(t.plan, err))
	}
	return session, nil
}

// startError reads a plan's report.
func startError(p *plan.Plan, err error) error {
	var report *monitor.ReportError
	if !errors.As(err, &report) {
		return err
	}
	if _, serr := plan.DecodeReport(p, report.Report); serr != nil {
		return stepError(serr)
	}
	return err
}

// monitorOOMScore makes the kernel take a monitor last but one (CG-04): without
// it nobody would know how the container ended.
const monitorOOMScore = -999

func (e *Engine) monitorConfig(r *record) (monitor.Config, error) {
	o := &r.Options
	cfg := monitor.Config{
		ID: r.ID, RunDir: e.containerRun(r.ID), LogDriver: e.logDriver(r),
		Terminal: o.Terminal, OpenStdin: o.Interactive, StdinOnce: true,
		Cleanup: e.cleanupCommand(r.ID), Env: cleanupEnv(), Reaper: r.Runtime != "",
	}
	if !r.transient {
		cfg.ExitDir = e.containerDir(r.ID)
	}
	cfg.Timeout = int(o.Timeout)
	if !e.o.Rootless {
		cfg.OOMScoreAdj = monitorOOMScore
	}
	return cfg, e.logConfig(r, &cfg)
}

// logDriver is the monitor's word for the container's log.
func (e *Engine) logDriver(r *record) string {
	switch d := firstOf(r.Options.LogDriver, e.o.Defaults.LogDriver, monitor.LogK8sFile); d {
	case "passthrough-tty":
		return monitor.LogPassthrough
	default:
		return d
	}
}

// logPath is the container's log file, "" when it has none.
func (e *Engine) logPath(r *record) string {
	switch e.logDriver(r) {
	case monitor.LogK8sFile, monitor.LogJSONFile:
	default:
		return ""
	}
	for _, opt := range r.Options.LogOpts {
		if path, ok := strings.CutPrefix(opt, "path="); ok {
			return path
		}
	}
	if dir := e.o.Defaults.LogPath; dir != "" {
		return filepath.Join(dir, r.ID+".log")
	}
	return filepath.Join(r.dir, "ctr.log")
}

func (e *Engine) logConfig(r *record, cfg *monitor.Config) error {
	cfg.LogPath = e.logPath(r)
	cfg.LogMaxSize = e.o.Defaults.LogSizeMax
	for _, opt := range r.Options.LogOpts {
		key, value, _ := strings.Cut(opt, "=")
		var err error
		switch key {
		case "path":
		case "max-size":
			cfg.LogMaxSize, err = ParseSize(value)
		case "max-file":
			cfg.LogMaxFiles, err = strconv.Atoi(value)
		case "tag":
			cfg.LogTag = strings.NewReplacer("{{.ID}}", r.ID[:12], "{{.FullID}}", r.ID, "{{.Name}}", r.Name, "{{.ImageName}}", r.ImageName).Replace(value)
		case "labels":
			if cfg.LogDriver != monitor.LogJournald {
				err = errors.New("only the journal has fields for labels")
			}
		default:
			err = errors.New("not known")
		}
		if err != nil {
			return fmt.Errorf("log option %q: %w", opt, err)
		}
	}
	if cfg.LogDriver == monitor.LogJournald {
		if err := journalThere(); err != nil {
			return err
		}
		cfg.LogPath, cfg.LogTag = monitor.JournalSocket, journalFields(r, cfg.LogTag)
	}
	return nil
}

// cleanupCommand is what a monitor becomes at the end.
func (e *Engine) cleanupCommand(id string) []string {
	return append(append([]string{e.o.Executable}, e.o.GlobalArgs...), "internal-cleanup", id)
}

// cleanupEnv are the variables that say where the engine's files are.
func cleanupEnv() []string {
	var env []string
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "CONTAINERS_CONF", "DBUS_SESSION_BUS_ADDRESS"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}
