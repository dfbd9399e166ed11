package hull_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// hot are the binaries that start with each command or container, and what
// they must never link: each costs a millisecond, or megabytes beside each container.
var hot = map[string][]string{
	"hull": {"net/http", "crypto/tls", "google.golang.org/", "k8s.io/", "gvisor.dev/", "go.podman.io/", "hull/registry", "hull/transfer", "hull/clifull", "hull/build", "hull/containerfile", "github.com/moby/buildkit/",
		"github.com/opencontainers/go-digest", "github.com/distribution/reference", "github.com/opencontainers/image-spec"},
	"hull-monitor": {"fmt.", "net", "encoding/json", "hull/engine", "hull/state", "regexp"},
	"hull-welcome": {"fmt.", "net", "encoding/json", "hull/engine"},
}

func TestHotBinariesStayLight(t *testing.T) {
	for binary, never := range hot {
		for _, pkg := range deps(t, binary) {
			for _, n := range never {
				if pkg == strings.TrimSuffix(n, ".") || strings.HasSuffix(n, "/") && strings.HasPrefix(pkg, n) {
					t.Errorf("cmd/%s links %s", binary, pkg)
				}
			}
		}
	}
}

// TestDependencies holds the list of modules outside the standard library that each binary links.
func TestDependencies(t *testing.T) {
	mains, err := filepath.Glob("cmd/*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("no binaries: %v", err)
	}
	var b strings.Builder
	for _, dir := range mains {
		binary := filepath.Base(filepath.Dir(dir))
		b.WriteString(binary + "\n")
		for _, m := range modules(t, binary) {
			b.WriteString("\t" + m + "\n")
		}
	}
	const golden = "testdata/deps.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the linked modules changed (make golden rewrites %s; each needs its line in docs/dependencies.md):\n%s", golden, b.String())
	}
}

func deps(t *testing.T, binary string) []string {
	t.Helper()
	return goList(t, "-deps", "./cmd/"+binary)
}

func modules(t *testing.T, binary string) []string {
	t.Helper()
	all := goList(t, "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./cmd/"+binary)
	slices.Sort(all)
	return slices.Compact(all)
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}
