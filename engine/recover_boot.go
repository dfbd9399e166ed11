package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hull/state"
)

// unfinishedFile is the record of a container while it is being made or
// removed. One that has no other record is not there, and what is left of it is
// taken away. No other file would do: the disk may have the name of a file that
// was not synced, and none of its bytes.
const unfinishedFile = "unfinished.json"

// noteUnfinished writes a record of what is about to be made.
func (e *Engine) noteUnfinished(r *record) error {
	r.noted = true
	data, err := state.Marshal(r)
	if err == nil {
		err = state.WriteFile(r.dir, unfinishedFile, data, 0o600, false) // removed with what it tells of
	}
	if err != nil {
		return fmt.Errorf("write container %s: %w", r.ID, err)
	}
	return nil
}

// unfinished is what is known of a container that has no record.
func (e *Engine) unfinished(id string) *record {
	for i, dir := range []string{e.containerDir(id), e.containerRun(id)} {
		data, err := state.ReadFile(filepath.Join(dir, unfinishedFile))
		if err != nil {
			continue
		}
		r := &record{dir: dir, transient: i == 1}
		if state.Unmarshal(data, r) == nil && r.ID == id {
			return r
		}
	}
	return &record{ID: id}
}

// hide makes a container one that is not there, in one step. unhide takes that
// back. Where there is no room for another name its record goes: to remove
// needs none, also on a file system that copies what it changes.
func (e *Engine) hide(r *record) (unhide func(), err error) {
	dirs := []string{r.dir}
	if r.dir == "" { // its record cannot be read, wherever it is
		dirs = []string{e.containerDir(r.ID), e.containerRun(r.ID)}
	}
	var done []string
	unhide = func() {
		for _, dir := range done {
			os.Rename(filepath.Join(dir, unfinishedFile), filepath.Join(dir, "record.json"))
		}
	}
	for _, dir := range dirs {
		name := filepath.Join(dir, "record.json")
		err := os.Rename(name, filepath.Join(dir, unfinishedFile))
		switch {
		case err == nil:
			done = append(done, dir)
		case noRoom(err) && os.Remove(name) == nil:
		case !errors.Is(err, fs.ErrNotExist):
			unhide()
			return nil, fmt.Errorf("remove container %s: %w", r.ID, err)
		}
	}
	return unhide, nil
}

// recoverBoot takes away what a power cut left unfinished. The files that tell
// of a killed command lie in the run directory, which a boot empties: so the
// first command that changes something looks at everything, once.
func (e *Engine) recoverBoot(ctx context.Context) error {
	l, err := e.lock(ctx, "boot", "recover")
	if err != nil {
		return err
	}
	defer l.Release()
	ids, err := e.containerIDs()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if r, err := e.loadRecord(id); err == nil && !r.Incomplete || err != nil && !errors.Is(err, ErrNotFound) {
			continue // whole; or damaged, which is not for us to throw away
		}
		if err := e.recoverLeft(ctx, "container", id, e.recoverContainer); err != nil {
			errs = append(errs, fmt.Errorf("recover container %s: %w", id, err))
		}
	}
	pods, err := os.ReadDir(e.podsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range pods {
		id := strings.TrimSuffix(d.Name(), ".json")
		if p, err := e.loadPod(id); err == nil && p.Incomplete {
			errs = append(errs, e.recoverLeft(ctx, "pod", id, e.recoverPod))
		}
	}
	e.newBoot("")
	errs = append(errs, e.recoverNames(), e.recoverVolumes(ctx), e.recoverLeft(ctx, "secrets", "all", e.recoverSecrets))
	return errors.Join(errs...)
}

// recoverLeft calls do with the object's lock held, unless another has it.
func (e *Engine) recoverLeft(ctx context.Context, kind, name string, do func(context.Context, string) error) error {
	held, ok, err := state.TryAcquire(filepath.Join(e.locksDir(), kind+"-"+name))
	if err != nil || !ok {
		return err
	}
	l := e.newLock(held)
	defer l.Release()
	return do(ctx, name)
}

// recoverNames drops the names that lead to no container, or to one that has
// another: a rename was cut off.
func (e *Engine) recoverNames() error {
	dir := e.nameDirs()[1]
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("recover names: %w", err)
	}
	for _, d := range entries {
		file := filepath.Join(dir, d.Name())
		id, err := os.Readlink(file)
		if err != nil || e.podExists(id) || e.claimFresh("container", id) || e.claimFresh("pod", id) {
			continue
		}
		r, err := e.loadRecord(id)
		if errors.Is(err, ErrNotFound) || err == nil && r.Name != d.Name() {
			e.dropClaim(file, id)
		}
	}
	return nil
}

// recoverVolumes removes what is left of volumes that were being made or
// removed. A directory with files and without any record is left alone: nobody
// has said that it may go.
func (e *Engine) recoverVolumes(ctx context.Context) error {
	names, err := e.volumeNames()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if fileExists(filepath.Join(e.volumeDir(name), "volume.json")) {
			continue
		}
		errs = append(errs, e.recoverLeft(ctx, "volume", name, e.dropUnfinished))
	}
	return errors.Join(errs...)
}

// dropUnfinished removes a volume's directory if it has no record, and was
// being removed or holds nothing.
func (e *Engine) dropUnfinished(ctx context.Context, name string) error {
	dir := e.volumeDir(name)
	if fileExists(filepath.Join(dir, "volume.json")) {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(dir, "_data"))
	st, _ := os.Lstat(dir)
	going := fileExists(filepath.Join(dir, unfinishedFile)) || st != nil && st.Mode()&goingMode != 0
	if !going && (len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	return e.dropVolume(ctx, name)
}
