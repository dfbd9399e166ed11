package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// command makes a process of this test binary that does one verb.
func (h *harness) command(args ...string) *exec.Cmd {
	h.Helper()
	self, err := os.Executable()
	if err != nil {
		h.Fatal(err)
	}
	c := exec.Command(self, append(append([]string{}, h.e.o.GlobalArgs...), args...)...)
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return c
}

// crashRuns is how often each verb is killed; make crash asks for more.
func crashRuns(t testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("HULL_CRASH_RUNS"))
	if err != nil {
		n = 8
	}
	return n
}

// Killed at any moment, a command leaves nothing that the next one does not
// complete or take away. The harness looks for leftovers at the end.
func TestKilledCommandsAreRecovered(t *testing.T) {
	h := newHarness(t)
	runs := crashRuns(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	o := h.options("sleep", "1000")
	for _, verb := range []string{"run", "run --rm", "start", "stop", "rm"} {
		took := 60 * time.Millisecond
		for i := range runs {
			o.Name, o.AutoRemove = "victim", verb == "run --rm"
			name := "victim"
			switch verb {
			case "start":
				o.Name = ""
				id, err := h.e.Create(t.Context(), o)
				if err != nil {
					t.Fatalf("%s %d: create: %v", verb, i, err)
				}
				name = id
			case "stop", "rm":
				h.detached(o)
			}
			var c *exec.Cmd
			if verb == "run" || verb == "run --rm" {
				text, err := json.Marshal(struct {
					CreateOptions
					Detach bool
				}{o, true})
				if err != nil {
					t.Fatal(err)
				}
				c = h.command("test-run", string(text))
			} else {
				c = h.command("test-do", verb, name)
			}
			var errs bytes.Buffer
			c.Stderr = &errs
			begin := time.Now()
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			after := time.Duration(random.Int64N(int64(took)))
			timer := time.AfterFunc(after, func() { c.Process.Kill() })
			if err := c.Wait(); err == nil {
				took = (took + time.Since(begin)) / 2
			} else if errs.Len() > 0 {
				t.Errorf("%s %d: %s", verb, i, errs.String())
			}
			timer.Stop()
			h.recovered(fmt.Sprintf("%s %d, killed after %v", verb, i, after), name)
		}
	}
}

// recovered lets the next command find what was left, and looks that the
// container is whole or gone.
func (h *harness) recovered(what, name string) {
	h.Helper()
	if err := h.e.Recover(h.Context()); err != nil {
		h.Errorf("%s: recover: %v", what, err)
	}
	r, s, err := h.e.open(h.Context(), name)
	if err == nil {
		if r.Incomplete {
			h.Errorf("%s: an incomplete container is left", what)
		}
		if s.Status == StatusRunning && !alive(s.Pid) {
			h.Errorf("%s: says running, but no process", what)
		}
	}
	zero := uint(0)
	if _, err := h.e.Remove(h.Context(), name, RemoveOptions{Force: true, Timeout: &zero}); err != nil && r != nil && err.Error() != "" {
		if ok, _ := h.e.Exists(h.Context(), name); ok {
			h.Errorf("%s: remove: %v", what, err)
		}
	}
	// Its name is free again.
	o := h.options("true")
	o.Name = "victim"
	id, err := h.e.Create(h.Context(), o)
	if err != nil {
		h.Fatalf("%s: the name is still held: %v", what, err)
	}
	if _, err := h.e.Remove(h.Context(), id, RemoveOptions{}); err != nil {
		h.Errorf("%s: remove: %v", what, err)
	}
}
