package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/criu"
	"hull/oci"
	"hull/plan"
	"hull/state"
)

// RestoreStart is the program between a monitor and CRIU: it has the container's streams, hands them to what is restored, looks at what
// comes back before it runs, and reports as a plan does. What it mounts is in a namespace of its own, and goes with it.
func (e *Engine) RestoreStart(ctx context.Context, id string) error {
	report := os.NewFile(uintptr(foreignReport), "report")
	defer report.Close()
	dir := e.restoreDir(id)
	pid, err := e.restoreStart(ctx, dir)
	if err != nil {
		return errors.Join(err, state.WriteFile(dir, foreignErrFile, []byte(err.Error()), 0o600, false))
	}
	_, err = report.Write(plan.ReportPid(pid))
	return err
}

func (e *Engine) restoreStart(ctx context.Context, dir string) (pid int, err error) {
	unix.CloseOnExec(int(foreignReport))
	var job restoreJob
	data, err := state.ReadFile(filepath.Join(dir, foreignJobFile))
	if err == nil {
		err = json.Unmarshal(data, &job)
	}
	if err != nil {
		return 0, fmt.Errorf("read job: %w", err)
	}
	r, err := e.loadRecord(job.ID)
	if err != nil {
		return 0, err
	}
	d, err := criu.Read(job.Images)
	if err != nil {
		return 0, err
	}
	if err := criu.VerifyFilters(job.Images, job.Filter); err != nil {
		return 0, err
	}
	allowed, err := job.allowed()
	if err != nil {
		return 0, err
	}
	// The namespaces and the cgroup are this thread's, which makes the child.
	runtime.LockOSThread()
	p := &criu.Place{Sources: criu.Sources{Spec: job.Spec, Root: filepath.Join(dir, "root"), Groups: job.Groups, Dir: dir},
		IPC: job.Joined["ipc"], UTS: job.Joined["uts"], Streams: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
	if job.Net {
		p.Net = os.NewFile(uintptr(foreignNetns), "netns")
	}
	for _, m := range job.Spec.Mounts {
		if !strings.HasPrefix(m.Source, "/proc/") || m.Destination != "/dev/shm" {
			continue
		}
		tree, err := foreignTree(m.Source)
		if err != nil {
			return 0, err
		}
		defer tree.Close()
		p.Trees = map[string]*os.File{m.Source: tree}
	}
	if err := enterRestored(&job); err != nil {
		return 0, err
	}
	if err := e.attachRestored(r, p.Root); err != nil {
		return 0, err
	}
	o := job.Options
	o.Terminal = func(master *os.File) error {
		if !job.Spec.Process.Terminal {
			return errors.New("the checkpoint has a terminal, and the container has none")
		}
		return unix.Sendmsg(foreignConsole, []byte("terminal"), unix.UnixRights(int(master.Fd())), nil, 0)
	}
	p.Allowed = allowed
	return criu.Restore(ctx, d, p, o)
}

// enterRestored brings this thread to where the processes are to be born.
func enterRestored(job *restoreJob) error {
	for _, p := range job.Procs {
		if err := os.WriteFile(p, []byte("0"), 0); err != nil {
			return fmt.Errorf("enter the container's cgroup: %w", err)
		}
	}
	flags := unix.CLONE_NEWNS
	if slices.ContainsFunc(job.Spec.Linux.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == oci.CgroupNamespace && n.Path == "" }) {
		flags |= unix.CLONE_NEWCGROUP
	}
	if err := unix.Unshare(flags); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// attachRestored mounts the container's root where criu finds it.
func (e *Engine) attachRestored(r *record, root string) error {
	if o := &r.Options; o.Rootfs != "" && !o.RootfsOverlay {
		if err := unix.Mount(o.Rootfs, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return &os.PathError{Op: "mount", Path: o.Rootfs, Err: err}
		}
	} else if err := e.attachContainer(r, root); err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	return unix.Mount("", root, "", unix.MS_PRIVATE|unix.MS_REC, "")
}

// allowed is what the container may have.
func (job *restoreJob) allowed() (*criu.Allowed, error) {
	capabilities := uint64(0)
	if c := job.Spec.Process.Capabilities; c != nil {
		for i, name := range allCapabilities {
			if slices.Contains(c.Bounding, name) {
				capabilities |= 1 << i
			}
		}
	}
	a, err := criu.Allow(job.Spec, capabilities)
	if err != nil {
		return nil, err
	}
	maps.Copy(a.Joined, job.Joined)
	if job.Net {
		a.Joined["net"] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), foreignNetns)
	}
	return a, nil
}
