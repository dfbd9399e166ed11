package plan

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// LaunchOptions say what a plan is started with.
type LaunchOptions struct {
	// Stdin, Stdout and Stderr are the program's; nil is /dev/null.
	Stdin, Stdout, Stderr *os.File
	// Console is the socket that gets the terminal's master; nil is /dev/null.
	Console *os.File
	// Files are the plan's files, for those that Plan.Files has as nil.
	// nil takes Plan.Files.
	Files []*os.File
	// UntilCreated returns as soon as the plan waits to be started, instead of
	// when its program runs. Process.Report is then still open.
	UntilCreated bool
	// Raw forks this program instead of executing the plan's image.
	Raw bool
	// Memfd is the plan's image if it was made before; nil makes one.
	Memfd *os.File
}

// A Process is a planned process that runs.
type Process struct {
	// Pid is a child of this program, which must wait for it.
	Pid int
	// Report is the plan's report pipe with UntilCreated; nil otherwise.
	Report *os.File
}

// ErrNoReport is a plan whose process ended before it reported its fork.
var ErrNoReport = errors.New("the plan's process ended without a report")

// Launch starts the plan and returns when its program executes. When a step
// fails the error is a *StepError, and no process is left.
func Launch(p *Plan, o LaunchOptions) (*Process, error) {
	files, closeNull, err := o.descriptors(p)
	if err != nil {
		return nil, err
	}
	defer closeNull()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("launch plan: %w", err)
	}
	files[ReportFD] = w
	var helper int
	if o.Raw {
		helper, err = forkRaw(p, files)
	} else {
		helper, err = forkImage(p, files, o.Memfd)
	}
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("launch plan: %w", err)
	}
	return o.follow(p, helper, r)
}

// follow reads the report until the plan's program runs, waits or failed.
func (o LaunchOptions) follow(p *Plan, helper int, r *os.File) (*Process, error) {
	var report []byte
	buf := make([]byte, 64)
	var (
		pid   int
		waits bool
	)
	for !(o.UntilCreated && pid != 0 && waits) {
		n, end := r.Read(buf)
		report = append(report, buf[:n]...)
		if end != nil {
			break
		}
		pid, waits, _ = decode(p, report)
	}
	status := wait(helper)
	pid, waits, err := decode(p, report)
	if err == nil && pid == 0 {
		err = ErrNoReport
		if status.Signaled() {
			err = fmt.Errorf("%w: %v", ErrNoReport, status.Signal())
		}
	}
	if err != nil {
		r.Close()
		if pid != 0 {
			wait(pid)
		}
		return nil, err
	}
	if o.UntilCreated && waits {
		return &Process{Pid: pid, Report: r}, nil
	}
	r.Close()
	return &Process{Pid: pid}, nil
}

func wait(pid int) syscall.WaitStatus {
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			return status
		}
	}
}

// descriptors returns the files that the process is started with, by number.
// The report pipe is missing yet.
func (o LaunchOptions) descriptors(p *Plan) (files []*os.File, done func(), err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("launch plan: %w", err)
	}
	files = []*os.File{o.Stdin, o.Stdout, o.Stderr, nil, o.Console}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	rest := o.Files
	if rest == nil {
		rest = p.Files()
	}
	for i, f := range rest {
		if f == nil {
			null.Close()
			return nil, nil, fmt.Errorf("launch plan: file %s is missing", p.names[i])
		}
	}
	return append(files, rest...), func() { null.Close() }, nil
}

// forkImage executes the plan's image. The image lies above every number the
// process is started with, and those that ForkExec moves them by way of, or it
// would be replaced before it is executed.
func forkImage(p *Plan, files []*os.File, image *os.File) (int, error) {
	if image == nil {
		f, err := p.Memfd()
		if err != nil {
			return 0, err
		}
		defer f.Close()
		image = f
	}
	numbers := make([]uintptr, len(files))
	above := len(files)
	for i, f := range files {
		numbers[i] = f.Fd()
		above = max(above, int(numbers[i]))
	}
	fd, err := unix.FcntlInt(image.Fd(), unix.F_DUPFD_CLOEXEC, above+len(files)+8)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(fd), []string{"hull-plan"}, &syscall.ProcAttr{Files: numbers})
}
