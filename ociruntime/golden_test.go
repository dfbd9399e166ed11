package ociruntime

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/oci"
	"hull/plan"
)

var update = flag.Bool("update", false, "write the plans in testdata anew")

// A goldenOptions is CompileOptions as testdata writes it.
type goldenOptions struct {
	Facts        Facts                    `json:"facts"`
	Rootfs       []oci.Mount              `json:"rootfs"`
	RootfsTarget string                   `json:"rootfsTarget"`
	CgroupProcs  []string                 `json:"cgroupProcs"`
	Namespaces   []oci.LinuxNamespaceType `json:"namespaces"`
	Preserve     int                      `json:"preserve"`
	MountUserNS  []int                    `json:"mountUserNS"`

	Cgroup, UserNS, Wait, WaitHooks, SeccompListener, NoNewKeyring, NoPivot, ChownStdio, Init, Infra, Join, CopyUp bool
}

func (g goldenOptions) options() CompileOptions {
	// A plan knows of a file only that it is there.
	file := func(there bool) *os.File {
		if there {
			return os.Stdin
		}
		return nil
	}
	o := CompileOptions{
		Facts: g.Facts, Rootfs: g.Rootfs, RootfsTarget: g.RootfsTarget, CgroupProcs: g.CgroupProcs,
		Cgroup: file(g.Cgroup), UserNS: file(g.UserNS), Wait: g.Wait, WaitHooks: g.WaitHooks, Control: file(g.Wait || g.WaitHooks),
		SeccompListener: file(g.SeccompListener), SeccompState: file(g.SeccompListener), SeccompStateSize: 300, NoNewKeyring: g.NoNewKeyring, NoPivot: g.NoPivot, ChownStdio: g.ChownStdio,
		Init: g.Init, Infra: g.Infra, CopyUp: g.CopyUp, MountUserNS: make(map[int]*os.File),
	}
	for _, i := range g.MountUserNS {
		o.MountUserNS[i] = os.Stdin
	}
	for _, n := range g.Namespaces {
		o.Namespaces = append(o.Namespaces, NamespaceFile{n, os.Stdin})
	}
	for range g.Preserve {
		o.Preserve = append(o.Preserve, os.Stdin)
	}
	return o
}

// A section is a file of a txtar archive.
type section struct{ name, text string }

func readArchive(t testing.TB, file string) (comment string, sections []section) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			sections = append(sections, section{name: strings.TrimSuffix(name, " --")})
			continue
		}
		if len(sections) == 0 {
			comment += line
			continue
		}
		sections[len(sections)-1].text += line
	}
	return comment, sections
}

func decodeStrict(t testing.TB, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("decode %.60q: %v", text, err)
	}
}

// compileGolden compiles what an archive holds.
func compileGolden(t testing.TB, sections []section) (*plan.Plan, []string, error) {
	t.Helper()
	var spec oci.Spec
	var g goldenOptions
	for _, s := range sections {
		switch s.name {
		case "config.json":
			decodeStrict(t, s.text, &spec)
		case "options.json":
			decodeStrict(t, s.text, &g)
		}
	}
	if g.Join {
		return CompileJoin(&spec, JoinOptions{CompileOptions: g.options(), Pidfd: os.Stdin})
	}
	return Compile(&spec, g.options())
}

// TestGolden compares the plans of configurations with those in testdata:
// read the difference before -update writes them anew.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			comment, sections := readArchive(t, file)
			p, warnings, err := compileGolden(t, sections)
			if err != nil {
				t.Fatal(err)
			}
			if err := plan.Check(p); err != nil {
				t.Error(err)
			}
			got := map[string]string{"plan": p.String()}
			for _, w := range warnings {
				got["warnings"] += w + "\n"
			}
			if *update {
				writeArchive(t, file, comment, sections, got)
				return
			}
			want := make(map[string]string)
			for _, s := range sections {
				want[s.name] = s.text
			}
			for _, name := range []string{"plan", "warnings"} {
				if got[name] != want[name] {
					t.Errorf("%s differs at %s", name, firstDifference(got[name], want[name]))
				}
			}
		})
	}
}

func writeArchive(t *testing.T, file, comment string, sections []section, got map[string]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString(comment)
	for _, s := range sections {
		if s.name != "plan" && s.name != "warnings" {
			b.WriteString("-- " + s.name + " --\n" + s.text)
		}
	}
	for _, name := range []string{"warnings", "plan"} {
		if got[name] != "" {
			b.WriteString("-- " + name + " --\n" + got[name])
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return "\n got " + a + "\nwant " + b
		}
	}
	return ""
}

// Every phase has a step and a reason in Explain, and every call is shown in one step.
func TestExplain(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		_, sections := readArchive(t, file)
		p, _, err := compileGolden(t, sections)
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]int{}
		for step := StepImage; step <= StepSecurity; step++ {
			var b strings.Builder
			if err := Explain(&b, p, step); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				shown[strings.TrimSpace(line)]++
			}
		}
		for i := range p.Len() {
			if _, reason := stepOf(p.Phase(i)); reason == "" {
				t.Errorf("%s: step %d: no reason for phase %q", file, i, p.Phase(i))
			}
			if n := shown[fmt.Sprintf("%d  %s", i, p.StepText(i))]; n != 1 {
				t.Errorf("%s: call %d is shown %d times", file, i, n)
			}
		}
	}
}

// FuzzCompile compiles any config.json: what compiles passes plan.Check.
func FuzzCompile(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		_, sections := readArchive(f, file)
		options := "{}"
		for _, s := range sections {
			if s.name == "options.json" {
				options = s.text
			}
		}
		f.Add(sections[0].text, options)
	}
	f.Fuzz(func(t *testing.T, config, options string) {
		var g goldenOptions
		spec, err := decode[oci.Spec]([]byte(config))
		if err != nil || json.Unmarshal([]byte(options), &g) != nil || g.Preserve > 100 || g.Facts.LastCapability < 0 || g.Facts.LastCapability > 62 {
			return
		}
		p, _, err := Compile(spec, g.options())
		if g.Join {
			p, _, err = CompileJoin(spec, JoinOptions{CompileOptions: g.options(), Pidfd: os.Stdin})
		}
		if err != nil {
			return
		}
		if err := plan.Check(p); err != nil {
			t.Fatalf("%v\n%s", err, p)
		}
		if _, err := p.Image(); err != nil {
			t.Fatal(err)
		}
	})
}
