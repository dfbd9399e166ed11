package test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/depot"
	"hull/hack/stepper"
)

// A lab is a store with hull upon it in namespaces of its own: processes,
// mounts and network interfaces that are seen there are the store's.
type lab struct {
	dir, hull string
	env       []string
	base      baseline
	problems  []string
	pid       string // of the witness that runs
	contents  map[string]content
	// ids are the containers that the events tell of, up to eventsRead of them.
	ids        map[string]bool
	eventsRead int
}

// A labResult is how a command ended; late says that it did not.
type labResult struct {
	code int
	out  string
	errs string
	late bool
}

func (r labResult) String() string {
	text := fmt.Sprintf("exit code %d", r.code)
	if r.late {
		text = "no end after " + labPatience.String()
	}
	return text + ": " + strings.TrimSpace(r.out+r.errs)
}

// labPatience is how long a command may take; I7 has 10 s for a dead peer.
const labPatience = 30 * time.Second

func (l *lab) globals() []string {
	return []string{"--root", filepath.Join(l.dir, "root"), "--runroot", filepath.Join(l.dir, "run")}
}

// run runs hull, untraced, to its end.
func (l *lab) run(args ...string) labResult {
	ctx, cancel := context.WithTimeout(context.Background(), labPatience)
	defer cancel()
	out, errs := l.file("stdout"), l.file("stderr")
	defer out.Close()
	defer errs.Close()
	c := exec.CommandContext(ctx, l.hull, append(l.globals(), args...)...)
	c.Env, c.Dir, c.Stdout, c.Stderr = l.env, l.dir, out, errs
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return labResult{code: -1, errs: err.Error()}
	}
	return labResult{c.ProcessState.ExitCode(), l.text("stdout"), l.text("stderr"), ctx.Err() != nil}
}

// must runs hull, which must succeed, and returns its output.
func (l *lab) must(args ...string) string {
	r := l.run(args...)
	if r.code != 0 || r.late {
		l.problem("hull %s: %s", strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.out)
}

func (l *lab) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// file makes an output file anew.
func (l *lab) file(name string) *os.File {
	f, err := os.Create(filepath.Join(l.dir, "io", name))
	if err != nil {
		panic(err)
	}
	return f
}

func (l *lab) text(name string) string {
	b, _ := os.ReadFile(filepath.Join(l.dir, "io", name))
	return string(b)
}

// traced runs hull under the stepper.
func (l *lab) traced(c *crashCase, action stepper.Action, set stepper.Set, at, choose int) (labResult, *stepper.Run) {
	ctx, cancel := context.WithTimeout(context.Background(), labPatience)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return labResult{code: -1, errs: err.Error()}, nil
	}
	out, errs := l.file("traced-out"), l.file("traced-err")
	defer out.Close()
	defer errs.Close()
	r, err := stepper.Start(stepper.Options{Launcher: self, Argv: append(append([]string{l.hull}, l.globals()...), c.argv(l)...), Env: l.env, Dir: l.dir,
		Stdout: out, Stderr: errs, Action: action, Set: set, At: at, Choose: choose, Lose: true, Skip: func(file string) bool { return strings.HasPrefix(file, filepath.Join(l.dir, "io")+"/") },
		Each: l.each()})
	if err != nil {
		return labResult{code: -1, errs: err.Error()}, nil
	}
	status, err := r.Wait(ctx)
	if err == nil && (c.wait || action == stepper.KillTree && r.Hit() != nil) {
		err = r.WaitAll(ctx)
	}
	r.Disarm()
	res := labResult{code: status.ExitStatus(), out: l.text("traced-out"), errs: l.text("traced-err")}
	if status.Signaled() {
		res.code = 128 + int(status.Signal())
	}
	if err != nil {
		res.late, res.errs = true, res.errs+err.Error()
		l.killAll()
	}
	return res, r
}

// each prints every point, for who looks at one.
func (l *lab) each() func(stepper.Point) {
	if os.Getenv("CRASH_TRACE") == "" {
		return nil
	}
	return func(p stepper.Point) { fmt.Fprintf(os.Stderr, "%d %s\n", p.Pid, p) }
}

// newLab makes a lab in the calling process's namespaces, which are its own.
func newLab(dir, hull string) (*lab, error) {
	l := &lab{dir: dir, hull: hull, contents: map[string]content{}, ids: map[string]bool{}}
	l.env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm",
		"HOME=" + filepath.Join(dir, "home"), "XDG_RUNTIME_DIR=" + filepath.Join(dir, "xdg"), "TMPDIR=" + filepath.Join(dir, "tmp")}
	// A file system in memory syncs for nothing: kills do not ask for more.
	if err := unix.Mount("crash", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount a file system for the store: %w", err)
	}
	for _, d := range []string{"io", "home", "xdg", "tmp", "out", "in", "depot"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bring lo up: %w: %s", err, out)
	}
	if err := l.inputs(); err != nil {
		return nil, err
	}
	if err := l.registry(); err != nil {
		return nil, err
	}
	return l, l.rebuild()
}

// registry serves a registry on a loopback address of the lab's own network.
func (l *lab) registry() error {
	s, err := depot.Open(filepath.Join(l.dir, "depot"))
	if err != nil {
		return err
	}
	n, err := net.Listen("tcp", labRegistry)
	if err != nil {
		return err
	}
	go http.Serve(n, s.Handler())
	return nil
}

const labRegistry = "127.0.0.1:5000"

// inputs writes the archives that commands read.
func (l *lab) inputs() error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	write := func(name string, files map[string]string) error {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "root", "run", "tmp"} {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		for name, text := range files {
			h := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(text)), Uid: 7, Gid: 8}
			if err := w.WriteHeader(&h); err != nil {
				return err
			}
			if _, err := w.Write([]byte(text)); err != nil {
				return err
			}
		}
		for _, a := range strings.Fields("sh true sleep cat echo") {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox"}); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(l.dir, "in", name), b.Bytes(), 0o644)
	}
	if err := write("keep.tar", map[string]string{"bin/busybox": string(busybox), "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"}); err != nil {
		return err
	}
	if err := write("victim.tar", map[string]string{"etc/a": strings.Repeat("a", 70000), "etc/b": "b"}); err != nil {
		return err
	}
	for name, text := range map[string]string{"secret": "hush\n", "other": "other\n", "ctx/Containerfile": "FROM localhost/keep:1\nCOPY file /file\nRUN echo run >/ran\n", "ctx/file": "file\n"} {
		name = filepath.Join(l.dir, "in", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) in(name string) string  { return filepath.Join(l.dir, "in", name) }
func (l *lab) out(name string) string { return filepath.Join(l.dir, "out", name) }

// rebuild makes the store anew, with one witness of each kind: what is
// acknowledged and must be there, and equal, after everything.
func (l *lab) rebuild() error {
	l.killAll()
	l.unmountAll()
	for _, d := range []string{"root", "run", "out", "tmp", "home", "xdg"} {
		if err := os.RemoveAll(filepath.Join(l.dir, d)); err != nil {
			return err
		}
	}
	for _, d := range []string{"out", "tmp", "home", "xdg"} {
		if err := os.Mkdir(filepath.Join(l.dir, d), 0o755); err != nil {
			return err
		}
	}
	l.unlinkAll()
	l.problems, l.eventsRead = nil, 0
	os.Remove(l.in("image.tar"))
	for _, args := range [][]string{
		{"import", "-q", l.in("victim.tar"), "localhost/victim:1"},
		{"save", "-q", "-o", l.in("image.tar"), "localhost/victim:1"},
		{"push", "-q", "--tls-verify=false", "localhost/victim:1", labRegistry + "/victim:1"},
		{"rmi", "localhost/victim:1"},
		{"import", "-q", l.in("keep.tar"), "localhost/keep:1"},
		{"volume", "create", "keepv"}, {"network", "create", "keepn"}, {"secret", "create", "keeps", l.in("secret")}, {"pod", "create", "--name", "keepp"},
		{"run", "--name", "keepc", "-v", "keepv:/v", "localhost/keep:1", "sh", "-c", "echo kept >/kept; echo kept >/v/kept"},
		{"run", "--rm", "--network", "keepn", "localhost/keep:1", "true"},
		{"run", "-d", "--name", "live", "-v", "keepv:/v", "localhost/keep:1", "sleep", "100000"},
	} {
		l.must(args...)
	}
	l.pid = l.must("inspect", "-f", "{{.State.Pid}}", "live")
	if len(l.problems) > 0 {
		return fmt.Errorf("prepare the store: %s", strings.Join(l.problems, "\n"))
	}
	// What ended a moment ago, the kernel takes away in its own time.
	for now := l.look(); ; now = l.base {
		time.Sleep(150 * time.Millisecond)
		if l.base = l.look(); maps.Equal(now, l.base) {
			return nil
		}
	}
}

// containers are the states of all containers by name.
func (l *lab) state(name string) string {
	r := l.run("inspect", "--type", "container", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)
	if r.code != 0 {
		return ""
	}
	return strings.TrimSpace(r.out)
}

func (l *lab) has(kind, name string) bool { return l.run(kind, "exists", name).code == 0 }
