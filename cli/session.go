package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

	globals front.Globals
	engine  *engine.Engine
	foreign []error // image stores of storage.conf that are other programs'
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
	if isGenerator(args) {
		return s.generator(args[0])
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

// warn tells the user something that is not an error.
func (s *session) warn(text string) {
	if !s.globals.Quiet() {
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
	place, err := g.Begin(ctx, s.stdout)
	if err != nil {
		return nil, err
	}
	s.stdout, s.foreign = place.Stdout, place.ForeignStores
	o, err := g.EngineOptions(place)
	if err != nil {
		return nil, err
	}
	o.Pull = func(ctx context.Context, r engine.PullRequest) error { return s.pull(ctx, r, p) }
	o.Warn = s.warn
	e, err := engine.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	s.engine = e
	return e, nil
}

// warnForeign says which of the configured image stores are passed over.
func (s *session) warnForeign() {
	for _, err := range s.foreign {
		s.warn(err.Error() + ": its images are not listed")
	}
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
