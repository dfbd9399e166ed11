package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/inroot"
	"hull/state"
)

// A BuildCache is one directory of RUN --mount=type=cache.
type BuildCache struct {
	ID   string // as --mount says it, or the target
	Dir  string
	Used time.Time
	Size int64
	// InUse says that a build has it now.
	InUse bool
}

func (e *Engine) buildCaches() string { return filepath.Join(e.o.Root, "build", "caches") }

// BuildCaches lists the directories of cache mounts.
func (e *Engine) BuildCaches(context.Context) ([]BuildCache, error) {
	entries, err := os.ReadDir(e.buildCaches())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list build caches: %w", err)
	}
	var all []BuildCache
	for _, d := range entries {
		c := BuildCache{Dir: filepath.Join(e.buildCaches(), d.Name())}
		info, err := d.Info()
		if err != nil {
			continue // removed meanwhile
		}
		c.Used = info.ModTime()
		if id, err := state.ReadFile(filepath.Join(c.Dir, "id")); err == nil {
			c.ID = string(id)
		}
		c.Size = int64(treeSize(filepath.Join(c.Dir, "data")))
		if l, ok, err := state.TryAcquire(filepath.Join(c.Dir, "lock")); err == nil && ok {
			l.Release()
		} else {
			c.InUse = true
		}
		all = append(all, c)
	}
	return all, nil
}

// PruneBuildOptions choose what of the build cache goes.
type PruneBuildOptions struct {
	Steps  bool // results of steps
	Caches bool // directories of cache mounts
	// Unused keeps what was used within that time; MaxBytes keeps so many
	// bytes of what was used last.
	Unused   time.Duration
	MaxBytes int64
}

// BuildPruned is what PruneBuild removed.
type BuildPruned struct {
	Steps, Caches int
	Bytes         int64
}

// PruneBuild removes what builds kept. A cache that a build has now stays.
func (e *Engine) PruneBuild(ctx context.Context, o PruneBuildOptions) (BuildPruned, error) {
	var done BuildPruned
	if o.Steps {
		images, err := e.Images()
		if err != nil {
			return done, err
		}
		n, freed, err := images.PruneSteps(ctx, image.PruneStepsOptions{Unused: o.Unused, MaxBytes: o.MaxBytes})
		done.Steps, done.Bytes = n, freed.Bytes
		if err != nil {
			return done, err
		}
	}
	if !o.Caches {
		return done, nil
	}
	all, err := e.BuildCaches(ctx)
	if err != nil {
		return done, err
	}
	for _, c := range all {
		if o.Unused > 0 && time.Since(c.Used) < o.Unused {
			continue
		}
		ok, err := removeBuildCache(c.Dir)
		if err != nil {
			return done, fmt.Errorf("remove build cache %s: %w", c.ID, err)
		}
		if ok {
			done.Caches++
			done.Bytes += c.Size
		}
	}
	return done, nil
}

// removeBuildCache removes a directory that nobody uses. Its lock goes last: who
// waits for it finds that it is gone, and makes another.
func removeBuildCache(dir string) (bool, error) {
	l, ok, err := state.TryAcquire(filepath.Join(dir, "lock"))
	if err != nil || !ok {
		return false, err
	}
	defer l.Release()
	parent, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer parent.Close()
	names, err := parent.Readdirnames(-1)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if n == "lock" {
			continue
		}
		if err := inroot.RemoveAll(parent, n); err != nil {
			return false, err
		}
	}
	if err := l.Remove(); err != nil {
		return false, err
	}
	// Another build may have begun anew in it.
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOTEMPTY && err != unix.ENOENT {
		return false, err
	}
	return true, nil
}
