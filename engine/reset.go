package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/inroot"
	"hull/state"
)

// storeEntries are what the engine keeps below its root. Reset removes these
// and nothing else: a root that was named by mistake keeps its other files.
// Each says whether what lies in it may be the store's, so that a home directory
// with a directory "images" is not taken for one.
var storeEntries = []struct {
	name string
	ours func(path string, d fs.DirEntry) bool
}{
	{"build", oneOf("caches", "sums", "tmp")},
	{"cache", oneOf("seccomp", "users")},
	{"categories", isLinkEntry},
	{"containers", func(_ string, d fs.DirEntry) bool { return isHex(d.Name()) && len(d.Name()) == 64 }},
	{"container-names", isLinkEntry},
	{"debug", func(_ string, d fs.DirEntry) bool { return d.IsDir() && strings.Trim(d.Name(), "0123456789.") == "" }},
	{"id-ranges", isLinkEntry},
	{"images", oneOf("boots", "garbage", "hold", "locks", "names", "places", "records", "steps")},
	{"networks", isJSONEntry},
	{"partial", func(_ string, d fs.DirEntry) bool { return d.Type().IsRegular() }},
	{"pods", isJSONEntry},
	{"secrets", func(path string, d fs.DirEntry) bool {
		return isJSONEntry(path, d) || d.Name() == secretKeyFile || d.Name() == secretKeySealed
	}},
	{"sha256", func(_ string, d fs.DirEntry) bool { return len(d.Name()) >= 64 && isHex(d.Name()[:64]) }},
	{"snapshots", oneOf("a", "d", "driver", "l", "lock", "t")},
	{"volumes", func(path string, d fs.DirEntry) bool {
		// One that is being made or removed may have either or neither.
		entries, err := os.ReadDir(filepath.Join(path, d.Name()))
		return err == nil && d.IsDir() && !slices.ContainsFunc(entries, func(d fs.DirEntry) bool {
			return !slices.Contains([]string{"_data", "_copy", "volume.json"}, d.Name()) && !state.IsTemp(d.Name())
		})
	}},
}

func oneOf(names ...string) func(string, fs.DirEntry) bool {
	return func(_ string, d fs.DirEntry) bool { return slices.Contains(names, d.Name()) }
}

func isLinkEntry(_ string, d fs.DirEntry) bool { return d.Type() == fs.ModeSymlink }

func isJSONEntry(_ string, d fs.DirEntry) bool {
	return d.Type().IsRegular() && strings.HasSuffix(d.Name(), ".json")
}

// strangers lists what lies where the store has its things and is none of them.
func (e *Engine) strangers() ([]string, error) {
	var found []string
	for _, entry := range storeEntries {
		dir := filepath.Join(e.o.Root, entry.name)
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
			if err == nil {
				found = append(found, dir) // a file, or a link that leads elsewhere
			}
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("reset store: %w", err)
		}
		for _, d := range entries {
			if !state.IsTemp(d.Name()) && !entry.ours(dir, d) {
				found = append(found, filepath.Join(dir, d.Name()))
			}
		}
	}
	return found, nil
}

// Reset removes every container, image, volume, network and secret. Running
// containers are killed.
func (e *Engine) Reset(ctx context.Context) error {
	found, err := e.strangers()
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return hint(fmt.Errorf("reset store: %s is not the store's: nothing was removed", strings.Join(found[:min(len(found), 3)], ", ")),
			"is %s the store that you mean? If it is, move away what is not hull's", e.o.Root)
	}
	ids, err := e.containerIDs()
	if err != nil {
		return err
	}
	now := uint(0)
	for _, id := range ids {
		if _, err := e.Remove(ctx, id, RemoveOptions{Force: true, Volumes: true, Depend: true, Timeout: &now}); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if _, err := e.UnmountImages(ctx, true); err != nil {
		return err
	}
	names, err := e.volumeNames()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := e.detachVolume(n); err != nil {
			return err
		}
	}
	root, err := os.Open(e.o.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reset store: %w", err)
	}
	defer root.Close()
	for _, entry := range storeEntries {
		// Not through a mount: what lies there is not the store's.
		if err := inroot.RemoveAll(root, entry.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reset store: %w", err)
		}
	}
	for _, name := range []string{"volumes", "container-names", "image-mounts", "container-mounts"} {
		os.RemoveAll(filepath.Join(e.o.RunRoot, name))
	}
	e.resetRuntimes()
	return nil
}
