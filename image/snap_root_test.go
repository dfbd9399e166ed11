package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/blob"
	"hull/codec"
	"hull/oci"
	"hull/snapshot"
)

// newRootStore is a store with snapshots.
func newRootStore(t testing.TB, root, driver string) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers have owners: this test needs root")
	}
	b, err := blob.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := snapshot.Open(filepath.Join(root, "snapshots"), snapshot.Options{Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(root, b, snaps)
	if err != nil {
		t.Fatal(err)
	}
	s.Codec = codec.Codec{}
	return s
}

// pulled makes manifest, config and gzip blobs of layers, as a registry has them.
func pulled(t testing.TB, layers ...[]byte) (manifest, config []byte, blobs map[oci.Digest][]byte) {
	t.Helper()
	c := oci.Image{Architecture: "amd64", OS: "linux"}
	c.RootFS.Type = "layers"
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	blobs = map[oci.Digest][]byte{}
	for i, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, oci.FromBytes(l))
		var b bytes.Buffer
		z, err := Compress(codec.Codec{}, &b, []Compression{Gzip, Zstd}[i%2], 1)
		if err != nil {
			t.Fatal(err)
		}
		z.Write(l)
		z.Close()
		d := oci.FromBytes(b.Bytes())
		blobs[d] = b.Bytes()
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: LayerType([]Compression{Gzip, Zstd}[i%2], false), Digest: d, Size: int64(b.Len())})
	}
	config = mustJSON(t, c)
	m.Config = oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: oci.FromBytes(config), Size: int64(len(config))}
	return mustJSON(t, m), config, blobs
}

func threeLayers(t testing.TB) [][]byte {
	return [][]byte{
		tarOf(t, map[string]string{"a": strings.Repeat("a", 300<<10), "d/": "", "d/x": "x"}),
		tarOf(t, map[string]string{"b": "b", "d/.wh.x": ""}),
		tarOf(t, map[string]string{"c": "c"}),
	}
}

// Layers come in any order, cut and resumed, and are unpacked meanwhile.
func TestAssembly(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			if _, err := snapshot.Open(t.TempDir(), snapshot.Options{Driver: driver}); err != nil {
				t.Skip(err)
			}
			ctx := context.Background()
			s := newRootStore(t, t.TempDir(), driver)
			manifest, config, blobs := pulled(t, threeLayers(t)...)
			a, err := s.Assemble(ctx, manifest, config)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			missing := a.Missing()
			if len(missing) != 3 {
				t.Fatalf("missing = %v", missing)
			}
			if _, err := a.Finish(ctx, PublishOptions{}); err == nil {
				t.Error("finished without layers")
			}
			for i := len(missing) - 1; i >= 0; i-- {
				data := blobs[a.Descriptor(i).Digest]
				for cut := len(data) / 2; ; cut = len(data) {
					k, err := a.Layer(ctx, i)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := k.Write(data[k.Offset():cut]); err != nil {
						t.Fatal(err)
					}
					if cut == len(data) {
						if err := k.Commit(); err != nil {
							t.Fatal(err)
						}
						break
					}
					k.Close()
				}
			}
			img, err := a.Finish(ctx, PublishOptions{Names: []oci.Reference{ref(t, "localhost/p:1")}})
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, s, img)
			// A push sends the same bytes.
			for _, l := range img.Layers {
				if _, err := s.Blobs().Stat(l.Blob.Digest); err != nil {
					t.Error(err)
				}
			}
			// Layers that are lost are made again of the blobs.
			for i := len(img.Layers) - 1; i >= 0; i-- {
				if err := s.snaps.RemoveLayer(ctx, img.Layers[i].Chain); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.EnsureLayers(ctx, img); err != nil {
				t.Fatal(err)
			}
			checkTree(t, s, img)
			if _, err := s.Remove(ctx, "p:1", RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			if infos, err := s.snaps.List(); err != nil || len(infos) != 0 {
				t.Errorf("layers left: %v, %v", infos, err)
			}
		})
	}
}

// checkTree looks at the files of the image of threeLayers.
func checkTree(t *testing.T, s *Store, img Image) {
	t.Helper()
	tree, err := s.snaps.ViewTree(img.TopLayer())
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]bool{"a": true, "b": true, "c": true, "d": true, "d/x": false} {
		var st unix.Stat_t
		if err := unix.Fstatat(int(tree.Fd()), name, &st, 0); (err == nil) != want {
			t.Errorf("%s: %v, want there: %t", name, err, want)
		}
	}
}

// A layer that a power cut may have damaged is made again of its blob; when
// that is gone too, the error says how to get it.
func TestLayerOfAnotherBoot(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	s := newRootStore(t, root, "overlay")
	manifest, config, blobs := pulled(t, threeLayers(t)...)
	if err := bring(s, manifest, config, blobs, ref(t, "localhost/p:1")); err != nil {
		t.Fatal(err)
	}
	img, err := s.Resolve(ctx, "p:1")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "snapshots/l", img.TopLayer().Hex()[:16])
	cut := func() {
		if err := os.Truncate(filepath.Join(dir, "d/c"), 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("another-boot 1-1", filepath.Join(dir, "unsynced")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Readlink(filepath.Join(dir, "unsynced")); err == nil {
		t.Error("a published image has a layer that is not synced")
	}
	cut()
	if err := s.EnsureLayers(ctx, img); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "d/c")); err != nil || string(text) != "c" {
		t.Errorf("c = %q, %v", text, err)
	}
	checkTree(t, s, img)
	cut()
	if err := s.Blobs().Remove(img.Layers[2].Blob.Digest); err != nil {
		t.Fatal(err)
	}
	err = s.EnsureLayers(ctx, img)
	var h interface{ Hint() string }
	if !errors.Is(err, ErrDamaged) || !errors.As(err, &h) || h.Hint() == "" {
		t.Errorf("EnsureLayers without the blob = %v, want ErrDamaged with a hint", err)
	}
}

// REG-02: a layer that is not the config's, under its right blob digest.
func TestREG02WrongDiffID(t *testing.T) {
	ctx := context.Background()
	s := newRootStore(t, t.TempDir(), "overlay")
	manifest, config, blobs := pulled(t, threeLayers(t)...)
	config = bytes.Replace(config, []byte(oci.FromBytes(threeLayers(t)[1])), []byte(oci.FromBytes([]byte("other"))), 1)
	m, err := oci.DecodeManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	m.Config.Digest, m.Config.Size = oci.FromBytes(config), int64(len(config))
	a, err := s.Assemble(ctx, mustJSON(t, m), config)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range a.Missing() {
		k, err := a.Layer(ctx, i)
		if err != nil {
			break // the assembly has failed already
		}
		if err := k.Copy(ctx, bytes.NewReader(blobs[a.Descriptor(i).Digest])); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Finish(ctx, PublishOptions{}); !errors.Is(err, blob.ErrDigest) {
		t.Errorf("Finish = %v, want ErrDigest", err)
	}
	if err := a.Discard(ctx); err != nil {
		t.Error(err)
	}
	if infos, _ := s.snaps.List(); len(infos) != 0 {
		t.Errorf("layers left: %v", infos)
	}
}

// An image with the same layer twice, and two processes' worth of goroutines
// that bring, name, list and remove the same images.
func TestConcurrent(t *testing.T) {
	root := t.TempDir()
	l := threeLayers(t)
	manifest, config, blobs := pulled(t, l[0], l[2], l[0])
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			s := newRootStore(t, root, "overlay")
			for i := range 5 {
				name := oci.Reference{Domain: "localhost", Path: fmt.Sprintf("c%d", (g+i)%3), Tag: "1"}
				if err := bring(s, manifest, config, blobs, name); err != nil {
					t.Error(err)
				}
				if _, err := s.List(context.Background()); err != nil {
					t.Error(err)
				}
				if _, err := s.Remove(context.Background(), name.String(), RemoveOptions{}); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := newRootStore(t, root, "overlay")
	if _, err := s.Prune(context.Background(), PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if infos, err := s.snaps.List(); err != nil || len(infos) != 0 {
		t.Errorf("layers left: %v, %v", infos, err)
	}
	empty := true
	s.Blobs().Walk(func(oci.Digest, int64) error { empty = false; return nil })
	if !empty {
		t.Error("blobs left")
	}
}

// bring is a pull.
func bring(s *Store, manifest, config []byte, blobs map[oci.Digest][]byte, names ...oci.Reference) error {
	ctx := context.Background()
	a, err := s.Assemble(ctx, manifest, config)
	if err != nil {
		return err
	}
	defer a.Close()
	for _, i := range a.Missing() {
		k, err := a.Layer(ctx, i)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := k.Copy(ctx, bytes.NewReader(blobs[a.Descriptor(i).Digest][k.Offset():])); err != nil {
			return err
		}
	}
	_, err = a.Finish(ctx, PublishOptions{Names: names})
	return err
}

// TestCrash kills a process that brings and removes images, again and again:
// what is listed afterwards is whole, and a prune leaves nothing.
func TestCrash(t *testing.T) {
	if os.Getenv("IMAGE_TEST_ROOT") != "" {
		publishForever(t)
	}
	root := t.TempDir()
	s := newRootStore(t, root, "overlay")
	for i := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
		cmd.Env = append(os.Environ(), "IMAGE_TEST_ROOT="+root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(60+i*23) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		images, err := s.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, img := range images {
			if !s.complete(img) {
				t.Errorf("round %d: image %v is listed without its layers", i, img.Names)
			}
			for _, l := range img.Layers {
				if err := s.Blobs().Verify(context.Background(), l.Blob.Digest); err != nil {
					t.Errorf("round %d: %v", i, err)
				}
			}
		}
	}
	ctx := context.Background()
	if _, err := s.Prune(ctx, PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.snaps.Collect(ctx); err != nil {
		t.Error(err)
	}
	if infos, err := s.snaps.List(); err != nil || len(infos) != 0 {
		t.Errorf("layers left: %v, %v", infos, err)
	}
	s.Blobs().Walk(func(d oci.Digest, _ int64) error { t.Errorf("blob %s left", d); return nil })
}

func publishForever(t *testing.T) {
	s := newRootStore(t, os.Getenv("IMAGE_TEST_ROOT"), "overlay")
	l := threeLayers(t)
	m1, c1, b1 := pulled(t, l...)
	m2, c2, b2 := pulled(t, l[0], l[2])
	for {
		for _, x := range []struct {
			m, c []byte
			b    map[oci.Digest][]byte
			n    string
		}{{m1, c1, b1, "one"}, {m2, c2, b2, "two"}} {
			if err := bring(s, x.m, x.c, x.b, ref(t, "localhost/"+x.n+":1")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Remove(context.Background(), "one:1", RemoveOptions{}); err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
	}
}
