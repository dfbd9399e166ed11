package ociruntime

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// mountOptions are the options of one mount, sorted by who handles them.
type mountOptions struct {
	bind, recursive  bool
	set, clear       uint64 // MOUNT_ATTR_… of the mount itself
	recSet, recClear uint64 // of the whole tree
	propagation      uint64 // MS_PRIVATE…, MS_REC; 0 when none is given
	idmap, ridmap    bool
	data             []string // for the file system
}

// attrOptions are the options that change attributes of a mount. "r" before
// one of them applies it to all mounts below, too.
var attrOptions = []struct {
	name       string
	set, clear uint64
}{
	{"ro", unix.MOUNT_ATTR_RDONLY, 0}, {"rw", 0, unix.MOUNT_ATTR_RDONLY},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, 0}, {"suid", 0, unix.MOUNT_ATTR_NOSUID},
	{"nodev", unix.MOUNT_ATTR_NODEV, 0}, {"dev", 0, unix.MOUNT_ATTR_NODEV},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, 0}, {"exec", 0, unix.MOUNT_ATTR_NOEXEC},
	{"noatime", unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME}, {"atime", 0, unix.MOUNT_ATTR__ATIME},
	{"relatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME}, {"norelatime", 0, unix.MOUNT_ATTR__ATIME},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME}, {"nostrictatime", 0, unix.MOUNT_ATTR__ATIME},
	{"nodiratime", unix.MOUNT_ATTR_NODIRATIME, 0}, {"diratime", 0, unix.MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, 0}, {"symfollow", 0, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

var propagationOptions = []struct {
	name  string
	flags uint64
}{
	{"private", unix.MS_PRIVATE}, {"slave", unix.MS_SLAVE}, {"shared", unix.MS_SHARED}, {"unbindable", unix.MS_UNBINDABLE},
	{"rprivate", unix.MS_PRIVATE | unix.MS_REC}, {"rslave", unix.MS_SLAVE | unix.MS_REC},
	{"rshared", unix.MS_SHARED | unix.MS_REC}, {"runbindable", unix.MS_UNBINDABLE | unix.MS_REC},
}

// propagationFlags looks up "rslave" and the like.
func propagationFlags(name string) (uint64, bool) {
	for _, p := range propagationOptions {
		if p.name == name {
			return p.flags, true
		}
	}
	return 0, false
}

func isBind(m oci.Mount) bool {
	if m.Type == "bind" || m.Type == "rbind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

// parseMount sorts the options of m. See runtime-spec config.md#linux-mount-options.
func parseMount(m oci.Mount) (mountOptions, error) {
	o := mountOptions{bind: isBind(m), recursive: m.Type == "rbind"}
	if len(m.Options) > 2000 {
		return o, fmt.Errorf("mount %s: %d options are too many", m.Destination, len(m.Options))
	}
	for _, s := range m.Options {
		if !o.attr(s) && !o.special(s) {
			if o.bind && strings.Contains(s, "=") {
				continue // for a file system; a bind mount makes none, and mount(2) passes over it as well
			}
			if o.bind {
				return o, fmt.Errorf("mount %s: unknown option %q of a bind mount", m.Destination, s)
			}
			o.data = append(o.data, s)
		}
	}
	return o, nil
}

func (o *mountOptions) attr(s string) bool {
	for _, a := range attrOptions {
		if a.name == s {
			o.set, o.clear = o.set&^a.clear|a.set, o.clear&^a.set|a.clear
			return true
		}
	}
	if name, ok := strings.CutPrefix(s, "r"); ok {
		for _, a := range attrOptions {
			if a.name == name {
				o.recSet, o.recClear = o.recSet&^a.clear|a.set, o.recClear&^a.set|a.clear
				return true
			}
		}
	}
	return false
}

func (o *mountOptions) special(s string) bool {
	switch s {
	case "bind", "defaults", "async", "noiversion", "nomand", "loud", "nofail", "auto", "noauto":
	case "rbind":
		o.recursive = true
	case "idmap":
		o.idmap = true
	case "ridmap":
		o.idmap, o.ridmap = true, true
	case "tmpcopyup": // see copyup.go
	default:
		flags, ok := propagationFlags(s)
		if ok {
			o.propagation = flags
		}
		return ok
	}
	return true
}
