package clifull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"hull/codec"
	"hull/command"
	"hull/engine"
	"hull/front"
)

// engineOf opens the engine as hull does: with the defaults of containers.conf,
// events, and pulls by a child with the registry's flags.
func (s *session) engineOf(ctx context.Context, r registryFlags) (*engine.Engine, error) {
	g := &s.globals
	place, err := g.Begin(ctx, s.stdout)
	if err != nil {
		return nil, err
	}
	s.stdout = place.Stdout
	monitor, err := front.Libexec("hull-monitor")
	if err != nil {
		return nil, err
	}
	hull, err := front.Hull()
	if err != nil {
		return nil, err
	}
	conf, err := front.LoadConfig(g.Modules)
	if err != nil {
		return nil, err
	}
	if len(g.Hooks) > 0 {
		conf.HooksDirs = g.Hooks
	}
	if len(g.CDIDirs) > 0 {
		conf.CDIDirs = g.CDIDirs
	}
	return engine.Open(ctx, engine.Options{
		LibexecDir: filepath.Dir(monitor), Executable: hull,
		Root: place.Root, RunRoot: place.RunRoot, Rootless: front.InUserNamespace(), NetNS: front.NetNS(),
		ImageRoot: place.ImageRoot, ImageStores: place.ImageStores,
		StorageDriver: g.StorageDriver, DefaultDriver: front.StorageDriver, StorageOpts: g.StorageOpts,
		CgroupManager: g.CgroupManager, Defaults: conf.Defaults, Runtime: g.Runtime, Runtimes: conf.Runtimes,
		Hooks: conf.HooksDirs, CDIDirs: conf.CDIDirs,
		GlobalArgs: g.Argv(), TransientStore: g.TransientStore, NoEvents: g.EventsBackend == "none" || conf.EventsLogger == "none",
		Warn: s.warn, Codec: codec.Codec{},
		Pull: func(ctx context.Context, q engine.PullRequest) error { return s.pullChild(ctx, q, r) },
	})
}

// pullChild fetches an image with a child process: its progress goes to
// standard error.
func (s *session) pullChild(ctx context.Context, q engine.PullRequest, r registryFlags) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("pull %s: %w", q.Name, err)
	}
	args := append(s.globals.Argv(), "pull")
	for _, f := range []struct{ name, value string }{{"policy", q.Policy}, {"platform", q.Platform}, {"authfile", r.authFile}, {"cert-dir", r.certDir}, {"creds", r.creds}} {
		if f.value != "" {
			args = append(args, "--"+f.name+"="+f.value)
		}
	}
	if r.tlsVerify != nil {
		args = append(args, fmt.Sprintf("--tls-verify=%v", *r.tlsVerify))
	}
	if q.Quiet {
		args = append(args, "--quiet")
	}
	c := exec.CommandContext(ctx, self, append(args, "--", q.Name)...)
	c.Args[0] = s.program
	c.Stderr = s.stderr
	if err := c.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return &command.Exit{Code: exit.ExitCode()} // the child has said why
		}
		return fmt.Errorf("pull %s: %w", q.Name, err)
	}
	return nil
}
