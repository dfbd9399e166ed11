package cgroup

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// A holder is a process that does nothing: systemd makes no scope without one,
// and the container's first process is to be born in it.
type holder struct {
	pid    int
	stay   *os.File // as long as this is open
	report *os.File
}

// newHolder starts one. It ends with this process at the latest.
func newHolder() (*holder, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("hold scope: %w", err)
	}
	defer r.Close()
	b := plan.NewBuilder()
	b.Phase("hold scope")
	b.Cloexec(plan.ReportFD)
	stay := b.Inherit("stay", r)
	b.Fork(0)
	b.Created()
	b.Read(stay, 1)
	b.Exit(0)
	p, err := b.Plan()
	if err == nil {
		var process *plan.Process
		if process, err = plan.Launch(p, plan.LaunchOptions{UntilCreated: true}); err == nil {
			return &holder{pid: process.Pid, stay: w, report: process.Report}, nil
		}
	}
	w.Close()
	return nil, fmt.Errorf("hold scope: %w", err)
}

// end ends it.
func (h *holder) end() {
	h.stay.Close()
	h.report.Close()
	for {
		if _, err := unix.Wait4(h.pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
