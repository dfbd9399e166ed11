package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// aside is the group below a service's own into which its processes go.
const aside = "supervisor"

// StepAside moves the processes of the caller's own group, when that was
// delegated to it as systemd does with Delegate=yes, into one below: a group
// with processes gives the groups below it no controllers. Relative paths begin
// at the old group then. Where nothing was delegated it does nothing. A user's
// systemd leaves no mark: there a service's group is his that he may write to.
func (h *Host) StepAside(rootless bool) (*Host, error) {
	if h.unified == "" || filepath.Base(h.own2) == aside {
		return h, nil
	}
	dir := filepath.Join(h.unified, h.own2)
	own := rootless && strings.HasSuffix(dir, ".service") && unix.Faccessat(unix.AT_FDCWD, dir+"/cgroup.procs", unix.W_OK, unix.AT_EACCESS) == nil
	if !own && !isDelegated(dir) {
		return h, nil
	}
	to := filepath.Join(dir, aside)
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("step aside in cgroup %s: %w", dir, err)
	}
	// Processes may be born meanwhile.
	for range 16 {
		procs, err := read(dir, "cgroup.procs")
		if err != nil {
			return nil, fmt.Errorf("step aside in cgroup %s: %w", dir, err)
		}
		if procs == "" {
			break
		}
		for _, pid := range strings.Fields(procs) {
			if err := write(to, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return nil, fmt.Errorf("step aside in cgroup %s: %w", dir, err)
			}
		}
	}
	moved := *h
	moved.own2 = filepath.Join(h.own2, aside)
	return &moved, nil
}

// isDelegated says whether systemd has marked a group as another's to manage.
func isDelegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var v [1]byte
		if n, err := unix.Getxattr(dir, name, v[:]); err == nil && n == 1 && v[0] == '1' {
			return true
		}
	}
	return false
}

// fromOwn makes a relative path one that means the same to every process: it
// begins at the own group, or after StepAside at the one above it.
func (h *Host) fromOwn(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	own := filepath.Clean("/" + h.own2)
	if filepath.Base(own) == aside {
		own = filepath.Dir(own)
	}
	return strings.TrimSuffix(own, "/") + "/" + path
}
