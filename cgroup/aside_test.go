package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A service's processes step aside when its group was delegated, and only
// then; relative paths begin at the service's group before and after.
func TestStepAside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	mount := ""
	for _, m := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(m, "cgroup.procs")); err == nil {
			mount = m
		}
	}
	var st unix.Statfs_t
	if mount == "" || unix.Statfs(mount, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("needs a hierarchy of version 2")
	}
	dir, err := os.MkdirTemp(mount, "hull-test-")
	if err != nil {
		t.Skipf("needs to make groups: %v", err)
	}
	t.Cleanup(func() {
		if err := removeTree(dir); err != nil {
			t.Error(err)
		}
	})
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if err := write(dir, "cgroup.procs", n(c.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	own := "/" + filepath.Base(dir)
	h := &Host{unified: mount, own2: own}
	for _, delegated := range []bool{false, true} {
		want := own
		if delegated {
			err := unix.Setxattr(dir, "user.delegate", []byte("1"), 0)
			if errors.Is(err, unix.EOPNOTSUPP) {
				err = unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0)
			}
			if err != nil {
				t.Skipf("needs attributes on groups: %v", err)
			}
			want = own + "/supervisor"
		}
		// A second time there is nothing to do.
		for range 2 {
			if h, err = h.StepAside(false); err != nil {
				t.Fatal(err)
			}
			procs, err := read(filepath.Join(mount, want), "cgroup.procs")
			if h.own2 != want || err != nil || strings.TrimSpace(procs) != n(c.Process.Pid) {
				t.Errorf("delegated %v: own = %s, its processes %q, %v; want %d in %s", delegated, h.own2, procs, err, c.Process.Pid, want)
			}
			if got := h.fromOwn("x"); got != own+"/x" {
				t.Errorf("delegated %v: x is %s", delegated, got)
			}
		}
	}
}
