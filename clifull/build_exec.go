package clifull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"hull/build"
	"hull/command"
	"hull/engine"
	"hull/front"
	"hull/image"
	"hull/oci"
	"hull/transfer"
)

// openEngine opens the engine over the stores of this session.
func (s *session) openEngine(ctx context.Context, place front.Place, r *buildRunFlags) (*engine.Engine, error) {
	o, err := s.engineOptions(place)
	if err != nil {
		return nil, err
	}
	// What containers.conf says is for containers, not for the steps of a build,
	// but for where the runtimes are that a build may ask for.
	o.Defaults, o.Runtime, o.RuntimeFlags = engine.Defaults{}, firstSet(r.ociRuntime, s.globals.Runtime), append(slices.Clone(s.globals.RuntimeFlags), r.runtimeFlags...)
	o.Hooks, o.CDIDirs, o.NoEvents = append(slices.Clone(s.globals.Hooks), r.hooks...), s.globals.CDIDirs, true
	return engine.Open(ctx, o)
}

// builder makes a builder over the engine's stores.
func (s *session) builder(ctx context.Context, f *buildFlags, show func(build.Event)) (*build.Builder, *transfer.Transfer, error) {
	place, err := s.globals.Begin(ctx, s.stdout)
	if err != nil {
		return nil, nil, err
	}
	s.stdout = place.Stdout
	e, err := s.openEngine(ctx, place, &f.runtime)
	if err != nil {
		return nil, nil, err
	}
	b := &build.Builder{Runner: e, Dir: filepath.Join(place.Root, "build"), RunDir: place.RunRoot, Show: show, Version: engine.Version()}
	if b.Blobs, err = e.Blobs(); err != nil {
		return nil, nil, err
	}
	if b.Images, err = e.Images(); err != nil {
		return nil, nil, err
	}
	if b.Snapshots, err = e.Snapshots(); err != nil {
		return nil, nil, err
	}
	t := &transfer.Transfer{Images: b.Images}
	b.Pull = func(ctx context.Context, name, policy string, p oci.Platform) (image.Image, error) {
		return s.pullBase(ctx, t, f, name, policy, p)
	}
	return b, t, nil
}

// pullBase gets an image that a build begins with. The registry client is made
// when it is needed first: most builds find their base here.
func (s *session) pullBase(ctx context.Context, t *transfer.Transfer, f *buildFlags, name, policy string, p oci.Platform) (image.Image, error) {
	if policy == "" || policy == "missing" || policy == "never" {
		img, err := t.Images.Find(ctx, name)
		if err == nil && fits(img, p) {
			return img, nil
		}
		if err != nil && !errors.Is(err, image.ErrNotFound) {
			return img, err
		}
		if policy == "never" {
			return img, fmt.Errorf("image %s: not in the store, and the pull policy is never: %w", name, image.ErrNotFound)
		}
	}
	if err := s.reach(t, f.registry); err != nil {
		return image.Image{}, err
	}
	pulled, err := t.Pull(ctx, name, transfer.PullOptions{Policy: policy, Platform: p, DecryptionKeys: f.decryptionKeys})
	if err != nil {
		return image.Image{}, err
	}
	if len(pulled) == 0 {
		return image.Image{}, fmt.Errorf("pull %s: nothing came", name)
	}
	return pulled[0].Image, nil
}

// reach makes the client of registries.
func (s *session) reach(t *transfer.Transfer, r registryFlags) error {
	if t.Registry != nil {
		return nil
	}
	c, err := s.client(r)
	if err != nil {
		return err
	}
	if t.Images.Search, err = c.SearchRegistries(); err != nil {
		return err
	}
	t.Registry = c
	return nil
}

// fits says whether an image is of a platform; what one leaves open fits all.
func fits(img image.Image, p oci.Platform) bool {
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return same(img.Config.OS, p.OS) && same(img.Config.Architecture, p.Architecture)
}

// cacheOptions opens the caches that a build asks and fills.
func (s *session) cacheOptions(ctx context.Context, b *buildFlags, o *build.Options) (err error) {
	if o.CacheFrom, err = s.caches(ctx, "cache-from", b.cacheFrom, b.registry); err != nil {
		return err
	}
	if o.CacheTo, err = s.caches(ctx, "cache-to", b.cacheTo, b.registry); err != nil {
		return err
	}
	o.InlineCache = slices.ContainsFunc(b.cacheTo, isInline) || o.Args["BUILDKIT_INLINE_CACHE"] == "1"
	delete(o.Args, "BUILDKIT_INLINE_CACHE") // BuildKit's older way to say it
	return nil
}

func (s *session) runBuild(ctx context.Context, b *buildFlags, args []string) error {
	o, err := b.options(args)
	if err != nil {
		return err
	}
	if b.check || b.call == "check" {
		return s.runCheck(ctx, o)
	}
	if b.call == "targets" {
		return s.runTargets(ctx, o)
	}
	// Who is interrupted takes away what he made: containers of steps, secrets.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	show, err := s.buildProgress(b)
	if err != nil {
		return err
	}
	defer show.close()
	bd, t, err := s.builder(ctx, b, show.event)
	if err != nil {
		return err
	}
	if err := s.cacheOptions(ctx, b, &o); err != nil {
		return err
	}
	out, err := b.outputs(&o, s.stdout)
	if err != nil {
		return err
	}
	if b.debugOnError {
		o.Debug = func(failed *build.RunError, shell func(engine.Streams) error) error {
			return s.debugShell(show, failed, shell)
		}
	}
	res, err := s.buildAll(ctx, bd, t, b, show, o)
	if ctx.Err() != nil && err != nil {
		return context.Canceled
	}
	if err != nil {
		show.failed(err)
		return buildError(err)
	}
	if o.NoImage {
		return out.close()
	}
	show.done(o, res)
	if err := s.saveOutputs(ctx, bd.Images, out.archives, res.Image, o); err != nil {
		return err
	}
	if err := b.writeFiles(res, o); err != nil {
		return err
	}
	if b.push {
		return s.pushBuilt(ctx, t, b, o)
	}
	return nil
}

// debugShell gives the terminal to a shell where a RUN failed.
func (s *session) debugShell(show *buildProgress, failed *build.RunError, shell func(engine.Streams) error) error {
	defer show.pause(failed)()
	fmt.Fprintf(s.stderr, "RUN failed with exit status %d. This is a shell in what it left; the build ends with it.\n", failed.Code)
	st := engine.Streams{Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr}
	if term.IsTerminal(int(s.stdin.Fd())) {
		st.Console = s.stdin
	}
	return shell(st)
}

// buildError gives a RUN that failed its program's exit status, and one whose
// program could not be executed the shell's.
func buildError(err error) error {
	var r *build.RunError
	if errors.As(err, &r) {
		return command.WithCode(r.Code, err)
	}
	if code := engine.ExitCode(err); code == command.CodeNotRunnable || code == command.CodeNotFound {
		return command.WithCode(code, err)
	}
	return err
}

func (s *session) pushBuilt(ctx context.Context, t *transfer.Transfer, b *buildFlags, o build.Options) error {
	if err := s.reach(t, b.registry); err != nil {
		return err
	}
	if len(o.Names) == 0 {
		return errors.New("--push needs a name: give one with --tag")
	}
	for _, n := range o.Names {
		if _, err := t.Push(ctx, n.String(), "", transfer.PushOptions{Sign: transfer.SignOptions{By: b.signBy}}); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes --iidfile and --metadata-file.
func (b *buildFlags) writeFiles(res build.Result, o build.Options) error {
	id := string(res.Image.ID)
	if b.rawIID {
		id = res.Image.ID.Hex()
	}
	if b.iidFile != "" {
		if err := os.WriteFile(b.iidFile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if b.metadataFile == "" {
		return nil
	}
	m, err := json.MarshalIndent(map[string]any{
		"containerimage.config.digest": res.Image.ID, "containerimage.digest": res.Image.Manifest, "image.name": joinNames(o.Names),
	}, "", "  ")
	if err == nil {
		err = os.WriteFile(b.metadataFile, append(m, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}

func joinNames(refs []oci.Reference) string {
	var names []string
	for _, r := range refs {
		names = append(names, r.String())
	}
	return strings.Join(names, ",")
}

// An outputs is where the result of a build goes besides the store.
type outputs struct {
	archives []archiveOutput
	closers  []io.Closer
}

type archiveOutput struct{ format, dest string }

func (o *outputs) close() error {
	var errs []error
	for _, c := range o.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
