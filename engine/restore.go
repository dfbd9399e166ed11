package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"hull/criu"
	"hull/network"
	"hull/oci"
	"hull/plan"
	"hull/seccomp"
	"hull/state"
)

// RestoreOptions for Restore and RestoreFrom.
type RestoreOptions struct {
	Keep                        bool // the checkpoint, and CRIU's log and statistics
	TCPEstablished, TCPClose    bool
	FileLocks                   bool
	IgnoreRootFS, IgnoreVolumes bool
	// IgnoreStaticIP and IgnoreStaticMAC take new addresses instead of those that the processes had.
	IgnoreStaticIP, IgnoreStaticMAC bool
	// Import is an archive, ImportPrevious one of an earlier --pre-checkpoint.
	Import, ImportPrevious string
	// Trust takes an archive or image that this store did not make.
	Trust bool
	// Name, Pod and Publish replace what the archive's container had.
	Name, Pod string
	Publish   []PortMapping
}

// RestoreResult is what --print-stats shows of one container. The duration is in microseconds.
type RestoreResult struct {
	ID       string `json:"Id"`
	Duration int64  `json:"runtime_restore_duration"`
	// Statistics are CRIU's.
	Statistics criu.RestoreStats `json:"criu_statistics"`
}

// Restore lets the processes of a checkpoint go on, in the container that they were taken from.
func (e *Engine) Restore(ctx context.Context, name string, o RestoreOptions) (RestoreResult, error) {
	begun := time.Now()
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return RestoreResult{}, err
	}
	defer l.Release()
	result := RestoreResult{ID: r.ID}
	fail := func(err error) (RestoreResult, error) {
		return result, fmt.Errorf("restore container %s: %w", r.Name, err)
	}
	if s.running() || s.Status == StatusRemoving {
		return fail(fmt.Errorf("it is %s: %w", s.Status, ErrState))
	}
	dir := checkpointDir(r)
	d, err := criu.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(fmt.Errorf("it has no checkpoint: %w", ErrState))
	}
	if err != nil {
		return fail(err)
	}
	if e.o.Rootless {
		return fail(hint(errors.New("only root can"), "run it as root"))
	}
	if err := e.startAnew(r, s); err != nil {
		return fail(err)
	}
	if _, err = e.start(ctx, r, s, startOptions{lock: l, restore: &restoring{d, o}}); err != nil {
		return fail(e.startFailed(r, s, err))
	}
	result.Statistics = criu.ReadRestoreStats(e.restoreDir(r.ID))
	result.Duration = time.Since(begun).Microseconds()
	e.event(ctx, "container", "restore", r, nil)
	if o.Keep {
		return result, nil
	}
	for _, dir := range []string{dir, preCheckpointDir(r), e.restoreDir(r.ID)} {
		if err := os.RemoveAll(dir); err != nil {
			return fail(err)
		}
	}
	return result, nil
}

// restoring is a start whose processes are those of a checkpoint.
type restoring struct {
	dump *criu.Description
	o    RestoreOptions
}

func (e *Engine) restoreDir(id string) string { return filepath.Join(e.containerRun(id), "restore") }

// A restoreJob is what RestoreStart is told, in DIR/job.json.
type restoreJob struct {
	ID      string
	Images  string // the dump
	Options criu.Options
	Spec    *oci.Spec
	Filter  []unix.SockFilter
	// Procs are the files by which to enter the container's cgroups, Groups the directories of these.
	Procs, Groups []string
	// Net says that the network namespace is the file foreignNetns.
	Net    bool
	Joined map[string]string // namespaces of others: name below /proc/PID/ns and path
}

// compileRestore writes the job, and makes the plan that becomes RestoreStart.
func (t *starting) compileRestore(ctx context.Context) error {
	x := t.o.restore
	if _, err := criu.Find(); err != nil {
		return err
	}
	if t.o.wait || t.r.Runtime != "" {
		return fmt.Errorf("restore container %s: its runtime cannot", t.r.Name)
	}
	dir := t.e.restoreDir(t.r.ID)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, d := range []string{dir, filepath.Join(dir, "root")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := t.restoredNet(ctx, x.dump.Net); err != nil {
		return err
	}
	job := restoreJob{ID: t.r.ID, Images: checkpointDir(t.r), Spec: t.spec, Net: t.netns != nil, Joined: map[string]string{}, Options: criu.Options{
		Images: checkpointDir(t.r), Work: dir, TCPEstablished: x.o.TCPEstablished, TCPClose: x.o.TCPClose, FileLocks: x.o.FileLocks,
		ExternalUnixSockets: true, Linked: true,
	}}
	if t.spec.Linux.Seccomp != nil {
		filter, err := t.restoredFilter()
		if err != nil {
			return err
		}
		job.Filter = filter
	}
	if l := t.spec.Process.SelinuxLabel; l != "" {
		job.Options.LSMProfile, job.Options.LSMMountContext = "selinux:"+l, t.spec.Linux.MountLabel
	}
	for _, kind := range []oci.LinuxNamespaceType{oci.IPCNamespace, oci.UTSNamespace} {
		if p := t.facts.Join[kind]; p != "" {
			job.Joined[string(kind)] = p
		}
	}
	if err := t.restoredGroups(&job); err != nil {
		return err
	}
	data, err := json.Marshal(job)
	if err == nil {
		err = state.WriteFile(dir, foreignJobFile, data, 0o600, false)
	}
	if err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	b := plan.NewBuilder()
	b.Phase("restore")
	b.Subject("hand over to criu")
	if t.netns != nil {
		b.Inherit("netns", t.netns)
	}
	b.Dup3(plan.ReportFD, foreignReport, false)
	argv := append(append([]string{t.e.o.Executable}, t.e.o.GlobalArgs...), "internal-restore", t.r.ID)
	b.Execve(argv[0], argv, os.Environ())
	b.Exit(codeEngine)
	t.plan, err = b.Plan()
	return err
}

// restoredFilter is the container's filter as a start would load it.
func (t *starting) restoredFilter() ([]unix.SockFilter, error) {
	if t.seccomp != nil {
		return t.seccomp.Filter, nil
	}
	if t.spec.Linux.Seccomp == nil {
		return nil, nil
	}
	p, err := seccomp.Compile(t.spec.Linux.Seccomp, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	return p.Filter, nil
}

// restoredGroups: criu is in the container's cgroups, and the processes are born there.
func (t *starting) restoredGroups(job *restoreJob) error {
	if t.group == nil {
		return nil
	}
	job.Procs = t.group.Procs()
	dir, err := t.group.Dir()
	if err != nil {
		return err
	}
	if dir != nil {
		job.Procs = append(job.Procs, filepath.Join(dir.Name(), "cgroup.procs"))
		dir.Close()
	}
	for _, p := range job.Procs {
		job.Groups = append(job.Groups, filepath.Dir(p))
	}
	return nil
}

// restoredNet is the network namespace that the processes come into.
func (t *starting) restoredNet(ctx context.Context, needed bool) error {
	host := t.r.networkMode(t.e) == "host"
	switch {
	case !needed && !host:
		return errors.New("the checkpoint is of a container with the host's network, this one has one of its own")
	case needed && host:
		return errors.New("the checkpoint is of a container with a network of its own, this one has the host's")
	case !needed, t.netns != nil:
		return nil
	}
	if path := t.facts.Join[oci.NetworkNamespace]; path != "" {
		f, err := os.Open(path)
		t.netns = t.keep(f)
		return err
	}
	f, err := network.NewNamespace(ctx) // --network none
	t.netns = t.keep(f)
	return err
}

// keepAddresses gives a restored container the addresses that its processes know, where nobody asks for others.
func (x *restoring) keepAddresses(dir string, to []network.Attach) error {
	if x == nil || x.o.IgnoreStaticIP && x.o.IgnoreStaticMAC {
		return nil
	}
	data, err := state.ReadFile(filepath.Join(dir, networkStatusFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var joined []network.Joined
	if err == nil {
		err = json.Unmarshal(data, &joined)
	}
	if err != nil {
		return fmt.Errorf("read the checkpoint's addresses: %w", err)
	}
	for i := range to {
		for _, j := range joined {
			if j.Network != to[i].Name {
				continue
			}
			if !x.o.IgnoreStaticIP && len(to[i].StaticIPs) == 0 {
				for _, a := range j.Addresses {
					to[i].StaticIPs = append(to[i].StaticIPs, a.Addr())
				}
			}
			if !x.o.IgnoreStaticMAC && to[i].StaticMAC == nil {
				if to[i].StaticMAC, err = net.ParseMAC(j.MAC); err != nil {
					return fmt.Errorf("read the checkpoint's addresses: %w", err)
				}
			}
		}
	}
	return nil
}
