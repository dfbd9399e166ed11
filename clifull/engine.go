package clifull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

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
	o, err := s.engineOptions(place)
	if err != nil {
		return nil, err
	}
	o.Pull = func(ctx context.Context, q engine.PullRequest) error { return s.pullChild(ctx, q, r) }
	return engine.Open(ctx, o)
}

// engineOptions are hull's options in this program, which reads what is
// compressed itself.
func (s *session) engineOptions(place front.Place) (engine.Options, error) {
	o, err := s.globals.EngineOptions(place)
	if err != nil {
		return o, err
	}
	o.Codec, o.Warn = codec.Codec{}, s.warn
	o.Executable, err = front.Hull()
	return o, err
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
