package engine

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// F21, F25: a record that is empty, zeros, torn, or of a newer version is one
// damaged object: lists show the others, and the object can be removed.
func TestF25DamagedRecords(t *testing.T) {
	h := newHarness(t)
	ctx := h.Context()
	good, err := h.e.Create(ctx, h.options("true"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.SecretCreate(ctx, SecretCreateOptions{Name: "good", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.VolumeCreate(ctx, VolumeCreateOptions{Name: "good"}); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"empty": {}, "zeros": make([]byte, 512), "torn": []byte(`{"Version":1,"ID":"`), "newer": []byte(`{"Version":99}`)} {
		bad, err := h.e.Create(ctx, h.options("true"))
		if err != nil {
			t.Fatal(err)
		}
		secret, err := h.e.SecretCreate(ctx, SecretCreateOptions{Name: "bad", Data: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		record, secretFile := filepath.Join(h.e.containerDir(bad), "record.json"), filepath.Join(h.e.secretsDir(), secret+".json")
		for _, f := range []string{record, secretFile} {
			if err := os.WriteFile(f, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		list, err := h.e.List(ctx, ListOptions{All: true})
		if err != nil || len(list) != 1 || list[0].ID != good {
			t.Errorf("%s: list = %d containers, %v; want the good one", name, len(list), err)
		}
		if x, err := h.e.loadSecret("good"); err != nil || x.Spec.Name != "good" {
			t.Errorf("%s: the other secret: %v", name, err)
		}
		found, err := h.e.Check(ctx, false, true)
		if err != nil || !slices.ContainsFunc(found, func(p Problem) bool { return p.Subject == "container "+bad }) {
			t.Errorf("%s: check = %v, %v; want the container named", name, found, err)
		}
		if _, err := h.e.Remove(ctx, bad, RemoveOptions{Force: true}); err != nil {
			t.Errorf("%s: remove: %v", name, err)
		}
		os.Remove(secretFile)
		if err := os.WriteFile(filepath.Join(h.e.volumeDir("good"), "volume.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.e.VolumeList(ctx, nil); err != nil {
			t.Errorf("%s: list of volumes: %v", name, err)
		}
	}
	if _, err := h.e.Remove(ctx, good, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	os.RemoveAll(h.e.volumeDir("good"))
}

// F26: a layer whose directory is gone is found, and made again of its blob.
func TestF26LayerDirectoryGone(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1")
	entries, err := os.ReadDir(filepath.Join(h.dir, "root/snapshots/l"))
	if err != nil || len(entries) == 0 {
		t.Fatalf("no layers: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "root/snapshots/l", entries[0].Name())); err != nil {
		t.Fatal(err)
	}
	found, err := h.e.Check(h.Context(), true, true)
	if err != nil || len(found) == 0 || !found[0].Repaired {
		t.Errorf("check --repair = %+v, %v; want it repaired", found, err)
	}
	if out := h.output(CreateOptions{Image: "fx:1", NetworkMode: "none", Command: []string{"echo", "here"}}); out != "here\n" {
		t.Errorf("run = %q", out)
	}
}

// F27: of a container whose snapshot, or whose directory, is gone, the rest can
// be removed and the name is free.
func TestF27OneSideGone(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1")
	for _, gone := range []func(id string) string{
		func(id string) string { return filepath.Join(h.dir, "root/snapshots/a", id) },
		func(id string) string { return h.e.containerDir(id) },
	} {
		o := CreateOptions{Image: "fx:1", NetworkMode: "none", Name: "one", Command: []string{"true"}}
		id, err := h.e.Create(h.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(gone(id)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.e.Check(h.Context(), true, true); err != nil {
			t.Error(err)
		}
		if found, err := h.e.Check(h.Context(), false, true); err != nil || len(found) > 0 {
			t.Errorf("check after its repair = %v, %v", found, err)
		}
		again, err := h.e.Create(h.Context(), o)
		if err != nil {
			t.Fatalf("the name is not free: %v", err)
		}
		if _, err := h.e.Remove(h.Context(), again, RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// F51: another process has the mounts of a container in a namespace of its own.
func TestF51RootHeldElsewhere(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1")
	id := h.detached(CreateOptions{Image: "fx:1", NetworkMode: "none", Command: []string{"sleep", "1000"}})
	if _, err := h.e.MountContainer(h.Context(), id); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "-m", "sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	h.eventually("the holder has its namespace", func() bool {
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(holder.Process.Pid) + "/comm")
		return bytes.Equal(comm, []byte("sleep\n"))
	})
	zero := uint(0)
	if _, err := h.e.Remove(h.Context(), id, RemoveOptions{Force: true, Timeout: &zero}); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// F53: a directory of the host that is mounted inside a volume is not emptied
// with it.
func TestF53MountInsideVolume(t *testing.T) {
	h := newHarness(t)
	if _, err := h.e.VolumeCreate(h.Context(), VolumeCreateOptions{Name: "v"}); err != nil {
		t.Fatal(err)
	}
	host := filepath.Join(h.dir, "host")
	at := filepath.Join(h.e.volumeDir("v"), "_data", "at")
	for _, d := range []string{host, at} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	canary := filepath.Join(host, "canary")
	if err := os.WriteFile(canary, []byte("sings"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(host, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	_, err := h.e.VolumeRemove(h.Context(), "v", false, nil)
	t.Logf("remove: %v", err)
	if text, err := os.ReadFile(canary); err != nil || string(text) != "sings" {
		t.Errorf("the host's file: %q, %v", text, err)
	}
	unix.Unmount(at, unix.MNT_DETACH)
	if _, err := h.e.VolumeCreate(h.Context(), VolumeCreateOptions{Name: "v", Ignore: true}); err != nil {
		t.Errorf("the name afterwards: %v", err)
	}
	if _, err := h.e.VolumeRemove(h.Context(), "v", false, nil); err != nil {
		t.Error(err)
	}
}
