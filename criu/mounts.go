package criu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/oci"
)

// A mountLine is one of /proc/PID/mountinfo.
type mountLine struct{ id, dev, root, place, options, fstype string }

func mountLines(pid string) ([]mountLine, error) {
	data, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountLines(string(data)), nil
}

func parseMountLines(text string) []mountLine {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []mountLine
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(line, " - ")
		w := strings.Fields(left)
		fstype, _, _ := strings.Cut(strings.TrimSpace(right), " ")
		if ok && len(w) >= 6 {
			out = append(out, mountLine{w[0], w[2], unescape.Replace(w[3]), unescape.Replace(w[4]), w[5], fstype})
		}
	}
	return out
}

// foreignMounts are those of a container whose content a dump cannot hold. hosts are the host's own: what is of the same file system is
// the host's. shared are places where something of another container is.
func foreignMounts(mounts, hosts []mountLine, shared []string) ([]Mount, error) {
	var out []Mount
	for _, m := range mounts {
		hosts := slices.ContainsFunc(hosts, func(h mountLine) bool { return h.dev == m.dev })
		switch {
		case m.place == "/":
			continue
		case m.fstype == "sysfs", m.fstype == "proc", m.fstype == "mqueue":
			continue // the host's when the network or ipc namespace is; criu mounts it anew there
		case strings.HasPrefix(m.fstype, "cgroup"), slices.Contains(shared, m.place):
		case m.fstype == "tmpfs" && m.root != "/": // a part of one, as a mask is
		case m.fstype == "overlay" && !hosts:
			return nil, fmt.Errorf("the mount on %s is an overlay of the container's own, which is not kept", m.place)
		case !hosts:
			continue
		}
		// Of those that cover each other only the last is seen; criu wants to hear of each place once.
		if !slices.ContainsFunc(out, func(o Mount) bool { return o.Place == m.place }) {
			out = append(out, Mount{m.place, fmt.Sprintf("m%d", len(out))})
		}
	}
	return out, nil
}

// Sources say what a container's mounts come from: what it asks for now, whatever a dump says (CHK-01).
type Sources struct {
	Spec *oci.Spec
	// Root is where the container's root is mounted.
	Root string
	// Groups are directories of the container's cgroups, one for each hierarchy that it has one of.
	Groups []string
	// Dir is a directory in which what masks a path is made, and what comes from outside is mounted on its way in.
	Dir string
	// Trees are detached mounts that take the place of sources, by their paths: what only another mount namespace has.
	Trees map[string]*os.File

	masks string // where what masks is mounted; "" until it is needed
}

// externals mounts what comes in from outside, below s.Dir, and returns the options by which criu takes it from there: as it is, with its flags.
func (s *Sources) externals(d *Description, places []place) ([]string, error) {
	var out []string
	for _, m := range d.Mounts {
		src, options, err := s.source(m.Place, places)
		if err == nil {
			err = s.bring(src, filepath.Join(s.Dir, m.Key), options, s.inside(d, m.Place, places))
		}
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Place, err)
		}
		out = append(out, "mnt["+m.Key+"]:"+filepath.Join(s.Dir, m.Key))
	}
	return out, nil
}

var mountAttributes = map[string]uint64{"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
	"noexec": unix.MOUNT_ATTR_NOEXEC, "nosymfollow": unix.MOUNT_ATTR_NOSYMFOLLOW}

// bring mounts a file or directory of the host on a new one.
// In it are made the places that others are to be mounted on, before it may be read-only.
func (s *Sources) bring(src, to string, options []string, inside map[string]bool) error {
	var fd int
	var err error
	if tree := s.Trees[src]; tree != nil {
		fd = int(tree.Fd())
	} else {
		fd, err = unix.OpenTree(unix.AT_FDCWD, src, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return &os.PathError{Op: "open_tree", Path: src, Err: err}
		}
		defer unix.Close(fd)
	}
	for path, isDir := range inside {
		if err := makePlace(fd, path, isDir); err != nil {
			return fmt.Errorf("make %s in %s: %w", path, src, err)
		}
	}
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	for _, o := range options {
		attr.Attr_set |= mountAttributes[o]
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: src, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(to, 0o700)
	} else {
		err = os.WriteFile(to, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: to, Err: err}
	}
	return nil
}

// inside are the paths, below a mount of the dump, of mounts right on it, and whether each is a directory.
func (s *Sources) inside(d *Description, at string, places []place) map[string]bool {
	out := map[string]bool{}
	for _, m := range d.Mounts {
		rest, ok := strings.CutPrefix(m.Place, at+"/")
		src, _, err := s.source(m.Place, places)
		if !ok || err != nil {
			continue
		}
		if fi, err := os.Stat(src); err == nil {
			out[rest] = fi.IsDir()
		}
	}
	return out
}

// makePlace makes a directory or an empty file, and what leads to it, in a tree that a descriptor is open on; what is there stays.
func makePlace(tree int, path string, isDir bool) error {
	root, err := unix.Openat(tree, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	top := os.NewFile(uintptr(root), "tree")
	defer top.Close()
	parent := "."
	names := strings.Split(path, "/")
	for i, name := range names {
		dir, err := inroot.Open(top, parent, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		if i < len(names)-1 || isDir {
			err = unix.Mkdirat(int(dir.Fd()), name, 0o755)
		} else {
			err = unix.Mknodat(int(dir.Fd()), name, unix.S_IFREG|0o644, 0)
		}
		dir.Close()
		if err != nil && err != unix.EEXIST {
			return err
		}
		parent = filepath.Join(parent, name)
	}
	return nil
}

// A place is where a mount of the configuration is seen.
type place struct {
	oci.Mount
	at string
}

// places finds out where the mounts of the configuration are, whose paths may lead through links of the image: these stay inside its root.
func (s *Sources) places() ([]place, error) {
	root, err := os.OpenFile(s.Root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	base, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
	if err != nil {
		return nil, err
	}
	var out []place
	for _, m := range s.Spec.Mounts {
		out = append(out, place{m, resolve(root, base, filepath.Clean("/"+m.Destination))})
	}
	return out, nil
}

// resolve follows the links of a path in a root; what is not there is taken as it is written.
func resolve(root *os.File, base, path string) string {
	f, err := inroot.Open(root, path, unix.O_PATH, 0)
	if err != nil {
		return path
	}
	defer f.Close()
	now, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	inside, ok := strings.CutPrefix(now, strings.TrimSuffix(base, "/"))
	if err != nil || !ok || inside == "" {
		return path
	}
	return inside
}

var maskOptions = []string{"ro", "nosuid", "nodev", "noexec"}

// source is what is mounted on a place of the container, and with which options.
func (s *Sources) source(at string, places []place) (src string, options []string, err error) {
	if s.masked(at) {
		src, err = s.mask(at)
		return src, maskOptions, err
	}
	var best *place
	for i := range places {
		p := &places[i]
		if (p.at == at || strings.HasPrefix(at, strings.TrimSuffix(p.at, "/")+"/")) && (best == nil || len(p.at) >= len(best.at)) {
			best = p
		}
	}
	switch {
	case best == nil:
	case strings.HasPrefix(best.Type, "cgroup"):
		src, err = s.group(strings.TrimPrefix(at, best.at))
		return src, best.Options, err
	case isBind(best.Mount):
		return filepath.Join(best.Source, strings.TrimPrefix(at, best.at)), best.Options, nil
	}
	return "", nil, errors.New("the container does not ask for it: refused")
}

func isBind(m oci.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

func (s *Sources) masked(at string) bool {
	return s.Spec.Linux != nil && slices.Contains(s.Spec.Linux.MaskedPaths, at)
}

// group is what the container sees of a hierarchy of cgroups: its own group where it has one.
func (s *Sources) group(name string) (string, error) {
	name = strings.TrimPrefix(name, "/")
	hierarchy := filepath.Join("/sys/fs/cgroup", name)
	for _, dir := range s.Groups {
		if dir == hierarchy || strings.HasPrefix(dir, hierarchy+"/") {
			return dir, nil
		}
	}
	if name == "" {
		return "", fmt.Errorf("mount %s: the container has no cgroup", hierarchy)
	}
	if fi, err := os.Stat(hierarchy); err != nil || !fi.IsDir() || strings.Contains(name, "/") {
		return "", fmt.Errorf("mount cgroup %s: this host has no such hierarchy", name)
	}
	return hierarchy, nil
}

// mask is what a masked path shows: an empty file or directory, of a file system in memory that nothing is removed from, since
// criu cannot bring back a mount of what was removed.
func (s *Sources) mask(at string) (string, error) {
	if s.masks == "" {
		masks := filepath.Join(s.Dir, "masks")
		if err := os.Mkdir(masks, 0o700); err != nil {
			return "", err
		}
		if err := unix.Mount("tmpfs", masks, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "nr_inodes=4,mode=755"); err != nil {
			return "", fmt.Errorf("mount what masks: %w", err)
		}
		if err := os.Mkdir(filepath.Join(masks, "dir"), 0o555); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(masks, "file"), nil, 0o444); err != nil {
			return "", err
		}
		s.masks = masks
	}
	if fi, err := os.Stat(at); err == nil && fi.IsDir() {
		return filepath.Join(s.masks, "dir"), nil
	}
	return filepath.Join(s.masks, "file"), nil
}
