package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/front"
)

// session is one invocation of the program.
type session struct {
	program string   // hull, podman or docker: how it was called
	args    []string // after the program's name
	stdin   *os.File
	stdout  *os.File
	stderr  *os.File

	globals globals
	engine  *engine.Engine
}

// globals are the program's own flags.
type globals struct {
	root, runRoot, storageDriver string
	storageOpts                  []string
	cgroupManager, runtime       string
	hooks, cdi                   []string
	logLevel, out                string
	debug, version               bool
}

// Run runs the command line args, args[0] being the program's name, and
// returns the exit code.
func Run(ctx context.Context, args []string, stdin, stdout, stderr *os.File) int {
	s := &session{program: programName(args), stdin: stdin, stdout: stdout, stderr: stderr}
	if len(args) > 1 {
		s.args = args[1:]
	}
	if s.program == "hull-runtime" {
		s.program, s.args = "hull", append([]string{"oci"}, s.args...)
	}
	code := s.tree().Execute(ctx, s.args)
	if s.engine != nil {
		if err := s.engine.Close(); err != nil && code == 0 {
			return command.Report(stderr, err)
		}
	}
	return code
}

// programName is what the user called: the names whose habits differ, else
// hull.
func programName(args []string) string {
	if len(args) > 0 {
		switch name := filepath.Base(args[0]); name {
		case "podman", "docker", "hull-runtime":
			return name
		}
	}
	return "hull"
}

func (s *session) docker() bool { return s.program == "docker" }

// declare declares the global flags.
func (g *globals) declare(f *command.Flags) {
	f.StringVar(&g.root, "root", "", "Path to the directory in which images and containers are stored")
	f.StringVar(&g.runRoot, "runroot", "", "Path to the directory of what a reboot ends")
	f.StringVar(&g.storageDriver, "storage-driver", "", "Driver that keeps the layers (overlay, btrfs, vfs)")
	f.StringArrayVar(&g.storageOpts, "storage-opt", nil, "Option of the storage driver")
	f.StringVar(&g.cgroupManager, "cgroup-manager", "", "Who makes cgroups (\"cgroupfs\"|\"systemd\")")
	f.StringVar(&g.runtime, "runtime", "", "OCI runtime to use instead of hull's own: a name or a path")
	f.StringSliceVar(&g.hooks, "hooks-dir", nil, "Directory of OCI hooks (may be given several times)")
	f.StringSliceVar(&g.cdi, "cdi-spec-dir", nil, "Directory of CDI specifications (may be given several times)")
	f.StringVar(&g.out, "out", "", "Send standard output to this file")
	f.StringVar(&g.logLevel, "log-level", "warn", "Show messages of this level and above (trace, debug, info, warn, warning, error, fatal, panic)")
	f.BoolVar(&g.version, "version", false, "Show the version")
	f.BoolVarP(&g.debug, "debug", "D", false, "Same as --log-level=debug")
	f.Hide("debug")
	f.Words("log-level", logLevels...)
	f.Words("cgroup-manager", "cgroupfs", "systemd")
	f.Words("storage-driver", "overlay", "btrfs", "vfs")
	f.Lookup("version").Shorthand = ""
}

var logLevels = []string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}

// check looks at what the flags' own types do not.
func (g *globals) check() error {
	if !slices.Contains(logLevels, strings.ToLower(g.logLevel)) {
		return fmt.Errorf("log level %q is not supported, choose from: %s", g.logLevel, strings.Join(logLevels, ", "))
	}
	if g.cgroupManager != "" && g.cgroupManager != "cgroupfs" && g.cgroupManager != "systemd" {
		return fmt.Errorf("cgroup manager %q is not known, choose cgroupfs or systemd", g.cgroupManager)
	}
	return nil
}

// argv is the flags as a child process must be given them.
func (g *globals) argv() []string {
	var a []string
	one := func(name, value string) {
		if value != "" {
			a = append(a, "--"+name+"="+value)
		}
	}
	one("root", g.root)
	one("runroot", g.runRoot)
	one("storage-driver", g.storageDriver)
	for _, o := range g.storageOpts {
		one("storage-opt", o)
	}
	one("cgroup-manager", g.cgroupManager)
	one("runtime", g.runtime)
	for _, h := range g.hooks {
		one("hooks-dir", h)
	}
	for _, c := range g.cdi {
		one("cdi-spec-dir", c)
	}
	if g.logLevel != "warn" {
		one("log-level", g.logLevel)
	}
	return a
}

// quietLevel reports that the user does not want warnings.
func (g *globals) quietLevel() bool {
	switch strings.ToLower(g.logLevel) {
	case "error", "fatal", "panic":
		return true
	}
	return false
}

// warn tells the user something that is not an error.
func (s *session) warn(text string) {
	if !s.globals.quietLevel() {
		fmt.Fprintf(s.stderr, "Warning: %s\n", command.Printable(text))
	}
}

// open opens the engine once.
func (s *session) open(ctx context.Context) (*engine.Engine, error) {
	return s.openPulling(ctx, pullFlags{})
}

// openPulling opens the engine with the registry flags of a command that may
// pull an image.
func (s *session) openPulling(ctx context.Context, p pullFlags) (*engine.Engine, error) {
	if s.engine != nil {
		return s.engine, nil
	}
	g := &s.globals
	if err := g.check(); err != nil {
		return nil, err
	}
	if g.out != "" {
		f, err := os.OpenFile(g.out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open --out: %w", err)
		}
		s.stdout = f
	}
	if err := front.Enter(ctx); err != nil {
		return nil, err
	}
	root, runRoot, err := front.Directories(g.root, g.runRoot)
	if err != nil {
		return nil, err
	}
	e, err := engine.Open(ctx, engine.Options{
		Root: root, RunRoot: runRoot, Rootless: front.InUserNamespace(),
		StorageDriver: g.storageDriver, StorageOpts: g.storageOpts,
		CgroupManager: g.cgroupManager,
		Runtime:       g.runtime,
		Hooks:         g.hooks, CDIDirs: g.cdi,
		GlobalArgs: g.argv(),
		Pull:       func(ctx context.Context, r engine.PullRequest) error { return s.pull(ctx, r, p) },
		Warn:       s.warn,
	})
	if err != nil {
		return nil, err
	}
	s.engine = e
	return e, nil
}

// each calls do with every name, goes on after an error, and joins the errors.
func each(names []string, do func(name string) error) error {
	var errs []error
	for _, n := range names {
		if err := do(n); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
