package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/image"
)

// STO-07: what a container writes to the files that the engine made for it
// counts against its memory, and /dev/shm has a size.
func TestSTO07EngineFilesAreLimited(t *testing.T) {
	h := newHarness(t)
	run := filepath.Join(h.dir, "run")
	if err := errors.Join(os.MkdirAll(run, 0o700), unix.Mount("tmpfs", run, "tmpfs", 0, "size=1g")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(run, unix.MNT_DETACH) })
	const limit = 64 << 20
	for _, file := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/dev/shm/file"} {
		o := h.options("sh", "-c", "dd if=/dev/zero of="+file+" bs=1M count=200; stat -c %s "+file)
		o.Resources.Memory, o.Resources.MemorySwap, o.AutoRemove = limit, limit, true
		_, out, errs, err := h.run(o)
		n, nerr := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err := errors.Join(err, nerr); err != nil || n > limit {
			t.Errorf("%s: %d bytes, %v\n%s", file, n, err, errs)
		}
	}
	if out := h.output(h.options("sh", "-c", "dd if=/dev/zero of=/dev/shm/file bs=1M count=200; stat -c %s /dev/shm/file")); out != "65536000\n" {
		t.Errorf("/dev/shm took %q bytes, want 65536000", out)
	}
}

// What removes images and what uses them go on at once, each as a process of
// its own would: a container that could be made can be run, and in the end
// nothing is left.
func TestF55RemovalRacesUse(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx0:1")
	end := time.Now().Add(2 * time.Second)
	if os.Getenv("HULL_RACES") == "full" {
		end = time.Now().Add(time.Minute)
	}
	var wg sync.WaitGroup
	var ran, removed atomic.Int64
	for g := range 3 {
		name := fmt.Sprintf("fx%d:1", g%2)
		wg.Go(func() {
			own := *h
			own.e = h.open()
			for i := 0; time.Now().Before(end); i++ {
				if ok, err := own.imageExists(name); err != nil {
					t.Error(err)
				} else if !ok {
					own.importRootfs(name, fmt.Sprintf("LABEL i=%d", i%3))
				}
				code, out, errs, err := own.run(CreateOptions{Image: name, NetworkMode: "none", Command: []string{"echo", "here"}, AutoRemove: i%2 == 0})
				switch {
				case errors.Is(err, image.ErrNotFound), errors.Is(err, ErrNotFound):
				case err == nil && code == 137: // by a forced removal
				case err != nil || code != 0 || out != "here\n":
					t.Errorf("run: %d, %q, %q, %v", code, out, errs, err)
				default:
					ran.Add(1)
				}
			}
		})
	}
	for g := range 2 {
		wg.Go(func() {
			e := h.open()
			for i := 0; time.Now().Before(end); i++ {
				time.Sleep(20 * time.Millisecond) // some are used before they go
				var err error
				if (i+g)%2 == 0 {
					_, err = e.PruneImages(h.Context(), true, ImageListOptions{})
				} else {
					_, err = e.RemoveImage(h.Context(), fmt.Sprintf("fx%d:1", i%2), ImageRemoveOptions{Force: i%8 == 7})
				}
				var inUse *image.InUseError
				if err == nil {
					removed.Add(1)
				} else if !errors.As(err, &inUse) && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, ErrNotFound) {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d containers ran, %d removals", ran.Load(), removed.Load())
	if ran.Load() == 0 || removed.Load() == 0 {
		t.Error("nothing raced")
	}
	ids, err := h.e.containerIDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := h.e.Remove(h.Context(), id, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if _, err := h.e.PruneImages(h.Context(), true, ImageListOptions{}); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{"snapshots/l", "snapshots/a", "snapshots/t", "sha256", "partial"} {
		if left, _ := os.ReadDir(filepath.Join(h.dir, "root", dir)); len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
}

func (h *harness) imageExists(name string) (bool, error) {
	store, err := h.e.Images()
	if err != nil {
		return false, err
	}
	return store.Exists(h.Context(), name)
}

// Layers that are mounted outlive their image, until nobody reads them.
func TestMountedLayersStay(t *testing.T) {
	h := newHarness(t)
	ctx := h.Context()
	h.importRootfs("fx:1")
	m, err := h.e.MountImage(ctx, "fx:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(m.Path, unix.MNT_DETACH) })
	o := h.options("sleep", "1000")
	o.Mounts = []Mount{{Type: "image", Source: "fx:1", Destination: "/im"}}
	id := h.detached(o)
	if _, err := h.e.VolumeCreate(ctx, VolumeCreateOptions{Name: "iv", Driver: "image", Options: map[string]string{"image": "fx:1"}}); err != nil {
		t.Fatal(err)
	}
	volume, err := h.e.VolumeMount(ctx, "iv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.RemoveImage(ctx, "fx:1", ImageRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.PruneImages(ctx, true, ImageListOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{m.Path, volume} {
		if _, err := os.Stat(filepath.Join(dir, "etc/passwd")); err != nil {
			t.Errorf("under the mount: %v", err)
		}
	}
	if code, out := h.exec(id, "grep", "-c", "root:", "/im/etc/passwd"); code != 0 {
		t.Errorf("in the container: %d, %s", code, out)
	}
	layers := func() int {
		if _, err := h.e.PruneImages(ctx, true, ImageListOptions{}); err != nil {
			t.Fatal(err)
		}
		entries, _ := os.ReadDir(filepath.Join(h.dir, "root/snapshots/l"))
		return len(entries)
	}
	zero := uint(0)
	for _, end := range []func() error{
		func() error { _, err := h.e.UnmountImages(ctx, false); return err },
		func() error { _, err := h.e.VolumeUnmount(ctx, "iv"); return err },
		func() error { _, err := h.e.Remove(ctx, id, RemoveOptions{Force: true, Timeout: &zero}); return err },
	} {
		if layers() == 0 {
			t.Error("the layer is gone while it is used")
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if n := layers(); n > 0 {
		t.Errorf("%d layers are left", n)
	}
	if _, err := h.e.VolumeRemove(ctx, "iv", true, nil); err != nil {
		t.Error(err)
	}
}

// A container whose image a power cut damaged starts with the layer made again
// of its blob; without the blob the error says what to do.
func TestStartAfterPowerCut(t *testing.T) {
	h := newHarness(t)
	img := h.importRootfs("fx:1")
	create := func() string {
		id, err := h.e.Create(h.Context(), CreateOptions{Image: "fx:1", NetworkMode: "none", Command: []string{"grep", "-c", "root:", "/etc/passwd"}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	dir := filepath.Join(h.dir, "root/snapshots/l", img.TopLayer().Hex()[:16])
	cut := func() {
		if err := errors.Join(os.Truncate(filepath.Join(dir, "d/etc/passwd"), 0), os.Symlink("another-boot 1-1", filepath.Join(dir, "unsynced"))); err != nil {
			t.Fatal(err)
		}
		h.e = h.open() // as after the boot
	}
	id := create()
	cut()
	if err := h.e.Start(h.Context(), id); err != nil {
		t.Fatal(err)
	}
	h.eventually("the end", func() bool { return !h.status(id).running() })
	if code := h.status(id).ExitCode; code != 0 {
		t.Errorf("exit code %d: the layer is damaged", code)
	}
	id = create()
	cut()
	blobs, err := h.e.Blobs()
	if err != nil {
		t.Fatal(err)
	}
	if err := blobs.Remove(img.Layers[0].Blob.Digest); err != nil {
		t.Fatal(err)
	}
	err = h.e.Start(h.Context(), id)
	var hinted interface{ Hint() string }
	if err == nil || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "pull") {
		t.Errorf("start without the layer and its blob: %v, want a hint to pull", err)
	}
}

// A volume's size is kept to, or refused where it cannot be: no volume is left then.
func TestVolumeSize(t *testing.T) {
	h := newHarness(t)
	_, err := h.e.VolumeCreate(h.Context(), VolumeCreateOptions{Name: "v", Options: map[string]string{"o": "size=5m"}})
	if err == nil {
		v, err := h.e.VolumeInspect(h.Context(), "v")
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(filepath.Join(v.Mountpoint, "f"), make([]byte, 10<<20), 0o600)
		if !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("10 MB in a volume of 5: %v", err)
		}
		if _, err := h.e.VolumeRemove(h.Context(), "v", true, nil); err != nil {
			t.Error(err)
		}
		return
	}
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.Contains(err.Error(), "quota") {
		t.Errorf("create: %v, want a hint about quotas", err)
	}
	if _, err := os.Lstat(h.e.volumeDir("v")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the volume's directory: %v", err)
	}
}
