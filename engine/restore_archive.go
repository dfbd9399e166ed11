package engine

import (
	"archive/tar"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"hull/criu"
	"hull/image"
	"hull/layer"
	"hull/oci"
)

// RestoreFrom makes a container of a checkpoint's archive, o.Import, or of an image, and lets its processes go on.
func (e *Engine) RestoreFrom(ctx context.Context, imageName string, o RestoreOptions) (RestoreResult, error) {
	what := firstOf(o.Import, imageName)
	res, err := e.restoreFrom(ctx, imageName, o)
	if err != nil {
		return res, fmt.Errorf("restore %s: %w", what, err)
	}
	return res, nil
}

func (e *Engine) restoreFrom(ctx context.Context, imageName string, o RestoreOptions) (RestoreResult, error) {
	if e.o.Rootless {
		return RestoreResult{}, hint(errors.New("only root can"), "run it as root")
	}
	if _, err := criu.Find(); err != nil {
		return RestoreResult{}, err
	}
	if err := e.prepareRoot(); err != nil {
		return RestoreResult{}, err
	}
	dir, err := os.MkdirTemp(e.o.Root, ".restore-")
	if err != nil {
		return RestoreResult{}, err
	}
	defer os.RemoveAll(dir)
	own, previous := filepath.Join(dir, "own"), filepath.Join(dir, "previous")
	if o.ImportPrevious != "" {
		if _, err := e.unpackCheckpoint(fileOpener(o.ImportPrevious), previous, o.Trust); err != nil {
			return RestoreResult{}, fmt.Errorf("%s: %w", o.ImportPrevious, err)
		}
	}
	open := fileOpener(o.Import)
	if o.Import == "" {
		if open, err = e.checkpointImage(ctx, imageName); err != nil {
			return RestoreResult{}, err
		}
	}
	ours, err := e.unpackCheckpoint(open, own, o.Trust)
	if err != nil {
		return RestoreResult{}, err
	}
	id, err := e.createRestored(ctx, dir, ours, o)
	if err != nil {
		return RestoreResult{}, err
	}
	if o.Name != "" || o.Pod != "" { // it is another, and the first may be there yet
		o.IgnoreStaticIP, o.IgnoreStaticMAC = true, true
	}
	res, err := e.Restore(ctx, id, o)
	if err != nil {
		_, rerr := e.Remove(context.WithoutCancel(ctx), id, RemoveOptions{Force: true, Volumes: true})
		return res, errors.Join(err, rerr)
	}
	return res, nil
}

// An opener opens an archive, as often as it is read.
type opener func() (io.ReadCloser, error)

func fileOpener(path string) opener { return func() (io.ReadCloser, error) { return os.Open(path) } }

// checkpointImage opens the archive that an image's one layer is.
func (e *Engine) checkpointImage(ctx context.Context, name string) (opener, error) {
	img, err := e.image(ctx, PullRequest{Name: name, Policy: "never"})
	if err != nil {
		return nil, err
	}
	if len(img.Layers) != 1 {
		return nil, fmt.Errorf("image %s is no checkpoint", name)
	}
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	return func() (io.ReadCloser, error) { return store.OpenLayer(ctx, img.Layers[0]) }, nil
}

// unpackCheckpoint writes an archive's files below dir, which is made, and says whether this store has made it. Nothing of one that it has
// not made is written unless it is trusted.
func (e *Engine) unpackCheckpoint(open opener, dir string, trust bool) (ours bool, err error) {
	key, err := e.checkpointKey()
	if err != nil {
		return false, err
	}
	read := func(into string) error {
		f, err := open()
		if err != nil {
			return err
		}
		defer f.Close()
		z, _, err := image.Decompress(e.codec(), f)
		if err != nil {
			return err
		}
		defer z.Close()
		ours, err = readCheckpoint(z, key, into)
		return err
	}
	if err := read(""); err != nil {
		return false, err
	}
	if !ours && !trust {
		return false, hint(errors.New("this store has not made the checkpoint, or it was changed: refused, since it says what runs, and as whom"),
			"if you trust whoever made it, use --trust-checkpoint")
	}
	for _, d := range []string{dir, filepath.Join(dir, archiveImages), filepath.Join(dir, archiveVolumes)} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return false, err
		}
	}
	was := ours
	if err := read(dir); err != nil {
		return false, err
	}
	if was != ours {
		return false, errors.New("the checkpoint was changed while it was read")
	}
	return ours, nil
}

// maxArchiveEntries bounds an archive: criu has a few files for each process.
const maxArchiveEntries = 1 << 20

// readCheckpoint reads an archive, which may come from anywhere, and writes its files below dir, unless that is "". ours says that its
// code is by key.
func readCheckpoint(r io.Reader, key []byte, dir string) (ours bool, err error) {
	mac := hmac.New(sha256.New, key)
	t := tar.NewReader(r)
	for range maxArchiveEntries {
		h, err := t.Next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read archive: %w", err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if name == archiveMAC {
			code, err := io.ReadAll(io.LimitReader(t, 2*sha256.Size+1))
			if err != nil {
				return false, fmt.Errorf("read archive: %w", err)
			}
			if _, err := t.Next(); err != io.EOF {
				return false, errors.New("read archive: there is more behind its code")
			}
			return hmac.Equal(code, []byte(hex.EncodeToString(mac.Sum(nil)))), nil
		}
		if !validEntry(name) || h.Typeflag != tar.TypeReg {
			return false, fmt.Errorf("read archive: entry %q has no place in a checkpoint", h.Name)
		}
		note(mac, name, h.Size)
		if err := readEntry(io.TeeReader(t, mac), name, dir); err != nil {
			return false, fmt.Errorf("read archive: %w", err)
		}
	}
	return false, errors.New("read archive: it has too many entries")
}

func readEntry(r io.Reader, name, dir string) error {
	if dir == "" {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	if name == networkStatusFile {
		name = archiveImages + name
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// validEntry accepts the files of an archive: none leads anywhere.
func validEntry(name string) bool {
	dir, base := path.Split(name)
	if path.Clean(name) != name || base == "" || base == ".." || len(base) > 255 || strings.ContainsAny(name, "\x00\n") {
		return false
	}
	switch dir {
	case "":
		return name == archiveConfig || name == archiveOptions || name == archiveDiff || name == networkStatusFile
	case archiveImages:
		return base != networkStatusFile && base != "parent"
	case archiveVolumes:
		volume, ok := strings.CutSuffix(base, ".tar")
		return ok && validVolume(volume)
	}
	return false
}

// createRestored makes the container of an unpacked archive.
func (e *Engine) createRestored(ctx context.Context, dir string, ours bool, o RestoreOptions) (string, error) {
	var ao archivedOptions
	data, err := os.ReadFile(filepath.Join(dir, "own", archiveOptions))
	if err == nil {
		err = json.Unmarshal(data, &ao)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("the archive has no options.json: it is of another engine's container")
	}
	if err != nil {
		return "", fmt.Errorf("read the container's options: %w", err)
	}
	if !ours {
		if err := harmless(&ao.Options); err != nil {
			return "", err
		}
	}
	c := ao.Options
	c.Pull = "never"
	c.Name, c.CIDFile, c.PidFile, c.ConmonPidFile = firstOf(o.Name, ao.Name), "", "", ""
	if c.Image, err = e.restoredImage(ctx, &ao); err != nil {
		return "", err
	}
	changeRestored(&c, &o)
	if !o.IgnoreVolumes {
		if err := e.restoreVolumes(ctx, filepath.Join(dir, "own"), ao.Volumes); err != nil {
			return "", err
		}
	}
	id, err := e.Create(ctx, c)
	if err != nil {
		return "", err
	}
	if err := e.fillRestored(ctx, id, dir, o); err != nil {
		_, rerr := e.Remove(context.WithoutCancel(ctx), id, RemoveOptions{Force: true, Volumes: true})
		return "", errors.Join(err, rerr)
	}
	return id, nil
}

// restoredImage is the image that the changes of the root file system are above, by its name if that means it still, else by its ID.
func (e *Engine) restoredImage(ctx context.Context, ao *archivedOptions) (string, error) {
	same := func(id oci.Digest) bool {
		return strings.TrimPrefix(string(id), "sha256:") == strings.TrimPrefix(ao.ImageID, "sha256:")
	}
	img, err := e.image(ctx, PullRequest{Name: ao.Image, Policy: "never"})
	if err == nil && same(img.ID) {
		return ao.Image, nil
	}
	if _, err := e.image(ctx, PullRequest{Name: ao.ImageID, Policy: "never"}); err == nil {
		return ao.ImageID, nil
	}
	// A name of the archive's is not pulled: nobody here has said it (CHK-02).
	return "", hint(fmt.Errorf("the container's image (%s, ID %s) is not in the store: %w", ao.Image, ao.ImageID, ErrNotFound), "pull or load it first")
}

// changeRestored puts what the user says now in the place of what the archive says.
func changeRestored(c *CreateOptions, o *RestoreOptions) {
	if o.Pod != "" {
		c.Pod, c.NetworkMode, c.Networks, c.Publish = o.Pod, "", nil, nil
	}
	if len(o.Publish) > 0 {
		c.Publish = o.Publish
	}
	networks := make([]NetworkAttach, len(c.Networks))
	copy(networks, c.Networks)
	if o.IgnoreStaticIP || o.Name != "" {
		c.IP, c.IP6 = "", ""
		for i := range networks {
			networks[i].IPs = nil
		}
	}
	if o.IgnoreStaticMAC || o.Name != "" {
		c.MAC = ""
		for i := range networks {
			networks[i].MAC = ""
		}
	}
	if len(networks) > 0 {
		c.Networks = networks
	}
}

// restoreVolumes makes the volumes of the archive; one that is here already is somebody's.
func (e *Engine) restoreVolumes(ctx context.Context, dir string, volumes []string) error {
	for _, v := range volumes {
		if !validVolume(v) {
			return fmt.Errorf("read archive: volume name %q", v)
		}
		if _, err := e.loadVolume(v); err == nil {
			return hint(fmt.Errorf("volume with name %s already exists: %w", v, ErrExists), "use --ignore-volumes to take it as it is")
		}
	}
	for _, v := range volumes {
		f, err := os.Open(filepath.Join(dir, archiveVolumes, v+".tar"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = e.VolumeCreate(ctx, VolumeCreateOptions{Name: v})
			if err == nil {
				err = e.VolumeImport(ctx, v, f)
			}
			f.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fillRestored gives the new container the archive's changes and processes.
func (e *Engine) fillRestored(ctx context.Context, id, dir string, o RestoreOptions) error {
	r, _, l, err := e.openLocked(ctx, id)
	if err != nil {
		return err
	}
	defer l.Release()
	own := filepath.Join(dir, "own")
	diff, err := os.Open(filepath.Join(own, archiveDiff))
	if err == nil && !o.IgnoreRootFS {
		err = e.applyDiff(ctx, r, diff)
	}
	diff.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore the root file system: %w", err)
	}
	if err := os.Rename(filepath.Join(own, archiveImages), checkpointDir(r)); err != nil {
		return err
	}
	if o.ImportPrevious == "" {
		return nil
	}
	if err := os.Rename(filepath.Join(dir, "previous", archiveImages), preCheckpointDir(r)); err != nil {
		return err
	}
	// criu finds the earlier dump by this link.
	return os.Symlink("../"+preCheckpointName, filepath.Join(checkpointDir(r), "parent"))
}

// applyDiff unpacks a layer above the container's, which nobody has mounted yet.
func (e *Engine) applyDiff(ctx context.Context, r *record, diff io.Reader) error {
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	if !snaps.Layered() {
		return hint(fmt.Errorf("the storage driver %s keeps no changes apart", snaps.Driver()), "use --ignore-rootfs, or a store with overlay")
	}
	upper, err := snaps.Upper(r.ID)
	if err != nil {
		return err
	}
	defer upper.Close()
	return layer.Apply(ctx, upper, diff, layer.ApplyOptions{Whiteouts: layer.Overlay})
}
