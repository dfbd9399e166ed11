package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"hull/image"
	"hull/snapshot"
	"hull/state"
)

// Create makes a container without starting it, and returns its ID.
func (e *Engine) Create(ctx context.Context, o CreateOptions) (string, error) {
	r, l, err := e.create(ctx, o, false)
	if err != nil {
		return "", err
	}
	l.Release()
	return r.ID, nil
}

// create is Create; the container's lock is held when it returns. starting
// says that a start follows at once.
func (e *Engine) create(ctx context.Context, o CreateOptions, starting bool) (*record, *lock, error) {
	e.o.Defaults.settle(&o)
	return e.createOf(ctx, o, starting, func(r *record) error { return e.findImage(ctx, r) })
}

// createOf is create of what base fills into the record.
func (e *Engine) createOf(ctx context.Context, o CreateOptions, starting bool, base func(*record) error) (*record, *lock, error) {
	if err := errors.Join(o.validate(), e.checkParent(o.CgroupParent)); err != nil {
		return nil, nil, err
	}
	if err := e.checkNetworks(&o); err != nil {
		return nil, nil, err
	}
	if err := e.Recover(ctx); err != nil {
		e.warn("%v", err)
	}
	r := &record{Version: recordVersion, ID: newID(), Name: o.Name, Created: time.Now(), Options: o, ByRun: starting}
	r.Options.Env = resolveEnv(o)
	var err error
	if r.Runtime, err = e.findRuntime(e.o.Runtime); err != nil {
		return nil, nil, err
	}
	r.RuntimeFlags = e.o.RuntimeFlags
	if r.Runtime == "" && len(r.RuntimeFlags) > 0 {
		return nil, nil, hint(fmt.Errorf("runtime flag %q: hull's own runtime has none", r.RuntimeFlags[0]), "name another one with --runtime")
	}
	r.transient = o.AutoRemove || e.o.TransientStore
	r.dir = e.containerDir(r.ID)
	if r.transient {
		r.dir = e.containerRun(r.ID)
	}
	if o.Replace && o.Name != "" {
		if _, err := e.Remove(ctx, o.Name, RemoveOptions{Force: true, Volumes: true}); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, nil, fmt.Errorf("replace container %s: %w", o.Name, err)
		}
	}
	newPod, err := e.settlePod(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	made := false
	defer func() {
		if newPod && !made {
			e.removeNewPod(ctx, r.Pod)
		}
	}()
	if err := base(r); err != nil {
		return nil, nil, err
	}
	if _, err := commandLine(r); err != nil {
		return nil, nil, err
	}
	if _, ok := r.health(); !ok && r.Options.SdNotify == "healthy" {
		return nil, nil, errors.New(`sdnotify policy "healthy" requires a healthcheck to be set`)
	}
	if err := e.settleNames(ctx, r); err != nil {
		return nil, nil, err
	}
	if err := e.sealSecrets(ctx, r); err != nil {
		return nil, nil, err
	}
	l, err := e.lock(ctx, "container", r.ID)
	if err != nil {
		return nil, nil, err
	}
	if err := e.build(ctx, r); err != nil {
		// What was made is taken away again, whatever ctx says.
		if uerr := e.unbuild(context.WithoutCancel(ctx), r, true); uerr != nil {
			e.warn("undo the creation of container %s: %v", r.ID, uerr)
		}
		e.unlockGone(l, r.ID)
		return nil, nil, err
	}
	made = true
	e.event(ctx, "container", "create", r, nil)
	return r, l, nil
}

// build makes what a container is on the disk. Should this process be killed,
// the next command finds the lock's file with nobody holding it, and removes
// what there is: everything bears the container's ID. Volumes do not, so they
// are in a record marked incomplete before they are made.
func (e *Engine) build(ctx context.Context, r *record) error {
	if err := e.makeDirs(r); err != nil {
		return err
	}
	if err := e.claim(r); err != nil {
		return err
	}
	if err := e.settleLabels(r); err != nil {
		return err
	}
	if err := e.settleMounts(ctx, r); err != nil {
		return err
	}
	if err := e.settleIDs(ctx, r); err != nil {
		return err
	}
	if err := e.prepareRootfs(ctx, r); err != nil {
		return err
	}
	if err := e.settleUser(ctx, r); err != nil {
		return err
	}
	if err := e.settleSecrets(r); err != nil {
		return err
	}
	if !r.ByRun {
		// The spec is made once now, so that what is wrong is said at create.
		f, err := e.dryFacts(r)
		if err != nil {
			return err
		}
		if _, err := newSpec(r, f); err != nil {
			return err
		}
	}
	if r.Pod != "" && !e.podExists(r.Pod) {
		return podNotFound(r.Pod) // removed meanwhile
	}
	if err := e.saveRecord(r); err != nil {
		return err
	}
	if r.noted {
		_ = os.Remove(filepath.Join(r.dir, unfinishedFile)) // one that stays is for nobody
	}
	return nil
}

func (e *Engine) makeDirs(r *record) error {
	dirs := []string{e.containerRun(r.ID)}
	if !r.transient {
		dirs = []string{e.containerDir(r.ID)}
	}
	for _, d := range dirs {
		err := os.Mkdir(d, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			e.newBoot(filepath.Dir(d))
			err = os.MkdirAll(d, 0o700)
		}
		if err != nil {
			return fmt.Errorf("make container directory: %w", err)
		}
	}
	return nil
}

// claim reserves the name; one that nobody asked for is made up.
func (e *Engine) claim(r *record) error {
	if r.Name != "" {
		return e.claimName(r)
	}
	for i := range 32 {
		r.Name = randomName()
		if i > 8 {
			r.Name += "_" + newID()[:4]
		}
		err := e.claimName(r)
		if !errors.Is(err, ErrExists) {
			return err
		}
	}
	return fmt.Errorf("make up a name: %w", ErrExists)
}

// findImage fills in what the record says of its image.
func (e *Engine) findImage(ctx context.Context, r *record) error {
	o := &r.Options
	if o.Rootfs != "" {
		dir, err := filepath.Abs(o.Rootfs)
		if err == nil {
			var st os.FileInfo
			if st, err = os.Stat(dir); err == nil && !st.IsDir() {
				err = errors.New("not a directory")
			}
		}
		if err != nil {
			return fmt.Errorf("use rootfs %s: %w", o.Rootfs, err)
		}
		o.Rootfs = dir
		return nil
	}
	if r.bare() {
		return nil
	}
	if o.Image == "" {
		return errors.New("create container: no image was named")
	}
	img, err := e.image(ctx, PullRequest{Name: o.Image, Policy: o.Pull, Platform: o.Platform, Quiet: o.Quiet})
	if err != nil {
		return err
	}
	r.fromImage(img)
	if r.ImageName == "localhost/"+welcomeName+":latest" && len(o.Publish) > 0 && len(o.Command) == 0 && o.Entrypoint == nil {
		o.Command = []string{"serve"} // a port was asked for: the report as a page
	}
	return nil
}

func (r *record) fromImage(img image.Image) {
	r.ImageID = img.ID.Hex()
	r.ImageDigest = img.Manifest
	r.Image = img.Config.Config
	r.ImageName = r.Options.Image
	if !strings.HasPrefix(r.ImageID, strings.TrimPrefix(r.Options.Image, "sha256:")) && len(img.Names) > 0 {
		r.ImageName = img.Names[0].String()
		for _, n := range img.Names {
			if strings.HasSuffix(n.String(), r.Options.Image) || strings.HasSuffix(n.String(), r.Options.Image+":latest") {
				r.ImageName = n.String()
			}
		}
	}
	if n := len(img.Layers); n > 0 {
		r.Chain = img.Layers[n-1].Chain
	}
	if a := img.Config.Architecture; a != runtime.GOARCH {
		r.Arch = a
	}
}

// image resolves a name by the pull policy.
func (e *Engine) image(ctx context.Context, req PullRequest) (image.Image, error) {
	store, err := e.Images()
	if err != nil {
		return image.Image{}, err
	}
	pull := func() error {
		if e.o.Pull == nil {
			return fmt.Errorf("image %s: not in the store: %w", req.Name, ErrNotFound)
		}
		return e.o.Pull(ctx, req)
	}
	switch req.Policy {
	case "always", "newer":
		if err := pull(); err != nil && req.Policy == "always" {
			return image.Image{}, err
		}
	case "", "missing", "never":
	default:
		return image.Image{}, fmt.Errorf("pull policy %q is not one of always, missing, never, newer", req.Policy)
	}
	img, err := store.Find(ctx, req.Name)
	if err == nil && (req.Platform == "" || platformIs(img, req.Platform)) {
		return img, nil
	}
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		return image.Image{}, err
	}
	if req.Policy == "never" || req.Policy == "always" {
		return image.Image{}, hint(fmt.Errorf("image %s: not in the store: %w", req.Name, ErrNotFound), "hull pull %s", req.Name)
	}
	if err := pull(); err != nil {
		return image.Image{}, err
	}
	return store.Find(ctx, req.Name)
}

// platformIs compares os/arch[/variant]; a part that is left out fits all.
func platformIs(img image.Image, platform string) bool {
	f := strings.Split(platform, "/")
	have := []string{img.Config.OS, img.Config.Architecture, img.Config.Variant}
	for i, p := range f {
		if i < len(have) && p != "" && have[i] != p && !(i == 2 && have[2] == "") {
			return false
		}
	}
	return true
}

// settleNames turns names of other containers into IDs, and notes them as
// what this one depends on.
func (e *Engine) settleNames(ctx context.Context, r *record) error {
	o := &r.Options
	for _, mode := range []*string{&o.PidNS, &o.IpcNS, &o.UtsNS, &o.CgroupNS, &o.UserNS, &o.NetworkMode} {
		name, ok := strings.CutPrefix(*mode, "container:")
		if !ok {
			continue
		}
		id, err := e.Lookup(ctx, name)
		if err != nil {
			return fmt.Errorf("join %s: %w", *mode, err)
		}
		*mode = "container:" + id
		if !o.loose {
			r.Depends = append(r.Depends, id)
		}
	}
	for _, name := range o.Requires {
		id, err := e.Lookup(ctx, name)
		if err != nil {
			return fmt.Errorf("require %s: %w", name, err)
		}
		r.Depends = append(r.Depends, id)
	}
	slices.Sort(r.Depends)
	r.Depends = slices.Compact(r.Depends)
	return nil
}

// prepareRootfs makes the writable layer.
func (e *Engine) prepareRootfs(ctx context.Context, r *record) error {
	o := &r.Options
	if o.Rootfs != "" && !o.RootfsOverlay || r.bare() {
		return nil
	}
	if o.Rootfs != "" {
		return e.makeOverlay(r)
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	size, err := storageSize(o.StorageOpts)
	if err != nil {
		return err
	}
	prepare := func() error {
		base, err := e.baseLayer(ctx, r)
		if err == nil {
			r.made, err = snaps.Prepare(ctx, r.ID, base, snapshot.PrepareOptions{Volatile: r.transient, Size: size, Points: e.mountPoints(r)})
		}
		if err == nil {
			err = e.labelRoot(r)
		}
		return err
	}
	err = prepare()
	if errors.Is(err, fs.ErrNotExist) {
		// A layer is missing: it can be made again of the image's blobs.
		if err = e.restoreLayers(ctx, r.ImageID); err == nil {
			err = prepare()
		}
	}
	return err
}

func (e *Engine) restoreLayers(ctx context.Context, id string) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	img, err := store.Resolve(ctx, id)
	if err != nil {
		return err
	}
	return store.EnsureLayers(ctx, img)
}

// unbuild takes away what build made, in the opposite order; what is not
// there is no error. The name goes last: while it is taken, nobody can meet
// the leftovers under it. When something of it cannot be taken away the
// container is gone all the same, and the rest is the next command's, unless
// nothing has gone yet.
func (e *Engine) unbuild(ctx context.Context, r *record, anonymous bool) error {
	unhide, err := e.hide(r)
	if err != nil {
		return err
	}
	if gone, err := e.dropRoot(ctx, r); err != nil && !gone {
		unhide()
		return err
	} else if err != nil {
		return e.leaveContainer(r, err)
	}
	errs := []error{e.unpinMounts(ctx, r), e.releaseIDs(ctx, r)}
	if anonymous {
		for _, m := range r.Mounts {
			if m.Type == "volume" && m.Anonymous {
				errs = append(errs, e.removeAnonymous(ctx, m.Source, r.ID))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return e.leaveContainer(r, err)
	}
	errs = []error{e.releasePair(r)}
	if r.Name != "" {
		errs = append(errs, e.releaseName(r))
	}
	for _, dir := range []string{e.containerRun(r.ID), e.containerDir(r.ID)} {
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove container directory: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return e.leaveContainer(r, err)
	}
	if r.transient {
		return nil
	}
	return syncIfThere(filepath.Join(e.o.Root, "containers"))
}

// leaveContainer leaves a container that is gone, but for what err tells of, to
// the next command.
func (e *Engine) leaveContainer(r *record, err error) error {
	e.leave("container", r.ID)
	return hint(fmt.Errorf("remove container %s: %w", firstOf(r.Name, r.ID), err), "the container is gone; the next command removes what is left of it")
}

// dropRoot removes a container's root file system. gone says that it cannot be
// mounted any more.
func (e *Engine) dropRoot(ctx context.Context, r *record) (gone bool, err error) {
	if _, err := e.dropMount(r.ID, true); err != nil {
		return false, err
	}
	if r.Options.Rootfs != "" {
		return true, nil
	}
	snaps, err := e.Snapshots()
	if err == nil {
		err = snaps.Remove(ctx, r.ID)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return snaps != nil && !snaps.Has(r.ID), err
}

// syncIfThere waits until the disk has the names in dir, if there is one.
func syncIfThere(dir string) error {
	if err := state.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
