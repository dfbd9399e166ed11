package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const mountPoint = "/sys/fs/cgroup"

// A hierarchy of version 1.
type hierarchy struct {
	dir         string // where it is mounted
	controllers []string
	own         string // this process's path in it
}

// A Host is what cgroup hierarchies the machine has, and where this process is
// in them.
type Host struct {
	unified string // mount point of version 2; "" when it has no controllers
	hybrid  string // mount point of version 2 beside version 1
	own2    string // this process's path in it
	v1      []hierarchy
	mounts  []Mount
}

// A Mount is one hierarchy, of any version, as something that can be mounted again.
type Mount struct {
	// Dir is its directory below /sys/fs/cgroup, empty when it is mounted there itself.
	Dir string `json:"dir,omitempty"`
	// Options are those that mount it again; nil for version 2.
	Options []string `json:"options,omitempty"`
	// Path is this process's cgroup in it.
	Path string `json:"path,omitempty"`
}

// Mounts returns the host's hierarchies, in the order in which they are mounted.
func (h *Host) Mounts() []Mount { return h.mounts }

var lookUp = sync.OnceValues(func() (*Host, error) { return lookUpIn(mountPoint, "/proc/self/mountinfo", "/proc/self/cgroup") })

// LookUp reads the host's hierarchies: v2, v1, or hybrid.
func LookUp() (*Host, error) { return lookUp() }

func lookUpIn(mount, mountinfo, cgroups string) (*Host, error) {
	own, lists, err := ownPaths(cgroups)
	if err != nil {
		return nil, fmt.Errorf("look up cgroups: %w", err)
	}
	h := &Host{own2: own[""]}
	var st unix.Statfs_t
	if unix.Statfs(mount, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		h.unified = mount
		h.mounts = []Mount{{Path: h.own2}}
		return h, nil
	}
	if h.conventional(mount, lists, own) {
		return h, nil
	}
	if err := h.readMounts(mount, mountinfo, own); err != nil {
		return nil, fmt.Errorf("look up cgroups: %w", err)
	}
	return h, nil
}

// readMounts finds the hierarchies in the list of all mounts.
func (h *Host) readMounts(mount, mountinfo string, own map[string]string) error {
	h.mounts, h.v1, h.hybrid = nil, nil, ""
	data, err := os.ReadFile(mountinfo)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		w, x := strings.Fields(before), strings.Fields(after)
		if !ok || len(w) < 5 || len(x) < 3 || x[0] != "cgroup" && x[0] != "cgroup2" || seen[w[4]] || !strings.HasPrefix(w[4], mount+"/") {
			continue
		}
		seen[w[4]] = true
		if filepath.Dir(w[4]) == mount {
			h.mounts = append(h.mounts, newMount(filepath.Base(w[4]), x[0], x[2], own))
		}
		if x[0] != "cgroup" {
			h.hybrid = w[4]
			continue
		}
		v := hierarchy{dir: w[4], own: "/"}
		for opt := range strings.SplitSeq(x[2], ",") {
			if path, ok := own[opt]; ok {
				v.controllers, v.own = append(v.controllers, opt), path
			}
		}
		// Inside a container the mount shows only a part of the tree.
		if root := w[3]; root != "/" {
			v.own = "/" + strings.TrimPrefix(strings.TrimPrefix(v.own, root), "/")
		}
		h.v1 = append(h.v1, v)
	}
	return nil
}

// conventional finds the hierarchies of version 1 where everybody mounts them:
// in a directory with the controllers' names. The list of all mounts is long
// where there are many containers, and this is asked at every start. false: one
// of them is elsewhere, or shows only a part of its tree.
func (h *Host) conventional(mount string, lists []string, own map[string]string) bool {
	byPath := map[string]bool{}
	for _, list := range lists {
		dir := filepath.Join(mount, strings.TrimPrefix(list, "name="))
		want := int64(unix.CGROUP_SUPER_MAGIC)
		if list == "" {
			dir, want = filepath.Join(mount, "unified"), unix.CGROUP2_SUPER_MAGIC
		}
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if list == "" && err != nil {
			continue // the kernel always names it; it need not be mounted
		}
		if err != nil || st.Type != want || byPath[dir] {
			return false
		}
		byPath[dir] = true
		if list == "" {
			h.hybrid = dir
			h.mounts = append(h.mounts, Mount{Dir: "unified", Path: own[""]})
			continue
		}
		v := hierarchy{dir: dir, controllers: strings.Split(list, ",")}
		v.own = own[v.controllers[0]]
		if _, err := os.Stat(filepath.Join(dir, v.own)); err != nil {
			return false
		}
		h.v1 = append(h.v1, v)
		h.mounts = append(h.mounts, Mount{Dir: filepath.Base(dir), Options: v.controllers, Path: v.own})
	}
	return len(h.v1) > 0
}

// newMount is one line of mountinfo: super are the options of the file system.
func newMount(dir, fstype, super string, own map[string]string) Mount {
	m := Mount{Dir: dir}
	if fstype == "cgroup2" {
		m.Path = own[""]
		return m
	}
	for o := range strings.SplitSeq(super, ",") {
		switch {
		case o == "rw", o == "ro", o == "xattr", o == "clone_children", strings.HasPrefix(o, "release_agent"), strings.HasPrefix(o, "cpuset_"), o == "noprefix":
			continue // of the mount, not what chooses the hierarchy
		}
		m.Options = append(m.Options, o)
		if p, ok := own[o]; ok {
			m.Path = p
		}
	}
	return m
}

// ownPaths reads a process's paths by controller or "name=…"; version 2 is "".
// lists are the controllers of each hierarchy, with commas between them.
func ownPaths(file string) (out map[string]string, lists []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	out = make(map[string]string)
	for line := range strings.Lines(string(data)) {
		w := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(w) != 3 {
			continue
		}
		lists = append(lists, w[1])
		for c := range strings.SplitSeq(w[1], ",") {
			out[c] = w[2]
		}
	}
	return out, lists, nil
}

// V2 reports that the only hierarchy is version 2 (unified).
func (h *Host) V2() bool { return h.unified != "" }

// find returns the hierarchy of a controller of version 1.
func (h *Host) find(controller string) *hierarchy {
	for i := range h.v1 {
		for _, c := range h.v1[i].controllers {
			if c == controller {
				return &h.v1[i]
			}
		}
	}
	return nil
}

// errPath is a group's path that could leave its hierarchy.
var errPath = errors.New("not a path of a cgroup")

// resolve returns the group's directory in a hierarchy. A relative path begins
// at this process's own group.
func resolve(mount, own, path string) (string, error) {
	if path == "" || strings.ContainsAny(path, "\x00\n") {
		return "", fmt.Errorf("cgroup %q: %w", path, errPath)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return "", fmt.Errorf("cgroup %q: %w", path, errPath)
		}
	}
	if !strings.HasPrefix(path, "/") {
		path = own + "/" + path
	}
	dir := filepath.Join(mount, path)
	if dir == mount {
		return "", fmt.Errorf("cgroup %q: it is everybody's: %w", path, errPath)
	}
	return dir, nil
}
