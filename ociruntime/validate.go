package ociruntime

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"hull/oci"
)

// Validate refuses a configuration that cannot be meant or that this runtime
// would not do as it says: what is not understood is an error, not passed over.
func Validate(spec *oci.Spec) error {
	bad := func(format string, args ...any) error { return fmt.Errorf("config.json: "+format, args...) }
	if spec == nil {
		return errors.New("config.json: empty")
	}
	if spec.Version == "" || !strings.HasPrefix(spec.Version, "1.") && spec.Version != "1.0" {
		return bad("ociVersion %q is not supported", spec.Version)
	}
	if p := spec.Process; p != nil {
		if p.Cwd != "" && !path.IsAbs(p.Cwd) {
			return bad("process.cwd %q is not an absolute path", p.Cwd)
		}
		for _, s := range append(append([]string{p.Cwd}, p.Args...), p.Env...) {
			if strings.IndexByte(s, 0) >= 0 {
				return bad("process: a string holds a zero byte")
			}
		}
		seen := make(map[string]bool, len(p.Rlimits))
		for _, l := range p.Rlimits {
			if seen[l.Type] {
				return bad("process.rlimits: %s occurs twice", l.Type)
			}
			seen[l.Type] = true
			if l.Soft > l.Hard {
				return bad("process.rlimits: %s: soft %d is above hard %d", l.Type, l.Soft, l.Hard)
			}
		}
	}
	for _, m := range spec.Mounts {
		if m.Destination == "" || strings.IndexByte(m.Destination, 0) >= 0 || path.Clean("/"+m.Destination) == "/" {
			return bad("mounts: destination %q", m.Destination)
		}
	}
	return validateLinux(spec, bad)
}

func validateLinux(spec *oci.Spec, bad func(string, ...any) error) error {
	l := spec.Linux
	if l == nil {
		return nil
	}
	seen := make(map[oci.LinuxNamespaceType]bool)
	for _, n := range l.Namespaces {
		known := false
		for _, f := range namespaceFlags {
			known = known || f.kind == n.Type
		}
		switch {
		case !known:
			return bad("linux.namespaces: type %q is not known", n.Type)
		case seen[n.Type]:
			return bad("linux.namespaces: %s occurs twice", n.Type)
		case n.Path != "" && !path.IsAbs(n.Path):
			return bad("linux.namespaces: path %q is not absolute", n.Path)
		}
		seen[n.Type] = true
	}
	if (len(l.UIDMappings) > 0 || len(l.GIDMappings) > 0) && !seen[oci.UserNamespace] {
		return bad("linux.uidMappings without a user namespace")
	}
	if spec.Hostname != "" && !seen[oci.UTSNamespace] {
		return bad("hostname %q without a uts namespace would be the host's", spec.Hostname)
	}
	if len(l.TimeOffsets) > 0 && !seen[oci.TimeNamespace] {
		return bad("linux.timeOffsets without a time namespace")
	}
	for k := range l.Sysctl {
		if strings.Contains(k, "..") || strings.IndexByte(k, 0) >= 0 || strings.HasPrefix(k, "/") {
			return bad("linux.sysctl: %q", k)
		}
	}
	for _, p := range append(append([]string{}, l.MaskedPaths...), l.ReadonlyPaths...) {
		if !path.IsAbs(p) {
			return bad("linux.maskedPaths and readonlyPaths: %q is not absolute", p)
		}
	}
	if l.IntelRdt != nil {
		return bad("linux.intelRdt: this runtime does not set cache allocation")
	}
	return nil
}
