package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/criu"
	"hull/network"
	"hull/state"
)

// CheckpointOptions for Checkpoint.
type CheckpointOptions struct {
	// Export is the file that the checkpoint is written to; Compress is zstd (""), gzip or none.
	Export, Compress string
	// CreateImage is the name of an image that is made of it.
	CreateImage    string
	Keep           bool // CRIU's log and statistics
	LeaveRunning   bool
	TCPEstablished bool
	FileLocks      bool
	IgnoreRootFS   bool // leave the changes of the root file system out of Export
	IgnoreVolumes  bool
	// PreCheckpoint keeps the memory and lets the container run; WithPrevious keeps only what has changed since.
	PreCheckpoint, WithPrevious bool
}

// CheckpointResult is what --print-stats shows of one container. The duration is in microseconds.
type CheckpointResult struct {
	ID       string `json:"Id"`
	Duration int64  `json:"runtime_checkpoint_duration"`
	// Statistics are CRIU's.
	Statistics criu.DumpStats `json:"criu_statistics"`
}

// Names in a container's directory, and in a dump's.
const (
	checkpointName    = "checkpoint"
	preCheckpointName = "pre-checkpoint"
	networkStatusFile = "network.status"
)

func checkpointDir(r *record) string    { return filepath.Join(r.dir, checkpointName) }
func preCheckpointDir(r *record) string { return filepath.Join(r.dir, preCheckpointName) }

// Checkpoint keeps a running container's processes on the disk, and ends them unless they are to go on.
func (e *Engine) Checkpoint(ctx context.Context, name string, o CheckpointOptions) (CheckpointResult, error) {
	begun := time.Now()
	r, s, l, err := e.openLocked(ctx, name)
	if err != nil {
		return CheckpointResult{}, err
	}
	defer l.Release()
	result := CheckpointResult{ID: r.ID}
	fail := func(err error) (CheckpointResult, error) {
		return result, fmt.Errorf("checkpoint container %s: %w", r.Name, err)
	}
	dir := checkpointDir(r)
	if o.PreCheckpoint {
		dir = preCheckpointDir(r)
	}
	if err := e.refuseCheckpoint(r, s, &o); err != nil {
		return fail(err)
	}
	if err := e.dump(ctx, r, s, dir, &o); err != nil {
		return fail(err)
	}
	result.Statistics = criu.ReadDumpStats(dir)
	result.Duration = time.Since(begun).Microseconds()
	if !o.Keep {
		for _, name := range []string{criu.DumpStatsFile, dumpLog} {
			os.Remove(filepath.Join(dir, name))
		}
	}
	if !o.LeaveRunning && !o.PreCheckpoint {
		e.event(ctx, "container", "checkpoint", r, nil)
		if err := e.awaitEnd(ctx, s); err != nil {
			return fail(err)
		}
	}
	// What is exported is read while the record is there: a settled --rm goes.
	if err := e.exportCheckpoint(ctx, r, dir, &o); err != nil {
		return fail(err)
	}
	if o.LeaveRunning || o.PreCheckpoint {
		return result, nil
	}
	if _, err := e.settle(ctx, r); err != nil && !errors.Is(err, ErrNotFound) {
		return fail(err)
	}
	return result, nil
}

// awaitEnd waits for the end of a container whose processes criu has killed, and for its monitor's word of it.
func (e *Engine) awaitEnd(ctx context.Context, s *runState) error {
	fd, err := openAlive(s.process())
	if fd < 0 {
		return err
	}
	defer unix.Close(fd)
	ended, err := waitProcess(ctx, fd, 30*time.Second)
	if err == nil && !ended {
		err = errors.New("its processes did not end")
	}
	return err
}

// refuseCheckpoint says what cannot be kept, before anything is stopped.
func (e *Engine) refuseCheckpoint(r *record, s *runState, o *CheckpointOptions) error {
	opts := &r.Options
	elsewhere := o.Export != "" || o.CreateImage != ""
	switch {
	case s.Status != StatusRunning:
		return fmt.Errorf("it is %s, not running: %w", s.Status, ErrState)
	case e.o.Rootless:
		return hint(errors.New("only root can"), "run it, and the container, as root")
	case r.Runtime != "":
		return fmt.Errorf("it is run by %s", r.Runtime)
	case r.bare():
		return errors.New("the infra container of a pod has nothing to keep")
	case r.ownInit(e):
		return hint(errors.New("its init is a part of the engine"), "run it with --init-path and an init of yours, or without --init")
	case !r.owners().none():
		return errors.New("it has a user namespace of its own")
	case opts.PidNS != "" && opts.PidNS != "private":
		return fmt.Errorf("its processes are not alone (--pid=%s)", opts.PidNS)
	case opts.Rootfs != "" && elsewhere:
		return errors.New("its root file system is no image, and would be missing elsewhere")
	case opts.AutoRemove && !elsewhere && !o.LeaveRunning && !o.PreCheckpoint:
		return hint(errors.New("cannot checkpoint containers that have been started with '--rm' unless '--export' is used"), "use --export")
	case o.PreCheckpoint && o.WithPrevious:
		return errors.New("--pre-checkpoint and --with-previous cannot be used together")
	case o.WithPrevious && !fileExists(filepath.Join(preCheckpointDir(r), criu.DescriptionFile)):
		return hint(errors.New("there is no earlier checkpoint"), "make one with --pre-checkpoint")
	}
	return nil
}

const dumpLog = "dump.log"

// dump has criu write the processes to dir, a directory of the container's.
func (e *Engine) dump(ctx context.Context, r *record, s *runState, dir string, o *CheckpointOptions) error {
	d, err := criu.Describe(s.Pid, e.describeOptions(r))
	if err != nil {
		return err
	}
	// What was kept before is kept until this one is whole.
	next := dir + ".new"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.Mkdir(next, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(next)
	co := criu.Options{
		Images: next, Log: dumpLog, Pid: s.Pid, LeaveRunning: o.LeaveRunning, TCPEstablished: o.TCPEstablished, FileLocks: o.FileLocks,
		ExternalUnixSockets: true, Linked: true, TrackMemory: o.WithPrevious, Terminal: refuseTerminal,
	}
	if o.WithPrevious {
		co.Parent = "../" + preCheckpointName
	}
	if err := writeNetworkStatus(next, s.Networks); err != nil {
		return err
	}
	stopped := s.Stopped
	run := criu.PreDump
	if !o.PreCheckpoint {
		run = criu.Dump
		if !o.LeaveRunning {
			// It ends by our will: no policy is to start it again.
			s.Stopped = true
			if err := e.saveState(r, s); err != nil {
				return err
			}
		}
	}
	if err = run(ctx, &d, co); err == nil {
		if err = os.RemoveAll(dir); err == nil {
			err = os.Rename(next, dir)
		}
		return err
	}
	s.Stopped = stopped
	if s.process().Alive() {
		err = errors.Join(err, e.saveState(r, s))
	}
	return e.keepLog(r, next, err)
}

// refuseTerminal is called for none: with a receiver criu takes a terminal apart whose master is outside.
func refuseTerminal(*os.File) error { return errors.New("criu has a terminal for nobody") }

// keepLog leaves criu's log of a dump that failed where the error says it is.
func (e *Engine) keepLog(r *record, dir string, err error) error {
	log := filepath.Join(r.dir, dumpLog)
	if os.Rename(filepath.Join(dir, dumpLog), log) != nil {
		return err
	}
	return hint(err, "criu's log is %s; \"criu check\" says whether it works on this kernel", log)
}

// describeOptions say what of a container is another's.
func (e *Engine) describeOptions(r *record) criu.DescribeOptions {
	joins := r.joins()
	o := criu.DescribeOptions{Net: r.networkMode(e) != "host"}
	for kind, mode := range joins {
		switch kind {
		case "ipc":
			o.IPC = true
			if strings.HasPrefix(mode, "container:") {
				o.Shared = append(o.Shared, "/dev/shm")
			}
		case "uts":
			o.UTS = true
		}
	}
	return o
}

func writeNetworkStatus(dir string, joined []network.Joined) error {
	data, err := json.Marshal(joined)
	if err != nil {
		return err
	}
	return state.WriteFile(dir, networkStatusFile, data, 0o600, true)
}

// checkpointed says when the container was kept; zero when it is not.
func checkpointed(r *record) time.Time {
	fi, err := os.Stat(filepath.Join(checkpointDir(r), criu.DescriptionFile))
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}
