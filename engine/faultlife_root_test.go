package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// F11: the monitor of a container is killed. The container runs on, and the
// state says so; exec, stop and a new start work. How it ended is unknown then,
// and said to be.
func TestF11MonitorKilled(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sh", "-c", "echo first; sleep 1000"))
	s := h.status(id)
	mon := state.ProcessID{Pid: s.Monitor, Start: s.MonitorStart}
	said := func() int {
		var out bytes.Buffer
		if err := h.e.Logs(t.Context(), id, LogsOptions{Tail: -1}, func(l LogLine) error { _, err := fmt.Fprintf(&out, "%s\n", l.Text); return err }); err != nil {
			t.Fatal(err)
		}
		return strings.Count(out.String(), "first")
	}
	h.eventually("the container's word is in its log", func() bool { return said() == 1 })
	unix.Kill(s.Monitor, unix.SIGKILL)
	h.eventually("the monitor is gone", func() bool { return !mon.Alive() })
	begin := time.Now()
	if s := h.status(id); s.Status != StatusRunning || time.Since(begin) > time.Second {
		t.Errorf("state after %v = %+v, want running", time.Since(begin), s)
	}
	if code, out := h.exec(id, "echo", "here"); code != 0 || out != "here\n" {
		t.Errorf("exec = %d %q", code, out)
	}
	zero := uint(0)
	if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if s := h.status(id); s.running() || s.ExitCode != 255 || !strings.Contains(s.Error, "monitor") {
		t.Errorf("state = %+v, want an end that nobody saw", s)
	}
	if err := h.e.Start(t.Context(), id); err != nil {
		t.Fatalf("start after its monitor was killed: %v", err)
	}
	// Both at once, as the end of a session has it.
	s = h.status(id)
	h.eventually("the container's word is in its log again", func() bool { return said() == 2 })
	unix.Kill(s.Monitor, unix.SIGKILL)
	unix.Kill(s.Pid, unix.SIGKILL)
	h.eventually("the container is seen as ended", func() bool { return !h.status(id).running() })
	if s := h.status(id); s.ExitCode != 255 || s.Error == "" {
		t.Errorf("state = %+v, want an error and exit code 255", s)
	}
	if err := h.e.Start(t.Context(), id); err != nil {
		t.Fatalf("start after both were killed: %v", err)
	}
	h.eventually("the log has all three runs", func() bool { return said() == 3 })
}

// F12: the kernel looks for memory in the container's group, where the monitor
// is not, and elsewhere takes the monitor last.
func TestF12MonitorIsNoVictim(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "cat /proc/self/oom_score_adj; while ! test -e /tmp/go; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000")
	o.Resources.Memory, o.Resources.MemorySwap = 32<<20, 32<<20
	id := h.detached(o)
	s := h.status(id)
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.Monitor))
	if other := exec.Command("sleep", "1"); other.Start() == nil {
		file := fmt.Sprintf("/proc/%d/oom_score_adj", other.Process.Pid)
		if err := os.WriteFile(file, []byte("-1"), 0); err != nil {
			t.Logf("who may lower it (CAP_SYS_RESOURCE) must say what the monitor's is: %v", err)
			score = []byte(strconv.Itoa(monitorOOMScore))
		}
		other.Process.Kill()
		other.Wait()
	}
	if err != nil || strings.TrimSpace(string(score)) != strconv.Itoa(monitorOOMScore) {
		t.Errorf("the monitor's oom_score_adj is %q, %v, want %d", score, err, monitorOOMScore)
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.Monitor))
	if err != nil || strings.Contains(string(groups), id) {
		t.Errorf("the monitor is in the container's group: %s %v", groups, err)
	}
	h.exec(id, "touch", "/tmp/go")
	h.eventually("the kernel has killed in the container", func() bool {
		_, out := h.exec(id, "ps")
		return !strings.Contains(out, "dd if") || !h.status(id).running()
	})
	mon := state.ProcessID{Pid: s.Monitor, Start: s.MonitorStart}
	if h.status(id).running() && !mon.Alive() {
		t.Error("the monitor is gone")
	}
}

// F13: a program that dies at once, or is killed when it has hardly begun: its
// end is seen, with its code.
func TestF13DiesAtOnce(t *testing.T) {
	h := newHarness(t)
	for i := range races(15, 1000) {
		o := h.options("sh", "-c", "exit 9")
		want := 9
		if i%3 > 0 {
			o, want = h.options("sleep", "1000"), 137
		}
		id, err := h.e.Create(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 { // made, and waiting for its start
			if err := h.e.Init(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		} else if err := h.e.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if s := h.status(id); want == 137 && s.Pid > 0 {
			unix.Kill(s.Pid, unix.SIGKILL)
		}
		h.eventually("its end is seen", func() bool { return h.status(id).Status == StatusExited })
		if s := h.status(id); s.ExitCode != want {
			t.Errorf("round %d: state %+v, want code %d", i, s, want)
		}
		if _, err := h.e.Remove(t.Context(), id, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// F20: the number of the container's process, and of its monitor, is another's
// now: nobody signals that one.
func TestF20ReusedPid(t *testing.T) {
	h := newHarness(t)
	for _, verb := range []string{"stop", "kill", "rm", "pause", "exec", "restart"} {
		id := h.detached(h.options("sleep", "1000"))
		r, s, err := h.e.open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		mon := state.ProcessID{Pid: s.Monitor, Start: s.MonitorStart}
		unix.Kill(s.Monitor, unix.SIGKILL)
		unix.Kill(s.Pid, unix.SIGKILL)
		h.eventually("both are gone", func() bool { return !mon.Alive() && !s.process().Alive() })
		time.Sleep(20 * time.Millisecond) // a process's beginning is told in hundredths of a second
		others := [2]*exec.Cmd{exec.Command("sleep", "1000"), exec.Command("sleep", "1000")}
		for _, c := range others {
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { c.Process.Kill(); c.Wait() }()
		}
		// As if the numbers had come round: those of the state are the others'.
		s.Pid, s.Monitor = others[0].Process.Pid, others[1].Process.Pid
		if err := h.e.saveState(r, s); err != nil {
			t.Fatal(err)
		}
		zero := uint(0)
		switch verb {
		case "stop":
			err = h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero})
		case "kill":
			h.e.Kill(t.Context(), id, "KILL")
		case "pause":
			h.e.Pause(t.Context(), id)
		case "exec":
			if _, err := h.e.Exec(t.Context(), id, ExecOptions{Command: []string{"true"}}); err == nil {
				t.Error("exec entered another process")
			}
		case "restart":
			err = h.e.Restart(t.Context(), id, StopOptions{Timeout: &zero})
		}
		if err != nil {
			t.Errorf("%s: %v", verb, err)
		}
		if _, err := h.e.Remove(t.Context(), id, RemoveOptions{Force: true, Timeout: &zero}); err != nil {
			t.Errorf("%s, then rm: %v", verb, err)
		}
		for i, c := range others {
			who, err := state.IdentifyProcess(c.Process.Pid)
			if err != nil || !who.Alive() {
				t.Errorf("%s: the other process %d was killed", verb, i)
			}
		}
	}
}

// F57: containers that are the first to mount a volume, all at once: it is
// filled once, and nobody's file is overwritten.
func TestF57FilledOnce(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("fx:1")
	for round := range races(3, 100) {
		name := fmt.Sprint("v", round)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				own := *h
				own.e = h.open()
				out := own.output(CreateOptions{Image: "fx:1", NetworkMode: "none", Mounts: []Mount{{Type: "volume", Source: name, Destination: "/etc"}},
					Command: []string{"sh", "-c", fmt.Sprintf("cat /etc/group && echo of %d >/etc/passwd && echo x >/etc/made%d", i, i)}})
				if !strings.Contains(out, "crew:x:2000:sailor") {
					t.Errorf("container %d saw %q", i, out)
				}
			})
		}
		wg.Wait()
		data := filepath.Join(h.e.volumeDir(name), "_data")
		text, err := os.ReadFile(filepath.Join(data, "passwd"))
		if err != nil || !strings.HasPrefix(string(text), "of ") {
			t.Errorf("after all: passwd is %q, %v; want what a container wrote", text, err)
		}
		for i := range 6 {
			if _, err := os.Stat(filepath.Join(data, fmt.Sprint("made", i))); err != nil {
				t.Errorf("a file that a container made is gone: %v", err)
			}
		}
		if _, err := h.e.VolumeRemove(t.Context(), name, false, nil); err != nil {
			t.Error(err)
		}
	}
}

// F62: of an exec session the client is killed, or its program, or the
// container. The others notice, and no process is left.
func TestF62ExecSessionKilled(t *testing.T) {
	h := newHarness(t)
	id := h.detached(h.options("sleep", "1000"))
	count := func() int {
		_, out := h.exec(id, "ps")
		return strings.Count(out, "sleep 77")
	}
	session := func(args ...string) chan RunResult {
		done := make(chan RunResult, 1)
		go func() {
			r, err := h.e.Exec(context.Background(), id, ExecOptions{Command: args, Streams: Streams{Stdout: io.Discard, Stderr: io.Discard}})
			if err != nil {
				r.Code = -1
			}
			done <- r
		}()
		return done
	}
	// The client, a process of its own.
	c := h.command("test-do", "exec-sleep", id)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	h.eventually("the session's program runs", func() bool { return count() > 0 })
	c.Process.Kill()
	c.Wait()
	h.exec(id, "sh", "-c", "kill -9 $(ps | grep 'sleep 77' | grep -v grep | sed 's/^ *//; s/ .*//')")
	h.eventually("it is gone", func() bool { return count() == 0 })
	// Its program.
	first, second := session("sleep", "77"), session("sh", "-c", "sleep 2; exit 5")
	h.eventually("it runs", func() bool { return count() > 0 })
	h.exec(id, "sh", "-c", "kill -9 $(ps | grep 'sleep 77' | grep -v grep | sed 's/^ *//; s/ .*//')")
	if r := <-first; r.Code != 137 {
		t.Errorf("a killed session's code = %d, want 137", r.Code)
	}
	if r := <-second; r.Code != 5 {
		t.Errorf("the other session's code = %d, want 5", r.Code)
	}
	// The container.
	third := session("sleep", "77")
	h.eventually("it runs", func() bool { return count() > 0 })
	unix.Kill(h.status(id).Pid, unix.SIGKILL)
	select {
	case r := <-third:
		if r.Code != 137 {
			t.Errorf("code of a session whose container was killed = %d, want 137", r.Code)
		}
	case <-time.After(10 * time.Second):
		t.Error("the session did not end with its container")
	}
	h.eventually("the container's end is seen", func() bool { return h.status(id).Status == StatusExited })
	left, _ := filepath.Glob(filepath.Join(h.e.containerRun(id), "*exec*"))
	if len(left) > 0 {
		t.Errorf("sessions left %q", left)
	}
}

// F64: a container that ends at once is restarted, and what restarts it is
// killed at random: the count goes only up, and the delays stay long.
func TestF64RestartStorm(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "exit 1")
	o.Restart = "always"
	id := h.detached(o)
	random := rand.New(rand.NewPCG(64, uint64(time.Now().UnixNano())))
	var last uint
	for end := time.Now().Add(time.Duration(races(3, 60)) * time.Second); time.Now().Before(end); {
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range all {
			line, _ := os.ReadFile(p)
			if bytes.Contains(line, []byte(h.dir)) && bytes.Contains(line, []byte("internal-cleanup")) && random.IntN(2) == 0 {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		if err := h.e.Recover(t.Context()); err != nil {
			t.Errorf("recover: %v", err)
		}
		s := h.status(id)
		if s.Restarts < last {
			t.Errorf("restarts went from %d to %d", last, s.Restarts)
		}
		last = s.Restarts
		if !s.running() && s.Status == StatusExited && s.Pid == 0 {
			h.e.Start(t.Context(), id) // as a user would
			last = 0
		}
	}
	zero := uint(0)
	if err := h.e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	h.eventually("it is stopped for good", func() bool { return h.status(id).Status == StatusExited })
	r := &record{Options: CreateOptions{Restart: "always"}}
	for n, want := range map[uint]time.Duration{0: firstBackoff, 3: 8 * firstBackoff, 30: maxBackoff} {
		if got := r.again(&runState{Restarts: n}); got != want {
			t.Errorf("the delay after %d restarts is %v, want %v", n, got, want)
		}
	}
}

// F65: a container of --rm ends when nobody is left to remove it: the next
// command does, and tells it once.
func TestF65RemovedByTheNext(t *testing.T) {
	h := newHarness(t)
	for _, boot := range []bool{false, true} {
		o := h.options("sleep", "1000")
		o.AutoRemove, o.Name = true, "once"
		id := h.detached(o)
		if boot {
			h.reboot()
		} else {
			s := h.status(id)
			unix.Kill(s.Monitor, unix.SIGKILL)
			unix.Kill(s.Pid, unix.SIGKILL)
			h.eventually("it is seen as ended", func() bool { return !h.status(id).running() })
		}
		for range 3 {
			if err := h.e.Recover(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := h.e.Remove(t.Context(), "once", RemoveOptions{Force: true}); err != nil {
				t.Logf("boot %v: remove: %v", boot, err)
			}
		}
		if ok, _ := h.e.Exists(t.Context(), id); ok {
			t.Errorf("boot %v: it is still there", boot)
		}
		removed := 0
		h.e.Events(t.Context(), EventOptions{Filters: Filters{"container": {id}, "event": {"remove"}}}, func(Event) error { removed++; return nil })
		if removed > 1 || removed == 0 && !boot {
			t.Errorf("boot %v: %d events of its removal", boot, removed)
		}
		again, err := h.e.Create(t.Context(), o)
		if err != nil {
			t.Fatalf("boot %v: the name is not free: %v", boot, err)
		}
		if _, err := h.e.Remove(t.Context(), again, RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
}
