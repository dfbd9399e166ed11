package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// Detached mounts m without attaching it anywhere. By the descriptor it can be
// attached; when that is closed, nothing is left.
func (s *Store) Detached(m oci.Mount) (*os.File, error) {
	fd, err := s.detachedMount(m)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), m.Type), nil
}

// detached is Detached; its descriptor is one to read the files by.
func (s *Store) detached(m oci.Mount) (*os.File, error) {
	fd, err := s.detachedMount(m)
	if err != nil {
		return nil, err
	}
	return reopen(fd)
}

// detachedMount is detached; its descriptor is the mount's own, by which it
// can be attached.
func (s *Store) detachedMount(m oci.Mount) (int, error) {
	var fd int
	var err error
	if m.Type == "bind" {
		fd, err = detachedBind(m)
	} else {
		fd, err = s.detachedOverlay(m)
	}
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", m.Type, err)
	}
	return fd, nil
}

func detachedBind(m oci.Mount) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil || !slices.Contains(m.Options, "ro") {
		return fd, err
	}
	// A bind mount takes its attributes from where it comes.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make it read-only: %w", err)
	}
	return fd, nil
}

// mountFlags are the options that are the mount's and not overlay's.
var mountFlags = map[string]struct {
	attr int     // for fsmount
	flag uintptr // for mount(2)
}{
	"ro":      {unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
	"nodev":   {unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
	"nosuid":  {unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
	"noexec":  {unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
	"noatime": {unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME},
}

// maxConfigString is how long a string fsconfig takes, with its zero.
const maxConfigString = 256

// errLongLower reports layers that fsconfig of an old kernel cannot take.
var errLongLower = errors.New("the list of layers is too long for fsconfig")

func (s *Store) detachedOverlay(m oci.Mount) (int, error) {
	fd, err := overlayByConfig(m, true)
	if errors.Is(err, errLongLower) {
		return s.overlayByMount(m)
	}
	return fd, err
}

// overlayByConfig mounts by the calls of Linux 5.2. appends says that the
// kernel may have lowerdir+, of 6.8.
func overlayByConfig(m oci.Mount, appends bool) (int, error) {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fsfd)
	if err := unix.FsconfigSetString(fsfd, "source", "overlay"); err != nil { // what mountinfo and df show
		return -1, err
	}
	attr := 0
	for _, o := range m.Options {
		key, value, has := strings.Cut(o, "=")
		flag, isFlag := mountFlags[o]
		switch {
		case isFlag:
			attr |= flag.attr
		case key == "lowerdir":
			err = setLower(fsfd, value, appends)
		case has:
			err = unix.FsconfigSetString(fsfd, key, value)
		default:
			err = unix.FsconfigSetFlag(fsfd, key)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s: %w", key, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, err
	}
	return unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attr)
}

// setLower sets the layers one by one where the kernel takes them so.
func setLower(fsfd int, dirs string, appends bool) error {
	for i, d := range strings.Split(dirs, ":") {
		err := unix.EINVAL
		if appends {
			err, _ = unix.FsconfigSetString(fsfd, "lowerdir+", d).(unix.Errno)
		}
		switch {
		case err == 0:
		case err != unix.EINVAL || i > 0:
			return err
		case len(dirs) >= maxConfigString:
			return errLongLower
		default:
			return unix.FsconfigSetString(fsfd, "lowerdir", dirs)
		}
	}
	return nil
}

// overlayByMount mounts by mount(2), whose options are a page: the names begin
// at a directory that all layers are in, and the working directory and the
// mount are those of a thread that ends with the call.
func (s *Store) overlayByMount(m oci.Mount) (int, error) {
	target, err := s.temp()
	if err != nil {
		return -1, err
	}
	defer os.Remove(target)
	type result struct {
		fd  int
		err error
	}
	var r result
	state.OnLostThread(func() { r.fd, r.err = mountAlone(m, target) })
	return r.fd, r.err
}

// mountAlone mounts m on target where nobody else sees it, and returns a copy
// of the mount that is attached nowhere.
func mountAlone(m oci.Mount, target string) (int, error) {
	dir, flags, data := mountData(m)
	if len(data) >= os.Getpagesize() {
		return -1, fmt.Errorf("the layers need %d bytes of options, of which this kernel takes %d", len(data), os.Getpagesize()-1)
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return -1, err
	}
	if err := unix.Mount("overlay", target, "overlay", flags, data); err != nil {
		return -1, err
	}
	return unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// mountData is what mount(2) is given, and the directory it is called in.
func mountData(m oci.Mount) (dir string, flags uintptr, data string) {
	var opts []string
	for _, o := range m.Options {
		if f, ok := mountFlags[o]; ok {
			flags |= f.flag
			continue
		}
		lower, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			opts = append(opts, o)
			continue
		}
		dirs := strings.Split(lower, ":")
		dir = filepath.Dir(dirs[0])
		for _, d := range dirs {
			for !strings.HasPrefix(d, dir+"/") && dir != "/" {
				dir = filepath.Dir(dir)
			}
		}
		for i, d := range dirs {
			dirs[i] = strings.TrimPrefix(strings.TrimPrefix(d, dir), "/")
		}
		opts = append(opts, "lowerdir="+strings.Join(dirs, ":"))
	}
	return dir, flags, MountData(opts)
}

// MountData joins options for mount(2). A label may hold a comma, and then
// stands in quotes.
func MountData(options []string) string {
	out := slices.Clone(options)
	for i, o := range out {
		if label, ok := strings.CutPrefix(o, "context="); ok && strings.Contains(label, ",") {
			out[i] = `context="` + label + `"`
		}
	}
	return strings.Join(out, ",")
}

// reopen turns the O_PATH descriptor of a mount into one that lists.
func reopen(fd int) (*os.File, error) {
	defer unix.Close(fd)
	d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open mount: %w", err)
	}
	return os.NewFile(uintptr(d), "tree"), nil
}

// AttachBeside mounts the tree of m, a mount of Mounts or of ViewMounts, on dir
// for somebody who may change it without changing it: what he writes goes to
// the directory changes, which is made. Files that m's own owner writes
// meanwhile may or may not be seen.
func (s *Store) AttachBeside(m oci.Mount, changes, dir string) error {
	lower := []string{m.Source}
	if m.Type == "overlay" {
		lower = nil
		for _, o := range m.Options {
			if v, ok := strings.CutPrefix(o, "upperdir="); ok {
				lower = append([]string{v}, lower...)
			} else if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
				lower = append(lower, v)
			}
		}
	}
	for _, d := range []string{"u", "w"} {
		if err := os.MkdirAll(filepath.Join(changes, d), 0o755); err != nil {
			return fmt.Errorf("mount a view: %w", err)
		}
	}
	opts := []string{"lowerdir=" + strings.Join(lower, ":"), "upperdir=" + filepath.Join(changes, "u"), "workdir=" + filepath.Join(changes, "w")}
	return s.attach(oci.Mount{Type: "overlay", Source: "overlay", Options: s.extra(opts)}, dir)
}
