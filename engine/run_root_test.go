package engine

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRunPassesTheExitCode(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"true"}, 0}, {[]string{"sh", "-c", "exit 3"}, 3}, {[]string{"sh", "-c", "kill -9 $$"}, 137},
	} {
		o := h.options(c.args...)
		o.AutoRemove = true
		code, _, _, err := h.run(o)
		// A program that is pid 1 cannot kill itself by SIGKILL.
		if c.code == 137 {
			c.code = 0
		}
		if err != nil || code != c.code {
			t.Errorf("run %q: exit code %d, error %v; want %d", c.args, code, err, c.code)
		}
	}
}

// Exit codes of what does not start: 127 not there, 126 cannot, 125 the engine.
func TestRunExitCodesOfFailedStarts(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"no-such-program"}, 127}, {[]string{"/no/such"}, 127}, {[]string{"/etc/passwd"}, 126}, {[]string{"/etc"}, 126}} {
		for _, rm := range []bool{true, false} {
			o := h.options(c.args...)
			o.AutoRemove = rm
			_, _, _, err := h.run(o)
			if ExitCode(err) != c.code {
				t.Errorf("run %q, --rm=%v: %v has exit code %d, want %d", c.args, rm, err, ExitCode(err), c.code)
			}
		}
	}
	o := h.options("true")
	o.CapAdd = []string{"NO_SUCH"}
	if _, _, _, err := h.run(o); ExitCode(err) != 125 {
		t.Errorf("an unknown capability: %v has exit code %d, want 125", err, ExitCode(err))
	}
}

func TestRunOutput(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "echo out; echo err >&2")
	o.AutoRemove = true
	code, out, errs, err := h.run(o)
	if code != 0 || out != "out\n" || errs != "err\n" || err != nil {
		t.Errorf("run = %d, %q, %q, %v", code, out, errs, err)
	}
	o = h.options("sh", "-c", "hostname; cat /etc/hostname; pwd; id; echo $HOME $container")
	o.Hostname, o.WorkingDir, o.User = "ship", "/tmp", "sailor"
	want := "ship\nship\n/tmp\nuid=1000(sailor) gid=1000(sailor) groups=1000(sailor),2000(crew)\n/home/sailor hull\n"
	if got := h.output(o); got != want {
		t.Errorf("run = %q, want %q", got, want)
	}
}

// TestRunLooksIntoTheLayers: a start reads the image's users, and mounts the same
// layers for the container; two mounts must not meet in one upper directory.
func TestRunLooksIntoTheLayers(t *testing.T) {
	h := newHarness(t)
	for range 5 {
		for _, maps := range [][]string{nil, {"0:100000:65536"}} {
			o := h.options("sh", "-c", "id -u; grep -c :1234: /etc/passwd; grep -c '^overlay / overlay' /proc/mounts")
			o.User, o.AutoRemove, o.UIDMap = "1234", true, maps
			code, out, errs, err := h.run(o)
			if err != nil || code != 0 || out != "1234\n1\n1\n" {
				t.Fatalf("run as a user that the image does not know: %d, %q, %q, %v", code, out, errs, err)
			}
		}
	}
}

func TestRunInput(t *testing.T) {
	h := newHarness(t)
	o := h.options("cat")
	o.Interactive, o.AutoRemove = true, true
	var out strings.Builder
	in := strings.Repeat("a line of text\n", 20000)
	r, err := h.e.Run(t.Context(), o, RunOptions{Streams: Streams{Stdin: strings.NewReader(in), Stdout: &out}})
	if err != nil || r.Code != 0 || out.String() != in {
		t.Errorf("run -i cat: code %d, error %v, %d bytes of %d", r.Code, err, out.Len(), len(in))
	}
}

func TestDetachedLife(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.Name = "sleeper"
	id := h.detached(o)
	if s := h.status("sleeper"); s.Status != StatusRunning || !alive(s.Pid) {
		t.Fatalf("state = %+v, want running", s)
	}
	if _, out := h.exec(id, "sh", "-c", "ps | grep -c sleep"); strings.TrimSpace(out) == "0" {
		t.Errorf("exec does not see the container's processes: %q", out)
	}
	if _, err := h.e.Run(t.Context(), o, RunOptions{Detach: true}); !errors.Is(err, ErrExists) {
		t.Errorf("a second container of the name: %v, want ErrExists", err)
	}
	if _, err := h.e.Remove(t.Context(), id, RemoveOptions{}); !errors.Is(err, ErrState) {
		t.Errorf("remove of a running container: %v, want ErrState", err)
	}
	begin := time.Now()
	if err := h.e.Stop(t.Context(), "sleeper", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	// sleep handles no SIGTERM, so nobody waits the ten seconds.
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("stop took %v", d)
	}
	if s := h.status(id); s.Status != StatusExited || s.ExitCode != 137 {
		t.Errorf("state = %+v, want exited with 137", s)
	}
	if err := h.e.Start(t.Context(), id[:12]); err != nil {
		t.Fatal(err)
	}
	first := h.status(id).Pid
	if err := h.e.Restart(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := h.status(id); s.Status != StatusRunning || s.Pid == first {
		t.Errorf("after restart: %+v", s)
	}
	if err := h.e.Kill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	if code, err := h.e.Wait(t.Context(), id, WaitOptions{}); code != 137 || err != nil {
		t.Errorf("wait = %d, %v", code, err)
	}
	if err := h.e.Rename(t.Context(), id, "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Lookup(t.Context(), "sleeper"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the old name still leads somewhere: %v", err)
	}
	if _, err := h.e.Remove(t.Context(), "other", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
}
