package oci

import (
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	hex := strings.Repeat("a", 64)
	for _, c := range []struct {
		in   string
		want Reference // zero: refused
	}{
		{"busybox", Reference{Path: "busybox"}},
		{"busybox:1", Reference{Path: "busybox", Tag: "1"}},
		{"library/busybox", Reference{Path: "library/busybox"}},
		{"localhost/fx:1", Reference{Domain: "localhost", Path: "fx", Tag: "1"}},
		{"localhost:5000/a/b:T-1", Reference{Domain: "localhost:5000", Path: "a/b", Tag: "T-1"}},
		{"quay.io/x@sha256:" + hex, Reference{Domain: "quay.io", Path: "x", Digest: Digest("sha256:" + hex)}},
		{"[::1]:5000/x", Reference{Domain: "[::1]:5000", Path: "x"}},
		{"Foo/bar", Reference{Domain: "Foo", Path: "bar"}},
		{"a__b/c.d-e--f", Reference{Path: "a__b/c.d-e--f"}},
		{"", Reference{}},
		{"Busybox", Reference{}},
		{"a/B", Reference{}},
		{"a//b", Reference{}},
		{"/a", Reference{}},
		{"a/", Reference{}},
		{"a:", Reference{}},
		{"a:b:c", Reference{}},
		{"a:" + strings.Repeat("x", 129), Reference{}},
		{"a@sha256:" + hex[1:], Reference{}},
		{"a@md5:" + hex, Reference{}},
		{"a@sha256:" + strings.ToUpper(hex), Reference{}},
		{strings.Repeat("a", 256), Reference{}},
		{"a..b", Reference{}},
		{"a___b", Reference{}},
		{"-a", Reference{}},
		{"a b", Reference{}},
		{"a\x00b", Reference{}},
		{"../etc", Reference{}},
		{"h:x/a", Reference{}},
	} {
		got, err := ParseReference(c.in)
		if refused := c.want == (Reference{}); refused != (err != nil) || got != c.want {
			t.Errorf("ParseReference(%q) = %+v, %v, want %+v", c.in, got, err, c.want)
		}
	}
}

func TestFamiliarAndNormalized(t *testing.T) {
	for _, c := range [][3]string{
		{"busybox", "docker.io/library/busybox", "busybox"},
		{"me/x:1", "docker.io/me/x:1", "me/x:1"},
		{"index.docker.io/library/y", "docker.io/library/y", "y"},
		{"quay.io/z", "quay.io/z", "quay.io/z"},
	} {
		r, err := ParseReference(c[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Normalized().String(); got != c[1] {
			t.Errorf("Normalized(%s) = %s, want %s", c[0], got, c[1])
		}
		if got := r.Familiar(); got != c[2] {
			t.Errorf("Familiar(%s) = %s, want %s", c[0], got, c[2])
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"busybox", "localhost:5000/a/b:1@sha256:" + strings.Repeat("0", 64), "[::1]/x", "a/b/c", "A/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q parsed as %+v, which prints as %q and parses as %+v, %v", s, r, r.String(), again, err)
		}
		if n := r.Normalized(); n.Domain == "" {
			t.Errorf("Normalized(%q) has no domain", s)
		}
	})
}
