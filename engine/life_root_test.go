package engine

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRestartPolicyOnFailure(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "echo run; exit 3")
	o.Restart = "on-failure:2"
	id := h.detached(o)
	h.eventually("two restarts and an end", func() bool {
		s := h.status(id)
		return s.Status == StatusExited && s.Restarts == 2
	})
	if s := h.status(id); s.ExitCode != 3 {
		t.Errorf("exit code = %d, want 3", s.ExitCode)
	}
	log, err := os.ReadFile(filepath.Join(h.e.containerDir(id), "ctr.log"))
	if err != nil || strings.Count(string(log), "run\n") != 3 {
		t.Errorf("log = %q, %v; want three runs", log, err)
	}
}

func TestRestartPolicyEndsWithStop(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.Restart = "always"
	id := h.detached(o)
	first := h.status(id).Pid
	unix.Kill(first, unix.SIGKILL)
	h.eventually("it runs again", func() bool { s := h.status(id); return s.Status == StatusRunning && s.Pid != first })
	if err := h.e.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if s := h.status(id); s.Status != StatusExited {
		t.Errorf("after stop: %s", s.Status)
	}
}

// A program that handles its signal is given the time it asks for.
func TestStopWaitsForAHandler(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "trap 'echo bye; exit 4' TERM; echo ready; while true; do sleep 0.05; done")
	id := h.detached(o)
	log := filepath.Join(h.e.containerDir(id), "ctr.log")
	h.eventually("the handler is there", func() bool { b, _ := os.ReadFile(log); return bytes.Contains(b, []byte("ready")) })
	if err := h.e.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := h.status(id); s.ExitCode != 4 {
		t.Errorf("exit code = %d, want the handler's 4", s.ExitCode)
	}
}

func TestPauseAndUnpause(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	if err := h.e.Pause(t.Context(), id); err != nil {
		t.Skip("no freezer here:", err)
	}
	if s := h.status(id); s.Status != StatusPaused {
		t.Errorf("state = %s, want paused", s.Status)
	}
	if err := h.e.Pause(t.Context(), id); err == nil {
		t.Error("a paused container was paused again")
	}
	if err := h.e.Unpause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.e.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.e.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Errorf("stop of a paused container: %v", err)
	}
}

func TestInitThenStart(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "echo started; exit 6")
	id, err := h.e.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.e.Init(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if s := h.status(id); s.Status != StatusInitialized {
		t.Errorf("state = %s, want initialized", s.Status)
	}
	var out bytes.Buffer
	code, err := h.e.StartAttached(t.Context(), id, Streams{Stdout: &out})
	if err != nil || code != 6 || out.String() != "started\n" {
		t.Errorf("start = %d, %q, %v", code, out.String(), err)
	}
}

func TestAttachAndWait(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "read x; echo got $x; exit 9")
	o.Interactive = true
	id := h.detached(o)
	waited := make(chan int, 1)
	go func() {
		code, _ := h.e.Wait(t.Context(), id, WaitOptions{})
		waited <- code
	}()
	var out bytes.Buffer
	r, err := h.e.Attach(t.Context(), id, Streams{Stdin: strings.NewReader("word\n"), Stdout: &out})
	if err != nil || r.Code != 9 || out.String() != "got word\n" {
		t.Errorf("attach = %+v, %q, %v", r, out.String(), err)
	}
	if code := <-waited; code != 9 {
		t.Errorf("wait = %d, want 9", code)
	}
}

// Detach keys leave a container with a terminal running.
func TestDetachKeys(t *testing.T) {
	h := newHarness(t)
	o := h.options("cat")
	o.Interactive, o.Terminal = true, true
	var out bytes.Buffer
	in, type_, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		type_.WriteString("hello\r\x10\x11")
	}()
	r, err := h.e.Run(t.Context(), o, RunOptions{Streams: Streams{Stdin: in, Stdout: &out, DetachKeys: "ctrl-p,ctrl-q"}})
	if err != nil || !r.Detached {
		t.Fatalf("run = %+v, %v; want detached", r, err)
	}
	if s := h.status(r.ID); s.Status != StatusRunning {
		t.Errorf("state = %s, want running", s.Status)
	}
}

func TestTimeoutKills(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.Timeout, o.AutoRemove = 1, true
	if code, _, _, err := h.run(o); code != 137 || err != nil {
		t.Errorf("run --timeout 1 = %d, %v; want 137", code, err)
	}
}

func TestRemoveDependents(t *testing.T) {
	h := newHarness(t)
	first := h.detached(h.options("sleep", "1000"))
	o := h.options("sleep", "1000")
	o.NetworkMode = "container:" + first
	second := h.detached(o)
	zero := uint(0)
	if _, err := h.e.Remove(t.Context(), first, RemoveOptions{Force: true, Timeout: &zero}); err == nil {
		t.Error("a container that another needs was removed")
	}
	removed, err := h.e.Remove(t.Context(), first, RemoveOptions{Force: true, Depend: true, Timeout: &zero})
	if err != nil || len(removed) != 2 || removed[0] != second {
		t.Errorf("remove --depend = %v, %v", removed, err)
	}
}

func TestUserNamespaceMaps(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "cat /proc/self/uid_map; id -u")
	o.UIDMap = []string{"0:200000:65536"}
	got := strings.Fields(h.output(o))
	if strings.Join(got, " ") != "0 200000 65536 0" {
		t.Errorf("map and uid = %v", got)
	}
}

func TestOOMIsSeen(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1")
	o.Resources.Memory = 32 << 20
	id := h.detached(o)
	if _, err := h.e.Wait(t.Context(), id, WaitOptions{}); err != nil {
		t.Fatal(err)
	}
	h.eventually("it is exited", func() bool { return h.status(id).Status == StatusExited })
	if s := h.status(id); !s.OOMKilled {
		t.Errorf("state = %+v, want killed for memory", s)
	}
}

func TestDetachKeysGrammar(t *testing.T) {
	for _, c := range []struct{ text, want string }{{"", ""}, {"ctrl-p,ctrl-q", "\x10\x11"}, {"a,ctrl-]", "a\x1d"}, {"ctrl-@", "\x00"}} {
		if got, err := parseDetachKeys(c.text); string(got) != c.want || err != nil {
			t.Errorf("parseDetachKeys(%q) = %q, %v; want %q", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"ctrl-", "ab", "ctrl-é", ",", "ctrl-P1"} {
		if got, err := parseDetachKeys(text); err == nil {
			t.Errorf("parseDetachKeys(%q) = %q, want an error", text, got)
		}
	}
}

func TestDetacher(t *testing.T) {
	for _, c := range []struct {
		in   []string
		out  string
		done bool
	}{
		{[]string{"ab"}, "ab", false}, {[]string{"a\x10", "\x11b"}, "a", true}, {[]string{"\x10", "x"}, "\x10x", false}, {[]string{"\x10\x10\x11"}, "\x10", true},
	} {
		d := detacher{keys: []byte("\x10\x11")}
		var out []byte
		done := false
		for _, in := range c.in {
			var o []byte
			o, done = d.pass([]byte(in))
			out = append(out, o...)
		}
		if string(out) != c.out || done != c.done {
			t.Errorf("typing %q: %q, %v; want %q, %v", c.in, out, done, c.out, c.done)
		}
	}
}

func TestHooksRun(t *testing.T) {
	h := newHarness(t)
	dir := filepath.Join(h.dir, "hooks")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(h.dir, "hook-output")
	text := `{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c","echo ran >>` + out + `"]},"when":{"always":true},"stages":["createRuntime","poststart","poststop"]}`
	if err := os.WriteFile(filepath.Join(dir, "a.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	h.e.o.Hooks = []string{dir}
	if got := h.output(h.options("echo", "program")); got != "program\n" {
		t.Errorf("output = %q", got)
	}
	if data, _ := os.ReadFile(out); strings.Count(string(data), "ran\n") != 3 {
		t.Errorf("hooks wrote %q, want three runs", data)
	}
}

func TestNotifySocketIsPassedOn(t *testing.T) {
	h := newHarness(t)
	path := filepath.Join(h.dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	o := h.options("sh", "-c", "echo $NOTIFY_SOCKET; stat -c %F $NOTIFY_SOCKET")
	if got := h.output(o); got != notifyPath+"\nsocket\n" {
		t.Errorf("output = %q", got)
	}
	buf := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "MAINPID=") {
		t.Errorf("message = %q, %v", buf[:n], err)
	}
}

// F63: a health check that hangs is killed with its children at its timeout, and
// none piles up.
func TestF63HealthCheckHangs(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.Health = &Health{Test: []string{"CMD-SHELL", "sleep 4321 & sleep 4321"}, Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond, Retries: 3}
	id := h.detached(o)
	h.eventually("it is unhealthy", func() bool { return h.status(id).Health == HealthUnhealthy })
	time.Sleep(time.Second)
	_, out := h.exec(id, "ps")
	if n := strings.Count(out, "sleep 4321"); n > 3 { // of one check: its shell and its two
		t.Errorf("%d processes of checks:\n%s", n, out)
	}
}

func TestHealthIsChecked(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "sleep 1000")
	o.Health = &Health{Test: []string{"CMD-SHELL", "test ! -e /tmp/ill"}, Interval: 100 * time.Millisecond, Retries: 2}
	id := h.detached(o)
	h.eventually("it is healthy", func() bool { return h.status(id).Health == HealthHealthy })
	h.exec(id, "touch", "/tmp/ill")
	h.eventually("it is unhealthy", func() bool { return h.status(id).Health == HealthUnhealthy })
	if r, err := h.e.HealthCheck(t.Context(), id); err != nil || r.Code == 0 {
		t.Errorf("health check = %+v, %v", r, err)
	}
}

// TestWaitKnowsTheEnd: a container that has ended, and whose monitor has yet to
// write how, is not one that ended with 0.
func TestWaitKnowsTheEnd(t *testing.T) {
	s := &runState{Status: StatusStopped, unsaid: true}
	for _, conditions := range [][]string{nil, {StatusStopped}, {StatusExited}} {
		if s.meets(conditions) {
			t.Errorf("wait for %q is over before the exit code is known", conditions)
		}
	}
	h := newHarness(t)
	for range 30 {
		id := h.detached(h.options("sh", "-c", "exit 3"))
		if code, err := h.e.Wait(h.Context(), id, WaitOptions{Interval: 1}); code != 3 || err != nil {
			t.Fatalf("wait = %d, %v; want 3", code, err)
		}
		if _, err := h.e.Remove(h.Context(), id, RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}
