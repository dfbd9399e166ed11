package registry

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`Bearer realm="https://a/t",service="s, x",scope="repository:a/b:pull,push"`, `bearer map[realm:https://a/t scope:repository:a/b:pull,push service:s, x]`},
		{`Basic realm="a \"b\""`, `basic map[realm:a "b"]`},
		{`Basic`, `basic map[]`},
		{`Basic realm=x, Bearer realm=y`, `basic map[realm:x] bearer map[realm:y]`},
		{`Negotiate , BEARER Realm = "y"`, `negotiate map[] bearer map[realm:y]`},
		{`Bearer realm="open`, `bearer map[]`},
		{`realm="x"`, ``},
		{``, ``}, {`,,,`, ``}, {`"`, ``}, {`Bearer realm="x\`, `bearer map[]`},
	} {
		var got []string
		for _, ch := range parseChallenges([]string{c.in}) {
			got = append(got, fmt.Sprint(ch.scheme, " ", ch.params))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("parse %q = %q, want %q", c.in, s, c.want)
		}
	}
}

func TestNextLink(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`</v2/_catalog?last=a&n=1>; rel="next"`, "/v2/_catalog?last=a&n=1"},
		{`<a>; rel="prev", <b>; title="x"; rel=next`, "b"},
		{`<a>`, ""}, {`<`, ""}, {`a; rel=next`, ""}, {`<a;rel=next`, ""}, {``, ""},
	} {
		if got := nextLink([]string{c.in}); got != c.want {
			t.Errorf("nextLink(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s",scope="x"`)
	f.Add(`Basic realm=x, Bearer realm="\"`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s}) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || c.params == nil {
				t.Errorf("parse %q: scheme %q", s, c.scheme)
			}
			// Writing what was read and reading it again gives the same.
			var b strings.Builder
			b.WriteString(c.scheme)
			sep := " "
			for k, v := range c.params {
				fmt.Fprintf(&b, `%s%s="%s"`, sep, k, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v))
				sep = ","
			}
			again := parseChallenges([]string{b.String()})
			if len(again) != 1 || fmt.Sprint(again[0]) != fmt.Sprint(c) {
				t.Errorf("%q read as %v, then as %v", s, c, again)
			}
		}
	})
}

func FuzzNextLink(f *testing.F) {
	f.Add(`</v2/x?n=1>; rel="next"`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := nextLink([]string{s}); got != "" && !strings.Contains(s, "<"+got+">") {
			t.Errorf("nextLink(%q) = %q", s, got)
		}
	})
}
