package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// blockNumber is the number of a block device.
func blockNumber(file string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, 0, fmt.Errorf("block device %s: %w", file, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("block device %s: is none", file)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// devices are those of --device and, for a privileged container, all of the
// host's, with the cgroup rules that allow them.
//
// Only the host's root makes nodes. A user's container has the host's own
// mounted, which the runtime does with those that keep their path: the others
// are mounts.
func (e *Engine) devices(r *record, f *specFacts) error {
	devices, rules, err := e.listDevices(r)
	if err != nil {
		return err
	}
	f.DeviceRules = rules
	for _, d := range devices {
		if d.host != d.Path && (e.o.Rootless || !r.owners().none()) {
			f.DeviceMounts = append(f.DeviceMounts, oci.Mount{Destination: d.Path, Type: "bind", Source: d.host, Options: []string{"bind", "rprivate", "nosuid", "noexec"}})
			continue
		}
		f.Devices = append(f.Devices, d.LinuxDevice)
	}
	return nil
}

// A device of a container, and its path on the host.
type device struct {
	oci.LinuxDevice
	host string
}

func (e *Engine) listDevices(r *record) ([]device, []oci.LinuxDeviceCgroup, error) {
	o := &r.Options
	var devices []device
	var rules []oci.LinuxDeviceCgroup
	add := func(host, container, access string) error {
		d, err := hostDevice(host)
		if err != nil {
			return err
		}
		d.Path = container
		devices = append(devices, device{d, host})
		major, minor := d.Major, d.Minor
		rules = append(rules, oci.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: access})
		return nil
	}
	for _, d := range o.Devices {
		if d.Container == "" {
			d.Container = d.Host
		}
		st, err := os.Stat(d.Host)
		if err != nil {
			return nil, nil, fmt.Errorf("device %s: %w", d.Host, err)
		}
		if !st.IsDir() {
			if err := add(d.Host, path.Clean(d.Container), d.Access); err != nil {
				return nil, nil, err
			}
			continue
		}
		err = eachDevice(d.Host, func(host string) error {
			return add(host, path.Join(d.Container, strings.TrimPrefix(host, d.Host)), d.Access)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	if o.Privileged && !e.o.Rootless {
		err := eachDevice("/dev", func(host string) error {
			if ownDevice(host) {
				return nil
			}
			return add(host, host, "rwm")
		})
		if err != nil {
			return nil, nil, err
		}
	}
	for _, text := range o.DeviceCgroupRules {
		rule, err := parseCgroupRule(text)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, rule)
	}
	return devices, rules, nil
}

// ownDevice: every container has its own of these.
func ownDevice(name string) bool {
	for _, own := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/.lxc"} {
		if name == own || strings.HasPrefix(name, own+"/") {
			return true
		}
	}
	switch name {
	case "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx":
		return true
	}
	return false
}

// eachDevice calls do with every device node below dir.
func eachDevice(dir string, do func(name string) error) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("devices of %s: %w", dir, err)
		}
		if d.IsDir() && name != dir && ownDevice(name) {
			return fs.SkipDir
		}
		if d.Type()&fs.ModeDevice == 0 {
			return nil
		}
		return do(name)
	})
}

func hostDevice(name string) (oci.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return oci.LinuxDevice{}, fmt.Errorf("device %s: %w", name, err)
	}
	d := oci.LinuxDevice{Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFCHR:
		d.Type = "c"
	default:
		return d, fmt.Errorf("device %s: is none", name)
	}
	mode, uid, gid := os.FileMode(st.Mode&0o777), st.Uid, st.Gid
	d.FileMode, d.UID, d.GID = &mode, &uid, &gid
	return d, nil
}
