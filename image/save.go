package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"hull/oci"
	"hull/state"
)

// A SaveItem is one image to save and the names that the archive shall give it.
type SaveItem struct {
	Image Image
	Names []oci.Reference
}

// SaveOptions for Save and SaveDir.
type SaveOptions struct {
	// Format is one of the archives for Save, of the directories for SaveDir.
	Format string
	// Compress compresses layers that are stored uncompressed: the OCI
	// formats do so unless Uncompressed is set, docker-dir on request.
	Compress, Uncompressed bool
}

// Save writes images as one archive. Bytes do not depend on when.
func (s *Store) Save(ctx context.Context, w io.Writer, items []SaveItem, o SaveOptions) error {
	hold, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer hold.Release()
	t := &tarOutput{w: tar.NewWriter(w), seen: map[string]bool{}}
	switch o.Format {
	case DockerArchive, "":
		err = s.saveDocker(ctx, t, items)
	case OCIArchive:
		err = s.saveLayout(ctx, t, items, o)
	default:
		err = fmt.Errorf("save image: format %q is not an archive", o.Format)
	}
	if err != nil {
		return err
	}
	if err := t.w.Close(); err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	return nil
}

// SaveDir writes one image to a directory, which is made when it is not there.
func (s *Store) SaveDir(ctx context.Context, dir string, item SaveItem, o SaveOptions) error {
	hold, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer hold.Release()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	out := &dirOutput{dir}
	switch o.Format {
	case OCIDir:
		return s.saveLayout(ctx, out, []SaveItem{item}, o)
	case DockerDir:
		return s.saveDir(ctx, out, item, o)
	}
	return fmt.Errorf("save image: format %q is not a directory", o.Format)
}

// An output takes the files of a saved image.
type output interface {
	// add writes a file of size bytes; one that is there already stays.
	add(name string, size int64, r io.Reader) error
	// index returns the index.json that is there, nil if there is none.
	index() ([]byte, error)
}

func addBytes(out output, name string, data []byte) error {
	return out.add(name, int64(len(data)), &bytesReader{data})
}

type bytesReader struct{ b []byte }

func (r *bytesReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// tarOutput writes a tar.
type tarOutput struct {
	w    *tar.Writer
	seen map[string]bool
}

func (t *tarOutput) add(name string, size int64, r io.Reader) error {
	if t.seen[name] {
		return nil
	}
	t.seen[name] = true
	h := &tar.Header{Name: name, Mode: 0o444, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if size < 1<<33 {
		h.Format = tar.FormatUSTAR
	}
	if err := t.w.WriteHeader(h); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	n, err := io.CopyBuffer(onlyWriter{t.w}, r, make([]byte, 256<<10))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, not %d: %w", n, size, ErrMismatch)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

func (t *tarOutput) index() ([]byte, error) { return nil, nil }

// dirOutput writes to a directory.
type dirOutput struct{ dir string }

func (d *dirOutput) add(name string, size int64, r io.Reader) error {
	path := filepath.Join(d.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	f, err := state.NewDraft(path)
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	defer f.Close()
	n, err := io.CopyBuffer(onlyWriter{f}, r, make([]byte, 256<<10))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, not %d: %w", n, size, ErrMismatch)
	}
	if err == nil {
		err = f.Commit(0o644)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

func (d *dirOutput) index() ([]byte, error) {
	data, err := state.ReadFile(filepath.Join(d.dir, "index.json"))
	if errors.Is(err, state.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// saveDocker writes the format of docker save.
func (s *Store) saveDocker(ctx context.Context, out output, items []SaveItem) error {
	var list []dockerItem
	repositories := map[string]map[string]string{}
	for _, it := range items {
		config, err := s.ReadConfig(it.Image)
		if err != nil {
			return err
		}
		entry := dockerItem{Config: it.Image.ID.Hex() + ".json", RepoTags: []string{}, Layers: []string{}}
		for _, l := range it.Image.Layers {
			name := l.Diff.Hex() + ".tar"
			if err := s.addUncompressed(ctx, out, name, l); err != nil {
				return err
			}
			entry.Layers = append(entry.Layers, name)
		}
		if err := addBytes(out, entry.Config, config); err != nil {
			return err
		}
		for _, n := range it.Names {
			if n.Tag == "" {
				continue
			}
			entry.RepoTags = append(entry.RepoTags, n.Name()+":"+n.Tag)
			if top := len(it.Image.Layers); top > 0 {
				if repositories[n.Name()] == nil {
					repositories[n.Name()] = map[string]string{}
				}
				repositories[n.Name()][n.Tag] = it.Image.Layers[top-1].Diff.Hex()
			}
		}
		list = append(list, entry)
	}
	return addJSON(out, map[string]any{"manifest.json": list, "repositories": repositories}, "manifest.json", "repositories")
}

// addJSON adds the files of those names.
func addJSON(out output, files map[string]any, names ...string) error {
	for _, n := range names {
		data, err := json.Marshal(files[n])
		if err != nil {
			return fmt.Errorf("save %s: %w", n, err)
		}
		if err := addBytes(out, n, append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// addUncompressed adds a layer's tar, verified.
func (s *Store) addUncompressed(ctx context.Context, out output, name string, l Layer) error {
	r, err := s.OpenLayer(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	t := &hashReader{r: r, h: l.Diff.Hash()}
	if err := out.add(name, l.Size, t); err != nil {
		return err
	}
	if got := t.digest(l.Diff.Algorithm()); t.n > 0 && got != l.Diff {
		return fmt.Errorf("save layer %s: it is %s: %w", l.Diff, got, ErrDamaged)
	}
	return nil
}

// OpenLayer opens the uncompressed tar of a layer.
func (s *Store) OpenLayer(ctx context.Context, l Layer) (io.ReadCloser, error) {
	f, err := s.blobs.Open(l.Blob.Digest)
	if err != nil {
		return nil, err
	}
	z, _, err := Decompress(s.Codec, contextReader{ctx, f})
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{z, closers{z, f}}, nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, x := range c {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// saveLayout writes an OCI layout. An image that came as one, with compressed
// layers, keeps its digest.
func (s *Store) saveLayout(ctx context.Context, out output, items []SaveItem, o SaveOptions) error {
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	if old, err := out.index(); err != nil {
		return err
	} else if old != nil {
		was, err := oci.DecodeIndex(old)
		if err != nil {
			return err
		}
		x = *was
	}
	for _, it := range items {
		manifest, err := s.saveContent(ctx, out, it.Image, blobName, false, !o.Uncompressed)
		if err != nil {
			return err
		}
		d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(manifest), Size: int64(len(manifest))}
		if err := addBytes(out, blobName(d.Digest), manifest); err != nil {
			return err
		}
		x.Manifests = addToIndex(x.Manifests, d, it.Names)
	}
	if err := addBytes(out, "oci-layout", []byte(layoutVersion)); err != nil {
		return err
	}
	return addJSON(out, map[string]any{"index.json": x}, "index.json")
}

// addToIndex lists the image once for each name, in place of what had the name.
func addToIndex(list []oci.Descriptor, d oci.Descriptor, names []oci.Reference) []oci.Descriptor {
	if len(names) == 0 {
		return append(list, d)
	}
	for _, n := range names {
		e := d
		e.Annotations = map[string]string{oci.AnnotationRefName: n.String()}
		kept := list[:0:0]
		for _, old := range list {
			if old.Annotations[oci.AnnotationRefName] != n.String() {
				kept = append(kept, old)
			}
		}
		list = append(kept, e)
	}
	return list
}

// saveDir writes the dir format.
func (s *Store) saveDir(ctx context.Context, out output, item SaveItem, o SaveOptions) error {
	manifest, err := s.saveContent(ctx, out, item.Image, dirBlobName, true, o.Compress)
	if err != nil {
		return err
	}
	if err := addBytes(out, "version", []byte("Directory Transport Version: 1.1\n")); err != nil {
		return err
	}
	return addBytes(out, "manifest.json", manifest)
}

// saveContent adds config and layers and returns the manifest, of the kind
// that is wanted.
func (s *Store) saveContent(ctx context.Context, out output, img Image, name func(oci.Digest) string, docker, compress bool) ([]byte, error) {
	m, data, err := s.ReadManifest(img)
	if err != nil {
		return nil, err
	}
	config, err := s.ReadConfig(img)
	if err != nil {
		return nil, err
	}
	if err := addBytes(out, name(m.Config.Digest), config); err != nil {
		return nil, err
	}
	same := (m.MediaType == oci.DockerManifest) == docker
	layers := make([]Layer, len(img.Layers))
	for i, l := range img.Layers {
		if layers[i], err = s.saveLayer(ctx, out, l, name, compress); err != nil {
			return nil, err
		}
		same = same && layers[i].Blob.Digest == l.Blob.Digest
	}
	if same {
		return data, nil
	}
	return newManifest(config, layers, CreateOptions{Docker: docker, Annotations: m.Annotations})
}

// saveLayer adds a layer's blob as it is, or compressed.
func (s *Store) saveLayer(ctx context.Context, out output, l Layer, name func(oci.Digest) string, compress bool) (Layer, error) {
	if c, _ := LayerCompression(l.Blob.MediaType); c != Uncompressed || !compress {
		f, err := s.blobs.Open(l.Blob.Digest)
		if err != nil {
			return l, err
		}
		defer f.Close()
		return l, out.add(name(l.Blob.Digest), l.Blob.Size, contextReader{ctx, f})
	}
	r, err := s.OpenLayer(ctx, l)
	if err != nil {
		return l, err
	}
	defer r.Close()
	f, err := s.tempFile()
	if err != nil {
		return l, err
	}
	defer f.Close()
	h := oci.Digest("sha256:").Hash()
	z, err := Compress(s.Codec, io.MultiWriter(f, h), Gzip, 0)
	if err != nil {
		return l, err
	}
	if _, err := io.Copy(z, r); err != nil {
		return l, fmt.Errorf("compress layer %s: %w", l.Diff, err)
	}
	if err := z.Close(); err != nil {
		return l, fmt.Errorf("compress layer %s: %w", l.Diff, err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return l, fmt.Errorf("compress layer %s: %w", l.Diff, err)
	}
	l.Blob = oci.Descriptor{MediaType: LayerType(Gzip, false), Digest: oci.NewDigest(h.Sum(nil)), Size: size}
	return l, out.add(name(l.Blob.Digest), size, io.NewSectionReader(f, 0, size))
}
