package front

import (
	"fmt"
	"slices"
	"strings"

	"hull/command"
)

// Globals are the program's own flags, which each of its binaries takes.
type Globals struct {
	Root, RunRoot, StorageDriver string
	ImageStore                   string
	StorageOpts                  []string
	CgroupManager, Runtime       string
	RuntimeFlags                 []string // for the runtime of containers that are created
	Hooks, CDIDirs               []string
	Modules                      []string // files of containers.conf.modules
	LogLevel, Out                string
	Version                      bool
	TransientStore               bool   // every container is kept in the run directory
	EventsBackend                string // file, journald or none; "" leaves it to containers.conf

	debug bool
}

// Declare declares the global flags.
func (g *Globals) Declare(f *command.Flags) {
	f.StringVar(&g.Root, "root", "", "Path to the directory in which images and containers are stored")
	f.StringVar(&g.RunRoot, "runroot", "", "Path to the directory of what a reboot ends")
	f.StringVar(&g.ImageStore, "imagestore", "", "Path to the directory of images and of the files of containers upon them (default the same as --root)")
	f.StringVar(&g.StorageDriver, "storage-driver", "", "Driver that keeps the layers (overlay, btrfs, vfs); an existing store has its own")
	f.StringArrayVar(&g.StorageOpts, "storage-opt", nil, "Option of the storage driver")
	f.StringVar(&g.CgroupManager, "cgroup-manager", "", "Who makes cgroups: systemd or cgroupfs (default systemd where it runs with cgroup v2)")
	f.StringVar(&g.Runtime, "runtime", "", "OCI runtime to use instead of hull's own: a name or a path")
	f.StringArrayVar(&g.RuntimeFlags, "runtime-flag", nil, "Global flag, without its dashes, for another runtime than hull's own (may be given several times)")
	f.StringSliceVar(&g.Hooks, "hooks-dir", nil, "Directory of OCI hooks (may be given several times)")
	f.StringSliceVar(&g.CDIDirs, "cdi-spec-dir", nil, "Directory of CDI specifications (may be given several times)")
	f.StringArrayVar(&g.Modules, "module", nil, "Load the containers.conf module of this name or path (may be given several times)")
	f.StringVar(&g.Out, "out", "", "Send standard output to this file")
	f.StringVar(&g.LogLevel, "log-level", "warn", "Show messages of this level and above (trace, debug, info, warn, warning, error, fatal, panic)")
	f.BoolVar(&g.TransientStore, "transient-store", false, "Keep containers in the run directory: a reboot ends them")
	f.StringVar(&g.EventsBackend, "events-backend", "", "Where events are noted (\"file\"|\"journald\"|\"none\"; default \"file\")")
	f.BoolVar(&g.Version, "version", false, "Show the version")
	f.BoolVarP(&g.debug, "debug", "D", false, "Same as --log-level=debug")
	f.Hide("debug")
	f.Words("log-level", logLevels...)
	f.Words("cgroup-manager", "systemd", "cgroupfs")
	f.Words("events-backend", "file", "journald", "none")
	f.Words("storage-driver", "overlay", "btrfs", "vfs")
	f.Lookup("version").Shorthand = ""
}

var logLevels = []string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}

// Check looks at what the flags' own types do not.
func (g *Globals) Check() error {
	if g.debug {
		g.LogLevel = "debug"
	}
	if !slices.Contains(logLevels, strings.ToLower(g.LogLevel)) {
		return fmt.Errorf("log level %q is not supported, choose from: %s", g.LogLevel, strings.Join(logLevels, ", "))
	}
	if g.CgroupManager != "" && g.CgroupManager != "cgroupfs" && g.CgroupManager != "systemd" {
		return fmt.Errorf("cgroup manager %q is not known: there are systemd and cgroupfs", g.CgroupManager)
	}
	switch g.EventsBackend {
	case "", "file", "journald", "none":
	default:
		return fmt.Errorf("events backend %q is not known: there are file, journald and none", g.EventsBackend)
	}
	return nil
}

// Argv is the flags as a child process must be given them.
func (g *Globals) Argv() []string {
	var a []string
	one := func(name, value string) {
		if value != "" {
			a = append(a, "--"+name+"="+value)
		}
	}
	one("root", g.Root)
	one("runroot", g.RunRoot)
	one("imagestore", g.ImageStore)
	one("storage-driver", g.StorageDriver)
	for _, o := range g.StorageOpts {
		one("storage-opt", o)
	}
	one("cgroup-manager", g.CgroupManager)
	one("runtime", g.Runtime)
	for _, o := range g.RuntimeFlags {
		one("runtime-flag", o)
	}
	for _, h := range g.Hooks {
		one("hooks-dir", h)
	}
	for _, c := range g.CDIDirs {
		one("cdi-spec-dir", c)
	}
	for _, m := range g.Modules {
		one("module", m)
	}
	if g.TransientStore {
		a = append(a, "--transient-store")
	}
	one("events-backend", g.EventsBackend)
	if g.LogLevel != "warn" {
		one("log-level", g.LogLevel)
	}
	return a
}

// Quiet reports that the user does not want warnings.
func (g *Globals) Quiet() bool {
	switch strings.ToLower(g.LogLevel) {
	case "error", "fatal", "panic":
		return true
	}
	return false
}

// Verbose reports that the user wants to know each step.
func (g *Globals) Verbose() bool {
	switch strings.ToLower(g.LogLevel) {
	case "debug", "trace":
		return true
	}
	return false
}
