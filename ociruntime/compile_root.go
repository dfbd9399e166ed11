package ociruntime

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/plan"
)

// maxConfigString is the longest value that fsconfig takes, without its zero.
const maxConfigString = 255

// prepareMounts cuts the mount namespace off: what is mounted here does not
// reach the host, what is mounted there still arrives. A container that shares
// the host's namespace leaves the host's mounts as they are: all that is mounted
// for it lies on its root, whose removal takes it along.
func (c *compiler) prepareMounts() error {
	c.b.Phase("root file system")
	if c.ownNS {
		c.b.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	}
	return nil
}

// mountRoot mounts the root file system and attaches it.
func (c *compiler) mountRoot() error {
	target := c.rootTarget()
	if target == "/" || below(target, "/proc") || below(target, "/sys") {
		return fmt.Errorf("compile container: root.path %q is not a directory to start a container in", target)
	}
	mounts := c.o.Rootfs
	if len(mounts) == 0 && c.o.RootTree == nil {
		if c.spec.Root == nil || !path.IsAbs(c.spec.Root.Path) {
			return errors.New("compile container: root.path is not an absolute path")
		}
		mounts = []oci.Mount{{Type: "bind", Source: c.spec.Root.Path, Options: []string{"rbind"}}}
	}
	if len(c.linux.MaskedPaths) > 0 {
		c.maskAt, _ = c.b.Openat(plan.CWD, maskDir, openPath|unix.O_DIRECTORY)
	}
	c.b.Subject("mount the root file system")
	root, attached := c.rootTree, false
	if c.o.RootTree == nil {
		var err error
		if root, attached, err = c.rootMount(&mounts[0], target); err != nil {
			return err
		}
	}
	if !attached {
		c.b.MoveMountPath(root, target)
	}
	c.b.MountSetattr(root, plan.MountAttr{Propagation: unix.MS_PRIVATE, Recursive: true})
	c.root = root
	for i := 1; i < len(mounts); i++ {
		if err := c.mount(&mounts[i]); err != nil {
			return err
		}
	}
	c.b.Subject("")
	return nil
}

// rootTarget is where the root is attached.
func (c *compiler) rootTarget() string {
	target := c.o.RootfsTarget
	if target == "" && c.spec.Root != nil {
		target = c.spec.Root.Path
	}
	return path.Clean("/" + target)
}

// rootMount returns the root's mount; attached says that it is on target already.
func (c *compiler) rootMount(m *oci.Mount, target string) (root plan.FD, attached bool, err error) {
	o, err := parseMount(*m)
	if err != nil {
		return 0, false, err
	}
	switch {
	case o.bind:
		root = c.tree(m, o)
		if o.set|o.clear != 0 {
			c.b.MountSetattr(root, plan.MountAttr{Set: o.set, Clear: o.clear})
		}
		return root, false, nil
	case m.Type == "overlay":
		return c.overlay(o, target)
	}
	fs := c.fsopen(m.Type, m.Source, o.data)
	return c.b.Fsmount(fs, o.set), false, nil
}

// fsopen configures and makes a file system.
func (c *compiler) fsopen(fstype, source string, data []string) plan.FD {
	fs := c.b.Fsopen(fstype)
	if source != "" {
		c.b.FsconfigString(fs, "source", source)
	}
	for _, d := range data {
		c.fsconfig(fs, d)
	}
	for _, d := range c.labelOption(fstype, data) {
		c.fsconfig(fs, d)
	}
	c.b.FsconfigCreate(fs)
	return fs
}

// labelOption is the option that gives all files of a file system the
// container's label: none where there is no label, for a file system whose
// files have their own, and where the options have one already.
func (c *compiler) labelOption(fstype string, data []string) []string {
	if c.linux.MountLabel == "" {
		return nil
	}
	switch fstype {
	case "proc", "sysfs", "cgroup", "cgroup2", "mqueue":
		return nil
	}
	for _, d := range data {
		if key, _, _ := strings.Cut(d, "="); strings.HasSuffix(key, "context") {
			return nil
		}
	}
	return []string{"context=" + c.linux.MountLabel}
}

// labelQueue gives the root of a file system of message queues the
// container's label, which mounting cannot.
func (c *compiler) labelQueue(mnt plan.FD) {
	if c.linux.MountLabel == "" {
		return
	}
	dir, _ := c.b.Openat(mnt, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	c.b.Fsetxattr(dir, "security.selinux", c.linux.MountLabel)
	c.b.Close(dir)
}

func (c *compiler) fsconfig(fs plan.FD, option string) {
	if key, value, ok := strings.Cut(option, "="); ok {
		c.b.FsconfigString(fs, key, value)
	} else {
		c.b.FsconfigFlag(fs, option)
	}
}

// overlay mounts layers. The kernel takes them one by one where it has
// lowerdir+, else as one string when that is short, else by mount(2) with
// names relative to a directory above all of them.
func (c *compiler) overlay(o mountOptions, target string) (root plan.FD, attached bool, err error) {
	lower, rest, err := c.overlayOptions(o)
	if err != nil {
		return 0, false, err
	}
	if !c.overlayFits(lower) {
		return c.overlayByMount(lower, rest, o.set, target)
	}
	return c.overlayByParts(lower, rest, o.set), false, nil
}

// overlayOptions are the layers of a mount, and its other options.
func (c *compiler) overlayOptions(o mountOptions) (lower, rest []string, err error) {
	for _, d := range o.data {
		if v, ok := strings.CutPrefix(d, "lowerdir="); ok {
			lower = strings.Split(v, ":")
			continue
		}
		if _, v, ok := strings.Cut(d, "="); ok && len(v) > maxConfigString {
			return nil, nil, fmt.Errorf("mount overlay: %s is longer than the %d bytes the kernel takes", d, maxConfigString)
		}
		rest = append(rest, d)
	}
	if len(lower) == 0 {
		return nil, nil, errors.New("mount overlay: no lowerdir")
	}
	return lower, append(rest, c.labelOption("overlay", rest)...), nil
}

// overlayFits says whether fsconfig can be told of the layers.
func (c *compiler) overlayFits(lower []string) bool {
	if !c.o.Facts.OverlayAppend {
		return len(strings.Join(lower, ":")) <= maxConfigString
	}
	return !slices.ContainsFunc(lower, func(l string) bool { return len(l) > maxConfigString })
}

func (c *compiler) overlayByParts(lower, rest []string, attr uint64) plan.FD {
	fs := c.b.Fsopen("overlay")
	c.b.FsconfigString(fs, "source", "overlay")
	if c.o.Facts.OverlayAppend {
		for _, l := range lower {
			c.b.FsconfigString(fs, "lowerdir+", l)
		}
	} else {
		c.b.FsconfigString(fs, "lowerdir", strings.Join(lower, ":"))
	}
	for _, d := range rest {
		c.fsconfig(fs, d)
	}
	c.b.FsconfigCreate(fs)
	return c.b.Fsmount(fs, attr)
}

// mountOverlay mounts layers below the root: of several layers the names are
// soon longer than one string of fsconfig. Where the kernel takes them neither
// one by one nor as a string, mount(2) does it, on the open target.
func (c *compiler) mountOverlay(target plan.FD, o mountOptions) error {
	lower, rest, err := c.overlayOptions(o)
	if err != nil {
		return err
	}
	if c.overlayFits(lower) {
		c.attach(c.overlayByParts(lower, rest, o.set), target, o)
		return nil
	}
	data, err := overlayData(lower, rest)
	if err != nil {
		return err
	}
	// The attributes have the values of mount(2)'s flags; those of access times
	// are the file system's own business.
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	c.b.Fchdir(target)
	c.b.Mount("overlay", ".", "overlay", uintptr(o.set&flags), data)
	c.b.Chdir("/")
	c.b.Close(target)
	return nil
}

// overlayData are the options as mount(2) takes them: at most a page.
func overlayData(lower, rest []string) (string, error) {
	words := []string{"lowerdir=" + strings.Join(lower, ":")}
	for _, d := range rest {
		if label, ok := strings.CutPrefix(d, "context="); ok {
			d = `context="` + label + `"` // it may hold a comma
		}
		words = append(words, d)
	}
	data := strings.Join(words, ",")
	if len(data) >= 4096 {
		return "", fmt.Errorf("mount overlay: %d layers need %d bytes of options, of which this kernel takes 4095", len(lower), len(data))
	}
	return data, nil
}

// overlayByMount uses mount(2), whose data is at most a page: the directory
// that all layers lie in becomes the working directory and is left out.
func (c *compiler) overlayByMount(lower, rest []string, attr uint64, target string) (plan.FD, bool, error) {
	dir := lower[0][:strings.LastIndexByte(lower[0], '/')+1]
	for _, l := range lower {
		for !strings.HasPrefix(l, dir) {
			dir = dir[:strings.LastIndexByte(strings.TrimSuffix(dir, "/"), '/')+1]
		}
	}
	short := make([]string, len(lower))
	for i, l := range lower {
		short[i] = strings.TrimPrefix(l, dir)
	}
	data, err := overlayData(short, rest)
	if err != nil {
		return 0, false, err
	}
	c.b.Chdir(dir)
	c.b.Mount("overlay", target, "overlay", 0, data)
	c.b.Chdir("/")
	root, _ := c.b.Openat(plan.CWD, target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if attr != 0 {
		c.b.MountSetattr(root, plan.MountAttr{Set: attr})
	}
	return root, true, nil
}

// pivot leaves the host's files for the container's.
func (c *compiler) pivot() error {
	c.b.Phase("pivot")
	if c.spec.Root != nil && c.spec.Root.Readonly {
		c.b.Subject("make the root read-only")
		c.b.MountSetattr(c.root, plan.MountAttr{Set: unix.MOUNT_ATTR_RDONLY})
		c.b.Subject("")
	}
	switch {
	case !c.ownNS:
		c.b.Fchdir(c.root)
		// The host's root stays the namespace's.
		c.b.Chroot(".")
	case c.o.NoPivot:
		// The old root is under the new one then, and cannot be reached. But a
		// user namespace may mount proc and sysfs anew wherever one stands whole
		// in the mount namespace, and the host's are not masked.
		for _, p := range c.o.Facts.KernelMounts {
			if !below(p, c.rootTarget()) {
				c.b.Subject("unmount the host's " + p)
				c.b.Umount2(p, unix.MNT_DETACH)
			}
		}
		c.b.Subject("")
		c.b.Fchdir(c.root)
		c.b.Mount(".", "/", "", unix.MS_MOVE, "")
		c.b.Chroot(".")
	default:
		c.b.Fchdir(c.root)
		c.b.PivotRoot(".", ".")
		c.b.Umount2(".", unix.MNT_DETACH)
	}
	c.b.Chdir("/")
	if p := c.linux.RootfsPropagation; p != "" {
		flags, ok := propagationFlags(p)
		if !ok {
			return fmt.Errorf("rootfsPropagation %q is not known", p)
		}
		c.b.MountSetattr(c.root, plan.MountAttr{Propagation: flags &^ unix.MS_REC, Recursive: flags&unix.MS_REC != 0})
	}
	return nil
}
