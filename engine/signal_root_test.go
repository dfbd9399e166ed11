package engine

import (
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// What a caller ignores (nohup, a shell's background job) a container does not.
func TestContainerIgnoresNoSignal(t *testing.T) {
	h := newHarness(t)
	signal.Ignore(syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Reset(syscall.SIGHUP, syscall.SIGQUIT)
	signal.Ignore(syscall.Signal(33))
	defer signal.Reset(syscall.Signal(33))
	if out := h.output(h.options("grep", "SigIgn", "/proc/self/status")); strings.TrimSpace(strings.TrimPrefix(out, "SigIgn:")) != "0000000000000000" {
		t.Errorf("inside: %s", out)
	}
}
