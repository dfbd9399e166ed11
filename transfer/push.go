package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/containers/ocicrypt/config"
	"golang.org/x/sync/errgroup"

	"hull/image"
	"hull/oci"
	"hull/registry"
)

// PushOptions say how to push.
type PushOptions struct {
	// Format is oci, v2s2, or "" for what the image has.
	Format string
	// Compression is gzip, zstd, or "" for what the layers have; a layer that is
	// stored uncompressed is then compressed by gzip. Level 0 is the usual one.
	Compression image.Compression
	Level       int
	// Force compresses anew layers that are compressed in another way.
	Force bool
	// Compress compresses the layers of a dir: destination.
	Compress bool
	// Sign signs what was pushed.
	Sign SignOptions
	// EncryptionKeys are of those who can read the layers: jwe:FILE or
	// pkcs7:FILE. EncryptLayers are the indexes of the layers to encrypt, below 0
	// from the top; none is all.
	EncryptionKeys []string
	EncryptLayers  []int
}

// A Pushed says what is in the registry now.
type Pushed struct {
	Ref    oci.Reference
	Digest oci.Digest
	Size   int64 // of the manifest
}

// Push sends an image to dest, which may begin with a transport; "" is the name
// that the image was found by.
func (t *Transfer) Push(ctx context.Context, name, dest string, o PushOptions) (Pushed, error) {
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return Pushed{}, err
	}
	defer hold.Release()
	img, found, err := t.Images.ResolveAny(ctx, name)
	if err != nil {
		return Pushed{}, err
	}
	if dest == "" {
		if dest = found.String(); found.Path == "" {
			dest = name
		}
	}
	if img.List != nil {
		return t.pushList(ctx, img, dest, PushListOptions{PushOptions: o})
	}
	transport, rest := splitTransport(dest)
	if transport != "docker" && !o.Sign.none() {
		return Pushed{}, fmt.Errorf("push to %s: only what is in a registry can be signed", dest)
	}
	if transport != "docker" {
		d, err := t.pushArchive(ctx, transport, rest, img, o)
		return Pushed{Digest: d}, err
	}
	ref, repo, err := t.destination(ctx, rest)
	if err != nil {
		return Pushed{}, err
	}
	t.notify(Event{Kind: Signatures})
	p := &push{t: t, repo: repo, ref: ref, img: img, o: o}
	d, size, err := p.run(ctx)
	if err != nil {
		return Pushed{}, pushHint(fmt.Errorf("push to %s: %w", ref, err), ref)
	}
	return Pushed{ref, d, size}, nil
}

// destination is the repository that is pushed to, and the reference there.
func (t *Transfer) destination(ctx context.Context, name string) (oci.Reference, *registry.Repository, error) {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return ref, nil, err
	}
	if ref.Digest != "" {
		return ref, nil, fmt.Errorf("push to %s: the destination must not have a digest", ref)
	}
	ref = ref.Normalized().Tagged()
	repo, err := t.Registry.Destination(ctx, ref)
	if err != nil {
		return ref, nil, fmt.Errorf("push to %s: %w", ref, err)
	}
	return ref, repo, nil
}

// A push is one image on its way to one repository.
type push struct {
	t    *Transfer
	repo *registry.Repository
	ref  oci.Reference
	img  image.Image
	o    PushOptions

	// Of an image of a list:
	byDigest bool                 // it gets no tag
	from     *registry.Repository // has the blobs that the store has not; nil: the store has all
	sibling  string               // from's name when it is on the same registry

	mediaType string // of the manifest as it was sent
	readers   *config.EncryptConfig
}

func (p *push) run(ctx context.Context) (oci.Digest, int64, error) {
	m, data, err := p.t.Images.ReadManifest(p.img)
	if err != nil {
		return "", 0, err
	}
	docker, err := p.format(m)
	if err != nil {
		return "", 0, err
	}
	secret, err := p.secret(m, docker)
	if err != nil {
		return "", 0, err
	}
	layers := make([]oci.Descriptor, len(m.Layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.t.jobs())
	first := map[oci.Digest]int{}
	for i, l := range m.Layers {
		if _, again := first[l.Digest]; again {
			continue // the same blob twice: once is enough
		}
		first[l.Digest] = i
		g.Go(func() (err error) {
			if secret[i] {
				layers[i], err = p.encrypted(gctx, p.img.Layers[i], l)
				return err
			}
			layers[i], err = p.layer(gctx, p.img.Layers[i], l, docker, p.mountable(l.Digest))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", 0, err
	}
	for i, l := range m.Layers {
		layers[i] = layers[first[l.Digest]]
	}
	if err := p.blob(ctx, m.Config, p.stored(ctx, m.Config), nil, Config); err != nil {
		return "", 0, err
	}
	data, mediaType, err := rewrite(m, data, layers, docker)
	if err != nil {
		return "", 0, err
	}
	p.mediaType = mediaType
	tag := p.ref.Tag
	if p.byDigest {
		tag = ""
	}
	p.t.notify(Event{Kind: Manifest})
	if err := p.repo.PutManifest(ctx, tag, mediaType, data); err != nil {
		return "", 0, err
	}
	if err := p.t.sign(ctx, p.repo, p.ref, oci.FromBytes(data), p.o.Sign); err != nil {
		return "", 0, err
	}
	return oci.FromBytes(data), int64(len(data)), nil
}

// secret tells which layers are to be encrypted, each time they occur.
func (p *push) secret(m *oci.Manifest, docker bool) (map[int]bool, error) {
	if len(p.o.EncryptionKeys) == 0 {
		if len(p.o.EncryptLayers) > 0 {
			return nil, errors.New("--encrypt-layer can be used only with --encryption-key")
		}
		return nil, nil
	}
	if docker {
		return nil, errors.New("encrypted layers need the format oci")
	}
	var err error
	if p.readers, err = encryption(p.o.EncryptionKeys); err != nil {
		return nil, err
	}
	chosen := map[oci.Digest]bool{}
	for _, i := range p.o.EncryptLayers {
		if i < 0 {
			i += len(m.Layers)
		}
		if i < 0 || i >= len(m.Layers) {
			return nil, fmt.Errorf("encrypt layer %d: the image has %d", i, len(m.Layers))
		}
		chosen[m.Layers[i].Digest] = true
	}
	secret := map[int]bool{}
	for i, l := range m.Layers {
		secret[i] = len(chosen) == 0 || chosen[l.Digest]
	}
	return secret, nil
}

// encrypted sends one layer encrypted. What is stored uncompressed is
// compressed before: afterwards nothing can be.
func (p *push) encrypted(ctx context.Context, l image.Layer, d oci.Descriptor) (oci.Descriptor, error) {
	have, _ := image.LayerCompression(d.MediaType)
	want := have
	if have == image.Uncompressed || p.o.Force && p.o.Compression != "" {
		if want = p.o.Compression; want == image.Uncompressed {
			want = image.Gzip
		}
	}
	var r io.ReadCloser
	var err error
	if want == have {
		d.MediaType = mediaType(d.MediaType, have, false)
		r, err = p.stored(ctx, d)(0)
	} else {
		var f *os.File
		notes := d.Annotations
		if f, d, err = p.compress(ctx, l, want); err == nil {
			d.MediaType, d.Annotations = image.LayerType(want, false), addAnnotations(notes, d.Annotations)
			_, err = f.Seek(0, io.SeekStart)
			r = f
		}
	}
	if err != nil {
		return d, err
	}
	defer r.Close()
	f, made, err := encrypt(p.readers, d, r)
	if err != nil {
		return d, err
	}
	defer f.Close()
	content := func(offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, offset, made.Size-offset)), nil
	}
	return made, p.blob(ctx, made, content, nil, Blob)
}

// format decides whether the manifest is to be docker's schema 2. That has no
// layers of zstd.
func (p *push) format(m *oci.Manifest) (docker bool, err error) {
	switch p.o.Format {
	case "":
		return isDocker(m) && !isZstd(p.o.Compression) && len(p.o.EncryptionKeys) == 0, nil
	case "oci":
		return false, nil
	case "v2s2", "docker":
		if isZstd(p.o.Compression) {
			return false, errors.New("layers compressed by zstd need the format oci")
		}
		return true, nil
	}
	return false, fmt.Errorf("unknown format %q. Choose one of the supported formats: 'oci' or 'v2s2'", p.o.Format)
}

func isDocker(m *oci.Manifest) bool {
	return m.MediaType == oci.DockerManifest || m.MediaType == "" && m.Config.MediaType == oci.DockerConfig
}

// mountable lists the repositories of the same registry in which a blob was
// seen, by this store or by the list that the image is in.
func (p *push) mountable(d oci.Digest) []string {
	var from []string
	if p.sibling != "" && p.sibling != p.ref.Path {
		from = append(from, p.sibling)
	}
	for _, place := range p.t.Images.Places(d) {
		ref, err := oci.ParseReference(place)
		if err == nil && ref.Domain == p.ref.Domain && ref.Path != p.ref.Path && !slices.Contains(from, ref.Path) {
			from = append(from, ref.Path)
		}
	}
	return from[:min(len(from), 3)]
}

// layer sends one layer, compressed anew where that is wanted, and returns how
// the manifest is to call it.
func (p *push) layer(ctx context.Context, l image.Layer, d oci.Descriptor, docker bool, from []string) (oci.Descriptor, error) {
	have, _ := image.LayerCompression(d.MediaType)
	if have == image.Zstd && d.Annotations[chunkedChecksum] != "" && p.o.Compression == image.ZstdChunked {
		have = image.ZstdChunked
	}
	want := have
	switch {
	case have == image.Uncompressed:
		if want = p.o.Compression; want == image.Uncompressed {
			want = image.Gzip
		}
	case p.o.Force && p.o.Compression != "":
		want = p.o.Compression
	}
	if isZstd(have) && docker && !p.o.Force {
		want = image.Gzip
	}
	if want == have {
		err := p.blob(ctx, d, p.stored(ctx, d), from, Blob)
		d.MediaType = mediaType(d.MediaType, have, docker)
		return d, err
	}
	p.t.notify(Event{Kind: Blob, Blob: d.Digest, Size: d.Size})
	f, made, err := p.compress(ctx, l, want)
	if err != nil {
		return d, fmt.Errorf("compress layer %s: %w", d.Digest, err)
	}
	defer f.Close()
	made.MediaType = image.LayerType(want, docker)
	made.Annotations = addAnnotations(d.Annotations, made.Annotations)
	content := func(offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, offset, made.Size-offset)), nil
	}
	return made, p.blob(ctx, made, content, nil, Blob)
}

// open opens the tar of a layer. One that is read from a registry is brought
// here first, so that it is verified before a byte of it is used.
func (p *push) open(ctx context.Context, l image.Layer) (io.ReadCloser, error) {
	blobs := p.t.Images.Blobs()
	if _, err := blobs.Stat(l.Blob.Digest); errors.Is(err, fs.ErrNotExist) && p.from != nil {
		w, err := blobs.Writer(ctx, l.Blob.Digest, l.Blob.Size)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err == nil {
			defer w.Close()
			if err := p.t.Images.MarkGarbage(); err != nil { // no record will refer to it
				return nil, err
			}
			r, err := p.from.Blob(ctx, l.Blob, w.Offset())
			if err != nil {
				return nil, err
			}
			defer r.Close()
			if _, err := io.Copy(w, r); err != nil {
				return nil, err
			}
			if _, _, err := w.Commit(); err != nil {
				return nil, err
			}
		}
	}
	return p.t.Images.OpenLayer(ctx, l)
}

// stored is a blob of the store, or of the registry that the image is in.
func (p *push) stored(ctx context.Context, d oci.Descriptor) registry.Content {
	return func(offset int64) (io.ReadCloser, error) {
		f, err := p.t.Images.Blobs().Open(d.Digest)
		if errors.Is(err, fs.ErrNotExist) && p.from != nil {
			return p.from.Blob(ctx, d, offset)
		}
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

// blob sends a blob unless the registry has it, or can take it from another of
// its repositories.
func (p *push) blob(ctx context.Context, d oci.Descriptor, content registry.Content, from []string, kind Kind) error {
	p.t.notify(Event{Kind: kind, Blob: d.Digest, Size: d.Size})
	has, err := p.repo.Has(ctx, d.Digest)
	if err != nil {
		return err
	}
	if has {
		p.t.notify(Event{Kind: Exists, Blob: d.Digest, Size: d.Size, Text: "already exists"})
		return p.notePlace(d.Digest)
	}
	for _, name := range from {
		ok, err := p.repo.Mount(ctx, d.Digest, name)
		if err == nil && ok {
			p.t.notify(Event{Kind: Exists, Blob: d.Digest, Size: d.Size, Text: "mounted from " + name})
			return p.notePlace(d.Digest)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	err = p.repo.Upload(ctx, d, func(offset int64) (io.ReadCloser, error) {
		r, err := content(offset)
		if err != nil {
			return nil, err
		}
		return readCloser{&meter{t: p.t, r: r, blob: d.Digest, size: d.Size, n: offset}, r}, nil
	})
	if err != nil {
		return err
	}
	p.t.notify(Event{Kind: Done, Blob: d.Digest, Size: d.Size})
	return p.notePlace(d.Digest)
}

// notePlace remembers a blob of the store, not one that was made for this push.
func (p *push) notePlace(d oci.Digest) error {
	if _, err := p.t.Images.Blobs().Stat(d); err != nil {
		return nil
	}
	return p.t.Images.NotePlace(d, p.ref.Name())
}

type readCloser struct {
	io.Reader
	io.Closer
}

// rewrite returns the manifest with the layers and in the format: the same
// bytes when nothing is different.
func rewrite(m *oci.Manifest, data []byte, layers []oci.Descriptor, docker bool) ([]byte, string, error) {
	have := m.MediaType
	if have == "" {
		have = oci.MediaTypeManifest
		if isDocker(m) {
			have = oci.DockerManifest
		}
	}
	same := docker == isDocker(m)
	for i := range layers {
		same = same && layers[i].Digest == m.Layers[i].Digest && layers[i].MediaType == m.Layers[i].MediaType
	}
	if same {
		return data, have, nil
	}
	n := *m
	n.Layers, n.MediaType, n.Config.MediaType = layers, oci.MediaTypeManifest, oci.MediaTypeConfig
	if docker {
		n.MediaType, n.Config.MediaType = oci.DockerManifest, oci.DockerConfig
		n.Annotations, n.ArtifactType, n.Subject = nil, "", nil
	}
	data, err := json.Marshal(&n)
	if err != nil {
		return nil, "", fmt.Errorf("bug: encode manifest: %w", err)
	}
	return data, n.MediaType, nil
}
