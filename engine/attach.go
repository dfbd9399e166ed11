package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"hull/cgroup"
	"hull/monitor"
	"hull/state"
)

// A RunResult is how Run, Attach and Exec ended.
type RunResult struct {
	// ID is the container's, or the exec session's.
	ID   string
	Code int
	// Detached says that the user left with the detach keys: the program goes on.
	Detached bool
}

// Run makes a container, starts it and, unless Detach says otherwise, stays
// with it to its end.
func (e *Engine) Run(ctx context.Context, o CreateOptions, ro RunOptions) (RunResult, error) {
	if err := o.validate(); err != nil {
		return RunResult{}, err
	}
	so := e.watching(&o, ro.Detach, ro.Streams)
	var err error
	// The monitor gets ready while the container is made. It is forked before
	// any lock is taken: what is between fork and exec has all descriptors.
	if so.spare, err = monitor.Spawn(e.spawnOptions(so)); err != nil {
		return RunResult{}, err
	}
	defer so.spare.Close()
	defer so.signals.stop()
	go cgroup.LookUp() // what it says is kept for when it is asked
	so.netns = e.namespaceAhead(&o)
	defer so.netns.Close()
	r, l, err := e.create(ctx, o, true)
	if err != nil {
		return RunResult{}, err
	}
	defer l.Release()
	so.lock = l
	s := &runState{Status: StatusCreated}
	if ro.Created != nil {
		err = ro.Created(r.ID)
	}
	var session *monitor.Session
	if err == nil {
		session, err = e.start(ctx, r, s, so)
	}
	if err != nil {
		return RunResult{}, errors.Join(err, e.failed(context.WithoutCancel(ctx), r, err))
	}
	l.Release()
	if ro.Detach {
		return RunResult{ID: r.ID}, nil
	}
	return e.stay(ctx, r, s, session, ro.Streams, so.signals)
}

// failed settles a container whose first start failed: one of --rm goes,
// another stays as it was created.
func (e *Engine) failed(ctx context.Context, r *record, cause error) error {
	if r.Options.AutoRemove {
		return e.unbuild(ctx, r, true)
	}
	return e.saveState(r, &runState{Status: StatusCreated, Error: cause.Error(), ExitCode: ExitCode(cause)})
}

// watching says how a start is watched. Whoever stays to the end does the
// clean-up as well, unless more than that is to be done.
func (e *Engine) watching(c *CreateOptions, detached bool, st Streams) startOptions {
	o := startOptions{}
	if strings.HasPrefix(firstOf(c.LogDriver, e.o.Defaults.LogDriver), "passthrough") {
		for i, s := range []any{st.Stdin, st.Stdout, st.Stderr} {
			if f, ok := s.(*os.File); ok && f != nil {
				o.stdio[i] = f
				continue
			}
			o.stdio[i] = []*os.File{os.Stdin, os.Stdout, os.Stderr}[i]
		}
	}
	if detached {
		return o
	}
	o.console = consoleSize(st.Console)
	if st.SigProxy {
		o.signals = NewSignalProxy(false)
	}
	o.attach, o.flags = true, monitor.FlagOutput|monitor.FlagLossless
	if c.watchedByOne() {
		o.flags |= monitor.FlagCleaner
	}
	return o
}

// watchedByOne says whether a container's end is the end of it.
func (o *CreateOptions) watchedByOne() bool {
	policy, _, _ := parseRestart(o.Restart)
	return policy == "" || policy == "no"
}

// stay attaches to a container that was just started, until it ends.
func (e *Engine) stay(ctx context.Context, r *record, s *runState, session *monitor.Session, st Streams, signals *SignalProxy) (RunResult, error) {
	defer session.Conn.Close()
	result, err := e.follow(ctx, r, session.Conn, s.process(), st, signals)
	if err != nil || result.Detached {
		return result, err
	}
	if !r.Options.watchedByOne() {
		return result, nil
	}
	left := func() []string { return nil }
	if r.Options.AutoRemove && r.Options.Rootfs == "" {
		// Whoever waits for the command does not wait for the disk: a container of
		// --rm is gone when its names are.
		if snaps, err := e.Snapshots(); err == nil {
			snaps.Leave(true)
			defer snaps.Leave(false)
			left = snaps.Left
		}
	}
	if err := e.Cleanup(context.WithoutCancel(ctx), r.ID); err != nil {
		return result, err
	}
	session.Conn.Cleaned(left())
	return result, nil
}

// Attach connects streams to a running container until it ends.
func (e *Engine) Attach(ctx context.Context, name string, st Streams) (RunResult, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return RunResult{}, err
	}
	if s.Status != StatusRunning && s.Status != StatusPaused && s.Status != StatusInitialized {
		return RunResult{}, fmt.Errorf("attach to container %s: it is %s: %w", r.Name, s.Status, ErrState)
	}
	conn, err := monitor.Dial(e.containerRun(r.ID), monitor.FlagOutput|monitor.FlagLossless|monitor.FlagYields)
	if err != nil {
		return RunResult{}, fmt.Errorf("attach to container %s: %w", r.Name, err)
	}
	defer conn.Close()
	return e.follow(ctx, r, conn, s.process(), st, st.catchSignals())
}

// StartAttached starts a container with the streams connected, and returns
// its exit code; 0 when the user detached.
func (e *Engine) StartAttached(ctx context.Context, name string, st Streams) (int, error) {
	r, s, l, err := e.openForStart(ctx, name)
	if err != nil {
		return 0, err
	}
	defer l.Release()
	if s.Status == StatusRunning {
		l.Release()
		result, err := e.Attach(ctx, r.ID, st)
		return result.Code, err
	}
	if s.Status == StatusInitialized {
		conn, err := monitor.Dial(e.containerRun(r.ID), monitor.FlagOutput|monitor.FlagLossless)
		if err != nil {
			return 0, fmt.Errorf("attach to container %s: %w", r.Name, err)
		}
		defer conn.Close()
		if err := e.releaseInit(ctx, r, s); err != nil {
			return 0, err
		}
		l.Release()
		result, err := e.follow(ctx, r, conn, s.process(), st, st.catchSignals())
		return result.Code, err
	}
	so := e.watching(&r.Options, false, st)
	so.lock = l
	defer so.signals.stop()
	session, err := e.start(ctx, r, s, so)
	if err != nil {
		return 0, err
	}
	l.Release()
	result, err := e.stay(ctx, r, s, session, st, so.signals)
	return result.Code, err
}

// follow copies between the user's streams and a container's until its end.
func (e *Engine) follow(ctx context.Context, r *record, conn *monitor.Conn, p state.ProcessID, st Streams, signals *SignalProxy) (RunResult, error) {
	result := RunResult{ID: r.ID}
	stop, err := attachTerminal(st.Console, func(rows, cols uint16) { conn.Resize(rows, cols) })
	if err != nil {
		return result, err
	}
	defer stop()
	signals.PassTo(p)
	defer signals.stop()
	detached := make(chan struct{})
	if st.Stdin != nil {
		keys, err := parseDetachKeys(st.DetachKeys)
		if err != nil {
			return result, err
		}
		if !r.Options.Terminal {
			keys = nil
		}
		go func() {
			if copyInput(conn, st.Stdin, keys) == errDetached {
				close(detached)
				conn.Close()
				return
			}
			conn.CloseInput()
		}()
	}
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { conn.Close() })()
	}
	result.Code, err = conn.Copy(st.Stdout, st.Stderr, func(n int64) { e.warn("%d bytes of output were lost", n) })
	select {
	case <-detached:
		result.Detached, result.Code = true, 0
		return result, nil
	default:
	}
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return result, fmt.Errorf("container %s: its monitor was killed; how it ends is not known: %w", r.Name, err)
	}
	return result, nil // an output that nobody reads is no failure of the container
}

var errDetached = errors.New("detached")

// copyInput sends in to w until its end, or until the keys are typed.
func copyInput(w io.Writer, in io.Reader, keys []byte) error {
	buf := make([]byte, 32<<10)
	d := detacher{keys: keys}
	for {
		n, err := in.Read(buf)
		if n > 0 {
			out, done := d.pass(buf[:n])
			if len(out) > 0 {
				if _, werr := w.Write(out); werr != nil {
					return werr
				}
			}
			if done {
				return errDetached
			}
		}
		if err != nil {
			return err
		}
	}
}

// A detacher finds the detach keys in what is typed. Keys that may begin the
// sequence are held back until it is clear.
type detacher struct {
	keys []byte
	held int
}

func (d *detacher) pass(in []byte) (out []byte, done bool) {
	if len(d.keys) == 0 {
		return in, false
	}
	out = make([]byte, 0, len(in)+len(d.keys))
	for _, c := range in {
		if c == d.keys[d.held] {
			if d.held++; d.held == len(d.keys) {
				return out, true
			}
			continue
		}
		out = append(out, d.keys[:d.held]...)
		d.held = 0
		if c == d.keys[0] {
			d.held = 1
			if len(d.keys) == 1 {
				return out, true
			}
			continue
		}
		out = append(out, c)
	}
	return out, false
}

// parseDetachKeys parses a list of characters and ctrl-X.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for word := range strings.SplitSeq(s, ",") {
		letter, ctrl := strings.CutPrefix(word, "ctrl-")
		switch {
		case !ctrl && len(word) == 1:
			keys = append(keys, word[0])
		case ctrl && len(letter) == 1 && letter[0] >= 'a' && letter[0] <= 'z':
			keys = append(keys, letter[0]-'a'+1)
		case ctrl && len(letter) == 1 && letter[0] >= '@' && letter[0] <= '_':
			keys = append(keys, letter[0]-'@')
		default:
			return nil, fmt.Errorf("detach keys %q: %q is neither a character nor ctrl-X", s, word)
		}
	}
	return keys, nil
}
