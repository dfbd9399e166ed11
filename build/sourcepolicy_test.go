package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSourcePolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.json")
	const text = `{"rules": [
		{"action": "DENY", "selector": {"identifier": "docker-image://*"}},
		{"action": "ALLOW", "selector": {"identifier": "docker-image://docker.io/library/*"}},
		{"action": "CONVERT", "selector": {"identifier": "docker-image://docker.io/library/alpine:latest"}, "updates": {"identifier": "docker-image://docker.io/library/alpine:3.20"}},
		{"action": "DENY", "selector": {"identifier": "^http://", "matchType": "REGEX"}},
		{"action": "CONVERT", "selector": {"identifier": "https://a/x", "matchType": "EXACT"}, "updates": {"identifier": "https://b/x"}},
		{"action": "CONVERT", "selector": {"identifier": "https://b/x", "matchType": "EXACT"}, "updates": {"identifier": "https://a/x"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ReadSourcePolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"alpine": "docker.io/library/alpine:3.20", "busybox": "busybox", "example.com/x": "denied",
	} {
		got, err := p.imageSource(in)
		if err != nil {
			got = err.Error()
		}
		if got != want && !strings.Contains(got, want+" by") {
			t.Errorf("image %s: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"http://x/y": "denied", "https://x/y": "https://x/y", "https://a/x": "circle"} {
		got, err := p.Apply(in)
		if err != nil {
			got = err.Error()
		}
		if got != want && !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, bad := range []string{`{"rule": []}`, `{"rules": [{"action": "MAYBE", "selector": {"identifier": "x"}}]}`, `{"rules": [{"action": "DENY", "selector": {"identifier": "(", "matchType": "REGEX"}}]}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSourcePolicy(file); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestParseChmod(t *testing.T) {
	for _, x := range []struct {
		spec      string
		mode      uint32
		dir       bool
		want      uint32
		wantError bool
	}{
		{"640", 0o755, false, 0o640, false}, {"u=rwX,go=rX", 0o600, false, 0o644, false}, {"u=rwX,go=rX", 0o700, true, 0o755, false},
		{"a+x", 0o644, false, 0o755, false}, {"+x", 0o600, false, 0o711, false}, {"go-w", 0o666, false, 0o644, false}, {"u+s", 0o755, false, 0o4755, false},
		{"+t", 0o777, true, 0o1777, false}, {"99", 0, false, 0, true}, {"x=r", 0, false, 0, true}, {"u=q", 0, false, 0, true},
	} {
		f, err := parseChmod(x.spec)
		if (err != nil) != x.wantError {
			t.Errorf("%s: error %v", x.spec, err)
		}
		if err == nil && f(x.mode, x.dir) != x.want {
			t.Errorf("%s of %o: %o, want %o", x.spec, x.mode, f(x.mode, x.dir), x.want)
		}
	}
}
