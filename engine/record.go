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
	"time"

	"hull/lsm"
	"hull/oci"
	"hull/passwd"
	"hull/state"
)

// A record is a container as it is kept: what was said, and what was settled
// when it was created.
type record struct {
	Version int
	ID      string
	Name    string
	Created time.Time
	Options CreateOptions

	ImageID     string          `json:",omitempty"` // hex
	ImageName   string          `json:",omitempty"` // full name
	ImageDigest oci.Digest      `json:",omitempty"`
	Image       oci.ImageConfig `json:",omitzero"`
	Arch        string          `json:",omitempty"` // when it is not the host's
	Chain       oci.Digest      `json:",omitempty"`

	// Mounts are all of the user's and the image's: volumes have names now.
	Mounts []Mount `json:",omitempty"`
	User   passwd.User
	// UIDMap and GIDMap are empty without a user namespace of its own.
	UIDMap []oci.LinuxIDMapping `json:",omitempty"`
	GIDMap []oci.LinuxIDMapping `json:",omitempty"`
	// Labels are SELinux's; nil of a container that was made where it was off.
	Labels *lsm.Labels `json:",omitempty"`
	// Depends are the IDs whose namespaces it joins or that it requires.
	Depends []string `json:",omitempty"`
	// Pod is the ID of its pod, PodGroup the pod's cgroup; Infra marks the
	// container that holds the pod's namespaces.
	Pod      string `json:",omitempty"`
	PodGroup string `json:",omitempty"`
	Infra    bool   `json:",omitempty"`
	// Runtime is the path of another OCI runtime than our own.
	Runtime string `json:",omitempty"`
	// RuntimeFlags are Runtime's global flags, without their dashes.
	RuntimeFlags []string `json:",omitempty"`
	// Incomplete marks a container that is being created, or whose creator
	// was killed.
	Incomplete bool `json:",omitempty"`
	// Step marks a step of a build: no list shows it. Builder is the process that
	// waits for it.
	Step    bool            `json:",omitempty"`
	Builder state.ProcessID `json:",omitzero"`

	// ByRun says that it was created by a command that starts it at once.
	ByRun bool `json:",omitempty"`

	// step is what RunStep was told.
	step *StepOptions
	// dir is where the record lies; transient says that it is below RUN.
	dir       string
	transient bool
	// noted says that there is a file of what it is to be.
	noted bool
	// sealed are the secrets for settleSecrets.
	sealed [][]byte
	// made is what Prepare returned, when it was this process that called it.
	made []oci.Mount
	// parts are the parts of volumes that are mounted, open: another container
	// with the volume could put a link there before the mount is made (VOL-02).
	parts []*os.File
}

const recordVersion = 1

// loadRecord reads the record of a full ID.
func (e *Engine) loadRecord(id string) (*record, error) {
	for i, dir := range []string{e.containerDir(id), e.containerRun(id)} {
		data, err := state.ReadFile(filepath.Join(dir, "record.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read container %s: %w", id, err)
		}
		r := &record{dir: dir, transient: i == 1}
		if err := state.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("read container %s: record: %w", id, err)
		}
		if r.Version > recordVersion {
			return nil, fmt.Errorf("read container %s: its record is of a newer version (%d) of this program", id, r.Version)
		}
		return r, nil
	}
	return nil, fmt.Errorf("container %s: %w", id, ErrNotFound)
}

// saveRecord writes r to its directory, which exists.
func (e *Engine) saveRecord(r *record) error {
	data, err := state.Marshal(r)
	if err != nil {
		return fmt.Errorf("write container %s: %w", r.ID, err)
	}
	if err := state.WriteFile(r.dir, "record.json", data, 0o600, !r.transient); err != nil {
		return fmt.Errorf("write container %s: %w", r.ID, err)
	}
	return nil
}

// Lookup returns the full ID of a container by its name, ID or the beginning
// of its ID.
func (e *Engine) Lookup(ctx context.Context, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("container %q: %w", name, ErrNotFound)
	}
	for _, dir := range e.nameDirs() {
		if id, err := os.Readlink(filepath.Join(dir, name)); err == nil && e.exists(id) {
			return id, nil
		}
	}
	if len(name) == 64 && e.exists(name) {
		return name, nil
	}
	if !isHex(name) {
		return "", fmt.Errorf("no container with name or ID %q found: %w", name, ErrNotFound)
	}
	ids, err := e.containerIDs()
	if err != nil {
		return "", err
	}
	found := ""
	for _, id := range ids {
		if strings.HasPrefix(id, name) {
			if found != "" {
				return "", fmt.Errorf("container %q: %w", name, ErrAmbiguous)
			}
			found = id
		}
	}
	if found == "" {
		return "", fmt.Errorf("no container with name or ID %q found: %w", name, ErrNotFound)
	}
	return found, nil
}

func (e *Engine) exists(id string) bool {
	for _, dir := range []string{e.containerDir(id), e.containerRun(id)} {
		if _, err := os.Stat(filepath.Join(dir, "record.json")); err == nil {
			return true
		}
	}
	return false
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// containerIDs lists the full IDs of all containers, durable and not.
func (e *Engine) containerIDs() ([]string, error) {
	var ids []string
	for _, root := range []string{e.o.Root, e.o.RunRoot} {
		entries, err := os.ReadDir(filepath.Join(root, "containers"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		for _, d := range entries {
			if len(d.Name()) == 64 && isHex(d.Name()) {
				ids = append(ids, d.Name())
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Exists says whether a container of that name or ID exists.
func (e *Engine) Exists(ctx context.Context, name string) (bool, error) {
	_, err := e.Lookup(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Latest returns the ID of the container that was created last.
func (e *Engine) Latest(ctx context.Context) (string, error) {
	all, err := e.records()
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("latest container: %w", ErrNotFound)
	}
	return all[len(all)-1].ID, nil
}

// records reads every container's record, oldest first. One that vanished
// meanwhile is left out; one that cannot be read is reported and left out.
func (e *Engine) records() ([]*record, error) {
	ids, err := e.containerIDs()
	if err != nil {
		return nil, err
	}
	loaded, errs := make([]*record, len(ids)), make([]error, len(ids))
	each(len(ids), func(i int) { loaded[i], errs[i] = e.loadRecord(ids[i]) })
	var all []*record
	for i, r := range loaded {
		switch {
		case errs[i] == nil:
			all = append(all, r)
		case !errors.Is(errs[i], ErrNotFound):
			e.warn("%v", errs[i])
		}
	}
	slices.SortFunc(all, func(a, b *record) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// open looks a container up and reads it.
func (e *Engine) open(ctx context.Context, name string) (*record, *runState, error) {
	id, err := e.Lookup(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	r, err := e.loadRecord(id)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.state(r)
	return r, s, err
}

// openLocked is open with the container's lock held; the record is read under
// the lock. A container that ended unseen is settled first.
func (e *Engine) openLocked(ctx context.Context, name string) (*record, *runState, *lock, error) {
	id, err := e.Lookup(ctx, name)
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := e.lock(ctx, "container", id)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := e.loadRecord(id)
	if err != nil {
		l.Release()
		return nil, nil, nil, err
	}
	s, err := e.settle(ctx, r)
	if err == nil && !s.running() {
		// It may run all the same: see adopt.
		_, err = e.adopt(r, s)
	}
	if err != nil {
		l.Release()
		return nil, nil, nil, err
	}
	return r, s, l, nil
}

// claimName reserves name for id. The run directory's claim comes first for
// every container, so that of two claims one fails, wherever they are kept.
func (e *Engine) claimName(r *record) error { return e.claimAt(e.nameDirs(), r.Name, r) }

// claimAt reserves name for r in the run directory's and the root's list.
func (e *Engine) claimAt(dirs [2]string, name string, r *record) error {
	if err := e.claimIn(dirs[0], name, r); err != nil {
		return err
	}
	file := filepath.Join(dirs[1], name)
	if r.transient {
		if id, err := os.Readlink(file); err == nil && id != r.ID && (e.exists(id) || e.podExists(id)) {
			os.Remove(filepath.Join(dirs[0], name))
			return nameTaken(name, id)
		}
		return nil
	}
	if err := e.claimIn(dirs[1], name, r); err != nil {
		os.Remove(filepath.Join(dirs[0], name))
		return err
	}
	return nil
}

func nameTaken(name, id string) error {
	return hint(fmt.Errorf("the container name %q is already in use by %s: %w", name, id, ErrExists),
		"remove that container (hull rm %s), or use --replace", name)
}

// claimIn makes the name's file, a symbolic link whose text is the ID: it
// appears whole in one call and, as link(2) does, fails when the name is
// there. A claim whose container is gone (its maker was killed) is taken over.
func (e *Engine) claimIn(dir, name string, r *record) error {
	file := filepath.Join(dir, name)
	for range 100 {
		err := os.Symlink(r.ID, file)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(dir, 0o700); err == nil {
				err = os.Symlink(r.ID, file)
			}
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("claim name %s: %w", name, err)
		}
		owner, err := os.Readlink(file)
		if err != nil {
			continue // released this moment
		}
		if owner == r.ID {
			return nil
		}
		if e.exists(owner) || e.podExists(owner) || e.claimFresh("container", owner) || e.claimFresh("pod", owner) {
			return nameTaken(name, owner)
		}
		e.dropClaim(file, owner)
	}
	return fmt.Errorf("claim name %s: %w", name, ErrExists)
}

// claimFresh says whether a claim's container or pod may just be being
// created: its lock is held.
func (e *Engine) claimFresh(kind, id string) bool {
	file := filepath.Join(e.locksDir(), kind+"-"+id)
	if _, err := os.Lstat(file); err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	l, ok, err := state.TryAcquire(file)
	if ok {
		l.Remove()
	}
	return err != nil || !ok
}

// dropClaim removes the claim in file when it is still id's: the file is
// moved aside first, so that a claim made meanwhile is not removed.
func (e *Engine) dropClaim(file, id string) {
	aside := filepath.Join(filepath.Dir(file), ".drop-"+id)
	if os.Rename(file, aside) != nil {
		return
	}
	if got, err := os.Readlink(aside); err == nil && got != id {
		os.Symlink(got, file) // it was another's after all
	}
	os.Remove(aside)
}

// releaseName gives r's name free.
func (e *Engine) releaseName(r *record) error { return e.releaseAt(e.nameDirs(), r.Name, r) }

func (e *Engine) releaseAt(dirs [2]string, name string, r *record) error {
	var errs []error
	for _, dir := range dirs {
		file := filepath.Join(dir, name)
		id, err := os.Readlink(file)
		if err == nil && id == r.ID {
			err = os.Remove(file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("release name %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
