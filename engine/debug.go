package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/oci"
	"hull/state"
)

// DebugOptions say how to look into a container that has no tools of its own.
// The zero value is a shell of the tools that come with the installation.
type DebugOptions struct {
	Image       string   // of the tools; "" is hull/tools
	Command     []string // "" is a shell
	Env         []string // as CreateOptions.Env, after the container's own
	User        string   // "" is root
	WorkingDir  string
	Privileged  bool
	Terminal    bool
	Interactive bool
	// Apart leaves the container's processes alone even while it runs: what is
	// seen is a copy of its files.
	Apart   bool
	Streams Streams
	// Said is told in one line what is seen, before the program starts.
	Said func(text string)
}

// steadyRun is how long a container that was restarted must have run until a
// shell among its processes may last.
const steadyRun = 5 * time.Second

// Debug runs a program of an image of tools beside a container: a container of
// its own, with a root of its own. Of one that runs it joins the namespaces but
// the mounts', and /container leads to the other's root. Of one that does not,
// or that is started again and again, /container is a view of its files: what
// is changed there goes with the shell. The container itself stays as it is.
func (e *Engine) Debug(ctx context.Context, name string, o DebugOptions) (RunResult, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return RunResult{}, err
	}
	c := CreateOptions{
		Image: firstOf(o.Image, toolsName), User: o.User, WorkingDir: o.WorkingDir, Privileged: o.Privileged, Terminal: o.Terminal, Interactive: o.Interactive,
		AutoRemove: true, CapAdd: []string{"SYS_PTRACE"}, LogDriver: "none", ImageVolume: "ignore", HTTPProxy: true, Health: &Health{Disable: true},
		Labels: map[string]string{"hull.debug": r.ID}, Env: append(append([]string{}, r.Options.Env...), o.Env...), Entrypoint: &[]string{},
	}
	var root, said string
	restarts := s.Restarts > 0 && time.Since(s.StartedAt) < steadyRun
	if s.running() && !o.Apart && !restarts {
		if root, err = e.debugJoin(&c, r, s); err != nil {
			return RunResult{}, err
		}
		said = "its processes are seen here, its root is at /container"
	} else {
		view, done, err := e.debugView(ctx, r)
		if err != nil {
			return RunResult{}, fmt.Errorf("debug container %s: %w", r.Name, err)
		}
		defer done()
		c.Mounts = append([]Mount{{Type: "bind", Source: view, Destination: "/container", Options: []string{"rbind", "rslave"}}}, e.debugVolumes(r)...)
		said = "a view of its files is at /container: what is changed there is thrown away"
		if argv := e.argv(r); len(argv) > 0 {
			said += "; its program: chroot /container " + strings.Join(argv, " ")
		}
	}
	if o.Said != nil {
		o.Said(fmt.Sprintf("container %s is %s; %s", r.Name, debugStatus(s, restarts), said))
	}
	c.Command = debugCommand(o, root)
	result, err := e.Run(ctx, c, RunOptions{Streams: o.Streams})
	if err == nil {
		e.event(ctx, "container", "debug", r, map[string]string{"debugID": result.ID})
	}
	return result, err
}

func debugStatus(s *runState, restarts bool) string {
	if restarts {
		return fmt.Sprintf("restarting (%d times so far, last exit code %d)", s.Restarts, s.ExitCode)
	}
	if s.running() {
		return s.Status
	}
	return fmt.Sprintf("%s (exit code %d)", s.Status, s.ExitCode)
}

// argv is the container's program and its arguments.
func (e *Engine) argv(r *record) []string {
	entry, cmd := r.Image.Entrypoint, r.Image.Cmd
	if r.Options.Entrypoint != nil {
		entry, cmd = *r.Options.Entrypoint, nil
	}
	if len(r.Options.Command) > 0 {
		cmd = r.Options.Command
	}
	return append(append([]string{}, entry...), cmd...)
}

// debugCommand is the program. Of the tools that come along it is a shell that
// lays their names out first; another image's may lack ln.
func debugCommand(o DebugOptions, root string) []string {
	if o.Image == "" {
		script := `/bin/busybox --install -s /bin; ln -s hull-trace /bin/strace; [ -z "$0" ] || ln -s "$0" /container; exec "$@"`
		argv := o.Command
		if len(argv) == 0 {
			argv = []string{"sh"}
		}
		return append([]string{"/bin/busybox", "sh", "-c", script, root}, argv...)
	}
	script := `[ -z "$0" ] || ln -s "$0" /container 2>/dev/null; exec "$@"`
	argv := o.Command
	if len(argv) == 0 {
		argv = []string{"sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"}
	}
	return append([]string{"sh", "-c", script, root}, argv...)
}

// debugJoin makes c join the namespaces of a running container, and returns
// the path of its root as c sees it.
func (e *Engine) debugJoin(c *CreateOptions, r *record, s *runState) (string, error) {
	c.loose = true
	for _, n := range []struct {
		kind string
		mode *string
	}{{"pid", &c.PidNS}, {"ipc", &c.IpcNS}, {"uts", &c.UtsNS}, {"net", &c.NetworkMode}} {
		own, err := os.Readlink("/proc/self/ns/" + n.kind)
		if err != nil {
			return "", fmt.Errorf("debug container %s: %w", r.Name, err)
		}
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", s.Pid, n.kind))
		if err != nil {
			return "", fmt.Errorf("debug container %s: %w", r.Name, err)
		}
		if *n.mode = "container:" + r.ID; own == its {
			*n.mode = "host"
		}
	}
	if len(r.UIDMap) > 0 {
		c.UserNS = "container:" + r.ID
	}
	pid, err := innerPid(s.Pid)
	if err != nil {
		return "", fmt.Errorf("debug container %s: %w", r.Name, err)
	}
	return fmt.Sprintf("/proc/%d/root", pid), nil
}

// innerPid is a process's number in its own process namespace.
func innerPid(pid int) (int, error) {
	b, err := state.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(v)
			return strconv.Atoi(f[len(f)-1])
		}
	}
	return pid, nil
}

// debugView mounts a view of a container's files whose changes are thrown away
// by done.
func (e *Engine) debugView(ctx context.Context, r *record) (view string, done func(), err error) {
	snaps, err := e.Snapshots()
	if err != nil {
		return "", nil, err
	}
	mounts, err := e.rootMounts(r)
	if err != nil {
		return "", nil, err
	}
	base := filepath.Join(e.o.Root, "debug")
	e.dropDebugViews(base)
	if len(mounts) == 0 {
		mounts = []oci.Mount{{Type: "bind", Source: r.Options.Rootfs, Options: []string{"rbind"}}}
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", nil, err
	}
	id := state.Self()
	dir := filepath.Join(base, fmt.Sprintf("%d.%d", id.Pid, id.Start))
	view = filepath.Join(dir, "view")
	if err := os.MkdirAll(view, 0o755); err != nil {
		return "", nil, err
	}
	done = func() { dropDebugView(dir) }
	if err := snaps.AttachBeside(mounts[0], dir, view); err != nil {
		done()
		return "", nil, err
	}
	return view, done, nil
}

func dropDebugView(dir string) {
	_ = unix.Unmount(filepath.Join(dir, "view"), unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	if !mounted(filepath.Join(dir, "view")) {
		_ = os.RemoveAll(dir) // overlay's own directory is in it; nothing is below view
	}
}

// dropDebugViews removes what killed commands have left.
func (e *Engine) dropDebugViews(base string) {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, d := range entries {
		pid, start, _ := strings.Cut(d.Name(), ".")
		id := state.ProcessID{}
		id.Pid, _ = strconv.Atoi(pid)
		id.Start, _ = strconv.ParseUint(start, 10, 64)
		if !id.Alive() {
			dropDebugView(filepath.Join(base, d.Name()))
		}
	}
}

// debugVolumes are the container's volumes and directories of the host, to
// look at.
func (e *Engine) debugVolumes(r *record) []Mount {
	var out []Mount
	for _, m := range r.Mounts {
		if m.Type != "volume" && m.Type != "bind" || m.SubPath != "" {
			continue
		}
		if _, err := os.Stat(m.Source); m.Type == "bind" && err != nil {
			continue
		}
		out = append(out, Mount{Type: m.Type, Source: m.Source, Destination: path.Join("/container", m.Destination), Options: []string{"ro", "nocopy"}})
		if m.Type == "bind" {
			out[len(out)-1].Options = []string{"ro"}
		}
	}
	return out
}

// shells are looked for in this order when the user's own is not there.
var shells = []string{"/bin/bash", "/usr/bin/bash", "/bin/zsh", "/bin/ash", "/bin/sh", "/usr/bin/sh", "/busybox/sh"}

// Shell is the path of a shell that a running container has: the one that its
// passwd file names for the user ("" is the container's own), else the first
// that is there.
func (e *Engine) Shell(ctx context.Context, name, user string) (string, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return "", err
	}
	if s.Status != StatusRunning {
		return "", hint(fmt.Errorf("open shell in container %s: it is %s, not running: %w", r.Name, s.Status, ErrState), "look into it with hull debug %s", r.Name)
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", s.Pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", fmt.Errorf("open shell in container %s: %w", r.Name, err)
	}
	defer root.Close()
	candidates := shells
	if own := loginShell(root, firstOf(user, strconv.Itoa(int(r.User.UID)))); own != "" {
		candidates = append([]string{own}, shells...)
	}
	for _, path := range candidates {
		f, err := inroot.Open(root, path, unix.O_PATH, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		f.Close()
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 {
			return path, nil
		}
	}
	return "", hint(fmt.Errorf("open shell in container %s: it has none: %w", r.Name, ErrNotFound), "open one beside it with hull debug %s", r.Name)
}

// loginShell is the last field of a user's line in the root's passwd file.
func loginShell(root *os.File, user string) string {
	f, err := inroot.Open(root, "/etc/passwd", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return ""
	}
	user, _, _ = strings.Cut(user, ":")
	for line := range strings.Lines(string(b)) {
		w := strings.Split(strings.TrimSpace(line), ":")
		if len(w) == 7 && strings.HasPrefix(w[6], "/") && (w[0] == user || w[2] == user) && strings.HasSuffix(w[6], "sh") {
			return w[6]
		}
	}
	return ""
}
