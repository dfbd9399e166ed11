package front

import (
	"cmp"
	"fmt"
	"path/filepath"

	"hull/engine"
	"hull/monitor"
)

// EngineOptions are what every front door opens the engine with: the flags, and
// containers.conf where they say nothing. Who pulls, warns and reads what is
// compressed is the caller's.
func (g *Globals) EngineOptions(place Place) (engine.Options, error) {
	beside, err := Libexec("hull-monitor")
	if err != nil {
		return engine.Options{}, err
	}
	conf, err := LoadConfig(g.Modules)
	if err != nil {
		return engine.Options{}, err
	}
	if len(g.Hooks) > 0 {
		conf.HooksDirs = g.Hooks
	}
	if len(g.CDIDirs) > 0 {
		conf.CDIDirs = g.CDIDirs
	}
	events, err := g.eventsBackend(conf)
	if err != nil {
		return engine.Options{}, err
	}
	return engine.Options{
		LibexecDir: filepath.Dir(beside),
		Root:       place.Root, RunRoot: place.RunRoot, Rootless: InUserNamespace(), NetNS: NetNS(),
		ImageRoot: place.ImageRoot, ImageStores: place.ImageStores,
		StorageDriver: g.StorageDriver, DefaultDriver: StorageDriver, StorageOpts: g.StorageOpts,
		CgroupManager: cmp.Or(g.CgroupManager, conf.CgroupManager),
		Defaults:      conf.Defaults,
		Runtime:       g.Runtime, Runtimes: conf.Runtimes, RuntimeFlags: g.RuntimeFlags,
		Hooks: conf.HooksDirs, CDIDirs: conf.CDIDirs,
		GlobalArgs: g.Argv(), TransientStore: g.TransientStore, NoEvents: events == "none", JournalEvents: events == "journald",
	}, nil
}

// eventsBackend is where events go. What a file asks for and this machine does
// not have is a file in the run directory; what the user asks for is an error.
func (g *Globals) eventsBackend(conf Config) (string, error) {
	backend := cmp.Or(g.EventsBackend, conf.EventsLogger, "file")
	if backend != "journald" {
		return backend, nil
	}
	err := monitor.JournalThere()
	switch {
	case err == nil:
		return backend, nil
	case g.EventsBackend == "":
		return "file", nil
	}
	return "", fmt.Errorf("events backend journald: %w", err)
}
