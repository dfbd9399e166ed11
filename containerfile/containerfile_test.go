package containerfile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"hull/oci"
)

func mustParse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse([]byte(text), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func titles(list []*Stage) string {
	var all []string
	for _, s := range list {
		all = append(all, s.Title())
	}
	return strings.Join(all, " ")
}

func TestGraphOrder(t *testing.T) {
	const text = "FROM x AS a\nFROM y AS unused\nFROM a AS b\nFROM z\nCOPY --from=b /f /f\nRUN --mount=from=0,target=/m true\n"
	for _, x := range []struct{ target, want string }{
		{"", "a b 3"}, {"b", "a b"}, {"A", "a"}, {"1", "unused"},
	} {
		g, err := mustParse(t, text).Graph(GraphOptions{Target: x.target})
		if err != nil {
			t.Fatalf("target %q: %v", x.target, err)
		}
		if got := titles(g.Order); got != x.want {
			t.Errorf("target %q: order %q, want %q", x.target, got, x.want)
		}
	}
}

func TestGraphErrors(t *testing.T) {
	for _, x := range []struct{ text, target, want string }{
		{"FROM x AS a\nCOPY --from=b / /\nFROM y AS b\nCOPY --from=a / /\n", "", "in a circle: b → a → b"},
		{"FROM x AS a\nCOPY --from=a / /\n", "", "in a circle"},
		{"FROM x\nCOPY --from=1 / /\n", "", "Containerfile:2: stage 1: there is none"},
		{"FROM x AS a\n", "b", `the target "b" was not found`},
		{"ARG X\nFROM $X\n", "", "should not be blank"},
	} {
		_, err := mustParse(t, x.text).Graph(GraphOptions{Target: x.target})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: error %v, want %q", x.text, err, x.want)
		}
	}
}

func TestPlatformArguments(t *testing.T) {
	f := mustParse(t, "ARG TARGETARCH\nFROM x:$TARGETARCH-$BUILDOS\n")
	g, err := f.Graph(GraphOptions{Platform: oci.Platform{OS: "linux", Architecture: "arm64"}, Build: oci.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Target.Base; got != "x:arm64-linux" {
		t.Errorf("base %q", got)
	}
}

func TestErrorShowsLineAndCaret(t *testing.T) {
	_, err := Parse([]byte("FROM x\n  FOOO bar\n"), ParseOptions{Name: "My.file"})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T %v", err, err)
	}
	want := "My.file:2: unknown instruction: FOOO\n     2 |   FOOO bar\n       |   ^"
	if got := e.Error(); !strings.HasPrefix(got, "My.file:2: unknown instruction: FOOO") || !strings.HasSuffix(got, want[strings.Index(want, "\n"):]) {
		t.Errorf("got\n%s", got)
	}
}

func TestIgnore(t *testing.T) {
	g, err := ParseIgnore("x", []byte("*\n!keep\n!a/b/*.go\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"keep": false, "drop": true, "a": true} {
		if got, _, err := g.Match(path, Parent{}); err != nil || got != want {
			t.Errorf("Match(%q) = %v, %v, want %v", path, got, err, want)
		}
	}
	for dir, want := range map[string]bool{"a": true, "a/b": true, "keep": true, "other": false} {
		if got := g.Below(dir); got != want {
			t.Errorf("Below(%q) = %v, want %v", dir, got, want)
		}
	}
}

func TestLint(t *testing.T) {
	const text = "ARG Q\nFROM --platform=$TARGETPLATFORM x AS Foo\nRun true\nENV API_KEY=1\nMAINTAINER me\nCMD a\nCMD b\nLABEL a b\nEXPOSE 80/TCP\nWORKDIR rel\n"
	f := mustParse(t, text)
	g, err := f.Graph(GraphOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.Lint(g)
	var got []string
	for _, w := range f.Warnings {
		if !slices.Contains(got, w.Rule) {
			got = append(got, w.Rule)
		}
	}
	slices.Sort(got)
	want := "ConsistentInstructionCasing ExposeProtoCasing JSONArgsRecommended LegacyKeyValueFormat MaintainerDeprecated MultipleInstructionsDisallowed RedundantTargetPlatform SecretsUsedInArgOrEnv StageNameCasing UnpinnedFrom WorkdirRelativePath"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("rules\n%s\nwant\n%s", s, want)
	}
	skipped := mustParse(t, "# check=skip=all\n"+text)
	if g, err = skipped.Graph(GraphOptions{}); err != nil {
		t.Fatal(err)
	}
	if skipped.Lint(g); len(skipped.Warnings) > 0 {
		t.Errorf("skip=all: %v", skipped.Warnings)
	}
}

// TestLintFrom: what is said of the argument in a FROM line.
func TestLintFrom(t *testing.T) {
	for text, want := range map[string]string{
		"ARG V\nFROM alpine:${V}\n":             "InvalidDefaultArgInFrom",
		"ARG V=3\nFROM alpine:${V}\n":           "",
		"FROM alpine:3${V}\n":                   "UndefinedArgInFrom",
		"ARG V\nFROM alpine:${V:-3}\n":          "",
		"ARG B=alpine:3\nFROM $B AS reserved\n": "",
	} {
		f := mustParse(t, text)
		g, err := f.Graph(GraphOptions{Args: map[string]string{"V": "3"}})
		if err != nil {
			t.Fatal(err)
		}
		f.Lint(g)
		var got []string
		for _, w := range f.Warnings {
			got = append(got, w.Rule)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %s, want %s", text, s, want)
		}
	}
}

// corpus adds the Containerfiles of package build as seeds.
func corpus(f *testing.F, suffix string) {
	files, err := filepath.Glob("../build/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range txtar.Parse(data).Files {
			if strings.HasSuffix(x.Name, suffix) {
				f.Add(string(x.Data))
			}
		}
	}
}

// FuzzGraph: whatever the text, either it is refused, or the order has each
// stage after those that it needs.
func FuzzGraph(f *testing.F) {
	corpus(f, "/Containerfile")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse([]byte(text), ParseOptions{})
		if err != nil {
			return
		}
		g, err := file.Graph(GraphOptions{Args: map[string]string{"A": "1"}})
		if err != nil {
			return
		}
		file.Lint(g)
		seen := map[*Stage]bool{}
		for _, s := range g.Order {
			for _, n := range s.Needs {
				if !seen[n] {
					t.Fatalf("stage %s comes before %s, which it needs", s.Title(), n.Title())
				}
			}
			seen[s] = true
		}
		if len(g.Order) == 0 || g.Order[len(g.Order)-1] != g.Target {
			t.Fatal("the target is not the last")
		}
	})
}

// FuzzIgnore: what is not ignored lies in a directory that is not ignored, or
// that Below says to look into.
func FuzzIgnore(f *testing.F) {
	corpus(f, "ignore")
	f.Add("*\n!a/b\n")
	f.Add("**/x\n!**/y\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseIgnore("x", []byte(text))
		if err != nil {
			return
		}
		for _, p := range []string{"a", "a/b", "a/b/c", "x/y", "d/a.log"} {
			var parent Parent
			out, below := false, true
			names := strings.Split(p, "/")
			for i := range names {
				here := strings.Join(names[:i+1], "/")
				was := out
				if out, parent, err = g.Match(here, parent); err != nil {
					return
				}
				if was && !out && !below {
					t.Fatalf("%q: %s is not ignored, but nobody looks into its directory", text, here)
				}
				below = !out || g.Below(here)
			}
		}
	})
}
