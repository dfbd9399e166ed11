package test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A baseline is what there is, read from files and the kernel, not by hull: by
// name, what it is.
type baseline map[string]string

// changes are files whose content is not compared: what they hold follows from
// what was done, not from what there is.
var changes = regexp.MustCompile(`^(run/events|run/network/[^/]+/(lock|epoch|leases/[^/]+/\.next[46])|run/lock.*|run/events\.1|root/images/(locks/.*|hold)|root/snapshots/lock|root/cache/.*|root/locks/.*|root/events.*)$`)

// derived may come at any time, and costs nothing: directories that are empty,
// caches, and what is made of a layer to save work later.
var derived = regexp.MustCompile(`^(root/cache/.*|run/events\.1|root/images/(locks/.*|hold|places/.*|boots/.*)|root/build/sums/.*|root/snapshots/l/[0-9a-f]+-points-.*|(root|run)(/[a-z-]+){1,2}|run/network/[^/]+(/[a-z]+){0,2}|run/network/[^/]+/leases/[^/]+/\.next[46])$`)

// look reads the whole of the machine that hull may have changed.
func (l *lab) look() baseline {
	b := baseline{}
	for _, top := range []string{"root", "run", "out", "tmp", "home", "xdg"} {
		filepath.WalkDir(filepath.Join(l.dir, top), func(path string, d fs.DirEntry, err error) error {
			name, _ := filepath.Rel(l.dir, path)
			if err != nil {
				return nil // it went meanwhile
			}
			if what, ok := l.describe(path, name, d); ok {
				b[name] = what
			}
			return nil
		})
	}
	l.lookKernel(b)
	return b
}

func (l *lab) describe(path, name string, d fs.DirEntry) (string, bool) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", false
	}
	sys := st.Sys().(*syscall.Stat_t)
	what := fmt.Sprintf("%v %d:%d", st.Mode(), sys.Uid, sys.Gid)
	switch {
	case changes.MatchString(name):
	case st.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(path)
		what += " " + to
	case st.Mode().IsRegular():
		sum, err := l.contentOf(path, sys)
		if err != nil {
			return "", false
		}
		what += " " + sum
	}
	return what, true
}

// A content is what a file held when it was last changed at that time.
type content struct {
	ino  uint64
	size int64
	at   syscall.Timespec
	sum  string
}

// contentOf says how long a file is and what its bytes are. A file is not read
// again while the time of its last change is the same, which the kernel alone
// sets; when that is no longer ago than its clock is coarse, it is.
func (l *lab) contentOf(path string, st *syscall.Stat_t) (string, error) {
	if c := l.contents[path]; c.ino == st.Ino && c.size == st.Size && c.at == st.Ctim {
		return c.sum, nil
	}
	now := time.Now()
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(data)
	sum := fmt.Sprintf("%d bytes %s", len(data), hex.EncodeToString(hash[:6]))
	if now.Sub(time.Unix(st.Ctim.Unix())) > 50*time.Millisecond {
		l.contents[path] = content{st.Ino, st.Size, st.Ctim, sum}
	}
	return sum, nil
}

// lookKernel adds mounts, interfaces, rules, cgroups and processes.
func (l *lab) lookKernel(b baseline) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], l.dir) {
			b["mount "+f[4]] += "+"
		}
	}
	links, _ := net.Interfaces()
	for _, n := range links {
		// A network's bridge comes with its first container and goes with its last.
		if !strings.HasPrefix(n.Name, "hull") || strings.Contains(n.Name, "-") {
			b["interface "+n.Name] = "there"
		}
	}
	if out, err := exec.Command("nft", "-s", "list", "ruleset").Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			b["nft "+strings.TrimSpace(line)] += "+"
		}
	}
	for _, pid := range processes() {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err == nil && len(line) > 0 {
			b["process "+pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	l.lookCgroups(b)
}

var containerID = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// lookCgroups adds the cgroups of the lab's containers: other stores have
// theirs beside them.
func (l *lab) lookCgroups(b baseline) {
	events, _ := os.ReadFile(filepath.Join(l.dir, "run/events"))
	if len(events) < l.eventsRead {
		l.eventsRead = 0 // it is a new file
	}
	for _, id := range containerID.FindAllString(string(events[l.eventsRead:]), -1) {
		l.ids[id] = true
	}
	// The last line may not be whole yet.
	l.eventsRead += strings.LastIndexByte(string(events[l.eventsRead:]), '\n') + 1
	parents, _ := filepath.Glob("/sys/fs/cgroup/*/hull")
	for _, parent := range parents {
		groups, _ := os.ReadDir(parent)
		for _, g := range groups {
			if id, ok := strings.CutPrefix(g.Name(), "hull-"); ok && l.ids[id] {
				b["cgroup "+filepath.Join(parent, g.Name())] = "there"
			}
		}
	}
}

// processes are those of the lab's namespace, without the test's own.
func processes() []string {
	var out []string
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		if pid := filepath.Base(p); pid != "1" && pid != strconv.Itoa(os.Getpid()) {
			out = append(out, pid)
		}
	}
	return out
}

// differences from the baseline: what is gone, changed, or left.
func (l *lab) differences() []string {
	now := l.look()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(l.base)) {
		switch is, there := now[name]; {
		case !there && name == "run/events" && now["run/events.1"] != "": // it was full
		case !there:
			out = append(out, fmt.Sprintf("gone: %s (%s)", name, l.base[name]))
		case is != l.base[name]:
			out = append(out, fmt.Sprintf("changed: %s: %s → %s", name, l.base[name], is))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, was := l.base[name]; !was && !(derived.MatchString(name) && !strings.Contains(name, ".tmp")) {
			out = append(out, fmt.Sprintf("left: %s (%s)", name, now[name]))
		}
	}
	return out
}

// settled waits for what ends by itself, and returns the differences that stay
// the same for a while. Interfaces go with their namespace, which the kernel
// takes away one after the other for the whole machine: they have longer.
func (l *lab) settled() []string {
	var before []string
	for since := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		d := l.differences()
		patience := 1500 * time.Millisecond
		if !slices.ContainsFunc(d, func(s string) bool { return !strings.HasPrefix(s, "left: interface ") }) {
			patience = 30 * time.Second
		}
		if len(d) == 0 || slices.Equal(d, before) && time.Since(since) > patience {
			return d
		}
		if !slices.Equal(d, before) {
			before, since = d, time.Now()
		}
	}
}

// killAll ends every process of the lab's namespace but the test.
func (l *lab) killAll() {
	for range 200 {
		left := processes()
		alive := 0
		for _, p := range left {
			if b, _ := os.ReadFile("/proc/" + p + "/cmdline"); len(b) == 0 {
				continue // a zombie
			}
			alive++
			pid, _ := strconv.Atoi(p)
			unix.Kill(pid, unix.SIGKILL)
		}
		if alive == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// unmountAll takes what is mounted below the lab's directory away.
func (l *lab) unmountAll() {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], l.dir+"/") {
			points = append(points, f[4])
		}
	}
	slices.Reverse(points)
	for _, p := range points {
		unix.Unmount(p, unix.MNT_DETACH)
	}
}

// unlinkAll removes the interfaces and rules of the lab's network.
func (l *lab) unlinkAll() {
	links, _ := net.Interfaces()
	for _, n := range links {
		if n.Name != "lo" {
			exec.Command("ip", "link", "delete", n.Name).Run()
		}
	}
	exec.Command("nft", "flush", "ruleset").Run()
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/hull/hull-*")
	for _, g := range groups {
		for name := range l.base {
			if name == "cgroup "+g {
				os.Remove(g)
			}
		}
	}
}
