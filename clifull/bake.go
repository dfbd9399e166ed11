package clifull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hull/bake"
	"hull/command"
	"hull/oci"
)

// bakeFlags are the flags of bake; what is about all builds is passed on to
// each as the flags of build.
type bakeFlags struct {
	files, vars, set, allow []string
	print, push, load       bool
	check                   bool
	list, metadataFile      string
	build                   []string // flags for every build
}

func (s *session) bake() *command.Command {
	b := &bakeFlags{}
	return &command.Command{
		Usage: "[options] [TARGET...]",
		Long: "Builds the images that a bake file describes: those of the targets and groups that are named, or of \"default\".\n" +
			"The files are " + strings.Join(bake.Names, ", ") + " of this directory, as far as they are there.",
		Examples: []string{"buildx bake", "buildx bake --print app", "buildx bake --file bake.hcl --set app.tags=app:2 --var VERSION=2 app"},
		Flags:    b.declare,
		Run:      func(ctx context.Context, args []string) error { return s.runBake(ctx, b, args) },
	}
}

func (b *bakeFlags) declare(f *command.Flags) {
	f.String("builder", "", "Docker's: there is one builder, hull itself")
	f.Hide("builder")
	f.StringArrayVarP(&b.files, "file", "f", nil, "Bake file; - is standard input (may be given several times)")
	f.StringArrayVar(&b.vars, "var", nil, "Set a variable of the file: NAME=VALUE")
	f.StringArrayVar(&b.set, "set", nil, "Set an attribute of targets: PATTERN.KEY=VALUE, PATTERN.KEY+=VALUE to add")
	f.StringArrayVar(&b.allow, "allow", nil, "Privilege that RUN may ask for: security.insecure, network.host, device")
	f.BoolVar(&b.print, "print", false, "Print the targets as JSON, and build nothing")
	f.StringVar(&b.list, "list", "", "List the targets or variables of the file, and build nothing")
	f.Words("list", "targets", "variables")
	f.BoolVar(&b.check, "check", false, "Check the Containerfiles by their rules, and build nothing")
	f.BoolVar(&b.push, "push", false, "Push the images under their names")
	f.BoolVar(&b.load, "load", false, "Images are always stored: for compatibility")
	f.Hide("load")
	f.StringVar(&b.metadataFile, "metadata-file", "", "Write what is known of the images to the file, as JSON")
	for _, x := range []struct{ name, none, usage string }{
		{"no-cache", "true", "Do every step anew"},
		{"pull", "always", "When to pull base images: always, missing, never, newer"},
		{"progress", "", "How to show what goes on: auto, plain, tty, quiet, json"},
		{"provenance", "true", "Same as --attest type=provenance of every target"},
		{"sbom", "true", "Same as --attest type=sbom of every target"},
		{"jobs", "", "How many steps of a target to do at once"},
		{"tls-verify", "true", "Require HTTPS and verify certificates when contacting registries"},
	} {
		f.Func(x.name, "", "string", x.usage, func(v string) error {
			b.build = append(b.build, "--"+x.name+"="+v)
			return nil
		})
		f.Lookup(x.name).NoOptDefVal = x.none
	}
}

// loadBake reads the bake files.
func (s *session) loadBake(b *bakeFlags) (*bake.File, error) {
	vars, err := keyValues("var", b.vars)
	if err != nil {
		return nil, err
	}
	files := b.files
	if len(files) == 0 {
		files = bake.Find(".")
	}
	f, err := bake.Load(files, func(name string) ([]byte, error) {
		if name == "-" {
			return io.ReadAll(s.stdin)
		}
		return os.ReadFile(name)
	}, bake.Options{Vars: vars, Env: os.LookupEnv, Set: b.set,
		Builtin: map[string]string{"BAKE_CMD_CONTEXT": ".", "BAKE_LOCAL_PLATFORM": oci.HostPlatform().String()}})
	if errors.Is(err, bake.ErrNoFile) {
		return nil, fmt.Errorf("%w: it is one of %s, or --file names it", err, strings.Join(bake.Names, ", "))
	}
	return f, err
}

func (s *session) runBake(ctx context.Context, b *bakeFlags, names []string) error {
	f, err := s.loadBake(b)
	if err != nil {
		return err
	}
	if b.list != "" {
		return s.listBake(f, b.list)
	}
	targets, err := f.Resolve(names...)
	if err != nil {
		return err
	}
	if b.print {
		return s.printBake(f, targets, names)
	}
	dir, err := os.MkdirTemp("", "hull-bake-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	meta := map[string]json.RawMessage{}
	for _, t := range targets {
		if err := s.bakeOne(ctx, b, t, dir, meta); err != nil {
			return fmt.Errorf("target %s: %w", t.Name, err)
		}
	}
	if b.metadataFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(meta, "", "  ")
	if err == nil {
		err = os.WriteFile(b.metadataFile, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}

// bakeOne builds one target; dir holds the IDs of those that were built before.
func (s *session) bakeOne(ctx context.Context, b *bakeFlags, t *bake.Target, dir string, meta map[string]json.RawMessage) error {
	file := filepath.Join(dir, t.Name)
	argv, err := b.argv(t, dir)
	if err != nil {
		return err
	}
	argv = append(argv, b.build...)
	for _, a := range b.allow {
		argv = append(argv, "--allow="+a)
	}
	if b.push && !t.Linked {
		argv = append(argv, "--push")
	}
	if b.check {
		argv = append(argv, "--check")
	} else {
		argv = append(argv, "--iidfile="+file, "--metadata-file="+file+".json")
	}
	bf := &buildFlags{}
	args, err := command.ParseFlags("build", append(argv, t.Context), bf.declare)
	if err != nil {
		return err
	}
	if err := s.runBuild(ctx, bf, args); err != nil {
		return err
	}
	if data, err := os.ReadFile(file + ".json"); err == nil {
		meta[t.Name] = data
	}
	return nil
}

// argv is a target as the flags of build.
func (b *bakeFlags) argv(t *bake.Target, dir string) ([]string, error) {
	var argv []string
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				argv = append(argv, "--"+flag+"="+v)
			}
		}
	}
	addMap := func(flag string, m map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			argv = append(argv, "--"+flag+"="+k+"="+m[k])
		}
	}
	file, err := containerfileOf(t, dir)
	if err != nil {
		return nil, err
	}
	add("file", file)
	addMap("build-arg", t.Args)
	addMap("label", t.Labels)
	addMap("add-host", t.ExtraHosts)
	for _, n := range slices.Sorted(maps.Keys(t.Contexts)) {
		where, err := b.contextOf(t.Contexts[n], dir)
		if err != nil {
			return nil, err
		}
		add("build-context", n+"="+where)
	}
	if !t.Linked {
		add("tag", t.Tags...)
		add("output", t.Output...)
		add("cache-to", t.CacheTo...)
		add("attest", t.Attest...)
	}
	add("annotation", t.Annotations...)
	add("cache-from", t.CacheFrom...)
	add("target", t.Stage)
	add("secret", t.Secret...)
	add("ssh", t.SSH...)
	add("platform", t.Platforms...)
	add("no-cache-filter", t.NoCacheFilter...)
	add("network", t.Network)
	add("shm-size", t.ShmSize)
	add("ulimit", t.Ulimits...)
	add("call", t.Call)
	add("allow", t.Entitlements...)
	if t.Pull {
		add("pull", "always")
	}
	if t.NoCache {
		add("no-cache", "true")
	}
	return argv, nil
}

// containerfileOf is the file of a target; one that the bake file holds itself is
// written to dir. "" is the context's own.
func containerfileOf(t *bake.Target, dir string) (string, error) {
	file := t.Dockerfile
	switch {
	case t.DockerfileInline != "":
		file = filepath.Join(dir, t.Name+".Containerfile")
		return file, os.WriteFile(file, []byte(t.DockerfileInline), 0o600)
	case file != "" && !filepath.IsAbs(file) && !strings.Contains(file, "://") && !strings.Contains(t.Context, "://"):
		return filepath.Join(t.Context, file), nil // as it lies there
	}
	return file, nil
}

// contextOf is a further context as a build takes it: the image of another
// target has its ID in dir.
func (b *bakeFlags) contextOf(where, dir string) (string, error) {
	target, ok := strings.CutPrefix(where, "target:")
	if !ok {
		return where, nil
	}
	id, err := os.ReadFile(filepath.Join(dir, target))
	if b.check {
		id, err = []byte("localhost/"+strings.ToLower(target)), nil // rules do not look into it
	}
	if err != nil {
		return "", fmt.Errorf("the image of target %s: %w", target, err)
	}
	return "docker-image://" + strings.TrimPrefix(string(id), "sha256:"), nil
}

// printBake prints groups and targets as buildx does.
func (s *session) printBake(f *bake.File, targets []*bake.Target, names []string) error {
	groups, err := f.Groups()
	if err != nil {
		return err
	}
	type group struct {
		Targets []string `json:"targets"`
	}
	out := struct {
		Group  map[string]group        `json:"group,omitempty"`
		Target map[string]*bake.Target `json:"target"`
	}{map[string]group{}, map[string]*bake.Target{}}
	var direct []string
	for _, t := range targets {
		out.Target[t.Name] = t
		if !t.Linked {
			direct = append(direct, t.Name)
		}
	}
	if len(names) == 0 {
		names = []string{"default"}
	}
	for _, n := range names {
		if g, ok := groups[n]; ok {
			out.Group[n] = group{g}
		}
	}
	if _, ok := out.Group["default"]; !ok {
		out.Group["default"] = group{direct}
	}
	e := json.NewEncoder(s.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func (s *session) listBake(f *bake.File, what string) error {
	switch what {
	case "variables":
		vars, err := f.Variables()
		if err != nil {
			return err
		}
		for _, n := range slices.Sorted(maps.Keys(vars)) {
			fmt.Fprintf(s.stdout, "%s\t%s\n", n, command.Printable(vars[n]))
		}
		return nil
	case "targets":
		groups, err := f.Groups()
		if err != nil {
			return err
		}
		for _, n := range f.Targets() {
			fmt.Fprintln(s.stdout, n)
		}
		for _, n := range slices.Sorted(maps.Keys(groups)) {
			fmt.Fprintf(s.stdout, "%s\t%s\n", n, strings.Join(groups[n], ", "))
		}
		return nil
	}
	return fmt.Errorf("--list %s: there are targets and variables", strconv.Quote(what))
}
