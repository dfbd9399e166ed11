package front

import (
	"cmp"
	"path/filepath"

	"hull/engine"
)

// EngineOptions are what every front door opens the engine with: the flags, and
// containers.conf where they say nothing. Who pulls, warns and reads what is
// compressed is the caller's.
func (g *Globals) EngineOptions(place Place) (engine.Options, error) {
	monitor, err := Libexec("hull-monitor")
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
	return engine.Options{
		LibexecDir: filepath.Dir(monitor),
		Root:       place.Root, RunRoot: place.RunRoot, Rootless: InUserNamespace(), NetNS: NetNS(),
		ImageRoot: place.ImageRoot, ImageStores: place.ImageStores,
		StorageDriver: g.StorageDriver, DefaultDriver: StorageDriver, StorageOpts: g.StorageOpts,
		CgroupManager: cmp.Or(g.CgroupManager, conf.CgroupManager),
		Defaults:      conf.Defaults,
		Runtime:       g.Runtime, Runtimes: conf.Runtimes, RuntimeFlags: g.RuntimeFlags,
		Hooks: conf.HooksDirs, CDIDirs: conf.CDIDirs,
		GlobalArgs: g.Argv(), TransientStore: g.TransientStore, NoEvents: g.EventsBackend == "none" || conf.EventsLogger == "none",
	}, nil
}
