package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/image"
)

// A volume's driver is local or image. A local volume is a directory of the
// store; with type=, device= and o= a file system is mounted on it while it is
// used. An image volume is an image's files, read-only.

// mounts reports whether something is mounted on the volume while it is used.
func (v *Volume) mounts() bool {
	return v.Driver == "image" || v.Options["type"] != "" || v.Options["device"] != ""
}

// checkVolume refuses a driver and options that are not known, and those that
// could not be kept to: a size that nobody enforces is worse than an error.
func (e *Engine) checkVolume(ctx context.Context, v *Volume) error {
	switch v.Driver {
	case "local":
		return v.checkLocal()
	case "image":
		for k := range v.Options {
			if k != "image" {
				return fmt.Errorf("option %q is not known to driver image", k)
			}
		}
		if v.Options["image"] == "" {
			return errors.New("driver image needs the option image=NAME")
		}
		_, err := e.volumeImage(ctx, v)
		v.NeedsChown, v.NeedsCopyUp = false, false
		return err
	}
	return fmt.Errorf("driver %q is not known: there are local and image", v.Driver)
}

func (v *Volume) checkLocal() error {
	for k := range v.Options {
		switch k {
		case "type", "device", "o", "copy", "nocopy", "noquota":
		default:
			return fmt.Errorf("option %q is not known to driver local", k)
		}
	}
	if _, ok := v.Options["nocopy"]; ok {
		v.NeedsCopyUp = false
	}
	typ, device := v.Options["type"], v.Options["device"]
	bind := v.bind()
	switch {
	case device == "" && typ != "" && typ != "tmpfs":
		return fmt.Errorf("option type=%s needs a device", typ)
	case bind && !path.IsAbs(device):
		return fmt.Errorf("device %q of a bind mount is not an absolute path", device)
	case device != "" && typ == "" && !bind:
		return errors.New("option device needs a type")
	}
	for _, o := range splitOptions(v.Options["o"]) {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "uid", "gid":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return fmt.Errorf("option %s is not a number", o)
			}
			if key == "uid" {
				v.UID = int(n)
			} else {
				v.GID = int(n)
			}
			v.NeedsChown = false
		case "size", "inodes":
			if typ != "" {
				continue // it is the file system's own
			}
			n, err := ParseSize(value)
			if err != nil || n <= 0 {
				return fmt.Errorf("option %s is no limit", o)
			}
			if key == "size" {
				v.limit.Bytes = n
			} else {
				v.limit.Inodes = n
			}
		}
	}
	return nil
}

// bind reports whether the device is a directory to be bound.
func (v *Volume) bind() bool {
	if t := v.Options["type"]; t == "bind" {
		return true
	}
	for _, o := range splitOptions(v.Options["o"]) {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

func (e *Engine) volumeImage(ctx context.Context, v *Volume) (image.Image, error) {
	store, err := e.Images()
	if err != nil {
		return image.Image{}, err
	}
	return store.Resolve(ctx, v.Options["image"])
}

// attachVolume mounts what the volume's options say on its directory.
func (e *Engine) attachVolume(ctx context.Context, v *Volume) error {
	if v.Driver == "image" {
		img, err := e.volumeImage(ctx, v)
		if err != nil {
			return err
		}
		store, err := e.Images()
		if err != nil {
			return err
		}
		if err := store.EnsureLayers(ctx, img); err != nil {
			return err
		}
		snaps, err := e.Snapshots()
		if err != nil {
			return err
		}
		if err := snaps.Pin(ctx, volumePin(v.Name), img.TopLayer()); err != nil {
			return err
		}
		return snaps.AttachView(img.TopLayer(), v.Mountpoint)
	}
	flags, data := mountFlags(splitOptions(v.Options["o"]))
	switch {
	case v.bind():
		return bindVolume(v, flags)
	case v.Options["type"] == "tmpfs":
		return unix.Mount("tmpfs", v.Mountpoint, "tmpfs", flags, strings.Join(data, ","))
	}
	return mountProgram(ctx, v)
}

// bindVolume binds a directory; flags need a second call.
func bindVolume(v *Volume, flags uintptr) error {
	device := v.Options["device"]
	if st, err := os.Stat(device); err != nil {
		return err
	} else if !st.IsDir() {
		return fmt.Errorf("device %s is not a directory", device)
	}
	how := flags & unix.MS_REC
	if err := unix.Mount(device, v.Mountpoint, "", unix.MS_BIND|how, ""); err != nil {
		return fmt.Errorf("bind %s: %w", device, err)
	}
	if rest := flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
		if err := unix.Mount("", v.Mountpoint, "", unix.MS_REMOUNT|unix.MS_BIND|rest, ""); err != nil {
			unix.Unmount(v.Mountpoint, unix.MNT_DETACH)
			return fmt.Errorf("bind %s: %w", device, err)
		}
	}
	return nil
}

// mountProgram mounts by mount(8): it knows names of NFS servers, loop devices
// and whatever file systems the host has helpers for.
func mountProgram(ctx context.Context, v *Volume) error {
	program := ""
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, "mount"); fileExists(p) {
			program = p
			break
		}
	}
	if program == "" {
		return fmt.Errorf("type %s needs the program mount, which is not there", v.Options["type"])
	}
	args := []string{"-t", v.Options["type"]}
	if o := v.Options["o"]; o != "" {
		args = append(args, "-o", o)
	}
	out, err := exec.CommandContext(ctx, program, append(args, "--", v.Options["device"], v.Mountpoint)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// mountFlags parts mount options into the kernel's flags and the file
// system's own data.
func mountFlags(opts []string) (flags uintptr, data []string) {
	for _, o := range opts {
		if f, ok := volumeFlags[o]; ok {
			flags = flags&^f.clear | f.set
			continue
		}
		data = append(data, o)
	}
	return flags, data
}

var volumeFlags = map[string]struct{ set, clear uintptr }{
	"defaults": {}, "auto": {}, "noauto": {}, "rw": {clear: unix.MS_RDONLY}, "ro": {set: unix.MS_RDONLY},
	"suid": {clear: unix.MS_NOSUID}, "nosuid": {set: unix.MS_NOSUID}, "dev": {clear: unix.MS_NODEV}, "nodev": {set: unix.MS_NODEV},
	"exec": {clear: unix.MS_NOEXEC}, "noexec": {set: unix.MS_NOEXEC}, "noatime": {set: unix.MS_NOATIME}, "nodiratime": {set: unix.MS_NODIRATIME},
	"relatime": {set: unix.MS_RELATIME}, "strictatime": {set: unix.MS_STRICTATIME}, "sync": {set: unix.MS_SYNCHRONOUS},
	"bind": {set: unix.MS_BIND}, "rbind": {set: unix.MS_BIND | unix.MS_REC},
}

// VolumeMount mounts what a volume's driver mounts and returns its directory.
func (e *Engine) VolumeMount(ctx context.Context, name string) (string, error) {
	v, l, err := e.openVolume(ctx, name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	return v.Mountpoint, e.holdVolume(ctx, v, "mount")
}

// VolumeUnmount is the opposite of VolumeMount; containers keep what they use.
func (e *Engine) VolumeUnmount(ctx context.Context, name string) (string, error) {
	v, l, err := e.openVolume(ctx, name)
	if err != nil {
		return "", err
	}
	defer l.Release()
	return v.Name, e.dropHold(v.Name, "mount")
}
