package clifull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"hull/command"
	"hull/engine"
	"hull/oci"
	"hull/remote"
)

// nodePrograms are what a node may have: both take the same flags of build.
var nodePrograms = []string{"hull", "podman"}

// A farmNode is a host that builds. Without a login it is this one.
type farmNode struct {
	name     string
	login    *remote.Login
	platform oci.Platform
}

// nodes are those of the farm, asked for their platforms, and this machine.
// Without any farm it is this machine alone.
func (b *farmBuild) nodes(ctx context.Context) ([]*farmNode, error) {
	known, err := b.s.globals.Connections()
	if err != nil {
		return nil, err
	}
	name := b.farm
	if name == "" {
		name = known.DefaultFarm()
	}
	connections, _, ok := known.Farm(name)
	if !ok && name != "" {
		return nil, noFarm(name)
	}
	var nodes []*farmNode
	for _, c := range connections {
		d, _, ok := known.Connection(c)
		if !ok {
			return nil, fmt.Errorf("farm %q: %w", name, noConnection(c))
		}
		login, err := d.Login()
		if err != nil {
			return nil, fmt.Errorf("farm %q: connection %q: %w", name, c, err)
		}
		nodes = append(nodes, &farmNode{name: c, login: &login})
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		group.Go(func() error { return n.probe(gctx, b) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if b.local {
		nodes = append([]*farmNode{{name: "local", platform: oci.HostPlatform()}}, nodes...)
	}
	if len(nodes) == 0 {
		return nil, &engine.HintError{Err: errors.New("farm build: there is no host to build on"), Text: "add one with hull farm update --add, or leave out --local=false"}
	}
	return nodes, nil
}

// ssh is a script for the node's shell. Nobody is asked for a password: there
// may be several nodes at once.
func (n *farmNode) ssh(ctx context.Context, b *farmBuild, script string, flags ...string) *exec.Cmd {
	c := n.login.Command(ctx, remote.Find(nodePrograms...)+script, append([]string{"-o", "BatchMode=yes"}, flags...)...)
	c.Stderr = &lineWriter{show: func(l string) { b.out.note(n.name, l) }}
	return c
}

// probe asks for the platform.
func (n *farmNode) probe(ctx context.Context, b *farmBuild) error {
	out, err := output(n.ssh(ctx, b, `"$p" info --format '{{.Host.OS}}/{{.Host.Arch}}'`))
	if err == nil {
		n.platform, err = parsePlatform(out)
	}
	if err == nil && n.platform.Architecture == "" {
		err = fmt.Errorf("it says its platform is %q", out)
	}
	if err != nil {
		return fmt.Errorf("ask %s for its platform: %w", n.name, err)
	}
	return nil
}

// output runs c and returns what it writes, without blanks around it.
func output(c *exec.Cmd) (string, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	if w, ok := c.Stderr.(*lineWriter); ok {
		w.flush()
	}
	return strings.TrimSpace(out.String()), err
}

// exitCode is that of a program that failed; 255 is ssh's own.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() < 255 {
		return exit.ExitCode()
	}
	return command.CodeEngine
}

// nodeScript builds in a directory of its own from the archive on standard
// input, which stays open: when its other end goes away, so does the build.
const nodeScript = `umask 077; d=$(mktemp -d "${TMPDIR:-/var/tmp}/hull-farm.XXXXXXXXXX") || exit 125
trap 'rm -rf "$d"' EXIT; trap 'exit 130' HUP INT TERM
tar -xpof - -C "$d" && cd "$d" || exit 125
umask 022
exec 3<&0
"$p" build --iidfile iid %s >%s </dev/null 3<&- & b=$!
(cat >/dev/null; kill $b) <&3 >/dev/null 2>&1 & w=$!
exec 3<&-
c=0; wait $b || c=$?
kill $w 2>/dev/null
[ $c = 0 ] && cat iid
exit $c`

// build builds for one platform and returns the image's ID.
func (n *farmNode) build(ctx context.Context, b *farmBuild, p oci.Platform) (oci.Digest, error) {
	if n.login == nil {
		return b.buildHere(ctx, n, p)
	}
	load, err := b.shipment()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var flags []string
	if len(b.ssh) > 0 {
		flags = append(flags, "-A")
	}
	argv := append(load.words, "--platform="+p.String(), load.context)
	stdout := "&2"
	if b.quiet {
		stdout = "/dev/null"
	}
	c := n.ssh(ctx, b, fmt.Sprintf(nodeScript, remote.Words(argv...), stdout), flags...)
	in, err := c.StdinPipe()
	if err != nil {
		return "", err
	}
	sent := make(chan error, 1)
	go func() {
		err := load.write(ctx, in)
		if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
			cancel(err)
		}
		sent <- err
	}()
	out, err := output(c)
	in.Close()
	<-sent
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return "", cause
	}
	if err != nil {
		return "", err
	}
	return imageID(out)
}

// imageID is the last line of what a build printed.
func imageID(out string) (oci.Digest, error) {
	id := oci.Digest(out[strings.LastIndexByte(out, '\n')+1:])
	if err := id.Validate(); err != nil {
		return "", fmt.Errorf("read the image's ID: %w", err)
	}
	return id, nil
}

// buildHere builds on this machine, from the files where they are.
func (b *farmBuild) buildHere(ctx context.Context, n *farmNode, p oci.Platform) (oci.Digest, error) {
	dir, err := os.MkdirTemp("", "hull-farm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	iid := filepath.Join(dir, "iid")
	argv := append([]string{"build", "--iidfile", iid, "--platform=" + p.String()}, b.words...)
	for name, list := range map[string][]string{"file": b.files, "secret": b.secrets, "ssh": b.ssh, "build-context": b.contexts, "build-arg-file": b.argFiles, "build-arg": b.args, "env": b.env} {
		for _, v := range list {
			argv = append(argv, "--"+name+"="+v)
		}
	}
	for _, v := range b.sent {
		argv = append(argv, "--"+v.name+"="+v.value)
	}
	if b.ignoreFile != "" {
		argv = append(argv, "--ignorefile="+b.ignoreFile)
	}
	w := &lineWriter{show: func(l string) { b.out.note(n.name, l) }}
	if _, err := b.self(ctx, w, append(argv, b.options().Context)...); err != nil {
		return "", err
	}
	id, err := os.ReadFile(iid)
	if err != nil {
		return "", err
	}
	return imageID(string(id))
}

// self runs this program. Its errors go to errs, or to the user.
func (b *farmBuild) self(ctx context.Context, errs *lineWriter, argv ...string) (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own executable: %w", err)
	}
	c := exec.CommandContext(ctx, path, append(b.s.globals.Argv(), argv...)...)
	c.Args[0] = b.s.program
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.Stderr = b.s.stderr
	if errs != nil {
		c.Stderr = errs
	}
	out, err := output(c)
	if errs != nil && !b.quiet {
		errs.lines(out)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 && errs == nil {
		return out, &command.Exit{Code: exit.ExitCode()} // the child has said why
	}
	return out, err
}

// bring copies a job's image into the store here.
func (n *farmNode) bring(ctx context.Context, b *farmBuild, j *job) error {
	if n.login == nil {
		return nil
	}
	b.say(n.name, "fetch "+j.id.Hex())
	save := n.ssh(ctx, b, `"$p" save --format oci-archive `+remote.Quote(j.id.Hex()))
	archive, err := save.StdoutPipe()
	if err != nil {
		return err
	}
	if err := save.Start(); err != nil {
		return err
	}
	id, lerr := b.load(ctx, archive, j.platform)
	io.Copy(io.Discard, archive)
	serr := save.Wait()
	save.Stderr.(*lineWriter).flush()
	switch {
	case serr != nil: // a cut archive is not the reader's fault
		return serr
	case lerr != nil:
		return lerr
	case id != string(j.id):
		return fmt.Errorf("it built image %s and sent %s", j.id, id)
	}
	return nil
}

// load has a child store an archive.
func (b *farmBuild) load(ctx context.Context, archive io.Reader, p oci.Platform) (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own executable: %w", err)
	}
	c := exec.CommandContext(ctx, path, append(b.s.globals.Argv(), "internal-farm", "load", p.String())...)
	c.Args[0], c.Stdin, c.Stderr = b.s.program, archive, b.s.stderr
	return output(c)
}

// remove takes an image away from where it was built.
func (n *farmNode) remove(ctx context.Context, b *farmBuild, id oci.Digest) error {
	if n.login == nil {
		return nil
	}
	_, err := output(n.ssh(ctx, b, `"$p" rmi --force `+remote.Quote(id.Hex())))
	return err
}

// A lineWriter shows whole lines. It is written by one goroutine at a time.
type lineWriter struct {
	show func(string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.show(strings.TrimSuffix(string(w.rest[:i]), "\r"))
		w.rest = w.rest[i+1:]
	}
}

func (w *lineWriter) lines(text string) {
	for l := range strings.Lines(text) {
		w.show(strings.TrimSuffix(l, "\n"))
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.show(string(w.rest))
		w.rest = nil
	}
}
