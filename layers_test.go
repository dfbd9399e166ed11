package hull_test

import (
	"os/exec"
	"strings"
	"testing"
)

// storeys is the floor plan (docs/architecture.md): a package imports only
// packages of its own storey or of those below. A new package gets its line.
var storeys = map[string]int{
	"oci": 0, "sys": 0,
	"state": 1, "blob": 1, "caps": 1, "cgroup": 1, "codec": 1, "command": 1, "containerfile": 1, "criu": 1, "format": 1, "inroot": 1, "lsm": 1, "luks": 1, "plan": 1,
	"registry": 1, "remote": 1, "seccomp": 1, "systemd": 1, "tracer": 2, "trust": 1, "userns": 1,
	"depot": 2, "image": 2, "layer": 2, "network": 2, "ociruntime": 2, "passwd": 2, "snapshot": 2, "usernet": 2,
	"bake": 3, "build": 3, "engine": 3, "front": 3, "kube": 3, "monitor": 3, "quadlet": 3, "transfer": 3, "welcome": 3,
	"cli": 4, "clifull": 4,
	"cmd": 5, "hack": 5, "test": 5,
}

// forbidden are arrows that the storeys would allow and the design does not.
var forbidden = []struct{ from, to, why string }{
	{"ociruntime", "engine", "the runtime is usable alone"},
	{"ociruntime", "image", "the runtime is told mounts, not images"},
	{"cli", "clifull", "front doors do not know each other"},
	{"clifull", "cli", "front doors do not know each other"},
	{"monitor", "state", "the monitor's binary cannot afford it"},
	{"engine", "build", "builds run on the engine, not the other way round"},
	{"engine", "codec", "what hull links has no tables for compressors"},
	{"image", "codec", "what hull links has no tables for compressors"},
	{"engine", "registry", "what hull links never reaches the network for an image"},
	{"engine", "transfer", "what hull links never reaches the network for an image"},
}

func TestArrowsPointDown(t *testing.T) {
	for _, line := range list(t, "./...") {
		from, imports, _ := strings.Cut(line, ":")
		f, ok := room(from)
		if !ok {
			continue // the module's root
		}
		storey, known := storeys[f]
		if !known {
			t.Errorf("package %s has no line in storeys", f)
			continue
		}
		for _, to := range strings.Fields(imports) {
			r, ok := room(to)
			if !ok || r == f {
				continue
			}
			if storeys[r] > storey {
				t.Errorf("%s (storey %d) imports %s (storey %d)", from, storey, to, storeys[r])
			}
			for _, x := range forbidden {
				if x.from == f && x.to == r {
					t.Errorf("%s imports %s: %s", from, to, x.why)
				}
			}
		}
	}
}

// room is the first element of a package's path inside the module.
func room(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "hull/")
	if !ok {
		return "", false
	}
	r, _, _ := strings.Cut(rest, "/")
	return r, true
}

func list(t *testing.T, patterns ...string) []string {
	t.Helper()
	args := append([]string{"list", "-f", `{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}`}, patterns...)
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
