package quadlet

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, in, want, err string }{
		{"comments", "# a\n; b\n[A]\n#c\nk=v\n", "# a\n; b\n\n[A]\n#c\nk=v\n", ""},
		{"blanks", " [A] \n  k =  v w \t\r\n", "[A]\nk=v w\n", ""},
		{"continued", "[A]\nk=a \\\n  b\\\nc\n", "[A]\nk=a  b c\n", ""},
		{"continued to the end", "[A]\nk=a \\", "[A]\nk=a\n", ""},
		{"comment amid", "[A]\nk=a \\\n# no\n; no\n b\n", "[A]\nk=a  b\n", ""},
		{"escaped backslash ends", "[A]\nk=a\\\\\nl=b\n", "[A]\nk=a\\\\\nl=b\n", ""},
		{"section again", "[A]\na=1\n[B]\nb=1\n[A]\na=2\n", "[B]\nb=1\n\n[A]\na=1\na=2\n", ""},
		{"mark of order", "\ufeff[A]\na=1\n", "[A]\na=1\n", ""},
		{"empty value", "[A]\na=\n", "[A]\na=\n", ""},
		{"equals in value", "[A]\na=b=c\n", "[A]\na=b=c\n", ""},
		{"no section", "a=1\n", "", `read x:1: "a=1" stands before the first section`},
		{"no value", "[A]\na\n", "", `read x:2: "a" is not of the form KEY=VALUE`},
		{"no key", "[A]\n=1\n", "", `read x:2: "=1" is not of the form KEY=VALUE`},
		{"section not closed", "[A\na=1\n", "", `read x:1: "[A" is not a section`},
		{"not text", "[A]\na=\xff\n", "", "read x:2: not a line of text"},
	} {
		u, err := Parse("x", []byte(tt.in))
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: error %v, want %s", tt.name, err, tt.err)
			}
		} else if got := u.String(); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestValues(t *testing.T) {
	u, err := Parse("x", []byte("[A]\na=1\na=\na=\"two words\"\na=3 4\nb=Yes\nc=perhaps\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := u.values("A", "a"); !slices.Equal(got, []string{"two words", "3 4"}) {
		t.Errorf("values: %q", got)
	}
	if got := u.words("A", "a"); !slices.Equal(got, []string{"two words", "3", "4"}) {
		t.Errorf("words: %q", got)
	}
	if v, err := u.boolean("A", "b", false); !v || err != nil {
		t.Errorf("b: %v, %v", v, err)
	}
	if _, err := u.boolean("A", "c", false); err == nil {
		t.Error("c is taken for a boolean")
	}
	if v, err := u.boolean("A", "d", true); !v || err != nil {
		t.Errorf("d: %v, %v", v, err)
	}
}

func TestSplit(t *testing.T) {
	for in, want := range map[string][]string{
		``:                           nil,
		` a  b	c `:                   {"a", "b", "c"},
		`"a b" 'c d'`:                {"a b", "c d"},
		`a"b c"d`:                    {"ab cd"},
		`'' ""`:                      {"", ""},
		`'a "b"' "it's"`:             {`a "b"`, "it's"},
		`a\tb \x41 \101 \u00e9 a\sb`: {"a\tb", "A", "A", "é", "a b"},
		`\q \x \x00 a\`:              {`\q`, `\x`, `\x00`, `a\`},
		`"a \"b\""`:                  {`a "b"`},
		`it's open`:                  {"its open"},
		`\U0001F600`:                 {"😀"},
	} {
		if got := split(in); !slices.Equal(got, want) {
			t.Errorf("split(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzJoin(f *testing.F) {
	for _, s := range []string{"a b", "\x00", `"`, `\`, "it's", ";", "é\xff", "a\nb\t\x01\u2028"} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) {
			return
		}
		want := []string{a, b}
		if got := split(join(want)); !slices.Equal(got, want) {
			t.Errorf("split(%q) = %q, want %q", join(want), got, want)
		}
		if strings.ContainsAny(join(want), "\n\r") {
			t.Errorf("join(%q) is more than a line", want)
		}
	})
}

// FuzzUnit goes from any bytes to services: what was read is written and read
// as the same, and each service is a unit that can be read.
func FuzzUnit(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, p := range files {
		data, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "\n-- ") {
			if name, text, ok := strings.Cut(part, " --\n"); ok {
				f.Add(name, []byte(text))
			}
		}
	}
	known := kinds()
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		u, err := Parse("/units/"+name, data)
		if err != nil {
			return
		}
		again, err := Parse("/units/"+name, []byte(u.String()))
		if err != nil || again.String() != u.String() {
			t.Fatalf("%q is read as %q, %v", u, again, err)
		}
		for ext := range known {
			u.Name = "x" + ext
			services, _ := Translate([]*Unit{u}, Options{Program: "/usr/bin/hull"})
			for _, s := range services {
				text := s.String()
				if got, err := Parse("x", []byte(text)); err != nil || len(got.values("Service", "ExecStart")) == 0 {
					t.Fatalf("%s of %q: %v", s.Name, text, err)
				}
				links(s.Unit)
			}
		}
	})
}
