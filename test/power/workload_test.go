package power

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An object is what the workload makes: a kind and a name.
type object struct{ kind, name string }

func (o object) String() string { return o.kind + " " + o.name }

// objects are all that the workload touches.
var objects = []object{
	{"image", "localhost/fx:1"}, {"image", "localhost/tagged:1"}, {"image", "localhost/committed:1"}, {"image", "localhost/built:1"}, {"image", "REGISTRY/pulled:1"},
	{"container", "k1"}, {"container", "k2"}, {"volume", "v1"}, {"volume", "v2"}, {"secret", "s1"}, {"network", "n1"}, {"pod", "p1"},
}

// A step is one command of the workload.
type step struct {
	args  []string
	stdin []byte
}

// A scene is what is outside of the store: the engine, archives, a registry.
type scene struct {
	testing.TB
	hull, dir, registry string
	prefix              []string // of each command line
	steps               []step
}

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hull-power-bin-")
	if err != nil {
		return "", err
	}
	for _, to := range []string{"hull", "libexec/hull/hull-full", "libexec/hull/hull-monitor"} {
		c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, to), "hull/cmd/"+filepath.Base(to))
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %v\n%s", to, err, out)
		}
	}
	return dir, nil
})

// built says that there is something to remove in the end.
var built bool

func newScene(t testing.TB) *scene {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	built = true
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{TB: t, hull: filepath.Join(bin, "hull"), dir: t.TempDir()}
	tree := archive(map[string]string{"bin/busybox": string(data), "etc/passwd": "root:x:0:0::/:/bin/sh\n", "etc/many": strings.Repeat("many words ", 20000), "data/a": "one", "data/b": strings.Repeat("b", 50000)})
	s.must(s.command(s.at("make"), tree, "import", "-", "localhost/fx:1"))
	s.must(s.command(s.at("make"), nil, "save", "-o", filepath.Join(s.dir, "fx.tar"), "localhost/fx:1"))
	s.startRegistry()
	s.must(s.command(s.at("make"), nil, "push", "-q", "--tls-verify=false", "localhost/fx:1", s.registry+"/pulled:1"))
	files := filepath.Join(s.dir, "context")
	os.Mkdir(files, 0o755)
	os.WriteFile(filepath.Join(files, "f"), []byte(strings.Repeat("copied ", 9000)), 0o644)
	os.WriteFile(filepath.Join(files, "Containerfile"), []byte("FROM localhost/fx:1\nCOPY f /f\nRUN [\"/bin/busybox\", \"cp\", \"/f\", \"/g\"]\nENV built=yes\n"), 0o644)
	s.steps = []step{
		{args: []string{"load", "-q", "-i", filepath.Join(s.dir, "fx.tar")}},
		{args: []string{"pull", "-q", "--tls-verify=false", s.registry + "/pulled:1"}},
		{args: []string{"create", "--name", "k1", "--network", "none", "localhost/fx:1", "/bin/busybox", "true"}},
		{args: []string{"tag", "localhost/fx:1", "localhost/tagged:1"}},
		{args: []string{"cp", "-", "k1:/"}, stdin: archive(map[string]string{"new/file": strings.Repeat("new ", 8000)})},
		{args: []string{"commit", "-q", "k1", "localhost/committed:1"}},
		{args: []string{"volume", "create", "v1"}},
		{args: []string{"volume", "import", "v1", "-"}, stdin: archive(map[string]string{"a/b": "b", "c": strings.Repeat("c", 70000)})},
		{args: []string{"secret", "create", "s1", "-"}, stdin: []byte("first")},
		{args: []string{"build", "-q", "--network", "none", "-t", "localhost/built:1", files}},
		{args: []string{"create", "--name", "k2", "--network", "none", "-v", "v2:/data", "localhost/built:1", "/bin/busybox", "true"}},
		{args: []string{"network", "create", "--subnet", "10.233.0.0/24", "n1"}},
		{args: []string{"pod", "create", "--network", "none", "p1"}},
		{args: []string{"secret", "create", "--replace", "s1", "-"}, stdin: []byte("second")},
		{args: []string{"rename", "k1", "k9"}},
		{args: []string{"rename", "k9", "k1"}},
		{args: []string{"rm", "k1"}},
		{args: []string{"rmi", "localhost/committed:1"}},
		{args: []string{"rmi", "localhost/tagged:1"}},
		{args: []string{"volume", "rm", "v1"}},
		{args: []string{"secret", "rm", "s1"}},
		{args: []string{"network", "rm", "n1"}},
		{args: []string{"pod", "rm", "p1"}},
	}
	return s
}

// at is a store below the scene's directory.
func (s *scene) at(name string) store {
	dir := filepath.Join(s.dir, name)
	return store{filepath.Join(dir, "root"), filepath.Join(dir, "run"), ""}
}

// A store is where a command looks.
type store struct{ root, run, driver string }

func (s *scene) command(at store, stdin []byte, args ...string) *exec.Cmd {
	words := append(append(append(s.prefix[:len(s.prefix):len(s.prefix)], s.hull), at.flags()...), args...)
	c := exec.Command(words[0], words[1:]...)
	c.Stdin = bytes.NewReader(stdin)
	return c
}

func (at store) flags() []string {
	f := []string{"--root", at.root, "--runroot", at.run}
	if at.driver != "" {
		f = append(f, "--storage-driver", at.driver)
	}
	return f
}

func (s *scene) must(c *exec.Cmd) string {
	s.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		s.Fatalf("%s: %v\n%s", strings.Join(c.Args[1:], " "), err, out)
	}
	return string(out)
}

// startRegistry runs hull's own on a free port.
func (s *scene) startRegistry() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, s.hull, "registry", "serve", "--address", "127.0.0.1:0", filepath.Join(s.dir, "registry"))
	var out lockedBuffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { cancel(); c.Wait() })
	for range 500 {
		if _, rest, ok := strings.Cut(out.String(), "127.0.0.1:"); ok {
			if port, _, ok := strings.Cut(strings.TrimLeft(rest, " ")+" ", " "); ok {
				s.registry = "127.0.0.1:" + strings.TrimRight(strings.Fields(port)[0], "/.,\n")
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Fatalf("the registry did not start: %s", out.String())
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// archive is a tar archive of files, in no order that matters.
func archive(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), ModTime: time.Unix(1e9, 0)})
		w.Write([]byte(text))
	}
	w.Close()
	return b.Bytes()
}
