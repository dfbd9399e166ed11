package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hull/blob"
	"hull/image"
	"hull/oci"
	"hull/registry"
	"hull/trust"
)

// PullOptions say what to pull.
type PullOptions struct {
	// Policy is always (also ""), missing, never or newer.
	Policy string
	// Platform to take of an index; empty fields are this machine's.
	Platform oci.Platform
	// AllTags pulls each tag of the repository.
	AllTags bool
	// DecryptionKeys open encrypted layers: FILE[:PASSWORD].
	DecryptionKeys []string
}

// A Pulled is one image that a pull leads to.
type Pulled struct {
	Image  image.Image
	Ref    oci.Reference // under which it is known now
	Digest oci.Digest    // that the registry calls it by: the index's, if there is one
	Here   bool          // it was here already, nothing was pulled
}

// Pull gets an image by its name, which may begin with a transport.
func (t *Transfer) Pull(ctx context.Context, name string, o PullOptions) ([]Pulled, error) {
	if !slices.Contains([]string{"", "always", "missing", "never", "newer"}, o.Policy) {
		return nil, fmt.Errorf("pull policy %q is not one of always, missing, never, newer", o.Policy)
	}
	if rest, ok := strings.CutPrefix(name, storeTransport); ok {
		img, ref, err := t.Images.ResolveName(ctx, rest)
		if err != nil {
			return nil, err
		}
		return []Pulled{{Image: img, Ref: ref, Digest: img.Manifest, Here: true}}, nil
	}
	transport, rest := splitTransport(name)
	if transport != "docker" {
		return t.pullArchive(ctx, transport, rest, o)
	}
	ref, err := oci.ParseReference(rest)
	if err != nil {
		return nil, err
	}
	if o.AllTags {
		if ref.Tag != "" || ref.Digest != "" {
			return nil, fmt.Errorf("pull all tags of %s: the name has a tag or digest already", ref)
		}
		return t.pullAllTags(ctx, ref, o)
	}
	if p, ok, err := t.local(ctx, ref, o); ok || err != nil {
		return p, err
	}
	candidates, why, err := t.Registry.Resolve(ref)
	if err != nil {
		return nil, err
	}
	if why != "" {
		t.notify(Event{Kind: Trying, Text: why})
	}
	var errs []error
	for _, c := range candidates {
		t.notify(Event{Kind: Trying, Ref: c.Reference.String()})
		p, err := t.pullRef(ctx, c.Reference, o)
		if err == nil {
			if err := c.Record(); err != nil {
				t.notify(Event{Kind: Warning, Text: err.Error()})
			}
			return []Pulled{p}, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) > 0 && o.Policy == "newer" {
		if img, err := t.Images.Resolve(ctx, ref.String()); err == nil {
			return []Pulled{{Image: img, Ref: ref, Here: true}}, nil
		}
	}
	return nil, errors.Join(errs...)
}

// local answers from the store where the policy wants that.
func (t *Transfer) local(ctx context.Context, ref oci.Reference, o PullOptions) ([]Pulled, bool, error) {
	if o.Policy != "missing" && o.Policy != "never" {
		return nil, false, nil
	}
	img, err := t.Images.Resolve(ctx, ref.String())
	switch {
	case err == nil && matches(img.Config, o.Platform):
		return []Pulled{{Image: img, Ref: ref, Digest: img.Manifest, Here: true}}, true, nil
	case err == nil || errors.Is(err, image.ErrNotFound):
		if o.Policy == "never" {
			return nil, false, fmt.Errorf("pull %s: the policy is never: %w", ref, image.ErrNotFound)
		}
		return nil, false, nil
	}
	return nil, false, err
}

// matches reports that an image is of the platform, as far as that was named.
func matches(c oci.Image, p oci.Platform) bool {
	return (p.OS == "" || p.OS == c.OS) && (p.Architecture == "" || p.Architecture == c.Architecture) &&
		(p.Variant == "" || p.Variant == c.Variant)
}

func (t *Transfer) pullAllTags(ctx context.Context, ref oci.Reference, o PullOptions) ([]Pulled, error) {
	candidates, _, err := t.Registry.Resolve(ref)
	if err != nil {
		return nil, err
	}
	full := candidates[0].Reference
	full.Tag = ""
	sources, err := t.Registry.Sources(ctx, full)
	if err != nil {
		return nil, err
	}
	tags, err := sources[len(sources)-1].Tags(ctx)
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("pull all tags of %s: there are none: %w", full, registry.ErrNotFound)
	}
	var all []Pulled
	for _, tag := range tags {
		full.Tag = tag
		t.notify(Event{Kind: Trying, Ref: full.String()})
		p, err := t.pullRef(ctx, full, o)
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// pullRef pulls one full name from the first source that has it.
func (t *Transfer) pullRef(ctx context.Context, ref oci.Reference, o PullOptions) (Pulled, error) {
	rules, err := t.policy().Rules("docker", trust.NameScopes(ref.Normalized()))
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	sources, err := t.Registry.Sources(ctx, ref)
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	want := ref.Tag
	if ref.Digest != "" {
		want = string(ref.Digest)
	}
	p, err := firstSource(ctx, sources, func(repo *registry.Repository) (Pulled, error) {
		return t.pullFrom(ctx, repo, ref, want, rules, o)
	})
	if err != nil {
		return Pulled{}, pullHint(fmt.Errorf("pull %s: %w", ref, err), ref)
	}
	return p, nil
}

// firstSource is what get returns for the first source for which it succeeds;
// without a source it is an error.
func firstSource[T any](ctx context.Context, sources []*registry.Repository, get func(*registry.Repository) (T, error)) (none T, err error) {
	if len(sources) == 0 {
		return none, registry.ErrNotFound
	}
	var errs []error
	for _, repo := range sources {
		got, err := get(repo)
		if err == nil {
			return got, nil
		}
		if repo.Mirror() {
			err = fmt.Errorf("mirror %s: %w", repo.Host(), err)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return none, errors.Join(errs...)
}

// A trusted is a manifest as the rules of signatures accepted it.
type trusted struct {
	// top is what has the name; single is it, or the one of its list for the platform.
	top, single *registry.Manifest
	// manifest is single's content, with what was encrypted opened by open.
	manifest *oci.Manifest
	open     *decryptor
}

// trustedManifest reads what has the name in repo. Nothing else of it is read
// before its signatures were looked at.
func (t *Transfer) trustedManifest(ctx context.Context, repo *registry.Repository, ref oci.Reference, want string, rules trust.Rules, o PullOptions) (m trusted, err error) {
	if m.top, err = repo.Manifest(ctx, want); err != nil {
		return m, err
	}
	t.notify(Event{Kind: Signatures})
	if m.single, err = t.choose(ctx, repo, m.top, o.Platform); err != nil {
		return m, err
	}
	if err = t.verify(ctx, rules, repo, ref.Normalized(), m.top, m.single); err != nil {
		return m, err
	}
	if m.manifest, err = oci.DecodeManifest(m.single.Data); err != nil {
		return m, err
	}
	m.single, m.manifest, m.open, err = decrypt(m.single, m.manifest, o.DecryptionKeys)
	return m, err
}

func (t *Transfer) pullFrom(ctx context.Context, repo *registry.Repository, ref oci.Reference, want string, rules trust.Rules, o PullOptions) (Pulled, error) {
	if o.Policy == "newer" {
		if p, ok := t.current(ctx, repo, ref, want, o); ok {
			return p, nil
		}
	}
	m, err := t.trustedManifest(ctx, repo, ref, want, rules, o)
	if err != nil {
		return Pulled{}, err
	}
	if err := checkImage(m.manifest); err != nil {
		return Pulled{}, err
	}
	config, err := readConfig(ctx, repo, m.manifest.Config)
	if err != nil {
		return Pulled{}, err
	}
	img, err := t.fetch(ctx, repo, ref, m.top, m.single, config, m.open)
	if errors.Is(err, blob.ErrDigest) && ctx.Err() == nil {
		// What an earlier pull left may have been damaged by a power cut; it is
		// gone now. The same again from the registry is the registry's fault.
		img, err = t.fetch(ctx, repo, ref, m.top, m.single, config, m.open)
	}
	if err != nil {
		return Pulled{}, err
	}
	if !matches(img.Config, o.Platform) {
		t.notify(Event{Kind: Warning, Text: fmt.Sprintf("image platform (%s) does not match the expected platform (%s)",
			oci.Platform{OS: img.Config.OS, Architecture: img.Config.Architecture, Variant: img.Config.Variant}, complete(o.Platform))})
	}
	return Pulled{Image: img, Ref: named(ref), Digest: m.top.Digest}, nil
}

// current reports whether what the registry has under the name is here.
func (t *Transfer) current(ctx context.Context, repo *registry.Repository, ref oci.Reference, want string, o PullOptions) (Pulled, bool) {
	img, err := t.Images.Resolve(ctx, ref.String())
	if err != nil || !matches(img.Config, o.Platform) {
		return Pulled{}, false
	}
	d, err := repo.Head(ctx, want)
	if err != nil || !slices.Contains(img.ManifestDigests(), d) {
		return Pulled{}, false
	}
	return Pulled{Image: img, Ref: ref, Digest: d, Here: true}, true
}

// choose returns the manifest for the platform: top itself, or one of its list.
func (t *Transfer) choose(ctx context.Context, repo *registry.Repository, top *registry.Manifest, p oci.Platform) (*registry.Manifest, error) {
	m := top
	for depth := 0; ; depth++ {
		index, err := isIndex(m)
		if err != nil {
			return nil, err
		}
		if !index {
			return m, nil
		}
		if depth == maxNested {
			return nil, fmt.Errorf("read index %s: indexes are nested more than %d deep", top.Digest, maxNested)
		}
		x, err := oci.DecodeIndex(m.Data)
		if err != nil {
			return nil, err
		}
		d, err := image.ChoosePlatform(x.Manifests, complete(p))
		if err != nil {
			return nil, err
		}
		if m, err = repo.Manifest(ctx, string(d.Digest)); err != nil {
			return nil, err
		}
		if int64(len(m.Data)) != d.Size {
			return nil, fmt.Errorf("read manifest %s: %d bytes, the index says %d: %w", d.Digest, len(m.Data), d.Size, blob.ErrSize)
		}
	}
}

const maxNested = 3

// complete fills what was not asked for with this machine's.
func complete(p oci.Platform) oci.Platform {
	h := oci.HostPlatform()
	if p.Architecture == "" || p.Architecture == h.Architecture && p.Variant == "" {
		p.Architecture = h.Architecture
		if p.Variant == "" {
			p.Variant = h.Variant
		}
	}
	if p.OS == "" {
		p.OS = h.OS
	}
	return p
}

// named is what the image is called: a digest stands without a tag, which
// nobody has compared with it.
func named(ref oci.Reference) oci.Reference {
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return ref.Normalized()
}

// fetch brings layers and publishes the image.
func (t *Transfer) fetch(ctx context.Context, repo *registry.Repository, ref oci.Reference, top, single *registry.Manifest, config []byte, open *decryptor) (image.Image, error) {
	a, err := t.Images.Assemble(ctx, single.Data, config)
	if err != nil {
		return image.Image{}, err
	}
	defer a.Close()
	o := image.PublishOptions{Names: []oci.Reference{named(ref)}}
	if top != single && open == nil {
		o.Index = top.Digest
		if err := t.putIndex(ctx, top); err != nil {
			return image.Image{}, err
		}
	}
	if err := t.fetchLayers(ctx, repo, a, len(a.Config().RootFS.DiffIDs), open); err != nil {
		return image.Image{}, errors.Join(err, a.GiveUp(ctx, err))
	}
	t.notify(Event{Kind: Config, Blob: a.ID(), Size: int64(len(config))})
	t.notify(Event{Kind: Manifest})
	img, err := a.Finish(ctx, o)
	if err != nil {
		return image.Image{}, errors.Join(err, a.GiveUp(ctx, err))
	}
	t.notify(Event{Kind: Storing})
	for _, l := range img.Layers {
		if err := t.Images.NotePlace(l.Blob.Digest, ref.Normalized().Name()); err != nil {
			return image.Image{}, err
		}
	}
	return img, nil
}

// putIndex keeps the index; its digest may be of any algorithm.
func (t *Transfer) putIndex(ctx context.Context, m *registry.Manifest) error {
	w, err := t.Images.Blobs().Writer(ctx, m.Digest, int64(len(m.Data)))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(m.Data); err != nil {
		return err
	}
	_, _, err = w.Commit()
	return err
}

// fetchLayers brings the layers that are missing, several at once.
func (t *Transfer) fetchLayers(ctx context.Context, repo *registry.Repository, a *image.Assembly, n int, open *decryptor) error {
	missing := a.Missing()
	for i := range n {
		if !slices.Contains(missing, i) {
			d := a.Descriptor(i)
			t.notify(Event{Kind: Exists, Blob: d.Digest, Size: d.Size})
		}
	}
	// The largest first: the pull ends when the last layer is unpacked, and a
	// large one that begins last is unpacked alone.
	slices.SortStableFunc(missing, func(x, y int) int {
		return cmp.Compare(a.Descriptor(y).Size, a.Descriptor(x).Size)
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.jobs())
	for _, i := range missing {
		g.Go(func() error { return t.fetchLayer(ctx, repo, a, i, open) })
	}
	return g.Wait()
}

func (t *Transfer) fetchLayer(ctx context.Context, repo *registry.Repository, a *image.Assembly, i int, open *decryptor) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	d := a.Descriptor(i)
	t.notify(Event{Kind: Blob, Blob: d.Digest, Size: d.Size})
	k, err := a.Layer(ctx, i)
	if errors.Is(err, fs.ErrExist) {
		t.notify(Event{Kind: Exists, Blob: d.Digest, Size: d.Size})
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	if open != nil && open.layers[d.Digest].Digest != "" {
		// The cipher is read from its start.
		if err := k.Restart(); err != nil {
			return err
		}
		r, c, err := open.read(ctx, repo, d.Digest)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := k.Copy(ctx, &meter{t: t, r: r, blob: d.Digest, size: d.Size}); err != nil {
			return err
		}
		t.notify(Event{Kind: Done, Blob: d.Digest, Size: d.Size})
		return nil
	}
	r, err := repo.Blob(ctx, d, k.Offset())
	if err != nil {
		return err
	}
	defer r.Close()
	if err := k.Copy(ctx, &meter{t: t, r: r, blob: d.Digest, size: d.Size, n: k.Offset()}); err != nil {
		return err
	}
	t.notify(Event{Kind: Done, Blob: d.Digest, Size: d.Size})
	return nil
}
