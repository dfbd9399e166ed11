package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// root and runRoot are where the store is.
func (m *machine) root() string {
	if m.user != nil {
		return filepath.Join(m.dir, "home/.local/share/hull")
	}
	return filepath.Join(m.dir, "root")
}

func (m *machine) runRoot() string { return filepath.Join(m.dir, "run/hull") }

// holder is the process that keeps a user's namespaces, 0 for none.
func (m *machine) holder() int {
	var h struct{ Pid int }
	b, err := os.ReadFile(filepath.Join(m.runRoot(), "holder.json"))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return 0
	}
	return h.Pid
}

// endHolder ends the user's namespaces, and what is in them by design: the way
// out of the bridges stays for half a minute after the last container.
func (m *machine) endHolder() {
	pid := m.holder()
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if strings.TrimSpace(string(name)) != "hull-holder" {
		return
	}
	syscall.Kill(pid, syscall.SIGKILL)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		line, _ := os.ReadFile(p + "/cmdline")
		status, _ := os.ReadFile(p + "/status")
		if !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", m.id())) || !strings.HasPrefix(string(line), filepath.Dir(m.hull)) {
			continue
		}
		if n, err := strconv.Atoi(filepath.Base(p)); err == nil {
			syscall.Kill(n, syscall.SIGKILL)
		}
	}
}

// left are the processes, mounts, interfaces and files of the machine's
// containers.
func (m *machine) left() []string {
	var left []string
	holder := m.holder()
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid := filepath.Base(p)
		if pid == fmt.Sprint(holder) || pid == fmt.Sprint(os.Getpid()) {
			continue
		}
		line, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		cwd, _ := os.Readlink(p + "/cwd")
		if bytes.Contains(line, []byte(m.dir)) || bytes.Contains(env, []byte(m.dir+"/")) || strings.HasPrefix(cwd, m.dir) {
			left = append(left, fmt.Sprintf("process %s: %q in %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '}), cwd))
		}
	}
	seen := "/proc/self/"
	if holder != 0 {
		seen = fmt.Sprintf("/proc/%d/", holder)
	}
	mounts, _ := os.ReadFile(seen + "mountinfo")
	for line := range strings.Lines(string(mounts)) {
		// The store's own disk the holder has until it ends.
		if strings.Contains(line, m.dir+"/") && (m.disk == "" || strings.Fields(line)[4] != m.disk) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	if holder != 0 {
		interfaces, _ := os.ReadFile(seen + "net/dev")
		for line := range strings.Lines(string(interfaces)) {
			if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && strings.Contains(name, "veth") {
				left = append(left, "interface "+name)
			}
		}
	}
	for _, dir := range []string{"containers", "container-names", "id-ranges", "volumes"} {
		left = append(left, entries(filepath.Join(m.root(), dir))...)
	}
	for _, dir := range []string{"containers", "container-names", "locks"} {
		left = append(left, entries(filepath.Join(m.runRoot(), dir))...)
	}
	for _, pattern := range []string{m.runRoot() + "/network/*/containers/*", m.runRoot() + "/network/*/leases/*/*.*.*.*", m.runRoot() + "/network/*/names/*/*", m.root() + "/snapshots/a/*"} {
		names, _ := filepath.Glob(pattern)
		left = append(left, names...)
	}
	return left
}

func entries(dir string) []string {
	var out []string
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		out = append(out, filepath.Join(dir, e.Name()))
	}
	return out
}
