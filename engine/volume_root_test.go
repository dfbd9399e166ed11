package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCheckVolume(t *testing.T) {
	e := secretEngine(t)
	for _, test := range []struct {
		driver  string
		options map[string]string
		want    string // of the error; "" none
	}{
		{"local", nil, ""},
		{"local", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=2m,uid=5"}, ""},
		{"local", map[string]string{"type": "none", "device": "/srv", "o": "bind"}, ""},
		{"local", map[string]string{"type": "none", "device": "srv", "o": "bind"}, "absolute"},
		{"local", map[string]string{"type": "nfs"}, "needs a device"},
		{"local", map[string]string{"device": "/dev/sdx"}, "needs a type"},
		{"local", map[string]string{"o": "size=5m,inodes=10"}, ""},
		{"local", map[string]string{"o": "size=much"}, "no limit"},
		{"local", map[string]string{"o": "uid=x"}, "not a number"},
		{"local", map[string]string{"tpye": "tmpfs"}, "not known"},
		{"image", nil, "image=NAME"},
		{"elsewhere", nil, "driver"},
	} {
		err := e.checkVolume(context.Background(), &Volume{Driver: test.driver, Options: test.options})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("checkVolume(%s, %v) = %v, want %q", test.driver, test.options, err, test.want)
		}
	}
}

func rootVolumes(t *testing.T) (*Engine, *record) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts and owners need root")
	}
	e := secretEngine(t)
	image := t.TempDir()
	if err := os.MkdirAll(filepath.Join(image, "d"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(image, "d", "f"), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	os.Chown(filepath.Join(image, "d"), 5, 6)
	os.Chown(filepath.Join(image, "d", "f"), 5, 6)
	r := &record{ID: newID(), dir: t.TempDir(), Options: CreateOptions{Rootfs: image}}
	return e, r
}

// A new volume is filled from the image once, one filled by hand never.
func TestVOL03CopyUp(t *testing.T) {
	ctx := context.Background()
	e, r := rootVolumes(t)
	m := Mount{Type: "volume", Source: "v", Destination: "/d"}
	if _, err := e.ensureVolume(ctx, m, r); err != nil {
		t.Fatal(err)
	}
	// What a killed copy left is no obstacle.
	if err := os.MkdirAll(filepath.Join(e.volumeDir("v"), "_copy", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := e.mountVolume(ctx, "v", &m, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "f"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Uid != 5 || st.Gid != 6 {
			t.Errorf("volume's %q: %d:%d, %v, want 5:6", name, st.Uid, st.Gid, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.mountVolume(ctx, "v", &m, r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); err == nil {
		t.Error("the second use filled the volume again")
	}

	m.Source = "hand"
	if _, err := e.ensureVolume(ctx, m, r); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(e.volumeDir("hand"), "_data")
	if err := os.WriteFile(filepath.Join(data, "f"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.mountVolume(ctx, "hand", &m, r); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(data, "f")); string(b) != "mine" {
		t.Errorf("a volume filled by hand holds %q now", b)
	}
}

// What a driver mounts is there as long as somebody uses it.
func TestVolumeMounts(t *testing.T) {
	ctx := context.Background()
	e, r := rootVolumes(t)
	if _, err := e.VolumeCreate(ctx, VolumeCreateOptions{Name: "v", Options: map[string]string{"type": "tmpfs", "o": "size=1m"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.detachVolume("v") })
	m := Mount{Type: "volume", Source: "v", Destination: "/d"}
	dir, err := e.mountVolume(ctx, "v", &m, r)
	if err != nil {
		t.Fatal(err)
	}
	other := *r
	other.ID = newID()
	if _, err := e.mountVolume(ctx, "v", &m, &other); err != nil {
		t.Fatal(err)
	}
	if err := e.unmountVolume(ctx, "v", r); err != nil || !mounted(dir) {
		t.Errorf("after the first of two left: %v, mounted %v", err, mounted(dir))
	}
	if err := e.unmountVolume(ctx, "v", &other); err != nil || mounted(dir) {
		t.Errorf("after the last left: %v, mounted %v", err, mounted(dir))
	}
}

// VOL-02: a part of a volume is looked up inside it.
func TestVOL02SubPath(t *testing.T) {
	ctx := context.Background()
	e, r := rootVolumes(t)
	m := Mount{Type: "volume", Source: "v", Destination: "/nothing", SubPath: "out"}
	if _, err := e.ensureVolume(ctx, m, r); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(e.volumeDir("v"), "_data")
	if err := os.Symlink("/etc", filepath.Join(data, "out")); err != nil {
		t.Fatal(err)
	}
	if dir, err := e.mountVolume(ctx, "v", &m, r); err == nil {
		t.Errorf("a link out of the volume led to %s", dir)
	}
}

// VOL-02: a part that becomes a link after it was looked up is mounted as it was.
func TestVOL02SwappedPart(t *testing.T) {
	h := newHarness(t)
	if _, err := h.e.VolumeCreate(h.Context(), VolumeCreateOptions{Name: "v"}); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(h.e.volumeDir("v"), "_data")
	if err := os.MkdirAll(filepath.Join(data, "part"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "part", "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	theirs := filepath.Join(outside, "theirs")
	if err := errors.Join(os.WriteFile(theirs, nil, 0o644), os.Chown(theirs, 5, 6)); err != nil {
		t.Fatal(err)
	}
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() { // as another container would, which has the whole volume
		defer close(swapped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(filepath.Join(data, "part"), filepath.Join(data, "kept"))
			os.Symlink(outside, filepath.Join(data, "part"))
			time.Sleep(200 * time.Microsecond)
			os.Remove(filepath.Join(data, "part"))
			os.Rename(filepath.Join(data, "kept"), filepath.Join(data, "part"))
			time.Sleep(200 * time.Microsecond)
		}
	}()
	ran := 0
	for range 40 {
		o := h.options("ls", "/one", "/two")
		o.AutoRemove = true
		for _, at := range []string{"/one", "/two"} {
			o.Mounts = append(o.Mounts, Mount{Type: "volume", Source: "v", Destination: at, SubPath: "part", Options: []string{"U"}})
		}
		_, out, _, err := h.run(o)
		if err != nil {
			continue // it was a link when it was looked up
		}
		if ran++; out != "/one:\nmine\n\n/two:\nmine\n" {
			t.Fatalf("a part of a volume holds\n%s", out)
		}
	}
	close(stop)
	<-swapped
	var st unix.Stat_t
	if err := unix.Stat(theirs, &st); err != nil || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("a file outside the volume is %d:%d's, %v; it was 5:6's", st.Uid, st.Gid, err)
	}
	if ran == 0 {
		t.Error("not one start found the part")
	}
	if _, err := h.e.VolumeRemove(h.Context(), "v", false, nil); err != nil {
		t.Error(err)
	}
}

// A volume whose removal was killed where no file could say so is removed by
// the next command; files that nobody has said may go stay.
func TestF31RemovalWithoutMark(t *testing.T) {
	ctx := context.Background()
	e, r := rootVolumes(t)
	for _, name := range []string{"going", "lost"} {
		if _, err := e.ensureVolume(ctx, Mount{Type: "volume", Source: name, Destination: "/d"}, r); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(e.volumeDir(name), "_data", "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(e.volumeDir(name), "volume.json")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(e.volumeDir("going"), 0o700|goingMode); err != nil {
		t.Fatal(err)
	}
	if err := e.recoverVolumes(ctx); err != nil {
		t.Fatal(err)
	}
	if fileExists(e.volumeDir("going")) {
		t.Error("what was being removed is still there")
	}
	if !fileExists(filepath.Join(e.volumeDir("lost"), "_data", "f")) {
		t.Error("files without a record are gone")
	}
}
