package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/criu"
	"hull/oci"
	"hull/seccomp"
	"hull/state"
)

// criuConfig is the annotation that names a file of criu's own options.
const criuConfig = "org.criu.config"

// Checkpoint has criu write a running container's processes to o.Images, and removes the container unless they are to go on. With preDump
// only the memory is written.
func (r *Runtime) Checkpoint(ctx context.Context, id string, o criu.Options, preDump bool) error {
	c, err := r.Load(id)
	if err != nil {
		return err
	}
	switch status := c.Status(); status {
	case "running", "paused":
	default:
		return fmt.Errorf("Container cannot be checkpointed in %s state", status) //nolint:staticcheck // runc's words
	}
	joined := c.joinedPaths()
	d, err := criu.Describe(c.Init.Pid, criu.DescribeOptions{Net: joined["net"] != "", Pid: joined["pid"] != "", IPC: joined["ipc"] != "",
		UTS: joined["uts"] != "", Sockets: o.ExternalUnixSockets})
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", id, err)
	}
	o.Pid, o.Log, o.Config, o.Linked = c.Init.Pid, "dump.log", c.Spec.Annotations[criuConfig], true
	o.TrackMemory = o.Parent != ""
	o.Terminal = func(*os.File) error { return errors.New("criu has a terminal for nobody") }
	if preDump {
		return criu.PreDump(ctx, &d, o)
	}
	if err := criu.Dump(ctx, &d, o); err != nil {
		return err
	}
	if o.LeaveRunning {
		return nil
	}
	for range 1000 { // criu has killed them
		if !c.Init.Alive() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return r.remove(context.WithoutCancel(ctx), c)
}

// joinedPaths are the paths of namespaces that the container joins, by their names below /proc/PID/ns.
func (c *Container) joinedPaths() map[string]string {
	out := map[string]string{}
	if c.Spec.Linux == nil {
		return out
	}
	for _, n := range c.Spec.Linux.Namespaces {
		if n.Path == "" {
			continue
		}
		switch n.Type {
		case oci.NetworkNamespace:
			out["net"] = n.Path
		case oci.PIDNamespace:
			out["pid"] = n.Path
		default:
			out[string(n.Type)] = n.Path
		}
	}
	return out
}

// RestoreOptions are what Restore is told besides what Run is.
type RestoreOptions struct {
	RunOptions
	// Criu has the directories and options of the dump.
	Criu criu.Options
}

// Restore makes a container of a bundle, in which the processes of a dump go on. Without Detach it returns its exit code, as Run does.
func (r *Runtime) Restore(ctx context.Context, id string, o RestoreOptions) (code int, err error) {
	if err := validID(id); err != nil {
		return 0, err
	}
	d, err := criu.Read(o.Criu.Images)
	if err != nil {
		return 0, err
	}
	if !o.Detach {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	c, err := r.begin(id, &o.CreateOptions)
	if err != nil {
		return 0, err
	}
	t := &creation{r: r, c: c, o: o.CreateOptions}
	if err = t.limits(ctx); err == nil {
		err = t.restore(ctx, d, o.Criu)
	}
	t.group.Release()
	for _, f := range t.files {
		f.Close()
	}
	if err != nil {
		if c.Init.Pid != 0 {
			r.kill(c)
			reap(c.Init.Pid)
		}
		t.undo(ctx)
		return 0, fmt.Errorf("restore container %s: %w", id, err)
	}
	return r.stay(ctx, c, &o.RunOptions)
}

// restore brings the processes back and writes down that they are there.
func (t *creation) restore(ctx context.Context, d *criu.Description, o criu.Options) error {
	spec := t.c.Spec
	if spec.Linux == nil || spec.Process == nil {
		return errors.New("config.json has no process, or is not for Linux")
	}
	o.Config, o.Linked = spec.Annotations[criuConfig], true
	if spec.Linux.Seccomp != nil {
		prog, err := seccomp.Compile(spec.Linux.Seccomp, runtime.GOARCH)
		if err == nil {
			err = criu.VerifyFilters(o.Images, prog.Filter)
		}
		if err != nil {
			return err
		}
	}
	if err := t.receiver(&o); err != nil {
		return err
	}
	allowed, err := t.allowed(&o)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(t.c.dir, "criu-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	p := &criu.Place{Sources: criu.Sources{Spec: spec, Root: filepath.Join(work, "root"), Dir: work}, Allowed: allowed, IPC: allowed.Joined["ipc"], UTS: allowed.Joined["uts"],
		Streams: [3]*os.File{t.o.Stdin, t.o.Stdout, t.o.Stderr}}
	for kind, f := range map[string]**os.File{"net": &p.Net, "pid": &p.Pid} {
		if path := allowed.Joined[kind]; path != "" {
			if *f, err = os.Open(path); err != nil {
				return err
			}
			t.keep(*f)
		}
	}
	procs, err := t.groupFiles(p)
	if err != nil {
		return err
	}
	home, err := ownGroup()
	if err != nil {
		return err
	}
	defer home.Close()
	var pid int
	state.OnLostThread(func() {
		if err = enterRestored(spec, procs, t.c.Rootfs, p.Root); err == nil {
			pid, err = criu.Restore(ctx, d, p, o)
		}
	})
	// In version 2 it was the whole process that entered.
	if _, herr := home.Write([]byte("0")); err == nil {
		err = herr
	}
	if err != nil {
		return err
	}
	if t.c.Init, err = state.IdentifyProcess(pid); err != nil {
		return err
	}
	if err := t.c.save(); err != nil {
		return err
	}
	return writePidFile(t.o.PidFile, pid)
}

// receiver is who gets a restored terminal.
func (t *creation) receiver(o *criu.Options) error {
	to := t.o.Console
	if t.o.ConsoleSocket != "" {
		var err error
		if to, err = dialUnix(t.o.ConsoleSocket); err != nil {
			return fmt.Errorf("connect to console socket: %w", err)
		}
		t.keep(to)
	}
	o.Terminal = func(master *os.File) error {
		if to == nil {
			return errors.New("the checkpoint has a terminal, and nobody takes it")
		}
		return unix.Sendmsg(int(to.Fd()), []byte("/dev/ptmx"), unix.UnixRights(int(master.Fd())), nil, 0)
	}
	return nil
}

// allowed is what config.json allows, with a label that the command line gives in the place of its own.
func (t *creation) allowed(o *criu.Options) (*criu.Allowed, error) {
	spec := *t.c.Spec
	if o.LSMProfile != "" {
		p := *spec.Process
		p.ApparmorProfile, p.SelinuxLabel = "", ""
		spec.Process = &p
	}
	capabilities := uint64(0)
	if c := spec.Process.Capabilities; c != nil {
		var err error
		if capabilities, err = capabilityBits(c.Bounding); err != nil {
			return nil, err
		}
	}
	a, err := criu.Allow(&spec, capabilities)
	if err == nil {
		a.Joined = t.c.joinedPaths()
	}
	return a, err
}

// groupFiles are the files by which to enter the container's cgroups, whose directories p gets.
func (t *creation) groupFiles(p *criu.Place) ([]string, error) {
	if t.group == nil {
		return nil, nil
	}
	procs := t.group.Procs()
	dir, err := t.group.Dir()
	if err != nil {
		return nil, err
	}
	if dir != nil {
		procs = append(procs, filepath.Join(dir.Name(), "cgroup.procs"))
		dir.Close()
	}
	for _, f := range procs {
		p.Groups = append(p.Groups, filepath.Dir(f))
	}
	return procs, nil
}

// ownGroup opens the file by which this process comes back into its own cgroup of version 2; where there is none, writing to it does
// nothing.
func ownGroup() (*os.File, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if f, err := os.OpenFile(filepath.Join(top, path, "cgroup.procs"), os.O_WRONLY, 0); err == nil {
				return f, nil
			}
		}
		return nil, fmt.Errorf("open cgroup %s: it is not mounted", path)
	}
	return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
}

// enterRestored brings this thread to where the processes are to be born, and mounts their root there.
func enterRestored(spec *oci.Spec, procs []string, rootfs, root string) error {
	for _, f := range procs {
		if err := os.WriteFile(f, []byte("0"), 0); err != nil {
			return fmt.Errorf("enter the container's cgroup: %w", err)
		}
	}
	flags := unix.CLONE_NEWNS
	for _, n := range spec.Linux.Namespaces {
		if n.Type == oci.CgroupNamespace && n.Path == "" {
			flags |= unix.CLONE_NEWCGROUP
		}
	}
	if err := unix.Unshare(flags); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(rootfs, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "mount", Path: rootfs, Err: err}
	}
	return unix.Mount("", root, "", unix.MS_PRIVATE|unix.MS_REC, "")
}
