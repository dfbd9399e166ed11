package plan

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// armPlan is a plan of ordinary calls, which qemu-user can run: it has no
// namespaces, and its clone has no CLONE_PARENT, which qemu refuses.
func armPlan(fail bool) *Builder {
	b := NewBuilder()
	b.Phase("files")
	b.Cloexec(ReportFD)
	_, c := b.Openat(CWD, "/nonexistent", unix.O_RDONLY|unix.O_CLOEXEC)
	c.Accept(unix.EACCES, unix.EPERM, unix.EIO, unix.ENOENT)
	b.Exit(3)
	c.SkipOnErrno()
	f, c := b.Openat(CWD, "/", unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY) // qemu 7.2 has no openat2
	b.Exit(4)
	c.SkipOnSuccess()
	b.Fchdir(f)
	b.Close(f)
	b.Getcwd()
	b.Require(0, 0xff, '/', unix.ENOENT)
	b.Deny(0, 0xff, '.', unix.ENOENT)
	b.Write(1, "from a plan\n")
	if fail {
		b.Require(0, 0xff, '.', unix.ELOOP)
	}
	b.Sigprocmask(unix.SIG_BLOCK, ^uint64(0))
	child, branch := b.Branch()
	b.Exit(7)
	branch.SkipOnNonzero()
	b.Reap(child)
	return b
}

// TestWriteARM64Image is run by TestARM64, under qemu: the interpreter is in the text of a
// program of its architecture only.
func TestWriteARM64Image(t *testing.T) {
	dir := os.Getenv("PLAN_TEST_IMAGES")
	if dir == "" {
		t.Skip("run by TestARM64")
	}
	for name, fail := range map[string]bool{"works": false, "fails": true} {
		image, err := mustPlan(t, armPlan(fail)).Image()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), image, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestARM64 runs a plan by the interpreter of arm64, under qemu-user.
func TestARM64(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a test program for arm64")
	}
	if runtime.GOARCH == "arm64" {
		t.Skip("this is arm64: the other tests do it")
	}
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("needs qemu-aarch64-static (Debian: qemu-user-static)")
	}
	dir := t.TempDir()
	build := exec.Command("go", "test", "-c", "-o", dir+"/test", ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("cannot build for arm64: %v\n%s", err, out)
	}
	write := exec.Command(qemu, dir+"/test", "-test.run", "TestWriteARM64Image")
	write.Env = append(os.Environ(), "PLAN_TEST_IMAGES="+dir)
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("write image: %v\n%s", err, out)
	}
	for name, want := range map[string]int{"works": 7, "fails": 255} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := exec.Command(qemu, filepath.Join(dir, name))
		cmd.ExtraFiles = []*os.File{w}
		out, err := cmd.Output()
		w.Close()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != want || string(out) != "from a plan\n" {
			t.Errorf("%s: %v, printed %q, want status %d", name, err, out, want)
		}
		var report bytes.Buffer
		report.ReadFrom(r)
		p := mustPlan(t, armPlan(name == "fails"))
		_, err = DecodeReport(p, report.Bytes())
		var step *StepError
		if name == "works" && err != nil || name == "fails" && (!errors.As(err, &step) || step.Errno != unix.ELOOP || step.Call != "check") {
			t.Errorf("%s: report says %v", name, err)
		}
	}
}
