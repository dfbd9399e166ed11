package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A sample is what the store and its processes hold, by name.
type sample []figure

type figure struct {
	name string
	n    int
	// slack is what it may grow by between the first sample and the last.
	slack int
}

func (s sample) String() string {
	var w []string
	for _, f := range s {
		w = append(w, fmt.Sprintf("%s %d", f.name, f.n))
	}
	return strings.Join(w, ", ")
}

// look counts what a leak would add to. Only what is this store's counts: the
// machine is others' as well.
func (s *soak) look() (sample, error) {
	pid, err := s.monitorOf("stays")
	if err != nil {
		return nil, err
	}
	fds, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		return nil, err
	}
	var list sample
	add := func(name string, n, slack int) { list = append(list, figure{name, n, slack}) }
	add("processes", len(s.processes()), 0)
	add("monitor kB", field("/proc/"+pid+"/status", "VmRSS:"), 300)
	add("fds", len(fds), 0)
	add("mounts", s.mounts(), 0)
	add("entries in run", entries(filepath.Join(s.dir, "run")), 12)
	add("in root", entries(filepath.Join(s.dir, "root")), 8)
	add("interfaces", s.interfaces(), 0)
	add("cgroups", s.cgroups(), 0)
	add("leases", entries(filepath.Join(s.dir, "run/network")), 8)
	return list, nil
}

func (s *soak) monitorOf(name string) (string, error) {
	out, err := s.command("inspect", "--format", "{{.State.ConmonPid}}", name).Output()
	if err != nil {
		return "", fmt.Errorf("inspect %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// processes are the pids of this engine's processes.
func (s *soak) processes() []string {
	var pids []string
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, p := range all {
		if exe, err := os.Readlink(p); err == nil && strings.HasPrefix(exe, s.dir) {
			pids = append(pids, filepath.Base(filepath.Dir(p)))
		}
	}
	return pids
}

// field reads a number of a file with lines of "name: value".
func field(file, name string) int {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return n
		}
	}
	return 0
}

func (s *soak) mounts() int {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	return strings.Count(string(text), s.dir)
}

func entries(dir string) int {
	n := 0
	filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
	return n
}

// interfaces counts those that hang on the network's bridge.
func (s *soak) interfaces() int {
	out, err := s.command("network", "inspect", "--format", "{{.NetworkInterface}}", net).Output()
	if err != nil {
		return -1
	}
	links, err := os.ReadDir("/sys/class/net/" + strings.TrimSpace(string(out)) + "/brif")
	if err != nil {
		return -1
	}
	return len(links)
}

// cgroups counts directories of containers that this store has not.
func (s *soak) cgroups() int {
	// It fails when a directory of others went meanwhile; the rest is there.
	out, err := exec.Command("find", "/sys/fs/cgroup", "-type", "d", "-name", "*-*", "-path", "*hull*").Output()
	if len(out) == 0 && err != nil {
		return -1
	}
	ids, err := s.command("ps", "-aq", "--no-trunc").Output()
	if err != nil {
		return -1
	}
	n := 0
	for id := range strings.FieldsSeq(string(ids)) {
		n += strings.Count(string(out), id)
	}
	return n
}

// grew compares the first sample with the last.
func grew(samples []sample) []string {
	if len(samples) < 2 {
		return nil
	}
	var out []string
	first, last := samples[0], samples[len(samples)-1]
	for i, f := range first {
		if last[i].n > f.n+f.slack {
			out = append(out, fmt.Sprintf("%s: %d to %d", f.name, f.n, last[i].n))
		}
	}
	return out
}
