package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"hull/inroot"
	"hull/layer"
	"hull/oci"
)

var (
	update = flag.Bool("update", false, "rewrite what the corpus expects")
	peer   = flag.String("peer", "", "command line of podman: build the corpus with it too, and print what differs")
)

// A corpusCase is one Containerfile of testdata: NAME/Containerfile, the files of
// its context, NAME/args (flags, one a line), NAME/stdin, NAME/env, NAME/want,
// and NAME/peer, which says why podman's result is another.
type corpusCase struct {
	name  string
	files map[string][]byte
}

func (c *corpusCase) lines(name string) []string {
	var all []string
	for l := range strings.Lines(string(c.files[name])) {
		if l = strings.TrimSpace(l); l != "" {
			all = append(all, l)
		}
	}
	return all
}

// own are the files of a case that do not belong to its context.
var own = []string{"args", "want", "stdin", "peer", "env", "context"}

func TestCorpus(t *testing.T) {
	h := newHull(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	total := 0
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases := casesOf(t, a)
		total += len(cases)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { h.check(t, c) })
			}
		})
		if *update {
			writeCases(t, file, a, cases)
		}
	}
	t.Logf("%d Containerfiles", total)
	if *peer != "" {
		t.Logf("with %s: %v", *peer, h.verdicts)
	}
}

func casesOf(t *testing.T, a *txtar.Archive) []*corpusCase {
	t.Helper()
	var all []*corpusCase
	for _, f := range a.Files {
		name, file, ok := strings.Cut(f.Name, "/")
		if !ok {
			t.Fatalf("%s: want CASE/FILE", f.Name)
		}
		if len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, &corpusCase{name: name, files: map[string][]byte{}})
		}
		all[len(all)-1].files[file] = f.Data
	}
	return all
}

// writeCases rewrites the wants; the order of the files stays.
func writeCases(t *testing.T, file string, a *txtar.Archive, cases []*corpusCase) {
	var out []txtar.File
	for _, c := range cases {
		for _, f := range a.Files {
			if strings.HasPrefix(f.Name, c.name+"/") && f.Name != c.name+"/want" {
				out = append(out, f)
			}
		}
		out = append(out, txtar.File{Name: c.name + "/want", Data: c.files["want"]})
	}
	a.Files = out
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// check builds a case and compares the result with what is wanted.
func (h *hull) check(t *testing.T, c *corpusCase) {
	dir := c.lay(t)
	got := h.build(t, c, dir)
	if *update {
		c.files["want"] = []byte(got)
	}
	if want := string(c.files["want"]); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if *peer == "" {
		return
	}
	h.compare(t, c, got, h.peer(t, c, dir))
}

// compare counts how a peer's result is to ours: file tree and configuration,
// or that both refuse the file, with the same exit status.
func (h *hull) compare(t *testing.T, c *corpusCase, ours, theirs string) {
	why := strings.TrimSpace(string(c.files["peer"]))
	if strings.HasPrefix(ours, "stderr: ") { // of the peer's only the result is kept
		if i := strings.LastIndex(ours, "\nconfig "); i >= 0 {
			ours = ours[strings.Index(ours, "\n")+1:]
		}
	}
	status := func(s string) string { first, _, _ := strings.Cut(s, "\n"); return first }
	verdict := "unexplained"
	switch {
	case ours == theirs:
		verdict = "same"
	case strings.HasPrefix(ours, "exit ") && status(ours) == status(theirs):
		verdict = "refused by both"
	case why != "":
		verdict = "explained"
	}
	h.verdicts[verdict]++
	if verdict == "explained" || verdict == "unexplained" {
		t.Logf("PEER %s: %s (%s)\nours:\n%s\ntheirs:\n%s", c.name, verdict, why, ours, theirs)
	} else if why != "" {
		t.Logf("PEER %s: %s, though: %s", c.name, verdict, why)
	}
}

// TestCorpusDifferences keeps docs/corpus.md, which tells where podman's results
// are others, and why.
func TestCorpusDifferences(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	reasons := map[string][]string{}
	total, different := 0, 0
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range casesOf(t, a) {
			total++
			if why := strings.TrimSpace(string(c.files["peer"])); why != "" {
				different++
				reasons[why] = append(reasons[why], strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+c.name)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# The corpus of builds and podman\n\n`build/testdata` has %d Containerfiles, each with the file tree and configuration, or the error, that Hull makes of it. "+
		"`make corpus` builds\nthem with Debian's podman (4.3.1) as well and compares: all but these %d give the same, or are refused by both. Where the two differ Hull does what BuildKit does.\n\n"+
		"| why | cases |\n| --- | --- |\n", total, different)
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(strings.ReplaceAll(why, "\n", " "), "|", "\\|"), strings.Join(reasons[why], ", "))
	}
	const page = "../docs/corpus.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the corpus says (%v): go test ./build -run TestCorpusDifferences -update", page, err)
	}
}

// lay writes the context.
func (c *corpusCase) lay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range c.files {
		if slices.Contains(own, name) {
			continue
		}
		mode := os.FileMode(0o644)
		name, executable := strings.CutSuffix(name, "*")
		if executable {
			mode = 0o755
		}
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(string(data), "-> "); ok {
			if err := os.Symlink(strings.TrimSpace(target), p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if list, ok := strings.CutPrefix(string(data), "tar: "); ok {
			data = makeTar(t, strings.Fields(list))
		}
		if err := os.WriteFile(p, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// makeTar is an archive of small files named in the corpus.
func makeTar(t *testing.T, names []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o640, Uid: 3, Gid: 4, Size: int64(len(n))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// args is the command line after "build".
func (c *corpusCase) args() []string {
	args := append([]string{"-t", "localhost/" + strings.ToLower(c.name) + ":1"}, c.lines("args")...)
	where := "."
	if w := c.lines("context"); len(w) > 0 {
		where = w[0]
	}
	return append(args, where)
}

func (c *corpusCase) command(dir string, words ...string) *exec.Cmd {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), c.lines("env")...)
	cmd.Stdin = bytes.NewReader(c.files["stdin"])
	return cmd
}

var (
	tempPath = regexp.MustCompile(`/[^ :"]*/(TestCorpus[^/ :"]*)/\d+`)
	longID   = regexp.MustCompile(`[0-9a-f]{64}`)
	stepNo   = regexp.MustCompile(`\bstep \d+`)
)

func (h *hull) build(t *testing.T, c *corpusCase, dir string) string {
	t.Helper()
	cmd := c.command(dir, append(append(slices.Clone(h.hull), "build", "-q"), c.args()...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	text := longID.ReplaceAllString(tempPath.ReplaceAllString(errs.String(), "DIR"), "ID")
	text = stepNo.ReplaceAllString(text, "step N") // of the plan, which grows with the runtime
	if err != nil {
		return fmt.Sprintf("exit %d\n%s", cmd.ProcessState.ExitCode(), text)
	}
	store, snaps := h.stores(t)
	img, err := store.Resolve(t.Context(), strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	base, err := store.Resolve(t.Context(), "localhost/base:1")
	if err != nil {
		t.Fatal(err)
	}
	top := emptyTree(t)
	if chain := img.TopLayer(); chain != "" {
		if top, err = snaps.ViewTree(chain); err != nil {
			t.Fatal(err)
		}
	}
	defer top.Close()
	below, err := snaps.ViewTree(base.TopLayer())
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	if text != "" {
		text = "stderr: " + text
	}
	return text + describe(t, below, top, img.Config)
}

func emptyTree(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// peer builds with podman.
func (h *hull) peer(t *testing.T, c *corpusCase, dir string) string {
	t.Helper()
	podman := strings.Fields(*peer)
	cmd := c.command(dir, append(append(slices.Clone(podman), "build", "-q", "--format", "docker"), c.args()...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprintf("exit %d\n%s", cmd.ProcessState.ExitCode(), tempPath.ReplaceAllString(errs.String(), "DIR"))
	}
	id := strings.TrimSpace(string(out))
	mount := func(name string) *os.File {
		m, err := exec.Command(podman[0], append(slices.Clone(podman[1:]), "image", "mount", name)...).CombinedOutput()
		if err != nil { // it has no layers
			return emptyTree(t)
		}
		f, err := os.Open(strings.TrimSpace(string(m)))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	top, below := mount(id), mount("localhost/base:1")
	defer top.Close()
	defer below.Close()
	data, err := exec.Command(podman[0], append(slices.Clone(podman[1:]), "image", "inspect", id)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Config      oci.ImageConfig
		Author      string
		HealthCheck *oci.Healthcheck
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	config := oci.Image{Config: all[0].Config, Author: all[0].Author}
	config.Config.Healthcheck = all[0].HealthCheck
	delete(config.Config.Labels, "io.buildah.version")
	return describe(t, below, top, config)
}

// mountPoints are files that engines make for a container, and may leave.
var mountPoints = []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/secrets", "/run/.containerenv", "/etc/mtab"}

// describe is what an image is above the base: its files and its configuration.
func describe(t *testing.T, base, root *os.File, img oci.Image) string {
	t.Helper()
	changes, err := layer.Compare(context.Background(), base, root)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range changes {
		if slices.Contains(mountPoints, c.Path) {
			continue
		}
		b.WriteString(c.Kind.String() + " " + c.Path)
		if c.Kind != layer.Deleted {
			b.WriteString(" " + fileText(t, root, c.Path))
		}
		b.WriteByte('\n')
	}
	if len(img.Config.Labels) == 0 {
		img.Config.Labels = nil
	}
	config, err := json.Marshal(img.Config)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "config %s\n", config)
	if img.Author != "" {
		fmt.Fprintf(&b, "author %s\n", img.Author)
	}
	return b.String()
}

func fileText(t *testing.T, root *os.File, path string) string {
	t.Helper()
	dir, err := inroot.Open(root, filepath.Dir(path), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	return statText(t, dir, filepath.Base(path))
}
