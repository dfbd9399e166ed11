package monitor_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/monitor"
	"hull/plan"
)

// TestMain is the monitor when Start executes the test binary as one.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "hull-monitor" {
		os.Exit(monitor.Main())
	}
	os.Exit(m.Run())
}

// shell is a plan that runs a script in a process of its own, in no new
// namespace: the monitor cannot tell.
func shell(t *testing.T, script string) *os.File {
	t.Helper()
	b := plan.NewBuilder()
	b.Phase("start")
	b.Cloexec(plan.FD(3))
	b.Fork(unix.CLONE_PARENT | int(unix.SIGCHLD))
	b.Execve("/bin/sh", []string{"sh", "-c", script}, []string{"PATH=/usr/bin:/bin"})
	p, err := b.Plan()
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func start(t *testing.T, script string, change func(*monitor.StartOptions)) (*monitor.Session, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := monitor.StartOptions{
		Binary: self, Plan: shell(t, script), Attach: true, Flags: monitor.FlagOutput | monitor.FlagLossless,
		Config: monitor.Config{ID: "test", RunDir: dir, LogDriver: monitor.LogK8sFile, LogPath: dir + "/log"},
	}
	if change != nil {
		change(&o)
	}
	s, err := monitor.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Conn.Close()
		s.Monitor.Wait()
	})
	return s, dir
}

func TestOutputLogAndExit(t *testing.T) {
	s, dir := start(t, "echo out; echo err >&2; exit 7", nil)
	var out, errs bytes.Buffer
	code, err := s.Conn.Copy(&out, &errs, nil)
	if err != nil || code != 7 || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("Copy = %d, %v with %q and %q, want 7 with out and err", code, err, &out, &errs)
	}
	log, err := os.ReadFile(dir + "/log")
	if err != nil || !strings.Contains(string(log), " stdout F out\n") || !strings.Contains(string(log), " stderr F err\n") {
		t.Errorf("log = %q, %v", log, err)
	}
	exit, err := monitor.ReadExit(dir)
	if err != nil || exit.Code != 7 || time.Since(time.Unix(0, exit.UnixNano)) > time.Minute {
		t.Errorf("ReadExit = %+v, %v, want code 7 of just now", exit, err)
	}
}

func TestKilledBySignal(t *testing.T) {
	s, _ := start(t, "kill -9 $$", nil)
	if code, err := s.Conn.Copy(nil, nil, nil); err != nil || code != 137 {
		t.Errorf("Copy = %d, %v, want 137", code, err)
	}
}

func TestStdin(t *testing.T) {
	s, _ := start(t, "cat; echo end", func(o *monitor.StartOptions) {
		o.Config.OpenStdin, o.Config.StdinOnce = true, true
	})
	big := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	go func() {
		s.Conn.Write(big)
		s.Conn.CloseInput()
	}()
	var out bytes.Buffer
	code, err := s.Conn.Copy(&out, nil, nil)
	if err != nil || code != 0 || !bytes.Equal(out.Bytes(), append(big, "end\n"...)) {
		t.Errorf("Copy = %d, %v with %d bytes, want 0 with %d", code, err, out.Len(), len(big)+4)
	}
}

// A lossless client that does not read holds the container up; when it reads
// again, nothing is missing. Another client that does not read holds nothing up.
func TestF60SlowReaders(t *testing.T) {
	const lines = 200_000
	s, dir := start(t, fmt.Sprintf("read x; i=0; while [ $i -lt %d ]; do echo line; i=$((i+1)); done", lines), func(o *monitor.StartOptions) {
		o.Config.OpenStdin = true
		o.Config.LogDriver = monitor.LogNone
	})
	idle, err := monitor.Dial(dir, monitor.FlagOutput)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	s.Conn.Write([]byte("go\n"))
	time.Sleep(200 * time.Millisecond)
	var out countWriter
	code, err := s.Conn.Copy(&out, nil, nil)
	if err != nil || code != 0 || out != lines*5 {
		t.Errorf("Copy = %d, %v with %d bytes, want 0 with %d", code, err, out, lines*5)
	}
}

type countWriter int

func (w *countWriter) Write(p []byte) (int, error) {
	*w += countWriter(len(p))
	return len(p), nil
}

func TestAttachLater(t *testing.T) {
	_, dir := start(t, "read x; echo got $x", func(o *monitor.StartOptions) {
		o.Attach = false
		o.Config.OpenStdin = true
	})
	c, err := monitor.Dial(dir, monitor.FlagOutput)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("hello\n"))
	var out bytes.Buffer
	code, err := c.Copy(&out, nil, nil)
	if err != nil || code != 0 || out.String() != "got hello\n" {
		t.Errorf("Copy = %d, %v with %q, want 0 with got hello", code, err, &out)
	}
	// Exit is the last frame, so the socket is gone by now.
	if _, err := monitor.Dial(dir, 0); !errors.Is(err, monitor.ErrNoMonitor) {
		t.Errorf("Dial after the end = %v, want ErrNoMonitor", err)
	}
}

// The monitor executes the clean-up when nobody else does, and only then.
func TestCleanup(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags monitor.Flags
		done  bool // the cleaner says so
		want  bool // the monitor does it
	}{
		{"no cleaner", monitor.FlagOutput, false, true},
		{"cleaner", monitor.FlagOutput | monitor.FlagCleaner, true, false},
		{"cleaner that dies", monitor.FlagOutput | monitor.FlagCleaner, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := start(t, "exit 3", func(o *monitor.StartOptions) {
				o.Flags = c.flags
				o.Config.Cleanup = []string{"/bin/sh", "-c", "echo $WHO > " + o.Config.RunDir + "/cleaned"}
				o.Config.Env = []string{"WHO=monitor"}
			})
			if code, err := s.Conn.Copy(nil, nil, nil); err != nil || code != 3 {
				t.Fatalf("Copy = %d, %v, want 3", code, err)
			}
			left := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
			for _, dir := range left {
				if err := os.MkdirAll(filepath.Join(dir, "u", "deep"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if c.done {
				s.Conn.Cleaned(left)
			}
			s.Conn.Close()
			s.Monitor.Wait()
			for _, dir := range left {
				if _, err := os.Lstat(dir); (err == nil) == c.done {
					t.Errorf("%s, which a cleaner left: %v", dir, err)
				}
			}
			data, err := os.ReadFile(dir + "/cleaned")
			if (err == nil) != c.want {
				t.Errorf("clean-up by the monitor: %q, %v, want %v", data, err, c.want)
			}
		})
	}
}

func TestFailedStart(t *testing.T) {
	b := plan.NewBuilder()
	b.Phase("start")
	b.Cloexec(plan.FD(3))
	b.Fork(unix.CLONE_PARENT | int(unix.SIGCHLD))
	b.Execve("/nonexistent", []string{"x"}, nil)
	p, err := b.Plan()
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	self, _ := os.Executable()
	dir := t.TempDir()
	_, err = monitor.Start(monitor.StartOptions{Binary: self, Plan: f, Config: monitor.Config{ID: "x", RunDir: dir}})
	var report *monitor.ReportError
	if !errors.As(err, &report) {
		t.Fatalf("Start = %v, want a ReportError", err)
	}
	if _, err := plan.DecodeReport(p, report.Report); !errors.Is(err, unix.ENOENT) {
		t.Errorf("report says %v, want ENOENT", err)
	}
	if _, err := os.Stat(dir + "/" + monitor.AttachSocket); err == nil {
		t.Error("the attach socket was left")
	}
}

// A plan that waits is created when it says so, not when its process is there.
func TestFailedCreate(t *testing.T) {
	for _, waits := range []bool{false, true} {
		b := plan.NewBuilder()
		b.Cloexec(plan.FD(3))
		b.Fork(0)
		if waits {
			b.Created()
		}
		b.Chdir("/nonexistent")
		b.Exit(0)
		p, err := b.Plan()
		if err != nil {
			t.Fatal(err)
		}
		f, err := p.Memfd()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		self, _ := os.Executable()
		dir := t.TempDir()
		s, err := monitor.Start(monitor.StartOptions{Binary: self, Plan: f, Config: monitor.Config{ID: "x", RunDir: dir, Wait: true}})
		var report *monitor.ReportError
		if !waits {
			if !errors.As(err, &report) {
				t.Fatalf("Start = %v, want a ReportError", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("Start = %v, want a created process", err)
		}
		s.Monitor.Wait()
		said, err := os.ReadFile(dir + "/" + monitor.ReportFile)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plan.DecodeReport(p, said); !errors.Is(err, unix.ENOENT) {
			t.Errorf("report says %v, want ENOENT", err)
		}
	}
}
