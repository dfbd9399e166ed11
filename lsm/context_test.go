package lsm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestContext(t *testing.T) {
	for _, c := range []struct {
		label string
		want  Context
		bad   bool
	}{
		{label: "system_u:system_r:container_t:s0:c1,c2", want: Context{"system_u", "system_r", "container_t", "s0:c1,c2"}},
		{label: "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", want: Context{"unconfined_u", "unconfined_r", "unconfined_t", "s0-s0:c0.c1023"}},
		{label: "u:r:t", want: Context{"u", "r", "t", ""}},
		{label: "", bad: true}, {label: "u:r", bad: true}, {label: "u::t:s0", bad: true}, {label: "u:r:t:", bad: true},
		{label: "u:r:t\x00:s0", bad: true}, {label: "u:r:t s:s0", bad: true}, {label: "u:r:t:s0\n", bad: true},
		{label: "u:r:" + strings.Repeat("t", maxLabel), bad: true},
	} {
		got, err := ParseContext(c.label)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("ParseContext(%.40q) = %+v, %v", c.label, got, err)
		}
	}
}

func TestPair(t *testing.T) {
	for level, want := range map[string]Pair{
		"s0:c1,c2": {1, 2}, "s0:c1023,c0": {0, 1023}, "s0": {}, "s0:c1": {}, "s0:c1,c1": {}, "s0:c01,c2": {}, "s0:c1,c1024": {},
		"s0:c1,c2,c3": {}, "s0-s0:c1,c2": {}, "s0:c-1,c2": {}, "s0:c1.c5": {}, "": {},
	} {
		got, ok := ParsePair(level)
		if ok != (want != Pair{}) || ok && got != want {
			t.Errorf("ParsePair(%q) = %v, %v", level, got, ok)
		}
	}
	seen := map[Pair]bool{}
	for range 20000 {
		p := RandomPair()
		if p.Low < 0 || p.Low >= p.High || p.High >= Categories-2 {
			t.Fatalf("RandomPair() = %v", p)
		}
		if back, ok := ParsePair(p.Level()); !ok || back != p {
			t.Fatalf("%v is %s, which is %v", p, p.Level(), back)
		}
		seen[p] = true
	}
	if len(seen) < 19000 {
		t.Errorf("20000 pairs are only %d different ones", len(seen))
	}
}

func TestMake(t *testing.T) {
	p := Policy{Process: "system_u:system_r:container_t:s0", File: "system_u:object_r:container_file_t:s0", Init: "system_u:system_r:container_init_t:s0"}
	pair := Pair{1, 2}
	for _, c := range []struct {
		name           string
		words          []string
		init           bool
		process, mount string
	}{
		{"plain", nil, false, "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"},
		{"init", nil, true, "system_u:system_r:container_init_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"},
		{"init with a type", []string{"type:spc_t"}, true, "system_u:system_r:spc_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"},
		{"disable", []string{"disable"}, false, "", "system_u:object_r:container_file_t:s0:c1022,c1023"},
		{"level", []string{"level:s0:c100"}, false, "system_u:system_r:container_t:s0:c100", "system_u:object_r:container_file_t:s0:c100"},
		{"user and role", []string{"user:u", "role:r"}, false, "u:r:container_t:s0:c1,c2", "u:object_r:container_file_t:s0:c1,c2"},
		{"file type", []string{"filetype:usr_t"}, false, "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:usr_t:s0:c1,c2"},
		{"nested", []string{"nested"}, false, "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"},
		{"the later word", []string{"type:a_t", "type:b_t"}, false, "system_u:system_r:b_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"},
	} {
		o, err := ParseOptions(c.words)
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Make(o, pair, c.init)
		if err != nil || l.Process != c.process || l.Mount != c.mount {
			t.Errorf("%s: %+v, %v", c.name, l, err)
		}
	}
	for _, bad := range []string{"", "foo", "foo:bar", "type", "type:", "disable:x"} {
		if _, err := ParseOptions([]string{bad}); err == nil {
			t.Errorf("label=%q is taken", bad)
		}
	}
	if _, err := p.Make(Options{Type: "a b"}, pair, false); err == nil {
		t.Error("a type with a blank is taken")
	}
	if s, err := Shared("u:object_r:container_file_t:s0:c1,c2"); err != nil || s != "u:object_r:container_file_t:s0" {
		t.Error(s, err)
	}
}

func TestLoadPolicy(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadPolicy(dir); err == nil {
		t.Error("no policy is no error")
	}
	write("targeted/contexts/lxc_contexts", "process = \"a:b:c:s0\"\nfile = \"a:b:f:s0\"\n")
	if p, err := LoadPolicy(dir); err != nil || p.Process != "a:b:c:s0" || p.File != "a:b:f:s0" || p.Init != "" {
		t.Error(p, err)
	}
	write("config", "# SELINUXTYPE=wrong\nSELINUX=enforcing\nSELINUXTYPE=own\n")
	write("own/contexts/lxc_contexts", "process=\"x:y:z:s0\"\n#file = \"no\"\nfile = \"x:y:f:s0\"\ninit_process = \"x:y:i:s0\"\n")
	if p, err := LoadPolicy(dir); err != nil || p.Process != "x:y:z:s0" || p.Init != "x:y:i:s0" {
		t.Error(p, err)
	}
	write("own/contexts/lxc_contexts", "process=\"x:y:z:s0\"\n")
	if _, err := LoadPolicy(dir); err == nil {
		t.Error("a policy without files is taken")
	}
	write("config", "SELINUXTYPE=../own\n")
	if _, err := LoadPolicy(dir); err == nil {
		t.Error("a type that is a path is taken")
	}
}

func FuzzLabels(f *testing.F) {
	for _, s := range []string{"system_u:system_r:container_t:s0:c1,c2", "u:r:t", "level:s0:c5,c6", "s0:c1,c2", "disable", ":::", "type:\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseContext(s); err == nil && c.String() != s {
			t.Fatalf("%q is read as %+v", s, c)
		}
		if p, ok := ParsePair(s); ok && (p.Low >= p.High || p.High >= Categories) {
			t.Fatalf("%q is read as %v", s, p)
		}
		o, err := ParseOptions([]string{s})
		if err != nil {
			return
		}
		// What is made can be read again, whatever was asked for.
		l, err := Policy{Process: "u:r:t:s0", File: "u:o:f:s0"}.Make(o, Pair{1, 2}, false)
		if err != nil {
			return
		}
		for _, label := range []string{l.Process, l.Mount} {
			if _, err := ParseContext(label); label != "" && err != nil {
				t.Fatalf("label=%q made %q", s, label)
			}
		}
	})
}
