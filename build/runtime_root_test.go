package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRuntimeOfRun: RUN by another runtime makes the same image, and hooks run
// around each RUN.
func TestRuntimeOfRun(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nRUN echo one > /one\nRUN echo two > /two\n"})
	hooks := write(t, map[string]string{"ran": "", "h.json": "{}"})
	hook := `{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c","echo x >> ` + filepath.Join(hooks, "ran") + `"]},"when":{"always":true},"stages":["prestart"]}`
	if err := os.WriteFile(filepath.Join(hooks, "h.json"), []byte(hook), 0o644); err != nil {
		t.Fatal(err)
	}
	want := h.do(t, "build", "-q", "--no-cache", "--timestamp", "0", "--hooks-dir", hooks, dir)
	if ran, _ := os.ReadFile(filepath.Join(hooks, "ran")); string(ran) != "x\nx\n" {
		t.Errorf("the hook ran %q", ran)
	}
	if out, err := h.try("build", "-q", "--no-cache", "--runtime", "/nosuch/runtime", dir); err == nil || !strings.Contains(out, "/nosuch/runtime") {
		t.Errorf("a runtime that is not there: %v %s", err, out)
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc")
	}
	log := filepath.Join(t.TempDir(), "log")
	if got := h.do(t, "build", "-q", "--no-cache", "--timestamp", "0", "--runtime", "runc", "--runtime-flag", "debug", "--runtime-flag", "log="+log, dir); got != want {
		t.Errorf("image %s by runc, %s by hull", got, want)
	}
	if st, err := os.Stat(log); err != nil || !st.Mode().IsRegular() {
		t.Errorf("--runtime-flag log: %v", err)
	}
}
