package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"hull/containerfile"
	"hull/engine"
	"hull/image"
	"hull/oci"
)

// A stage is what the instructions of one FROM made so far.
type stage struct {
	b       *building
	in      *containerfile.Stage
	number  int
	scope   *containerfile.Scope
	noCache bool

	config oci.Image // history with it; without root file system
	layers []image.Layer
	base   *image.Image // nil of scratch
	from   string       // what the stage began with, for people
	fresh  int          // layers of the base; those above are the stage's own
	notes  map[string]string

	saved   oci.Digest // the image of --save-stages, once it is made
	cmdSet  bool       // a CMD of this stage: ENTRYPOINT does not drop it
	step    int
	steps   int
	changed bool // anything but the base
}

// chain is the chain ID of the stage's layers.
func (st *stage) chain() oci.Digest {
	if len(st.layers) == 0 {
		return ""
	}
	return st.layers[len(st.layers)-1].Chain
}

// stage builds one.
func (b *building) stage(ctx context.Context, in *containerfile.Stage, number int) (*stage, error) {
	st := &stage{b: b, in: in, number: number, steps: 1 + len(in.Commands), step: 1}
	st.noCache = b.o.NoCache && (len(b.o.NoCacheOnly) == 0 || slices.Contains(b.o.NoCacheOnly, in.Name))
	st.noCache = st.noCache || in.Name != "" && slices.Contains(b.o.NoCacheOnly, in.Name) || b.o.OneLayer
	if in.Parent != nil {
		if _, err := b.await(ctx, in.Parent); err != nil {
			return nil, err
		}
	}
	st.event(Event{Kind: StepBegin, Text: in.Source, Meta: true})
	triggers, err := st.begin(ctx)
	if err != nil {
		return nil, b.graph.File.At(in.Location, err)
	}
	commands, err := st.triggers(triggers)
	if err != nil {
		return nil, b.graph.File.At(in.Location, err)
	}
	st.steps += len(commands)
	for i, c := range append(commands, in.Commands...) {
		st.step++
		where := c.Location()
		if i < len(commands) {
			where = in.Location // a trigger has no line of its own here
		}
		if err := st.do(ctx, c); err != nil {
			return nil, b.graph.File.At(where, err)
		}
	}
	if b.o.OneLayer && in == b.graph.Target {
		return st, st.squash(ctx)
	}
	return st, nil
}

func (st *stage) event(e Event) {
	e.Stage, e.Stages, e.Title = st.number, len(st.b.graph.Order), st.in.Title()
	e.Step, e.Steps = st.step, st.steps
	st.b.Show(e)
}

// begin makes the stage what its base is, and returns the triggers of that.
func (st *stage) begin(ctx context.Context) ([]string, error) {
	st.config = oci.Image{OS: st.b.o.Platform.OS, Architecture: st.b.o.Platform.Architecture, Variant: st.b.o.Platform.Variant}
	in := st.in
	st.from = in.Base
	switch {
	case in.Parent != nil:
		p := st.b.futures[in.Parent].result
		st.config, st.layers, st.base, st.notes, st.changed = p.config, slices.Clone(p.layers), p.base, p.notes, p.changed
		st.fresh, st.from = p.fresh, p.from
		st.config.History = slices.Clone(p.config.History)
	case in.Base == containerfile.Scratch && !in.Context:
		st.config.Config.Env = []string{scratchPath}
	case in.Context:
		if err := st.beginContext(ctx); err != nil {
			return nil, err
		}
	default:
		img, err := st.b.image(ctx, in.Base, in.Platform)
		if err != nil {
			return nil, err
		}
		st.fromImage(img)
		st.lintPlatform()
	}
	if st.config.Config.Labels != nil {
		labels := map[string]string{}
		if !st.b.o.DropLabels || in.Parent != nil {
			for k, v := range st.config.Config.Labels {
				labels[k] = v
			}
		}
		st.config.Config.Labels = labels
	}
	st.scope = st.b.graph.Scope(slices.Clone(st.config.Config.Env))
	if in.Parent != nil {
		st.scope.Args = slices.Clone(st.b.futures[in.Parent].result.scope.Args)
	}
	triggers := st.config.Config.OnBuild
	st.config.Config.OnBuild = nil
	st.changed = st.changed || len(triggers) > 0
	return triggers, nil
}

// scratchPath is what an image that begins with nothing has for PATH.
const scratchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (st *stage) fromImage(img image.Image) {
	st.base, st.layers, st.fresh, st.config = &img, slices.Clone(img.Layers), len(img.Layers), img.Config
	st.config.RootFS = oci.RootFS{}
	st.config.History = slices.Clone(img.Config.History)
	if len(st.config.History) == 0 {
		for range img.Layers {
			st.config.History = append(st.config.History, oci.History{})
		}
	}
	if m, _, err := st.b.Images.ReadManifest(img); err == nil && !st.b.o.DropNotes {
		st.notes = m.Annotations
	}
}

// lintPlatform warns of a base image for another platform than the one that was
// asked for: a registry may have one form of it only.
func (st *stage) lintPlatform() {
	want := st.b.o.Platform
	if st.in.Platform != "" {
		want = parsePlatform(st.in.Platform)
	}
	have := oci.Platform{OS: st.config.OS, Architecture: st.config.Architecture, Variant: st.config.Variant}
	if have.OS != "" && have.OS != want.OS || have.Architecture != "" && have.Architecture != want.Architecture {
		st.event(Event{Kind: Warning, Text: "InvalidBaseImagePlatform: " + linter.RuleInvalidBaseImagePlatform.Format(st.in.Base, want.String(), have.String())})
	}
}

// triggers parses ONBUILD expressions.
func (st *stage) triggers(texts []string) ([]instructions.Command, error) {
	var all []instructions.Command
	for _, text := range texts {
		r, err := parser.Parse(bytes.NewReader([]byte(text)))
		if err == nil && len(r.AST.Children) != 1 {
			err = errors.New("it is not one instruction")
		}
		var c instructions.Command
		if err == nil {
			c, err = instructions.ParseCommand(r.AST.Children[0])
		}
		if err != nil {
			return nil, fmt.Errorf("trigger %q of %s: %w", text, st.from, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// do does one instruction.
func (st *stage) do(ctx context.Context, c instructions.Command) error {
	began := time.Now()
	text := commandText(c)
	if _, ok := c.(*instructions.AddCommand); ok {
		text = containerfile.Redact(text)
	}
	st.event(Event{Kind: StepBegin, Text: text})
	if err := st.expand(c); err != nil {
		return err
	}
	var k string
	var cached, meta bool
	var err error
	switch c := c.(type) {
	case *instructions.RunCommand:
		k, cached, err = st.run(ctx, c, text)
	case *instructions.CopyCommand:
		k, cached, err = st.copy(ctx, copyOf(c), text)
	case *instructions.AddCommand:
		k, cached, err = st.copy(ctx, addOf(c), text)
	case *instructions.WorkdirCommand:
		k, cached, err = st.workdir(ctx, c, text)
	default:
		meta = true
		k, cached, err = st.configure(ctx, c, text)
	}
	if err != nil {
		return err
	}
	st.b.count(cached)
	if cached {
		st.event(Event{Kind: StepCached, ID: k, Meta: meta})
	}
	st.event(Event{Kind: StepDone, ID: k, Took: time.Since(began), Cached: cached, Meta: meta})
	return nil
}

func (b *building) count(cached bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps++
	if cached {
		b.cached++
	}
}

// commandText is an instruction as it was written.
func commandText(c instructions.Command) string {
	if s, ok := c.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.ToUpper(c.Name())
}

// expand replaces the variables of an instruction.
func (st *stage) expand(c instructions.Command) error {
	if x, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		if err := x.ExpandRaw(st.scope.ExpandRaw); err != nil {
			return err
		}
	}
	if x, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(st.scope.Expand); err != nil {
			return err
		}
	}
	return nil
}

// layered does a step that makes a layer, unless it is kept under its key.
// below is the chain that the kept layer must stand on.
func (st *stage) layered(ctx context.Context, k, by string, make func(ctx context.Context) (*image.Layer, error)) (cached bool, err error) {
	step, found := st.find(ctx, k)
	if found && step.Layer != nil && step.Parent != st.chain() {
		// Kept of another base, to which it did not look.
		l, err := st.b.Images.Restore(ctx, st.chain(), *step.Layer)
		if found = err == nil; found {
			step.Layer = &l
		}
	}
	if !found {
		release, err := st.b.slot(ctx)
		if err != nil {
			return false, err
		}
		l, err := make(ctx)
		release()
		if err != nil {
			return false, err
		}
		step = image.Step{Key: k, Parent: st.chain(), Layer: l, Created: time.Now().UTC(), Text: by}
		if err := st.remember(step); err != nil {
			return false, err
		}
	}
	st.add(step, by)
	return found, nil
}

// add puts a step's layer on top, with its line of history.
func (st *stage) add(step image.Step, by string) {
	created := st.b.o.created(step.Created)
	h := oci.History{Created: &created, CreatedBy: by, EmptyLayer: step.Layer == nil}
	if !st.changed && st.from != "" {
		h.Comment = "FROM " + st.from
	}
	st.config.History = append(st.config.History, h)
	st.config.Created = &created
	if step.Layer != nil {
		st.layers = append(st.layers, *step.Layer)
	}
	st.changed = true
}

// nop is how the history calls what runs nothing.
func nop(text string) string { return "/bin/sh -c #(nop) " + text }

// configure does an instruction that changes the configuration only.
func (st *stage) configure(ctx context.Context, c instructions.Command, text string) (k string, cached bool, err error) {
	before, err := json.Marshal([]any{st.config.Config, st.config.Author, st.chain(), st.b.o.timeKey()})
	if err != nil {
		return "", false, err
	}
	line, err := st.apply(c, text)
	if err != nil {
		return "", false, err
	}
	st.config.Config.Env = slices.Clone(st.scope.Env)
	after, err := json.Marshal([]any{st.config.Config, st.config.Author})
	if err != nil {
		return "", false, err
	}
	k = key("config", string(before), string(after), line)
	step, found := st.find(ctx, k)
	if !found {
		step = image.Step{Key: k, Parent: st.chain(), Created: time.Now().UTC(), Text: line}
		if err := st.remember(step); err != nil {
			return "", false, err
		}
	}
	st.add(step, nop(line))
	return k, found, nil
}

// apply changes the configuration, and returns the line for the history.
func (st *stage) apply(c instructions.Command, text string) (string, error) {
	cc := &st.config.Config
	switch c := c.(type) {
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			st.scope.SetEnv(kv.Key, kv.Value)
		}
	case *instructions.ArgCommand:
		var names []string
		for _, a := range c.Args {
			st.scope.Declare(a)
			names = append(names, a.Key)
		}
		return "ARG " + strings.Join(names, " "), nil
	case *instructions.LabelCommand:
		for _, kv := range c.Labels {
			cc.Labels = put(cc.Labels, kv.Key, kv.Value)
		}
	case *instructions.MaintainerCommand:
		st.config.Author = c.Maintainer
	case *instructions.CmdCommand:
		cc.Cmd, st.cmdSet = st.shell(c.ShellDependantCmdLine), true
	case *instructions.EntrypointCommand:
		cc.Entrypoint = st.shell(c.ShellDependantCmdLine)
		if !st.cmdSet {
			cc.Cmd = nil
		}
	case *instructions.ShellCommand:
		cc.Shell = c.Shell
	case *instructions.UserCommand:
		cc.User = c.User
	case *instructions.VolumeCommand:
		for _, v := range c.Volumes {
			if v == "" {
				return "", errors.New("VOLUME specified can not be an empty string")
			}
			cc.Volumes = put(cc.Volumes, v, struct{}{})
		}
	case *instructions.StopSignalCommand:
		if _, err := engine.ParseSignal(c.Signal); err != nil {
			return "", err
		}
		cc.StopSignal = c.Signal
	case *instructions.HealthCheckCommand:
		h := c.Health
		cc.Healthcheck = &oci.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	case *instructions.ExposeCommand:
		if err := st.expose(c.Ports); err != nil {
			return "", err
		}
	case *instructions.OnbuildCommand:
		cc.OnBuild = append(slices.Clone(cc.OnBuild), c.Expression)
	default:
		return "", fmt.Errorf("instruction %s is not known", strings.ToUpper(c.Name()))
	}
	return text, nil
}

// put sets a key in a copy: stages that begin with this one share the map.
func put[V any](m map[string]V, k string, v V) map[string]V {
	out := make(map[string]V, len(m)+1)
	for old, x := range m {
		out[old] = x
	}
	out[k] = v
	return out
}

// shell is a command line, with the shell before it where it is text.
func (st *stage) shell(c instructions.ShellDependantCmdLine) []string {
	if !c.PrependShell {
		return c.CmdLine
	}
	return append(st.shellWords(), strings.Join(c.CmdLine, " "))
}

func (st *stage) shellWords() []string {
	if s := st.config.Config.Shell; len(s) > 0 {
		return slices.Clone(s)
	}
	return []string{"/bin/sh", "-c"}
}
