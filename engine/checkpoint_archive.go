package engine

import (
	"archive/tar"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/image"
	"hull/oci"
	"hull/state"
)

// A checkpoint's archive has the names that podman's has, as far as both have the same to say; what Restore goes by is options.json. At its
// end is a code over all before it, by a key that the store keeps to itself: what others have made is not taken unless the user says so,
// since a checkpoint says what runs, down to the registers.
//
//	checkpoint/…       CRIU's images, hull.json
//	config.dump        about the container, for people and tools
//	network.status     the addresses that it had
//	options.json       what Restore makes it with
//	rootfs-diff.tar    the changes of its root file system, a layer
//	volumes/NAME.tar   its named volumes
//	hull.mac           the code
const (
	archiveImages  = checkpointName + "/"
	archiveConfig  = "config.dump"
	archiveOptions = "options.json"
	archiveDiff    = "rootfs-diff.tar"
	archiveVolumes = "volumes/"
	archiveMAC     = "hull.mac"
)

// archivedOptions are options.json.
type archivedOptions struct {
	Name    string
	Image   string // a name to pull by
	ImageID string
	Options CreateOptions
	Volumes []string
}

// configDump is config.dump: what checkpointctl shows.
type configDump struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	RootfsImage     string    `json:"rootfsImage,omitempty"`
	RootfsImageName string    `json:"rootfsImageName,omitempty"`
	OCIRuntime      string    `json:"runtime"`
	CreatedTime     time.Time `json:"createdTime"`
	CheckpointedAt  time.Time `json:"checkpointedTime"`
	Restored        bool      `json:"restored"`
}

// checkpointKey is the store's own, made when it is first needed.
func (e *Engine) checkpointKey() ([]byte, error) {
	const name = "checkpoint.key"
	key, err := state.ReadFile(filepath.Join(e.o.Root, name))
	if err == nil && len(key) == sha256.Size {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the key of checkpoints: %w", err)
	}
	key = make([]byte, sha256.Size)
	rand.Read(key)
	if err := state.WriteFile(e.o.Root, name, key, 0o600, true); err != nil {
		return nil, fmt.Errorf("write the key of checkpoints: %w", err)
	}
	return key, nil
}

// An archiver writes the entries and what the code is made of.
type archiver struct {
	t   *tar.Writer
	mac hash.Hash
}

// note feeds an entry's name and size; its bytes follow.
func note(mac hash.Hash, name string, size int64) {
	fmt.Fprintf(mac, "%d %s %d\n", len(name), name, size)
}

func (a *archiver) add(name string, size int64, r io.Reader) error {
	if err := a.t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, Typeflag: tar.TypeReg, ModTime: time.Now()}); err != nil {
		return err
	}
	note(a.mac, name, size)
	_, err := io.Copy(io.MultiWriter(a.t, a.mac), r)
	return err
}

func (a *archiver) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.add(name, int64(len(data)), strings.NewReader(string(data)))
}

// file adds a regular file; what is none is left out (criu's link to an earlier dump).
func (a *archiver) file(name, from string) error {
	fi, err := os.Lstat(from)
	if err != nil || !fi.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return a.add(name, fi.Size(), f)
}

// temp adds what write writes, whose size is not known before.
func (a *archiver) temp(dir, name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(dir, "archive-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	return a.file(name, f.Name())
}

var archiveCompressions = map[string]image.Compression{"": image.Zstd, "zstd": image.Zstd, "gzip": image.Gzip, "none": image.Uncompressed}

// exportCheckpoint writes the archive or image that o asks for of the dump in dir.
func (e *Engine) exportCheckpoint(ctx context.Context, r *record, dir string, o *CheckpointOptions) error {
	switch {
	case o.Export != "":
		if err := e.exportFile(ctx, r, dir, o); err != nil {
			return fmt.Errorf("export it: %w", err)
		}
	case o.CreateImage != "":
		if err := e.exportImage(ctx, r, dir, o); err != nil {
			return fmt.Errorf("make image of it: %w", err)
		}
	}
	return nil
}

// exportImage makes an image whose one layer is the archive.
func (e *Engine) exportImage(ctx context.Context, r *record, dir string, o *CheckpointOptions) error {
	name, err := image.ParseName(o.CreateImage)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(e.writeCheckpoint(ctx, r, dir, o, pw)) }()
	defer pr.Close()
	_, err = e.ImportImage(ctx, pr, image.ImportOptions{Names: []oci.Reference{name}, Message: "checkpoint of " + r.Name})
	return err
}

func (e *Engine) exportFile(ctx context.Context, r *record, dir string, o *CheckpointOptions) error {
	c, ok := archiveCompressions[o.Compress]
	if !ok {
		return fmt.Errorf("compression %q is not one of zstd, gzip, none", o.Compress)
	}
	f, err := os.CreateTemp(filepath.Dir(o.Export), ".checkpoint-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w, err := image.Compress(e.codec(), f, c, 0)
	if err != nil {
		return err
	}
	if err := e.writeCheckpoint(ctx, r, dir, o, w); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), o.Export)
}

// writeCheckpoint writes the archive of the dump in dir.
func (e *Engine) writeCheckpoint(ctx context.Context, r *record, dir string, o *CheckpointOptions, w io.Writer) error {
	key, err := e.checkpointKey()
	if err != nil {
		return err
	}
	a := &archiver{tar.NewWriter(w), hmac.New(sha256.New, key)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		name := archiveImages + d.Name()
		if d.Name() == networkStatusFile {
			name = networkStatusFile
		}
		if err := a.file(name, filepath.Join(dir, d.Name())); err != nil {
			return err
		}
	}
	ao := archivedOptions{Name: r.Name, Image: r.ImageName, ImageID: r.ImageID, Options: r.Options}
	if !o.IgnoreVolumes {
		ao.Volumes = r.namedVolumes()
	}
	cd := configDump{r.ID, r.Name, r.ImageID, r.ImageName, runtimeName(r), r.Created, time.Now(), false}
	if err := errors.Join(a.json(archiveConfig, cd), a.json(archiveOptions, ao)); err != nil {
		return err
	}
	if !o.IgnoreRootFS {
		snaps, err := e.Snapshots()
		if err == nil {
			err = a.temp(r.dir, archiveDiff, func(w io.Writer) error { return snaps.WriteDiff(ctx, r.ID, w) })
		}
		if err != nil {
			return err
		}
	}
	for _, v := range ao.Volumes {
		if err := a.temp(r.dir, archiveVolumes+v+".tar", func(w io.Writer) error { return e.VolumeExport(ctx, v, w) }); err != nil {
			return err
		}
	}
	code := hex.EncodeToString(a.mac.Sum(nil))
	if err := a.add(archiveMAC, int64(len(code)), strings.NewReader(code)); err != nil {
		return err
	}
	return a.t.Close()
}

// namedVolumes are the volumes that a restored container finds by their names: not those that nobody named, which are made with it.
func (r *record) namedVolumes() []string {
	var out []string
	for _, m := range r.Options.Mounts {
		if m.Type == "volume" && m.Source != "" && !slices.Contains(out, m.Source) {
			out = append(out, m.Source)
		}
	}
	return out
}
