package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hull/blob"
	"hull/containerfile"
	"hull/engine"
	"hull/image"
	"hull/inroot"
	"hull/oci"
	"hull/snapshot"
	"hull/state"
)

// A Runner runs RUN.
type Runner interface {
	RunStep(ctx context.Context, o engine.StepOptions, keep func(engine.StepEnd) error) error
	// SweepSteps ends what killed builds left running.
	SweepSteps(ctx context.Context) error
	// Emulate lets programs of another architecture run until release is called.
	Emulate(ctx context.Context, arch string) (release func(), err error)
}

var _ Runner = (*engine.Engine)(nil)

// A Builder builds in one store.
type Builder struct {
	Images    *image.Store
	Snapshots *snapshot.Store
	Blobs     *blob.Store
	Runner    Runner
	// Pull gets an image by name, policy and platform.
	Pull func(ctx context.Context, name, policy string, p oci.Platform) (image.Image, error)
	// Dir is for what outlives a build (cache mounts) and for large files of
	// one; RunDir for secrets and sockets.
	Dir, RunDir string
	// Show is told what goes on; it may be called by several goroutines at once.
	Show func(Event)
	// Version names the program in labels.
	Version string
}

// A Result is what a build made.
type Result struct {
	Image         image.Image
	Statements    *image.ListEntry // the attestations, stored; nil of none
	Steps, Cached int
	Warnings      []containerfile.Warning
}

// building is one build under way.
type building struct {
	*Builder
	o     Options
	graph *containerfile.Graph
	main  *tree // the context
	named map[string]*tree
	tmp   string // removed at the end
	run   string // as tmp, in the run directory
	slots chan struct{}
	self  oci.Platform

	mu      sync.Mutex
	futures map[*containerfile.Stage]*future
	images  map[string]*imageFuture // guarded by mu
	trees   []*tree                 // to close; guarded by mu
	steps   int
	cached  int
	exports []image.Step      // for caches of others; guarded by mu
	caches  map[string]string // cache mounts that were used: id → directory; guarded by mu

	materials []material // what was fetched; guarded by mu

	debugging sync.Mutex        // one shell at a time
	emulated  map[string]func() // architectures that can run, and what ends that; guarded by mu
}

// Build builds o and stores the image under its names.
func (b *Builder) Build(ctx context.Context, o Options) (Result, error) {
	began := time.Now()
	bg, err := b.begin(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer bg.close()
	if err := b.Runner.SweepSteps(ctx); err != nil {
		bg.Show(Event{Kind: Warning, Text: fmt.Sprintf("clean up after a build that was killed: %v", err)})
	}
	hold, err := b.Images.Hold(ctx)
	if err != nil {
		return Result{}, err
	}
	defer hold.Release()
	f, err := bg.file(ctx)
	if err != nil {
		return Result{}, err
	}
	target, err := bg.stages(ctx, f)
	if err != nil {
		return Result{}, err
	}
	res := Result{Warnings: f.Warnings, Steps: bg.steps, Cached: bg.cached}
	for _, a := range bg.graph.UnusedArgs() {
		bg.Show(Event{Kind: Warning, Text: fmt.Sprintf("one or more build args were not consumed: [%s]", a)})
	}
	if res.Image, err = bg.finish(ctx, target); err != nil {
		return res, err
	}
	if o.Attest.Wanted() && !o.NoImage {
		if res.Statements, err = bg.attest(ctx, target, res.Image, began); err != nil {
			return res, fmt.Errorf("attest the image: %w", err)
		}
	}
	return res, bg.sendCaches(ctx)
}

// begin makes the places that a build needs, and takes away what dead ones left.
func (b *Builder) begin(_ context.Context, o Options) (*building, error) {
	bg := &building{Builder: b, o: o, futures: map[*containerfile.Stage]*future{}, images: map[string]*imageFuture{}, named: map[string]*tree{}, caches: map[string]string{}, self: oci.HostPlatform()}
	if bg.o.Platform.OS == "" && bg.o.Platform.Architecture == "" {
		bg.o.Platform = bg.self
	}
	jobs := o.Jobs
	if jobs <= 0 {
		jobs = max(2, runtime.NumCPU())
	}
	bg.slots = make(chan struct{}, jobs)
	self := state.Self()
	name := fmt.Sprintf("%d-%d-%d", self.Pid, self.Start, time.Now().UnixNano())
	for _, d := range []struct {
		base string
		dir  *string
	}{{filepath.Join(b.Dir, "tmp"), &bg.tmp}, {filepath.Join(b.RunDir, "build"), &bg.run}} {
		sweep(d.base)
		*d.dir = filepath.Join(d.base, name)
	}
	return bg, nil
}

// sweep removes directories of builds whose process is gone.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		w := strings.Split(e.Name(), "-")
		if len(w) != 3 {
			continue
		}
		pid, _ := strconv.Atoi(w[0])
		start, _ := strconv.ParseUint(w[1], 10, 64)
		if !(state.ProcessID{Pid: pid, Start: start}).Alive() {
			_ = removeAll(filepath.Join(base, e.Name())) // the next one tries again
		}
	}
}

func removeAll(path string) error {
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	return inroot.RemoveAll(parent, filepath.Base(path))
}

// temp makes a directory for large files.
func (b *building) temp(what string) (string, error) { return tempIn(b.tmp, what) }

// secretTemp makes one in the run directory.
func (b *building) secretTemp(what string) (string, error) { return tempIn(b.run, what) }

// mkdirPrivate makes a directory of the build's own.
func mkdirPrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a directory for the build: %w", err)
	}
	return nil
}

func tempIn(dir, what string) (string, error) {
	if err := mkdirPrivate(dir); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, what+"-")
}

func (b *building) close() {
	for _, release := range b.emulated {
		release()
	}
	for _, t := range b.trees {
		t.close()
	}
	for _, d := range []string{b.tmp, b.run} {
		if _, err := os.Lstat(d); err == nil {
			_ = removeAll(d) // the next build tries again
		}
	}
}

// emulate makes programs of an architecture run, for as long as the build lasts.
func (b *building) emulate(ctx context.Context, arch string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.emulated[arch] != nil || arch == "" {
		return nil
	}
	release, err := b.Runner.Emulate(ctx, arch)
	if err != nil {
		return err
	}
	if b.emulated == nil {
		b.emulated = map[string]func(){}
	}
	b.emulated[arch] = release
	return nil
}

// stages builds what is needed, and returns the target.
func (b *building) stages(ctx context.Context, f *containerfile.File) (*stage, error) {
	g, err := f.Graph(containerfile.GraphOptions{
		Args: b.o.Args, Target: b.o.Target, From: b.o.From, Platform: b.o.Platform, Build: b.self, Contexts: b.contextNames(),
	})
	if err != nil {
		return nil, err
	}
	b.graph = g
	if b.o.AllStages {
		g.Order = slices.Clone(g.Stages[:g.Target.Index+1])
	}
	group, gctx := errgroup.WithContext(ctx)
	for i, s := range g.Order {
		b.futures[s] = &future{done: make(chan struct{}), number: i + 1}
	}
	// No step waits for a slot while it waits for a stage, so all may wait at once.
	for _, s := range g.Order {
		f := b.futures[s]
		group.Go(func() error {
			defer close(f.done)
			f.result, f.err = b.stage(gctx, s, f.number)
			return f.err
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, b.firstError(err)
	}
	return b.futures[g.Target].result, nil
}

// firstError is the failure that caused the others: err is the first that was
// told of, unless that is of a stage which needs the one that failed.
func (b *building) firstError(err error) error {
	if !errors.Is(err, errNeeded) {
		return err
	}
	for _, s := range b.graph.Order {
		f := b.futures[s]
		if f.err != nil && !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, errNeeded) {
			return f.err
		}
	}
	return err
}

// A future is a stage that is being built.
type future struct {
	done   chan struct{}
	number int
	result *stage
	err    error
}

var errNeeded = errors.New("a stage that is needed failed")

// await waits for a stage.
func (b *building) await(ctx context.Context, s *containerfile.Stage) (*stage, error) {
	f := b.futures[s]
	if f == nil {
		return nil, fmt.Errorf("stage %s: a trigger of the base image needs it, and nothing else does", s.Title())
	}
	select {
	case <-f.done:
		if f.err != nil {
			return nil, errNeeded
		}
		return f.result, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// slot waits until a step may be done.
func (b *building) slot(ctx context.Context) (release func(), err error) {
	select {
	case b.slots <- struct{}{}:
		return func() { <-b.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// An imageFuture is an image that is being looked up.
type imageFuture struct {
	once sync.Once
	img  image.Image
	err  error
}

// image looks an image up, once for each name and platform.
func (b *building) image(ctx context.Context, name, platform string) (image.Image, error) {
	p := b.o.Platform
	if platform != "" {
		p = parsePlatform(platform)
	}
	name, err := b.o.Policy.imageSource(name)
	if err != nil {
		return image.Image{}, err
	}
	k := name + " " + p.String()
	b.mu.Lock()
	f := b.images[k]
	if f == nil {
		f = &imageFuture{}
		b.images[k] = f
	}
	b.mu.Unlock()
	f.once.Do(func() {
		if f.img, f.err = b.Pull(ctx, name, b.o.Pull, p); f.err == nil {
			f.err = b.Images.EnsureLayers(ctx, f.img)
			b.use(material{URI: imageURI(name, p), Digest: map[string]string{f.img.Manifest.Algorithm(): f.img.Manifest.Hex()}})
		}
	})
	return f.img, f.err
}

func parsePlatform(s string) oci.Platform {
	w := append(strings.SplitN(s, "/", 3), "", "")
	return oci.Platform{OS: w[0], Architecture: w[1], Variant: w[2]}
}
