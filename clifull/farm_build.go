package clifull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"hull/command"
	"hull/oci"
)

// notOnFarms are flags of build that say where it is done or how one terminal
// sees it; farm build has its own or needs none.
var notOnFarms = []string{
	"all-platforms", "arch", "attest", "call", "check", "debug-on-error", "iidfile", "iidfile-raw", "load", "logfile", "logsplit", "manifest", "metadata-file",
	"os", "output", "platform", "progress", "provenance", "push", "quiet", "sign-by", "stdin", "tag", "variant",
}

// sentFiles are flags whose value is a file of this machine, which the nodes
// are sent; listFlags are those that are given once for several values.
var sentFiles = []string{"authfile", "cert-dir", "decryption-key", "source-policy-file"}

// A farmBuild is one command line of farm build.
type farmBuild struct {
	s                   *session
	farm                string
	local, cleanup      bool
	quiet, rawID        bool
	platforms, tags     []string
	iidFile, logFile    string
	files, secrets, ssh []string
	contexts, args      []string
	argFiles, env       []string
	ignoreFile          string
	sent                []flagValue // of sentFiles
	words               []string    // the other flags, as they were given
	registry            []string    // of them, those that push needs too
	context             string
	out                 *nodeOutput
}

type flagValue struct{ name, value string }

func (s *session) farmBuild() *command.Command {
	b := &farmBuild{s: s}
	return &command.Command{
		Usage: "[options] [CONTEXT]",
		Long: "Builds an image on each host of a farm (hull farm create), natively for the host's platform, and here, and makes a manifest list\n" +
			"of the results. The CONTEXT, Containerfiles and secrets are sent by ssh, and the images come back the same way. When the name of\n" +
			"--tag is a registry's, the list is pushed there. A platform of --platforms that no host has is built by emulation.",
		Examples: []string{"farm build -t registry.example.com/app:1 .", "farm build --farm arms --local=false --platforms linux/arm64 -t app ."},
		Args:     command.AtMost(1),
		Flags:    b.declare,
		Run:      b.run,
	}
}

func (b *farmBuild) declare(f *command.Flags) {
	f.StringVar(&b.farm, "farm", "", "Farm to build on (default the default farm)")
	f.BoolVarP(&b.local, "local", "l", true, "Build on this machine too")
	f.BoolVar(&b.cleanup, "cleanup", false, "Remove the images from the hosts when they have come")
	f.StringSliceVar(&b.platforms, "platforms", nil, "Platforms to build for: OS/ARCH (default those of the hosts)")
	f.StringArrayVarP(&b.tags, "tag", "t", nil, "Name of the manifest list")
	f.StringVar(&b.iidFile, "iidfile", "", "Write the ID of the list to the file")
	f.BoolVar(&b.rawID, "iidfile-raw", false, "Write the ID without its algorithm")
	f.StringVar(&b.logFile, "logfile", "", "Write the output to the file instead of the terminal")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "Print the ID of the list only")
	f.Completion("farm", b.s.completeFarms)
	own := &buildFlags{}
	f.Record(own.declare, func(name string) bool { return f.Lookup(name) == nil && !slices.Contains(notOnFarms, name) }, b.given)
}

// given notes a flag of build: what is of this machine is translated for the
// nodes, the rest is passed on as it is.
func (b *farmBuild) given(name, value string) {
	lists := map[string]*[]string{"file": &b.files, "secret": &b.secrets, "ssh": &b.ssh, "build-context": &b.contexts, "build-arg": &b.args, "build-arg-file": &b.argFiles, "env": &b.env}
	switch list := lists[name]; {
	case list != nil:
		*list = append(*list, value)
	case name == "ignorefile":
		b.ignoreFile = value
	case slices.Contains(sentFiles, name):
		b.sent = append(b.sent, flagValue{name, value})
	default:
		b.words = append(b.words, "--"+name+"="+value)
	}
	if slices.Contains([]string{"authfile", "cert-dir", "creds", "tls-verify"}, name) {
		b.registry = append(b.registry, "--"+name+"="+value)
	}
}

func (b *farmBuild) run(ctx context.Context, args []string) (err error) {
	s := b.s
	if err := s.globals.Check(); err != nil {
		return err
	}
	names, err := b.names()
	if err != nil {
		return err
	}
	b.context = strings.Join(args, "")
	if b.quiet {
		b.words = append(b.words, "--quiet") // errors are shown all the same
	}
	if err := b.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if b.out, err = newNodeOutput(s, b.logFile); err != nil {
		return err
	}
	defer b.out.close()
	nodes, err := b.nodes(ctx)
	if err != nil {
		return err
	}
	jobs, err := b.schedule(nodes)
	if err != nil {
		return err
	}
	if err := b.buildAll(ctx, jobs); err != nil {
		return err
	}
	id, err := b.makeList(ctx, jobs, names)
	if err != nil {
		return err
	}
	if b.iidFile != "" {
		text := id
		if b.rawID {
			text = oci.Digest(id).Hex()
		}
		if err := os.WriteFile(b.iidFile, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if err := b.pushAll(ctx, names); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, oci.Digest(id).Hex())
	return nil
}

// names are those of the list.
func (b *farmBuild) names() ([]oci.Reference, error) {
	if len(b.tags) == 0 {
		return nil, errors.New("farm build: the list needs a name: give one with --tag")
	}
	f := buildFlags{tags: b.tags}
	err := f.setNames(&f.o)
	return f.o.Names, err
}

// check refuses what cannot be sent, before anybody is asked.
func (b *farmBuild) check() error {
	if b.context == "-" || slices.Contains(b.files, "-") {
		return errors.New("farm build: standard input can be read once only; use a file")
	}
	for _, a := range b.ssh {
		if a != "default" {
			return fmt.Errorf("farm build --ssh %s: keys stay where they are; the agent goes along as --ssh default", a)
		}
	}
	f := buildFlags{secrets: b.secrets, o: b.options()}
	if err := f.setSecrets(&f.o); err != nil {
		return err
	}
	_, err := (&buildFlags{args: b.args, argFiles: b.argFiles}).buildArgs()
	return err
}

// A job is a platform with the node that builds for it.
type job struct {
	node     *farmNode
	platform oci.Platform
	id       oci.Digest // of the image
}

// schedule gives each platform to the first node of that platform, or, when
// none is, to the first of all. Without --platforms, each node's is built.
func (b *farmBuild) schedule(nodes []*farmNode) ([]*job, error) {
	var want []oci.Platform
	for _, text := range b.platforms {
		p, err := parsePlatform(text)
		if err != nil {
			return nil, err
		}
		want = append(want, p)
	}
	if len(want) == 0 {
		for _, n := range nodes {
			want = append(want, n.platform)
		}
	}
	var jobs []*job
	for _, p := range want {
		if slices.ContainsFunc(jobs, func(j *job) bool { return j.platform.String() == p.String() }) {
			continue
		}
		i := slices.IndexFunc(nodes, func(n *farmNode) bool { return n.platform.OS == p.OS && n.platform.Architecture == p.Architecture })
		jobs = append(jobs, &job{node: nodes[max(i, 0)], platform: p})
	}
	return jobs, nil
}

// buildAll builds on all nodes at once, and on each one platform after the
// other. The first that fails ends the others.
func (b *farmBuild) buildAll(ctx context.Context, jobs []*job) error {
	byNode := map[*farmNode][]*job{}
	for _, j := range jobs {
		byNode[j.node] = append(byNode[j.node], j)
	}
	group, gctx := errgroup.WithContext(ctx)
	for node, list := range byNode {
		group.Go(func() error {
			for _, j := range list {
				b.say(node.name, "build for "+j.platform.String())
				id, err := node.build(gctx, b, j.platform)
				if err != nil {
					return command.WithCode(exitCode(err), fmt.Errorf("build on %s for %s: %w", node.name, j.platform, err))
				}
				j.id = id
			}
			return nil
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// makeList brings the images and puts them into the list. All have been built
// by then, so nothing comes of a build that failed elsewhere.
func (b *farmBuild) makeList(ctx context.Context, jobs []*job, names []oci.Reference) (string, error) {
	argv := []string{"internal-farm", "list", joinNames(names)}
	for _, j := range jobs {
		if err := j.node.bring(ctx, b, j); err != nil {
			return "", fmt.Errorf("fetch the image from %s: %w", j.node.name, err)
		}
		argv = append(argv, j.platform.String()+"="+string(j.id))
	}
	out, err := b.self(ctx, nil, argv...)
	if err != nil {
		return "", err
	}
	if b.cleanup {
		for _, j := range jobs {
			if err := j.node.remove(ctx, b, j.id); err != nil {
				b.s.warn(fmt.Sprintf("remove the image from %s: %v", j.node.name, err))
			}
		}
	}
	return out, nil
}

// pushAll pushes the list under the names that are a registry's.
func (b *farmBuild) pushAll(ctx context.Context, names []oci.Reference) error {
	for _, n := range names {
		if n.Domain == "localhost" {
			continue
		}
		b.say("list", "push "+n.String())
		argv := append([]string{"manifest", "push", "--quiet"}, b.registry...)
		if _, err := b.self(ctx, nil, append(argv, n.String(), "docker://"+n.String())...); err != nil {
			return err
		}
	}
	return nil
}

// say tells what goes on, if the user wants to know.
func (b *farmBuild) say(node, text string) {
	if !b.quiet {
		b.out.note(node, text)
	}
}

// A nodeOutput shows what the nodes say, each line with its node's name.
type nodeOutput struct {
	w    io.Writer
	file *os.File
	line chan string
	done chan struct{}
}

func newNodeOutput(s *session, logFile string) (*nodeOutput, error) {
	o := &nodeOutput{w: s.stderr, line: make(chan string), done: make(chan struct{})}
	if logFile != "" {
		f, err := os.OpenFile(filepath.Clean(logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open --logfile: %w", err)
		}
		o.file, o.w = f, f
	}
	go func() {
		defer close(o.done)
		for l := range o.line {
			io.WriteString(o.w, l)
		}
	}()
	return o, nil
}

func (o *nodeOutput) close() {
	close(o.line)
	<-o.done
	if o.file != nil {
		o.file.Close()
	}
}

func (o *nodeOutput) note(node, text string) {
	o.line <- "[" + node + "] " + command.Printable(text) + "\n"
}
