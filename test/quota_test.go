package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// quotaStore mounts a file system of its own with plenty of room where the
// machine's store will be: what the store takes of it is limited.
func quotaStore(m *machine, limit string) {
	m.Helper()
	file, dir := filepath.Join(m.dir, "disk"), m.root()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		m.Fatal(err)
	}
	if err := os.Truncate(file, 400<<20); err != nil {
		m.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.Fatal(err)
	}
	for d := dir; d != m.dir; d = filepath.Dir(d) {
		if err := os.Chown(d, m.id(), m.gid()); err != nil {
			m.Fatal(err)
		}
	}
	must := func(name string, args ...string) {
		m.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			m.Skipf("needs btrfs, loop devices and quotas: %s: %v %s", name, err, out)
		}
	}
	must("mkfs.btrfs", "-q", file)
	must("mount", "-o", "loop", file, dir)
	m.disk = dir
	must("btrfs", "subvolume", "create", filepath.Join(dir, "mine"))
	must("btrfs", "quota", "enable", dir)
	must("btrfs", "qgroup", "limit", limit, filepath.Join(dir, "mine"))
	must("umount", dir)
	must("mount", "-o", "loop,subvol=mine", file, dir)
	if err := os.Chown(dir, m.id(), m.gid()); err != nil {
		m.Fatal(err)
	}
}

// fillQuota writes until the quota, not the disk, says no.
func fillQuota(m *machine) {
	m.Helper()
	f, err := os.OpenFile(filepath.Join(m.root(), "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			if _, err = f.Write(make([]byte, size)); err == nil {
				err = f.Sync()
			}
		}
	}
	if !errors.Is(err, unix.EDQUOT) {
		m.Fatalf("the quota did not stop the last write: %v", err)
	}
}

// A quota that is used up stops what needs room, with one clear error, and
// nothing of what looks and makes room.
func TestF31QuotaUsedUp(t *testing.T) {
	for name, user := range map[string]string{"root": "", "user": testUser} {
		t.Run(name, func(t *testing.T) {
			m := newMachineOn(t, user, func(m *machine) { quotaStore(m, "60M") })
			commands := someOfEach(m)
			fillQuota(m)
			clearError(t, m.run("run", "--name", "late", "localhost/fx:1", "true"), "hull run with the quota used up")
			clearError(t, m.run("tag", "localhost/fx:1", "localhost/fx:3"), "hull tag with the quota used up")
			for _, args := range commands {
				fillQuota(m)
				if r := m.run(args...); r.code != 0 || r.errOut != "" {
					t.Errorf("hull %q with the quota used up: exit code %d: %s", args, r.code, r.errOut)
				}
			}
			os.Remove(filepath.Join(m.root(), "filler"))
			m.importImage()
			m.ok("run", "--rm", "localhost/fx:1", "true")
		})
	}
}
