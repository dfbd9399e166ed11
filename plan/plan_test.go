package plan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// busy is a plan that uses data, references, skips and the check.
func busy(argv ...string) *Builder {
	b := NewBuilder()
	b.Phase("begin")
	b.Cloexec(ReportFD)
	b.Fork(0)
	b.Phase("files")
	f, c := b.Openat(CWD, "/nonexistent", unix.O_RDONLY|unix.O_CLOEXEC)
	c.Accept(unix.EACCES, unix.ENOENT)
	b.Exit(3)
	c.SkipOnErrno()
	c = b.Openat2Again(f, CWD, "/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
	b.Exit(4)
	c.SkipOnSuccess()
	b.Fstatfs(f)
	b.Require(0, 0xffffffff, unix.PROC_SUPER_MAGIC, unix.ELOOP)
	b.Deny(0, 0xffffffff, unix.TMPFS_MAGIC, unix.ELOOP)
	b.Close(f)
	b.Phase("exec")
	b.CloexecRange(3, ^uint32(0))
	for _, dir := range []string{"/nonexistent/", "/bin/"} {
		b.Execve(dir+argv[0], argv, []string{"A=1", "B=two"}).Accept(unix.ENOENT)
	}
	b.Execve("/"+argv[0], argv, nil)
	return b
}

func mustPlan(t testing.TB, b *Builder) *Plan {
	t.Helper()
	p, err := b.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run launches the plan both ways, and returns what it printed and its status.
func run(t *testing.T, p *Plan) (out string, code int) {
	t.Helper()
	for i, raw := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		proc, err := Launch(p, LaunchOptions{Stdout: w, Stderr: w, Raw: raw})
		w.Close()
		if err != nil {
			t.Fatalf("raw %v: %v", raw, err)
		}
		var b bytes.Buffer
		b.ReadFrom(r)
		r.Close()
		status := wait(proc.Pid)
		got := status.ExitStatus()
		if i > 0 && (b.String() != out || got != code) {
			t.Errorf("raw: %q, status %d; image: %q, status %d", b.String(), got, out, code)
		}
		out, code = b.String(), got
	}
	return out, code
}

func TestLaunch(t *testing.T) {
	out, code := run(t, mustPlan(t, busy("sh", "-c", "echo $A $B; test -e /proc/self/fd/3 || echo closed; exit 7")))
	if want := "1 two\nclosed\n"; out != want || code != 7 {
		t.Errorf("Launch printed %q, status %d, want %q, 7", out, code, want)
	}
}

func TestLongArgument(t *testing.T) {
	argv := []string{"sh", "-c", "echo $#"}
	for range 18 {
		argv = append(argv, strings.Repeat("x", 100_000)) // MAX_ARG_STRLEN is 128 KiB
	}
	out, code := run(t, mustPlan(t, busy(argv...)))
	if out != "17\n" || code != 0 {
		t.Errorf("Launch with 1.8 MB of arguments printed %q, status %d", out, code)
	}
}

func TestFailureNamesTheStep(t *testing.T) {
	for _, raw := range []bool{false, true} {
		b := NewBuilder()
		b.Phase("begin")
		b.Fork(0)
		b.Subject("look for nothing")
		b.Chdir("/nonexistent")
		b.Exit(0)
		_, err := Launch(mustPlan(t, b), LaunchOptions{Raw: raw})
		var step *StepError
		if !errors.As(err, &step) || step.Step != 1 || !errors.Is(err, syscall.ENOENT) {
			t.Fatalf("Launch = %v, want a StepError of step 1", err)
		}
		if want := `look for nothing: step 1, chdir("/nonexistent"): no such file or directory`; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		var status syscall.WaitStatus
		if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != syscall.ECHILD {
			t.Errorf("a process is left: wait4 = %d, %v", pid, err)
		}
	}
}

func TestReap(t *testing.T) {
	b := NewBuilder()
	b.Cloexec(ReportFD)
	b.Fork(0)
	b.Sigprocmask(unix.SIG_BLOCK, ^uint64(0))
	child, c := b.Branch()
	b.Sigprocmask(unix.SIG_SETMASK, 0)
	b.Execve("/bin/sh", []string{"sh", "-c", "(sleep 0.01 &); trap 'exit 9' TERM; kill -TERM $PPID; sleep 0.2 & wait"}, nil)
	c.SkipOnNonzero()
	b.CloseRange(3, ^uint32(0))
	b.Reap(child)
	if out, code := run(t, mustPlan(t, b)); code != 9 || out != "" {
		t.Errorf("status %d, output %q, want 9 (SIGTERM was not passed on)", code, out)
	}
}

func TestString(t *testing.T) {
	got := mustPlan(t, busy("sh")).String()
	for _, want := range []string{
		"# files\n",
		`   2  fd1 = openat(AT_FDCWD, "/nonexistent", O_CLOEXEC)  or EACCES  or ENOENT then to 4`,
		`   4  fd1 = openat2(AT_FDCWD, "/proc", O_PATH|O_CLOEXEC, 0x0)  else to 6`,
		`execve("/bin/sh", ["sh"], ["A=1", "B=two"])  or ENOENT`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("String() lacks %q:\n%s", want, got)
		}
	}
}

func TestDecodeReport(t *testing.T) {
	p := mustPlan(t, busy("sh"))
	words := func(w ...uint64) (out []byte) {
		for _, x := range w {
			out = binary.NativeEndian.AppendUint64(out, x)
		}
		return out
	}
	for _, bad := range [][]byte{{1}, make([]byte, 9), words(1, 1), words(7, failureBit|1), words(failureBit|999, 2)} {
		if _, err := DecodeReport(p, bad); !errors.Is(err, ErrReport) {
			t.Errorf("DecodeReport(%x) = %v, want ErrReport", bad, err)
		}
	}
	// The two halves of the fork report in any order.
	failed := uint64(failureBit | 2)
	for _, c := range []struct {
		report []byte
		pid    int
		failed bool
	}{
		{nil, 0, false},
		{words(7), 7, false},
		{words(7, created, 0), 7, false},
		{words(created, 0, 7), 7, false},
		{words(failed, 2), 0, true},
		{words(7, failed, 2), 7, true},
		{words(failed, 2, 7), 7, true},
		{words(created, 0, 7, failed, 2), 7, true},
		{words(7, created, 0, created, 0, failed, 2), 7, true},
	} {
		pid, err := DecodeReport(p, c.report)
		var step *StepError
		if pid != c.pid || errors.As(err, &step) != c.failed || c.failed && (step.Step != 2 || step.Errno != unix.ENOENT) {
			t.Errorf("DecodeReport(%x) = %d, %v, want pid %d, failure %v", c.report, pid, err, c.pid, c.failed)
		}
	}
}

func FuzzDecodeReport(f *testing.F) {
	p := mustPlan(f, busy("sh"))
	f.Add(bytes.Repeat([]byte{0xff}, 16))
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, report []byte) {
		if pid, err := DecodeReport(p, report); pid < 0 || pid >= failureBit || len(report)%8 != 0 && err == nil {
			t.Errorf("DecodeReport(%x) = %d, %v", report, pid, err)
		}
	})
}
