package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"hull/containerfile"
	"hull/engine"
	"hull/image"
	"hull/layer"
	"hull/oci"
)

// A RunError is a RUN whose program failed.
type RunError struct {
	Text string // the instruction
	Code int
	Tail []string // the last lines of its output
}

func (e *RunError) Error() string {
	return fmt.Sprintf("building at STEP %q: while running runtime: exit status %d", e.Text, e.Code)
}

// A running is one RUN, ready to be run or looked up.
type running struct {
	st     *stage
	c      *instructions.RunCommand
	text   string
	args   []string
	env    []string
	create engine.CreateOptions
	mounts mounts
}

// run does RUN.
func (st *stage) run(ctx context.Context, c *instructions.RunCommand, text string) (k string, cached bool, err error) {
	r := &running{st: st, c: c, text: text, create: st.b.o.Create}
	defer func() { r.mounts.release() }()
	if err := r.command(); err != nil {
		return "", false, err
	}
	r.environment()
	if err := r.options(); err != nil {
		return "", false, err
	}
	if err := r.mounts.settle(ctx, st, instructions.GetMounts(c)); err != nil {
		return "", false, err
	}
	k, err = r.key()
	if err != nil {
		return "", false, err
	}
	by := strings.Join(r.args, " ")
	if n := len(st.scope.Args); n > 0 {
		words := []string{"|" + strconv.Itoa(n)}
		for _, a := range st.scope.Args {
			words = append(words, a.Key+"="+containerfile.Redact(a.Value))
		}
		by = strings.Join(words, " ") + " " + by
	}
	cached, err = st.layered(ctx, k, by, r.do)
	return k, cached, err
}

// command is what is executed: a heredoc is a script, or part of the text that
// the shell reads.
func (r *running) command() error {
	c := r.c
	args := slices.Clone(c.CmdLine)
	if len(c.Files) > 0 {
		if len(args) != 1 || !c.PrependShell {
			return fmt.Errorf("a here-document after %q: the exec form takes none", args)
		}
		doc, err := parser.ParseHeredoc(args[0])
		switch {
		case err == nil && doc != nil && strings.HasPrefix(c.Files[0].Data, "#!"):
			data := c.Files[0].Data
			if c.Files[0].Chomp {
				data = parser.ChompHeredocContent(data)
			}
			return r.script(c.Files[0].Name, data)
		case err == nil && doc != nil:
			args[0] = c.Files[0].Data
			if c.Files[0].Chomp {
				args[0] = parser.ChompHeredocContent(args[0])
			}
		default:
			for _, f := range c.Files {
				args[0] += "\n" + f.Data + f.Name
			}
		}
	}
	if c.PrependShell {
		args = append(r.st.shellWords(), strings.Join(args, " "))
	}
	if len(args) == 0 {
		return errors.New("RUN without a command")
	}
	r.args = args
	return nil
}

// script runs a heredoc that names its own interpreter.
func (r *running) script(name, data string) error {
	file, err := r.st.b.writeTemp("script", name, []byte(data), 0o755)
	if err != nil {
		return err
	}
	dst := "/dev/pipes/" + name
	r.mounts.extra = append(r.mounts.extra, engine.Mount{Type: "bind", Source: file, Destination: dst, Options: []string{"ro", "Z"}})
	r.mounts.keys = append(r.mounts.keys, data)
	r.args = []string{dst}
	return nil
}

// environment is the stage's with its arguments; proxies are not part of the key.
func (r *running) environment() {
	st := r.st
	r.env = slices.Clone(st.scope.Env)
	for _, a := range st.scope.Args {
		if !slices.ContainsFunc(r.env, func(kv string) bool { return strings.HasPrefix(kv, a.Key+"=") }) {
			r.env = append(r.env, a.Key+"="+a.Value)
		}
	}
}

// options are those of the instruction over those of the command line.
func (r *running) options() error {
	o := &r.create
	if r.st.b.o.Chroot {
		o.NetworkMode, o.Networks, o.Cgroups = "host", nil, "disabled"
	}
	if err := r.policy(); err != nil {
		return err
	}
	if m := instructions.GetNetwork(r.c); m == instructions.NetworkNone || m == instructions.NetworkHost {
		o.NetworkMode, o.Networks = m, nil
	}
	o.Privileged = o.Privileged || instructions.GetSecurity(r.c) == instructions.SecurityInsecure
	for _, d := range instructions.GetDevices(r.c) {
		o.Devices = append(slices.Clone(o.Devices), engine.Device{Host: d.Name, Container: d.Name, Access: "rwm"})
	}
	if r.st.b.o.Volumes {
		for v := range r.st.config.Config.Volumes {
			o.Mounts = append(slices.Clone(o.Mounts), engine.Mount{Type: "volume", Destination: path.Clean("/" + v), Anonymous: true})
		}
	}
	return nil
}

// policy is the one place that says what an instruction may ask for beyond a
// plain container: the text of a Containerfile is not the caller's (BLD-13).
func (r *running) policy() error {
	b := &r.st.b.o
	for _, x := range []struct {
		wants   bool
		allowed bool
		what    string
		word    string
	}{
		{instructions.GetSecurity(r.c) == instructions.SecurityInsecure, b.Insecure, "--security=insecure", "security.insecure"},
		{instructions.GetNetwork(r.c) == instructions.NetworkHost, b.HostNetwork || r.create.NetworkMode == "host", "--network=host", "network.host"},
		{len(instructions.GetDevices(r.c)) > 0, b.AllDevices, "--device", "device"},
	} {
		if x.wants && !x.allowed {
			return &hintError{fmt.Errorf("RUN %s is not allowed", x.what), "allow it with --allow " + x.word}
		}
	}
	return nil
}

type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

func (r *running) key() (string, error) {
	st, o := r.st, r.create
	o.Resources = engine.Resources{} // how fast it was does not matter
	o.Env, o.CgroupParent = nil, ""
	cc := &st.config.Config
	return key("run", st.chain(), r.args, r.env, cc.User, cc.WorkingDir, o, r.mounts.keys, st.b.o.timeKey(), st.config.Architecture), nil
}

// do runs the program and makes a layer of what it changed.
func (r *running) do(ctx context.Context) (*image.Layer, error) {
	st := r.st
	if err := st.b.emulate(ctx, st.arch()); err != nil {
		return nil, err
	}
	if err := r.mounts.prepare(ctx); err != nil {
		return nil, err
	}
	o := r.create
	empty := []string{}
	no := false
	o.Entrypoint, o.Command = &empty, r.args
	o.Env = append(slices.Concat(r.env, st.scope.Proxies()), o.Env...)
	o.WorkingDir, o.ImageVolume, o.Passwd = path.Join("/", st.config.Config.WorkingDir), "ignore", &no
	o.Mounts = slices.Concat(o.Mounts, r.mounts.extra)
	o.LogDriver = "none"
	o.Interactive = st.b.o.Stdio != nil
	tail := &tailWriter{}
	options := engine.StepOptions{
		Base:   engine.StepBase{Chain: st.chain(), Config: oci.ImageConfig{User: st.config.Config.User, WorkingDir: st.config.Config.WorkingDir, StopSignal: st.config.Config.StopSignal}, Name: st.from, Arch: st.arch()},
		Create: o, SecretEnv: r.mounts.secretEnv, Mounts: r.mounts.views, Open: r.mounts.open,
		Streams: engine.Streams{Stdin: st.b.o.Stdio, Stdout: st.output(false, tail), Stderr: st.output(true, tail)},
	}
	var l image.Layer
	var failed *RunError
	err := st.b.Runner.RunStep(ctx, options, func(end engine.StepEnd) error {
		if end.Code != 0 {
			failed = &RunError{r.text, end.Code, tail.lines()}
			if st.b.o.Debug == nil {
				return failed
			}
		}
		var err error
		l, err = st.commit(ctx, end)
		return err
	})
	if err == nil && failed != nil {
		if err = r.debug(ctx, failed, options, l); err == nil {
			err = failed
		}
	}
	if err != nil {
		return nil, err
	}
	return &l, nil
}

// debug has the caller run a shell in what a failed program left, as the
// program was run. Nothing of it is kept.
func (r *running) debug(ctx context.Context, failed *RunError, o engine.StepOptions, left image.Layer) error {
	b := r.st.b
	b.debugging.Lock()
	defer b.debugging.Unlock()
	if err := b.Images.MarkGarbage(); err != nil { // what the program left is in no image
		return err
	}
	o.Base.Chain = left.Chain
	o.Create.Command, o.Create.Interactive = r.st.shellWords()[:1], true
	return b.o.Debug(failed, func(s engine.Streams) error {
		o.Create.Terminal, o.Streams = s.Console != nil, s
		return b.Runner.RunStep(ctx, o, func(engine.StepEnd) error { return nil })
	})
}

// commit makes a layer of a step's file system.
func (st *stage) commit(ctx context.Context, end engine.StepEnd) (image.Layer, error) {
	if err := st.b.Snapshots.Revert(end.Snapshot, end.Made); err != nil {
		return image.Layer{}, err
	}
	return st.b.Images.AddSnapshot(ctx, st.chain(), end.Snapshot, end.Changes, layer.PackOptions{Time: st.b.o.fileTime()})
}

func (st *stage) arch() string {
	if a := st.config.Architecture; a != "" && a != st.b.self.Architecture {
		return a
	}
	return ""
}

// output shows what a program writes.
func (st *stage) output(stderr bool, tail *tailWriter) io.Writer {
	step, steps := st.step, st.steps
	return writerFunc(func(p []byte) (int, error) {
		tail.add(p)
		st.b.Show(Event{Kind: Output, Stage: st.number, Stages: len(st.b.graph.Order), Title: st.in.Title(), Step: step, Steps: steps, Data: slices.Clone(p), Stderr: stderr})
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// workdir does WORKDIR: the directory is made if the image lacks it.
func (st *stage) workdir(ctx context.Context, c *instructions.WorkdirCommand, text string) (k string, cached bool, err error) {
	dir := c.Path
	if dir == "" {
		return "", false, errors.New("WORKDIR without a path")
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", st.config.Config.WorkingDir, dir)
	}
	dir = path.Clean(dir)
	st.config.Config.WorkingDir = dir
	user := st.config.Config.User
	k = key("workdir", st.chain(), dir, user, st.b.o.timeKey())
	cached, err = st.layered(ctx, k, nop(text), func(ctx context.Context) (*image.Layer, error) {
		return st.addDirectories(ctx, dir, user)
	})
	return k, cached, err
}
