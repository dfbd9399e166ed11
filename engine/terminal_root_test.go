package engine

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty is a terminal of 33 rows and 77 columns, and its other end.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// A program finds its terminal as large as the user's from its first
// instruction on: many ask only once.
func TestTerminalSizeFromTheStart(t *testing.T) {
	h := newHarness(t)
	_, slave := pty(t)
	for range 5 {
		o := h.options("stty", "size")
		o.Terminal, o.AutoRemove = true, true
		var out bytes.Buffer
		r, err := h.e.Run(t.Context(), o, RunOptions{Streams: Streams{Stdout: &out, Console: slave}})
		if err != nil || r.Code != 0 || strings.TrimSpace(out.String()) != "33 77" {
			t.Fatalf("stty size = %+v, %q, %v; want 33 77", r, out.String(), err)
		}
	}
}
