// Package criu takes a container's processes apart into files, and puts them together again, by the program CRIU.
//
// The program is a child that is told its work over a socket ("criu swrk"): one request, then it asks at each stage whether to go on, which is
// where a caller looks at what was restored before it runs, and gets the terminal that a container had.
//
//	this process                  criu swrk 3
//	   │  DUMP or RESTORE, options     │
//	   ├──────────────────────────────►│
//	   │  NOTIFY "pre-resume", pid     │      the processes are there and stand still
//	   │◄──────────────────────────────┤
//	   │  success, or not              │
//	   ├──────────────────────────────►│
//	   │  the end: a pid, or an error  │
//	   │◄──────────────────────────────┤
//
// What a dump cannot hold, since it is not the container's own — mounts of the host, its network, its streams — is in it by a key only; a Dump
// lists these, and who restores says what comes there. Nothing of a dump says what of the host a container gets.
//
// A dump itself says what runs, down to registers and credentials. Verify holds what came back against what the container may have.
package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options are of a dump or a restore. The zero value of each leaves it out.
type Options struct {
	// Images is the directory of the dump, Work that of log and statistics (the same if empty). Parent is that of an earlier
	// dump, relative to Images.
	Images, Work, Parent string
	// Log is the log's name in Work.
	Log string
	// Config is a file of criu's own options.
	Config string
	// Root is the container's root file system: where it is seen by this process.
	Root string
	// Pid is the first process, for a dump.
	Pid int

	LeaveRunning, TrackMemory, AutoDedup                 bool
	ExternalUnixSockets, TCPEstablished, TCPClose        bool
	ShellJob, FileLocks, LazyPages, EmptyNetwork, Linked bool
	// GhostLimit is the size in bytes up to which files that were removed while open are kept; 0 is criu's.
	GhostLimit int64
	// PageServer is the ADDRESS:PORT that gets the memory.
	PageServer string
	// StatusFD gets a zero byte when the pages can be asked for.
	StatusFD *os.File `json:"-"`
	// Cgroups is how criu treats cgroups: "" leaves the processes in the one that this process is in; soft, full and strict are criu's.
	Cgroups string
	// CgroupRoot is the path that the processes' cgroups are below, for Cgroups.
	CgroupRoot map[string]string
	// External are resources that are not in the dump: KIND[WHAT]:KEY on a dump, KIND[KEY]:WHAT on a restore.
	External []string
	// Files are what takes the place of external resources in a restore.
	Files []File `json:"-"`
	// Join are namespaces that the restored processes come into: kind and path.
	Join [][2]string
	// LSMProfile (TYPE:NAME) and LSMMountContext replace what the processes had.
	LSMProfile, LSMMountContext string

	// Terminal gets the master of a terminal that the container's own devpts has and that somebody outside held. nil: there may be none.
	Terminal func(master *os.File) error `json:"-"`
	// Frozen is called when the processes are restored, with all that they may do, and stand still. After an error of it
	// they are killed, and have not run.
	Frozen func(pid int) error `json:"-"`
	// PrepareNetwork is called in a restore when the namespaces are made, before what is in them.
	PrepareNetwork func(pid int) error `json:"-"`
	// Dumped is called when the dump is whole and the processes stand still yet; an error lets them go on.
	Dumped func() error `json:"-"`
}

// A File is a descriptor by the name that criu has for what it takes the place of.
type File struct {
	Key  string
	File *os.File
}

// hinted is an error that a user can cure; engines print the hint.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }

// ErrNotInstalled is the cause when there is no criu.
var ErrNotInstalled = errors.New("criu is not installed")

// Find is the path of criu: of PATH, or where distributions have it.
func Find() (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin") {
		p := filepath.Join(dir, "criu")
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && filepath.IsAbs(p) {
			return p, nil
		}
	}
	return "", &hinted{ErrNotInstalled, "install the package criu; kernels from 6.13 on want 4.1 or newer"}
}

// Check says whether criu works on this kernel: nil, or why not.
func Check(ctx context.Context) error {
	path, err := Find()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, "check").CombinedOutput()
	if err != nil {
		return fmt.Errorf("criu check: %s (%w)", firstError(string(out)), err)
	}
	return nil
}

// Dump writes the processes of o.Pid, which d describes, to o.Images and ends them, unless they are to be left running.
func Dump(ctx context.Context, d *Description, o Options) error {
	external, err := d.externals(o.Pid)
	if err != nil {
		return err
	}
	o.External = append(o.External, external...)
	if o.LazyPages { // it ends when somebody has restored what it wrote, and taken the memory
		if err := d.Write(o.Images); err != nil {
			return err
		}
	}
	if _, err := run(ctx, reqDump, "dump", o); err != nil {
		return err
	}
	return d.Write(o.Images)
}

// PreDump writes the memory only; the processes go on.
func PreDump(ctx context.Context, d *Description, o Options) error {
	external, err := d.externals(o.Pid)
	if err != nil {
		return err
	}
	o.External, o.TrackMemory = append(o.External, external...), true
	if _, err := run(ctx, reqPreDump, "pre-dump", o); err != nil {
		return err
	}
	return d.Write(o.Images)
}

// A Place is what a dump's processes come into.
type Place struct {
	Sources
	// Net and Pid are the namespaces for a dump whose own were another's; IPC and UTS are paths of such.
	Net, Pid *os.File
	IPC, UTS string
	// Streams are the first three descriptors.
	Streams [3]*os.File
	// Allowed is what comes back is held against, before it runs.
	Allowed *Allowed
}

// Restore makes the processes of a dump, children of this one, and returns the first.
func Restore(ctx context.Context, d *Description, p *Place, o Options) (pid int, err error) {
	places, err := p.places()
	if err != nil {
		return 0, err
	}
	external, err := p.externals(d, places)
	if err != nil {
		return 0, err
	}
	if p.Allowed != nil {
		p.Allowed.places = places
		o.Frozen = func(pid int) error { return Verify(pid, p.Allowed) }
	}
	o.External, o.Root = append(o.External, external...), p.Root
	for _, n := range []struct {
		kind, key string
		needed    bool
		file      *os.File
	}{{"network", netKey, d.Net, p.Net}, {"pid", pidKey, d.Pid, p.Pid}} {
		switch {
		case n.needed && n.file == nil:
			return 0, fmt.Errorf("the checkpoint is of a container in a %s namespace of somebody else's, this one has its own", n.kind)
		case !n.needed && n.file != nil:
			return 0, fmt.Errorf("the checkpoint is of a container with a %s namespace of its own, this one joins another's", n.kind)
		case n.needed:
			o.Files = append(o.Files, File{n.key, n.file})
		}
	}
	for _, n := range []struct {
		kind, path string
		needed     bool
	}{{"ipc", p.IPC, d.IPC}, {"uts", p.UTS, d.UTS}} {
		if n.needed != (n.path != "") {
			return 0, fmt.Errorf("the checkpoint and the container do not agree whether the %s namespace is the container's own", n.kind)
		}
		if n.needed {
			o.Join = append(o.Join, [2]string{n.kind, n.path})
		}
	}
	for _, s := range d.Streams {
		if f := p.Streams[s.FD]; f != nil {
			o.Files = append(o.Files, File{s.Key, f})
		}
	}
	return run(ctx, reqRestore, "restore", o)
}

// firstError is the first line of a log that tells of one, without its place in criu's source. What criu tries out at its start,
// and goes on without, is none.
func firstError(log string) string {
	for line := range strings.Lines(log) {
		_, what, ok := strings.Cut(line, "Error (")
		place, text, found := strings.Cut(what, "): ")
		if !ok || !found || strings.HasPrefix(place, "criu/tun.c") || strings.HasPrefix(place, "criu/kerndat.c") || strings.HasPrefix(text, "rlimit:") {
			continue
		}
		return strings.TrimSpace(text)
	}
	return "no reason given"
}
