// Package engine has the verbs: create, start, exec, stop, remove and the
// rest, on containers, volumes and the system as a whole. It is where the
// parts meet; each part (image, snapshot, network, ociruntime, monitor)
// knows nothing of the others.
//
// # The idea
//
// A container is a directory with a record: what the user said
// (CreateOptions) and what was settled when it was created (image, mounts,
// user, id maps). A start makes a runtime spec of that record by a pure
// function (spec.go), a plan of the spec (ociruntime), and hands the plan to
// a monitor:
//
//	CreateOptions ── record ── spec ── plan ── monitor ── process
//	    said          kept     pure    pure      side effects
//
// No process of the engine outlives its command. What a running container is
// stands in small files:
//
//	ROOT/containers/ID/record.json   the record; changes only by update and rename
//	ROOT/containers/ID/state.json    how it ended last
//	ROOT/containers/ID/exit          the exit status, written by the monitor
//	ROOT/container-names/NAME        a link that reads as the ID
//	RUN/containers/ID/state.json     pid, addresses, cgroup of a running one
//	RUN/containers/ID/attach         the monitor's socket
//
// What a reboot ends anyway lives below RUN, written without fsync; a
// container of --rm lives there as a whole. The boot's id is in the state, so
// that a run directory on a disk does not mislead.
//
// # Truth about running
//
// A state file says "running"; whether that is so is asked of the kernel:
// the process with that pid and start time. When it is gone and there is no
// exit record, the monitor was killed too: the next command that looks says
// so, and what it held is given back (see settle).
//
// # Locks
//
// Writers of a container hold its lock, a file below RUN/locks; readers take
// none and see whole files, since every file is replaced by rename. A verb
// that needs two locks takes names before containers before volumes, and of
// two containers the one with the smaller ID first.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"hull/blob"
	"hull/image"
	"hull/network"
	"hull/snapshot"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrNotFound  = errors.New("no such object")
	ErrAmbiguous = errors.New("more than one object begins so")
	ErrExists    = errors.New("the name is in use")
	ErrState     = errors.New("not in the right state")
	ErrInUse     = errors.New("in use")
)

// A HintError is an error that the user can cure.
type HintError struct {
	Err  error
	Text string
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

// Hint is the cure.
func (e *HintError) Hint() string { return e.Text }

func hint(err error, format string, args ...any) error {
	return &HintError{err, fmt.Sprintf(format, args...)}
}

// PullRequest is what the engine asks the front door to get.
type PullRequest struct {
	Name, Policy, Platform string
	Quiet                  bool
}

// Options open an engine.
type Options struct {
	// Root and RunRoot are absolute; the front door knows the defaults.
	Root, RunRoot string
	// ImageRoot is where images and snapshots are; "" is Root. ImageStores are
	// the roots of further stores, whose images are read.
	ImageRoot   string
	ImageStores []string
	// Codec reads and writes compressed layers; nil starts hull-full for it.
	Codec image.Codec
	// StorageDriver and StorageOpts are for snapshot.Open.
	StorageDriver string
	StorageOpts   []string
	// DefaultDriver is the storage driver of a new store without StorageDriver; nil: overlay.
	DefaultDriver func() (string, error)
	// CgroupManager is systemd or cgroupfs; "": whichever fits the host.
	CgroupManager string
	// LibexecDir holds hull-monitor.
	LibexecDir string
	// Executable is the hull that a monitor executes to clean up, and
	// GlobalArgs the flags before the command that lead it here.
	Executable string
	GlobalArgs []string
	// Pull gets an image; nil: a missing image is an error.
	Pull func(ctx context.Context, r PullRequest) error
	// Warn is told what went on with less than was asked.
	Warn func(text string)
	// Defaults are those of containers.conf.
	Defaults Defaults
	// Rootless says that the process is in a user's namespace.
	Rootless bool
	// NetNS is the path of the network namespace that holds the bridges; ""
	// is the process's own.
	NetNS string
	// TransientStore keeps every container in the run directory.
	TransientStore bool
	// NoEvents notes no events; JournalEvents notes them in systemd's journal
	// instead of a file in the run directory.
	NoEvents, JournalEvents bool
	// Runtime is the name or path of the OCI runtime of containers that are
	// created; "" is hull's own. Runtimes are paths of some by name.
	Runtime  string
	Runtimes map[string][]string
	// RuntimeFlags are global flags of Runtime, without their dashes.
	RuntimeFlags []string
	// Hooks are directories of OCI hooks, CDIDirs of device descriptions.
	Hooks, CDIDirs []string
}

// An Engine is a store with its verbs. It may be used by several goroutines.
type Engine struct {
	o Options

	blobs     lazy[*blob.Store]
	snapshots lazy[*snapshot.Store]
	images    lazy[*image.Store]
	networks  lazy[*network.Manager]
	who       lazy[Who]

	selinuxOnce sync.Once
	selinuxOn   bool // see selinux
	groups      groupManager
	refound     sync.Once // see refind
	left        sync.Map  // see leave
}

// lazy makes a value once: a command pays only for the stores it uses.
type lazy[T any] struct {
	once sync.Once
	v    T
	err  error
}

func (l *lazy[T]) get(open func() (T, error)) (T, error) {
	l.once.Do(func() { l.v, l.err = open() })
	return l.v, l.err
}

// Open makes an engine. It does not touch the file system.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if !filepath.IsAbs(o.Root) || !filepath.IsAbs(o.RunRoot) {
		return nil, fmt.Errorf("open engine: root %q and run root %q must be absolute paths", o.Root, o.RunRoot)
	}
	if o.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("open engine: %w", err)
		}
		o.Executable = exe
	}
	if o.LibexecDir == "" {
		o.LibexecDir = filepath.Join(filepath.Dir(o.Executable), "libexec", "hull")
	}
	return &Engine{o: o}, nil
}

// Close lets go of what is open.
func (e *Engine) Close() error { return nil }

// Options returns what the engine was opened with.
func (e *Engine) Options() Options { return e.o }

// Blobs returns the blob store.
func (e *Engine) Blobs() (*blob.Store, error) {
	return e.blobs.get(func() (*blob.Store, error) {
		if err := e.prepareRoot(); err != nil {
			return nil, err
		}
		b, err := blob.Open(e.imageRoot())
		if err == nil {
			b.Also = e.o.ImageStores
		}
		return b, err
	})
}

// Snapshots returns the snapshot store.
func (e *Engine) Snapshots() (*snapshot.Store, error) {
	return e.snapshots.get(func() (*snapshot.Store, error) {
		if err := e.prepareRoot(); err != nil {
			return nil, err
		}
		o := snapshot.Options{Driver: e.o.StorageDriver, DefaultDriver: e.o.DefaultDriver, Rootless: e.o.Rootless}
		if err := o.SetStorageOptions(e.o.StorageOpts); err != nil {
			return nil, err
		}
		for _, root := range e.o.ImageStores {
			o.Also = append(o.Also, filepath.Join(root, "snapshots"))
		}
		return snapshot.Open(filepath.Join(e.imageRoot(), "snapshots"), o)
	})
}

// Images returns the image store.
func (e *Engine) Images() (*image.Store, error) {
	return e.images.get(func() (*image.Store, error) {
		b, err := e.Blobs()
		if err != nil {
			return nil, err
		}
		s, err := e.Snapshots()
		if err != nil {
			return nil, err
		}
		store, err := image.Open(e.imageRoot(), b, s)
		if err == nil {
			store.Also, store.Codec = e.o.ImageStores, e.codec()
			store.Builtins = []image.Builtin{e.welcome(), e.tools()}
		}
		return store, err
	})
}

func (e *Engine) codec() image.Codec {
	if e.o.Codec != nil {
		return e.o.Codec
	}
	return image.Program{filepath.Join(e.o.LibexecDir, "hull-full"), "internal-codec"}
}

func (e *Engine) imageRoot() string {
	if e.o.ImageRoot != "" {
		return e.o.ImageRoot
	}
	return e.o.Root
}

// Networks returns the networks' manager.
func (e *Engine) Networks() (*network.Manager, error) {
	return e.networks.get(func() (*network.Manager, error) {
		return network.Open(filepath.Join(e.o.Root, "networks"), filepath.Join(e.o.RunRoot, "network"), network.Options{
			NetNS: e.o.NetNS, Rootless: e.o.Rootless, Helper: filepath.Join(e.o.LibexecDir, "hull-net"), Lasting: e.lasting,
			Outside: network.Outside{Program: e.o.Defaults.RootlessNetwork}, PastaOptions: e.o.Defaults.PastaOptions, SlirpOptions: e.o.Defaults.SlirpOptions,
		})
	})
}

// prepareRoot makes the root once; it is nobody else's to look into (STO-02).
func (e *Engine) prepareRoot() error {
	if err := os.Mkdir(e.o.Root, 0o700); err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	if err := os.MkdirAll(e.o.Root, 0o700); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	return nil
}

func (e *Engine) warn(format string, args ...any) {
	if e.o.Warn != nil {
		e.o.Warn(fmt.Sprintf(format, args...))
	}
}

// Paths. Every path of the store that this package names is made here.

func (e *Engine) containerDir(id string) string { return filepath.Join(e.o.Root, "containers", id) }
func (e *Engine) containerRun(id string) string { return filepath.Join(e.o.RunRoot, "containers", id) }
func (e *Engine) nameDirs() [2]string {
	return [2]string{filepath.Join(e.o.RunRoot, "container-names"), filepath.Join(e.o.Root, "container-names")}
}
